"""Warm worker processes, each lent to one task at a time, and the services of all tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .environments import Environments
from .process_guard import ProcessGuard
from .worker import Worker, WorkerFailed, WorkerSpec

#: Seconds for which workers beyond ``max_idle`` may wait: with many tasks at a time there are more
#: for moments again and again, and to start one costs more than some tasks.
SURPLUS_TIME = 2.0
#: As many times ``max_idle`` may wait for that long.
_SURPLUS_FACTOR = 4


class WorkerPool:
    """Owns the worker processes of a server.

    ``max_idle`` workers at most wait for a next task of their package, but for a moment; the one
    that has waited longest is ended first. ``guard`` sets what their processes may use.
    """

    def __init__(
        self,
        environments: Environments,
        *,
        max_idle: int = 4,
        guard: ProcessGuard | None = None,
    ) -> None:
        self.environments = environments
        #: For what runs outside of the pool as well.
        self.guard = guard or ProcessGuard()
        self._max_idle = max_idle
        self._idle: list[Worker] = []
        self._workers: set[Worker] = set()
        self._services: dict[tuple[WorkerSpec, Path], asyncio.Task[Worker]] = {}
        self._trimming: asyncio.Task[None] | None = None
        self._closed = False

    async def lease(self, spec: WorkerSpec) -> Worker:
        """A worker of this kind, for the caller alone, until it is given back.

        Raises WorkerFailed when no process can be started.
        """
        self._check_open()
        self._forget_dead()
        for worker in reversed(self._idle):
            if worker.spec == spec and not worker.exited:
                self._idle.remove(worker)
                return worker
        worker = await Worker.start(spec, self.guard)
        self._workers.add(worker)
        if self._closed:
            await self._end(worker)
            self._check_open()
        return worker

    async def service(self, spec: WorkerSpec, manifest: Path) -> Worker:
        """The process of a service that all tasks share; it lives as long as the server.

        Raises WorkerFailed when no process can be started.
        """
        key = (spec, manifest)
        starting = self._services.get(key)
        if starting is not None and usable(starting) and starting.result().damaged:
            starting.result().retire()
            starting = None
        if starting is None or (starting.done() and not usable(starting)):
            starting = self._services[key] = asyncio.create_task(self.lease(spec))
        return await asyncio.shield(starting)

    async def give_back(self, worker: Worker) -> None:
        """Keep the worker for the next task if it can be made like new, else end it."""
        if self._closed or not worker.spec.reusable or not await worker.reset():
            await self._end(worker)
            return
        self._idle.append(worker)
        await self._trim(_SURPLUS_FACTOR * self._max_idle)
        if len(self._idle) > self._max_idle and self._trimming is None:
            self._trimming = asyncio.create_task(self._trim_later())

    async def close(self) -> None:
        """End every worker and every environment that is being built."""
        self._closed = True
        self._idle.clear()
        if self._trimming is not None:
            self._trimming.cancel()
            await asyncio.gather(self._trimming, return_exceptions=True)
        services = list(self._services.values())
        for service in services:
            service.cancel()
        await asyncio.gather(*services, return_exceptions=True)
        await asyncio.gather(self.environments.close(), *map(self._end, list(self._workers)))
        self.guard.close()

    async def _trim_later(self) -> None:
        await asyncio.sleep(SURPLUS_TIME)
        self._trimming = None
        await self._trim(self._max_idle)

    async def _trim(self, most: int) -> None:
        while len(self._idle) > most:
            await self._end(self._idle.pop(0))

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


def started(starting: asyncio.Task[Worker]) -> bool:
    """Whether this led to a worker."""
    return starting.done() and not starting.cancelled() and starting.exception() is None


def usable(starting: asyncio.Task[Worker]) -> bool:
    """Whether this led to a worker that is still there."""
    return started(starting) and starting.result().alive
