"""What a worker has to know of a job, with its directories made and its secrets filled in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.actions import Job
from .programs import Plan, Program
from .secret_inputs import with_secrets


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

    def order(self, job: Job, plan: Plan) -> dict[str, Any]:
        """The order to run this job as planned; makes the job's directories.

        Raises JobRefused and SecretsUnreadable.
        """
        temporary = self._temporary_directory(job)
        temporary.mkdir(parents=True, exist_ok=True)
        package_data = Program.of_job(job).package_data(self._directories.package_data_root)
        return {
            **plan.order,
            "job_id": job.job_id,
            "session_id": job.session_id,
            "stacks": [dict(stack) for stack in job.stacks],
            "block_path": None if job.block_path is None else str(job.block_path),
            "service_block": None if job.service is None else job.service.block_name,
            "inputs": with_secrets(job.inputs, job.inputs_def),
            "inputs_def": _definitions(job.inputs_def),
            "outputs_def": _definitions(job.outputs_def),
            "session_dir": str(self._directories.session_dir),
            "tmp_dir": str(temporary),
            "package_name": job.package_name,
            "pkg_dir": str(package_data),
        }

    def _temporary_directory(self, job: Job) -> Path:
        # All blocks of a flow share the directory of the root.
        root = Path(job.stacks[0]["flow"]).parent if job.stacks else job.directory
        digest = hashlib.sha256(f"{self._session_id}\n{root}".encode()).hexdigest()
        return self._directories.temporary_root / f"{root.name}-{digest[:8]}"


def _definitions(definitions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {handle: {"handle": handle, **definition} for handle, definition in definitions.items()}
