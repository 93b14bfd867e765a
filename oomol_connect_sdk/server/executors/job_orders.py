"""What a worker has to know of a job, with its directories made and its secrets filled in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..engine.actions import Job
from .secret_inputs import with_secrets
from .worker import JobRefused


@dataclass(frozen=True)
class SessionDirectories:
    """Where the blocks of a task keep files; the three directories exist."""

    #: Shared by all blocks of the task.
    session_dir: Path
    #: The temporary directory of the task's root block is made below it.
    temporary_root: Path
    #: What a package keeps for ever is in ``<root>/<package name>``.
    package_data_root: Path


class JobOrders:
    """Writes the orders for the jobs of one task."""

    def __init__(self, session_id: str, directories: SessionDirectories) -> None:
        self._session_id = session_id
        self._directories = directories
        self._generated = directories.temporary_root / "generated"

    def order(self, job: Job, entry: Path) -> dict[str, Any]:
        """The order to run this file; makes the job's directories.

        Raises JobRefused and SecretsUnreadable.
        """
        temporary = self._temporary_directory(job)
        package_data = self._directories.package_data_root / _relative_name(job)
        for directory in (temporary, package_data):
            directory.mkdir(parents=True, exist_ok=True)
        options = options_of(job)
        return {
            "job_id": job.job_id,
            "session_id": job.session_id,
            "stacks": [dict(stack) for stack in job.stacks],
            "block_path": None if job.block_path is None else str(job.block_path),
            "entry": str(entry),
            # What a generated file imports is next to the manifest it came from.
            "import_dir": str(directory_of(job) if self._is_generated(entry) else entry.parent),
            "function": options.get("function"),
            "service_block": None if job.service is None else job.service.block_name,
            "inputs": with_secrets(job.inputs, job.inputs_def),
            "inputs_def": _definitions(job.inputs_def),
            "outputs_def": _definitions(job.outputs_def),
            "session_dir": str(self._directories.session_dir),
            "tmp_dir": str(temporary),
            "package_name": job.package_name,
            "pkg_dir": str(package_data),
        }

    def entry(self, job: Job, default: str) -> Path:
        """The file to run: the one the manifest names, or one made of the source in it."""
        options = options_of(job)
        source = options.get("source")
        if isinstance(source, str) and not options.get("entry"):
            return self._write_source(source, Path(default).suffix)
        return Path(os.path.abspath(directory_of(job) / (options.get("entry") or default)))

    def generated(self, name: str) -> Path:
        """Where a file with this name goes that is made for the task and removed with it."""
        self._generated.mkdir(exist_ok=True)
        return self._generated / name

    def _is_generated(self, file: Path) -> bool:
        return file.parent == self._generated

    def _write_source(self, source: str, suffix: str) -> Path:
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        file = self.generated(f"source_{digest}{suffix}")
        file.write_text(source, "utf-8")
        return file

    def _temporary_directory(self, job: Job) -> Path:
        # All blocks of a flow share the directory of the root.
        root = Path(job.stacks[0]["flow"]).parent if job.stacks else job.directory
        digest = hashlib.sha256(f"{self._session_id}\n{root}".encode()).hexdigest()
        return self._directories.temporary_root / f"{root.name}-{digest[:8]}"


def options_of(job: Job) -> Mapping[str, Any]:
    """The options of the executor that runs the job: its own, or its service's."""
    return job.options if job.service is None else job.service.options


def directory_of(job: Job) -> Path:
    """The directory that the entry is relative to."""
    return job.directory if job.service is None else job.service.path.parent


def _definitions(definitions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {handle: {"handle": handle, **definition} for handle, definition in definitions.items()}


def _relative_name(job: Job) -> PurePosixPath:
    """The package's name as a path below a root; a scope is a directory of its own."""
    name = PurePosixPath(job.package_name or os.path.basename(job.package_dir))
    if name.is_absolute() or ".." in name.parts:
        raise JobRefused(f"{str(name)!r} is not a package name")
    return name
