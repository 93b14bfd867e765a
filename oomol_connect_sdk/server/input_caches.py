"""What nodes were given last, kept for later runs of the same flow that begin in its middle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Characters of JSON; the inputs of a flow that take more are not kept.
_LIMIT = 64 * 1024 * 1024

Inputs = Mapping[str, Mapping[str, Any]]


class InputCaches:
    """The last inputs of the nodes of each flow, in one file a flow.

    The methods read and write files: call them off the event loop.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()

    def load(self, manifest_path: str) -> dict[str, Any]:
        """Return node id → handle → value; empty when nothing is kept of this flow."""
        try:
            cache: dict[str, Any] = json.loads(self._file(manifest_path).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return cache

    def add(self, manifest_path: str, inputs: Inputs) -> None:
        """Keep the inputs of a run; those of nodes that did not run in it stay."""
        with self._lock:
            kept = self.load(manifest_path)
            new = {node: {**kept.get(node, {}), **values} for node, values in inputs.items()}
            text = json.dumps({**kept, **new})
            if len(text) <= _LIMIT:
                self._write(self._file(manifest_path), text)

    def _write(self, file: Path, text: str) -> None:
        self._directory.mkdir(exist_ok=True)
        new = file.with_suffix(".new")
        # A cache that can't be kept only makes the next run longer.
        with contextlib.suppress(OSError):
            new.write_text(text, "utf-8")
            os.replace(new, file)

    def _file(self, manifest_path: str) -> Path:
        digest = hashlib.sha256(os.fsencode(manifest_path)).hexdigest()
        return self._directory / f"{digest}.json"
