"""The checks that hold the code's shape run with the tests, so `pytest` tells."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command", [("ruff", "format", "--check", "."), ("ruff", "check", "."), ("mypy",)], ids=" ".join
)
@pytest.mark.timeout(300)
def test_linters_are_clean(command: tuple[str, ...]) -> None:
    done = _run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_point_down() -> None:
    # In a process of its own: import-linter reads the package as it is on disk, not as this run imported it.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _locked(name: str) -> dict[str, str]:
    text = (ROOT / "packaging" / name).read_text()
    return {match[1].lower(): match[2] for match in re.finditer(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", text, re.MULTILINE)}


def test_locks_agree_with_the_project() -> None:
    """Every direct dependency is locked, with hashes, and both locks hold the same versions."""
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run, test = _locked("run.lock"), _locked("test.lock")
    for text in project["dependencies"]:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(run[requirement.name.lower()]), text
    for extra in ("test", "fast"):
        for text in project["optional-dependencies"][extra]:
            requirement = Requirement(text)
            assert requirement.specifier.contains(test[requirement.name.lower()]), text
    assert {name: version for name, version in test.items() if name in run} == run
    for name in ("run.lock", "test.lock"):
        text = (ROOT / "packaging" / name).read_text()
        assert text.count("--hash=sha256:") >= len(_locked(name))
        assert "://" not in text  # no registry's host
