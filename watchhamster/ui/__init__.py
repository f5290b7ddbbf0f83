"""The desktop. Qt lives here and nowhere else."""

import builtins

# PySide6 replaces `import` to watch for `from __feature__ import …`, and for that reads the source of every module
# that is imported from then on: 15 ms until the first paint and 100 ms for the engine behind it. Nothing here uses it.
_import = builtins.__import__
import PySide6.QtCore  # noqa: E402, F401

builtins.__import__ = _import
