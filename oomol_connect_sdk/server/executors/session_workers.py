"""The workers of one running task: one per package, one per node that wants its own, services."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field

from ..engine.actions import Job, Service
from .backlog import Backlog
from .pool import WorkerPool, started, usable
from .worker import Worker, WorkerSpec

#: Seconds that a service is kept after its last block when its manifest gives no time.
KEEP_ALIVE = 10.0
#: The services with these ends are shared by all tasks and live as long as the server.
_LASTING = frozenset({"app_end", "never"})


class SessionWorkers:
    """Leases workers from the pool for the jobs of a task, and lets them go at its end."""

    def __init__(self, pool: WorkerPool, backlog: Backlog) -> None:
        self._pool = pool
        self._backlog = backlog
        self._leases: dict[Hashable, _Lease] = {}

    async def worker(self, job: Job, spec: WorkerSpec) -> Worker:
        """The worker for this job. Raises WorkerFailed."""
        if job.service is not None and is_shared(job.service):
            worker = await self._pool.service(spec, job.service.path)
        else:
            lease = self._lease(spec, _owner(job), job.service)
            lease.jobs.add(job.job_id)
            # Other jobs may be waiting for the same worker when this one is aborted.
            worker = await asyncio.shield(lease.starting)
        self._backlog.attach(worker)
        return worker

    async def service(self, service: Service, spec: WorkerSpec) -> Worker:
        """The worker for a service that starts before its first block. Raises WorkerFailed."""
        if is_shared(service):
            return await self._pool.service(spec, service.path)
        return await asyncio.shield(self._lease(spec, service.path, service).starting)

    def job_over(self, job: Job) -> None:
        """Note the end of a job; a service that ends with its blocks may now be idle."""
        for lease in self._leases.values():
            if job.job_id in lease.jobs:
                lease.jobs.remove(job.job_id)
                if not lease.jobs and lease.service and lease.service.stop_at == "block_end":
                    lease.stop_after(_keep_alive(lease.service))

    async def close(self, *, kill: bool) -> None:
        """Let the workers go: killed, or back to the pool when they are like new."""
        leases = list(self._leases.values())
        self._leases.clear()
        for lease in leases:
            lease.keep()
            lease.starting.cancel()
        workers = [(lease, lease.starting.result()) for lease in leases if started(lease.starting)]
        for lease, worker in workers:
            # The state of a service is its own: no other task gets its process.
            if kill or lease.service is not None:
                worker.kill()
        # A lease that is cancelled has killed its process.
        starting = (lease.starting for lease in leases)
        await asyncio.gather(*starting, return_exceptions=True)
        await asyncio.gather(*(self._pool.give_back(worker) for _, worker in workers))

    def _lease(self, spec: WorkerSpec, owner: Hashable, service: Service | None) -> _Lease:
        key = (spec, owner)
        lease = self._leases.get(key)
        if lease is None or (lease.starting.done() and not usable(lease.starting)):
            lease = self._leases[key] = _Lease(asyncio.create_task(self._pool.lease(spec)))
        lease.keep()
        lease.service = service
        return lease


def is_shared(service: Service) -> bool:
    """Whether one process of the service serves all tasks and lives as long as the server.

    What starts with the server can't end before it, whatever its manifest says.
    """
    return service.stop_at in _LASTING or service.start_at == "app_start"


@dataclass
class _Lease:
    starting: asyncio.Task[Worker]
    #: The service that runs in it, if it is one.
    service: Service | None = None
    #: The jobs that run in it, or will.
    jobs: set[str] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None

    def keep(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def stop_after(self, seconds: float) -> None:
        if started(self.starting):
            loop = asyncio.get_running_loop()
            self.timer = loop.call_later(seconds, self.starting.result().kill)


def _owner(job: Job) -> Hashable:
    """What the worker runs besides blocks of the package in general."""
    if job.service is not None:
        return job.service.path
    nodes = tuple(stack["node_id"] for stack in job.stacks)
    if job.beside is not None:
        return (*nodes[:-1], job.beside)
    return nodes if job.options.get("spawn") else None


def _keep_alive(service: Service) -> float:
    return KEEP_ALIVE if service.keep_alive is None else service.keep_alive
