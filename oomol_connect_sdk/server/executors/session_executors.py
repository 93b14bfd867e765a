"""The jobs of one running task, whatever runs them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..engine.actions import Job
from .environments import EnvironmentFailed
from .pool import WorkerPool
from .worker import JobRefused, Worker, WorkerFailed

Deliver = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class SessionDirectories:
    """Where the blocks of a task keep files; the three directories exist."""

    #: Shared by all blocks of the task.
    session_dir: Path
    #: The temporary directory of the task's root block is made below it.
    temporary_root: Path
    #: What a package keeps for ever is in ``<root>/<package name>``.
    package_data_root: Path


class SessionExecutors:
    """Starts and ends the jobs of one task.

    ``deliver`` gets every message of a job that was neither aborted nor over, on the event
    loop's thread and in order; never while one of the methods here is being called.

        executors = SessionExecutors(pool, session_id, directories, print)
        executors.start(job)
        ...
        await executors.close(kill=False)
    """

    def __init__(
        self,
        pool: WorkerPool,
        session_id: str,
        directories: SessionDirectories,
        deliver: Deliver,
    ) -> None:
        self._pool = pool
        self._session_id = session_id
        self._directories = directories
        self._deliver = deliver
        self._jobs: dict[str, _OpenJob] = {}
        self._leases: dict[tuple[Path, Path], asyncio.Task[Worker]] = {}
        self._executors: Mapping[str, Callable[[_OpenJob], Awaitable[None]]] = {
            "python": self._start_python,
        }

    def start(self, job: Job) -> None:
        """Run this job; what goes wrong comes as its BlockFinished."""
        open_job = _OpenJob(job)
        self._jobs[job.job_id] = open_job
        open_job.starting = asyncio.create_task(self._start(open_job))

    def abort(self, job_id: str) -> None:
        """End this job and deliver nothing more of it; one that is over is left alone.

        An async function is cancelled. Any other can't be stopped: its worker is killed, now if
        it runs nothing else, otherwise when the task is closed.
        """
        open_job = self._jobs.pop(job_id, None)
        if open_job is not None:
            open_job.leave()
            if open_job.worker is not None:
                open_job.worker.abort(job_id)

    async def close(self, *, kill: bool) -> None:
        """Deliver nothing more and let the workers go: killed, or back to the pool.

        With ``kill`` every process of the task is gone when this returns.
        """
        jobs, self._jobs = self._jobs, {}
        leases, self._leases = self._leases, {}
        for open_job in jobs.values():
            open_job.leave()
        for lease in leases.values():
            lease.cancel()
        workers = [lease.result() for lease in leases.values() if _succeeded(lease)]
        if kill:
            for worker in workers:
                worker.kill()
        starting = [open_job.starting for open_job in jobs.values() if open_job.starting]
        # Their outcomes no longer matter; a cancelled lease has killed its process.
        await asyncio.gather(*starting, *leases.values(), return_exceptions=True)
        await asyncio.gather(*map(self._pool.give_back, workers))

    async def _start(self, open_job: _OpenJob) -> None:
        job = open_job.job
        start = self._executors.get(job.executor)
        if start is None:
            self._fail(job, self._unknown_executor(job))
            return
        try:
            await start(open_job)
        except (EnvironmentFailed, WorkerFailed, JobRefused) as error:
            self._fail(job, str(error))
        except Exception as error:
            self._fail(job, "".join(traceback.format_exception(error)))

    def _unknown_executor(self, job: Job) -> str:
        block = job.block_path or f"of node {job.node_id} in {job.directory}"
        available = ", ".join(sorted(self._executors))
        return (
            f"the block {block} needs the executor {job.executor!r}, which is not available; "
            f"available: {available}"
        )

    async def _start_python(self, open_job: _OpenJob) -> None:
        job = open_job.job

        def report(line: str) -> None:
            message = {"type": "BlockLog", "job_id": job.job_id, "log": line, "stdio": "stderr"}
            self._receive(message)

        interpreter = await self._pool.environments.interpreter(job.package_dir, report)
        worker = await self._worker(job.package_dir, interpreter)
        worker.run(self._order(job), self._receive)
        open_job.worker = worker
        if job.timeout is not None:
            timeout = float(job.timeout)
            loop = asyncio.get_running_loop()
            open_job.timer = loop.call_later(timeout, self._time_out, job, timeout)

    async def _worker(self, package_dir: Path, interpreter: Path) -> Worker:
        key = (package_dir, interpreter)
        lease = self._leases.get(key)
        if lease is None or (lease.done() and not _usable(lease)):
            lease = asyncio.create_task(self._pool.lease(package_dir, interpreter))
            self._leases[key] = lease
        # Other jobs may be waiting for the same worker when this one is aborted.
        return await asyncio.shield(lease)

    def _order(self, job: Job) -> dict[str, Any]:
        """What the worker needs to know of a job; makes the job's directories."""
        temporary = self._temporary_directory(job)
        package_data = self._directories.package_data_root / _relative_name(job)
        for directory in (temporary, package_data):
            directory.mkdir(parents=True, exist_ok=True)
        return {
            "job_id": job.job_id,
            "session_id": job.session_id,
            "stacks": [dict(stack) for stack in job.stacks],
            "block_path": None if job.block_path is None else str(job.block_path),
            "directory": str(job.directory),
            "entry": job.options.get("entry") or "index.py",
            "function": job.options.get("function") or "main",
            "inputs": dict(job.inputs),
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

    def _time_out(self, job: Job, timeout: float) -> None:
        error = f"{job.job_id} timeout after {_plain_number(timeout)}s"
        message = {"type": "BlockError", "job_id": job.job_id, "error": error, "timeout": timeout}
        self._receive(message)
        self.abort(job.job_id)

    def _fail(self, job: Job, error: str) -> None:
        self._receive({"type": "BlockFinished", "job_id": job.job_id, "error": error})

    def _receive(self, message: dict[str, Any]) -> None:
        open_job = self._jobs.get(message["job_id"])
        if open_job is None:
            return
        if message["type"] == "BlockFinished":
            del self._jobs[message["job_id"]]
            open_job.stop_timer()
        self._deliver(message)


@dataclass
class _OpenJob:
    job: Job
    starting: asyncio.Task[None] | None = None
    worker: Worker | None = None
    timer: asyncio.TimerHandle | None = None

    def leave(self) -> None:
        if self.starting is not None:
            self.starting.cancel()
        self.stop_timer()

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


def _succeeded(lease: asyncio.Task[Worker]) -> bool:
    return lease.done() and not lease.cancelled() and lease.exception() is None


def _usable(lease: asyncio.Task[Worker]) -> bool:
    return _succeeded(lease) and lease.result().alive


def _definitions(definitions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {handle: {"handle": handle, **definition} for handle, definition in definitions.items()}


def _relative_name(job: Job) -> PurePosixPath:
    """The package's name as a path below a root; a scope is a directory of its own."""
    name = PurePosixPath(job.package_name or os.path.basename(job.package_dir))
    if name.is_absolute() or ".." in name.parts:
        raise JobRefused(f"{str(name)!r} is not a package name")
    return name


def _plain_number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
