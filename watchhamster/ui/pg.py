"""pyqtgraph, imported lean: `from watchhamster.ui.pg import pg`.

Its Qt shim copies every attribute of three PySide6 modules, which makes some 1,500 lazily built classes real and is
nearly half of its import. While it is imported here, the shim sees empty modules, and its own submodules look names up
when they are used: the same objects, the same pyqtgraph. That leans on its insides, so a failure falls back to the
plain import, and a test says when the saving is lost (`lean`).
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from typing import Any

import PySide6
from PySide6 import QtCore, QtGui, QtWidgets

_SHIMMED = {"QtCore": QtCore, "QtGui": QtGui, "QtWidgets": QtWidgets}


def _lookup(module: types.ModuleType, name: str) -> types.ModuleType:
    """A module of this name that finds its attributes in another when they are asked for."""
    stand_in = types.ModuleType(name)
    stand_in.__getattr__ = lambda attribute: getattr(module, attribute)  # type: ignore[method-assign]
    return stand_in


def _import_lean() -> Any:
    for name, module in _SHIMMED.items():
        shim = f"pyqtgraph.Qt.{name}"
        sys.modules[shim] = _lookup(module, shim)
        setattr(PySide6, name, types.ModuleType(name))
    try:
        return importlib.import_module("pyqtgraph")
    finally:
        for name, module in _SHIMMED.items():
            setattr(PySide6, name, module)


def _import() -> tuple[Any, bool]:
    os.environ.setdefault("PYQTGRAPH_QT_LIB", "PySide6")
    if "pyqtgraph" in sys.modules:
        return sys.modules["pyqtgraph"], False
    try:
        return _import_lean(), True
    except (ImportError, AttributeError, KeyError, TypeError):  # another pyqtgraph, built otherwise
        for name in [m for m in sys.modules if m.partition(".")[0] == "pyqtgraph"]:
            del sys.modules[name]
        return importlib.import_module("pyqtgraph"), False


pg, lean = _import()
