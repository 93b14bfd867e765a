"""The files beside this one are never run: they are what type checkers are shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

HERE = Path(__file__).parent
FILES = [str(path) for path in sorted(HERE.glob("*.py")) if not path.name.startswith("test_")]


def checked(command: List[str], directory: Path) -> str:
    """Run a type checker in an empty directory, and return what it found."""
    # Pyright would ask the network whether it is the newest.
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(
        [*command, *FILES],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_mypy_sees_the_types_as_they_are_meant(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="part of the dev extra")
    assert len(FILES) == 2
    assert checked([sys.executable, "-m", "mypy", "--strict"], tmp_path) == ""


def test_pyright_sees_the_types_as_they_are_meant(tmp_path: Path) -> None:
    pytest.importorskip("pyright", reason="part of the dev extra")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    assert checked(command, tmp_path) == ""
