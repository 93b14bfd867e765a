"""Python blocks: which worker runs them, and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..engine.actions import Job
from .environments import Environments
from .job_orders import JobOrders
from .worker import WorkerSpec

_LAUNCHER = Path(__file__).parent / "python_worker" / "__main__.py"


class PythonBlocks:
    """Plans the Python jobs of one task."""

    def __init__(self, environments: Environments, orders: JobOrders) -> None:
        self._environments = environments
        self._orders = orders

    async def plan(
        self, job: Job, report: Callable[[str], None]
    ) -> tuple[WorkerSpec, dict[str, Any]]:
        """The worker for a job and its order; a missing environment is built first.

        Raises EnvironmentFailed, JobRefused and SecretsUnreadable.
        """
        interpreter = await self._environments.interpreter(job.package_dir, report)
        command = (str(interpreter), str(_LAUNCHER), str(job.package_dir))
        order = self._orders.order(job, self._orders.entry(job, "index.py"))
        order["function"] = order["function"] or "main"
        return WorkerSpec(job.package_dir, command), order
