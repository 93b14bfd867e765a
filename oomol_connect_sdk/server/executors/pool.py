"""Warm worker processes, each lent to one task at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .environments import Environments
from .worker import Worker, WorkerFailed


class WorkerPool:
    """Owns the worker processes of a server.

    ``max_idle`` workers at most wait for a next task of their package; the one that has waited
    longest is ended first.
    """

    def __init__(self, environments: Environments, *, max_idle: int = 4) -> None:
        self.environments = environments
        self._max_idle = max_idle
        self._idle: list[Worker] = []
        self._workers: set[Worker] = set()
        self._closed = False

    async def lease(self, package_dir: Path, interpreter: Path) -> Worker:
        """A worker for blocks of this package, for the caller alone, until it is given back.

        Raises WorkerFailed when no process can be started.
        """
        self._check_open()
        self._forget_dead()
        for worker in reversed(self._idle):
            if worker.serves(package_dir, interpreter):
                self._idle.remove(worker)
                return worker
        worker = await Worker.start(package_dir, interpreter)
        self._workers.add(worker)
        if self._closed:
            await self._end(worker)
            self._check_open()
        return worker

    async def give_back(self, worker: Worker) -> None:
        """Keep the worker for the next task if it can be made like new, else end it."""
        if self._closed or not await worker.reset():
            await self._end(worker)
            return
        self._idle.append(worker)
        while len(self._idle) > self._max_idle:
            await self._end(self._idle.pop(0))

    async def close(self) -> None:
        """End every worker and every environment that is being built."""
        self._closed = True
        self._idle.clear()
        await asyncio.gather(self.environments.close(), *map(self._end, list(self._workers)))

    async def _end(self, worker: Worker) -> None:
        worker.kill()
        await worker.ended()
        self._workers.discard(worker)

    def _forget_dead(self) -> None:
        self._idle = [worker for worker in self._idle if worker.alive]
        self._workers = {worker for worker in self._workers if not worker.gone}

    def _check_open(self) -> None:
        if self._closed:
            raise WorkerFailed("the server is closing")
