"""The lean import of pyqtgraph saves what it promises, gives the real thing, and has a way back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_DRAW = """
from PySide6 import QtCore, QtWidgets
app = QtWidgets.QApplication([])
widget = pg.PlotWidget()
widget.plot([1, 2, 3])
widget.addItem(pg.InfiniteLine(1))
widget.addLegend()
widget.show()
app.processEvents()
assert isinstance(widget, QtWidgets.QWidget) and QtCore.QObject is not None
"""


def _run(source: str) -> str:
    """Each import is tried in a process of its own: this one has had its import long ago."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_import_is_lean_and_draws() -> None:
    made_real = """
import sys
from PySide6 import QtWidgets
print(sum(name in QtWidgets.__dict__ for name in ("QWizard", "QCalendarWidget", "QMdiArea", "QUndoView")))
"""
    lean = _run(f"from watchhamster.ui.pg import pg, lean\nassert lean\n{made_real}{_DRAW}")
    stock = _run(f"import os; os.environ['PYQTGRAPH_QT_LIB'] = 'PySide6'\nimport pyqtgraph as pg\n{made_real}")
    assert (lean, stock) == ("0", "4")


def test_a_pyqtgraph_that_is_built_otherwise_is_imported_plainly() -> None:
    _run(
        f"""
import sys
class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name == "pyqtgraph.Qt" and "pyqtgraph.Qt.QtCore" in sys.modules:
            raise ImportError("not as expected")
sys.meta_path.insert(0, Refuses())
from watchhamster.ui.pg import pg, lean
assert not lean
{_DRAW}"""
    )


def test_one_that_is_imported_already_is_taken() -> None:
    _run(
        "import os; os.environ['PYQTGRAPH_QT_LIB'] = 'PySide6'\nimport pyqtgraph\n"
        "from watchhamster.ui.pg import pg\nassert pg is pyqtgraph"
    )
