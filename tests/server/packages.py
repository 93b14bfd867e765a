"""Small packages written into a temporary directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_package(
    directory: Path, name: str, version: str = "0.1.0", files: Mapping[str, str] | None = None
) -> Path:
    """Write a package and its files (relative path → text) into a directory, and return it."""
    texts = {"package.oo.yaml": f"name: '{name}'\nversion: {version}\n", **(files or {})}
    for path, text in texts.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return directory


def task_text(inputs: str = "", outputs: str = "", more: str = "") -> str:
    """Write a task manifest with these handles, separated by spaces; ``a=1`` has a default."""
    return (
        "executor: {name: python, options: {entry: main.py}}\n"
        f"inputs_def: [{', '.join(_handle(text) for text in inputs.split())}]\n"
        f"outputs_def: [{', '.join(_handle(text) for text in outputs.split())}]\n{more}"
    )


def _handle(text: str) -> str:
    name, has_value, value = text.partition("=")
    return f"{{handle: {name}{', value: ' + value if has_value else ''}}}"
