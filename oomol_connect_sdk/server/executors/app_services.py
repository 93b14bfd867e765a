"""The services that start with the server, before any task needs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from ..engine.actions import ServiceStart
from .build_cache import EnvironmentFailed
from .planner import Planner
from .pool import WorkerPool
from .programs import Program
from .worker import JobRefused, WorkerFailed

logger = logging.getLogger(__name__)


class AppServices:
    """Starts services in the background; the pool ends them with the server.

    One that can't be started, or has died since, is started again by its next block, which
    tells what is wrong. Files that have to be made go to the ``generated`` directory.
    """

    def __init__(self, pool: WorkerPool, generated: Path, package_data_root: Path) -> None:
        self._pool = pool
        self._package_data_root = package_data_root
        self._planner = Planner(pool.environments, generated)
        self._starting: list[asyncio.Task[None]] = []

    def start(self, services: Iterable[ServiceStart]) -> None:
        """Start these; what they need is built first."""
        self._starting += [asyncio.create_task(self._start(start)) for start in services]

    async def close(self) -> None:
        """Start nothing more."""
        for starting in self._starting:
            starting.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)

    async def _start(self, start: ServiceStart) -> None:
        program, path = Program.of_service(start), start.service.path
        try:
            plan = await self._planner.plan(program, f"the service {path}", logger.debug)
            worker = await self._pool.service(plan.spec, path)
            worker.start_service(plan.order, program.package_data(self._package_data_root))
        except (EnvironmentFailed, WorkerFailed, JobRefused) as error:
            logger.warning("The service %s can't be started with the server: %s", path, error)
