"""The jobs of one running task, whatever runs them."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..engine.actions import Job, ServiceStart
from .backlog import Backlog
from .build_cache import EnvironmentFailed
from .job_orders import JobOrders, SessionDirectories
from .planner import Planner
from .pool import WorkerPool
from .programs import Program, Report
from .secret_inputs import SecretsUnreadable, with_secrets
from .session_workers import SessionWorkers
from .shell import ShellCommand
from .worker import JobRefused, Worker, WorkerFailed

Deliver = Callable[[dict[str, Any]], None]

logger = logging.getLogger(__name__)


class SessionExecutors:
    """Starts and ends the jobs of one task.

    ``deliver`` gets every message of a job that was neither aborted nor over, on the event
    loop's thread and in order; never while one of the methods here is being called. With
    ``unread_limit`` the caller says ``taken()`` for each message it has dealt with: while
    messages of more than so many bytes wait for that, the processes of the task are not read.

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
        *,
        unread_limit: int | None = None,
    ) -> None:
        self._session_id = session_id
        self._deliver = deliver
        self._jobs: dict[str, _OpenJob] = {}
        self._commands: set[ShellCommand] = set()
        self._backlog = Backlog(unread_limit)
        self._workers = SessionWorkers(pool, self._backlog)
        self._services: list[asyncio.Task[None]] = []
        self._package_data_root = directories.package_data_root
        self._guard = pool.guard
        self._orders = JobOrders(session_id, directories)
        self._planner = Planner(pool.environments, directories.temporary_root / "generated")

    def start_services(self, services: Iterable[ServiceStart]) -> None:
        """Start these services before a block of theirs runs.

        One that can't be started says so to each of its blocks.
        """
        self._services += [asyncio.create_task(self._start_service(start)) for start in services]

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
            open_job.abort()
            self._workers.job_over(open_job.job)

    def respond(self, job_id: str, request_id: str, result: Any, error: str | None) -> None:
        """Answer a BlockRequest of this job; dropped when the job is over.

        Who asked waits for an error or for a result that is not None, so None becomes ``{}``.
        """
        open_job = self._jobs.get(job_id)
        if open_job is None or open_job.worker is None:
            return
        answer = {"result": {} if result is None else result} if error is None else {"error": error}
        ids = {"session_id": self._session_id, "job_id": job_id, "request_id": request_id}
        open_job.worker.respond(job_id, {**ids, **answer})

    def notify(self, job_id: str, event: Mapping[str, Any]) -> None:
        """Show this job an event of a block that it runs; dropped when the job is over.

        The event's ``job_id`` is the ``block_job_id`` of the job's request.
        """
        open_job = self._jobs.get(job_id)
        if open_job is not None and open_job.worker is not None:
            open_job.worker.notify(job_id, event)

    def taken(self) -> None:
        """The oldest message that was delivered is dealt with."""
        self._backlog.taken()

    async def close(self, *, kill: bool) -> None:
        """Deliver nothing more and let the workers go: killed, or back to the pool.

        With ``kill`` every process of the task is gone when this returns. The services that
        all tasks share go on without the task's jobs.
        """
        jobs, self._jobs = self._jobs, {}
        for open_job in jobs.values():
            open_job.leave()
        commands = list(self._commands)
        for command in commands:
            command.kill()
        self._backlog.close()
        for service in self._services:
            service.cancel()
        starting = [open_job.starting for open_job in jobs.values() if open_job.starting]
        starting += self._services
        # Their outcomes no longer matter.
        await asyncio.gather(*starting, return_exceptions=True)
        await asyncio.gather(
            self._workers.close(kill=kill), *(command.gone() for command in commands)
        )

    async def _start(self, open_job: _OpenJob) -> None:
        job = open_job.job
        try:
            await self._run(open_job)
        except (EnvironmentFailed, WorkerFailed, JobRefused, SecretsUnreadable) as error:
            self._fail(job, str(error))
        except Exception as error:
            self._fail(job, "".join(traceback.format_exception(error)))

    async def _run(self, open_job: _OpenJob) -> None:
        job = open_job.job
        if job.executor == "shell" and job.service is None:
            await self._run_command(open_job)
        else:
            await self._run_in_worker(open_job)
        if job.timeout is not None:
            timeout = float(job.timeout)
            loop = asyncio.get_running_loop()
            open_job.timer = loop.call_later(timeout, self._time_out, job, timeout)

    async def _start_service(self, start: ServiceStart) -> None:
        program, service = Program.of_service(start), start.service
        try:
            plan = await self._planner.plan(program, f"the service {service.path}", logger.debug)
            worker = await self._workers.service(service, plan.spec)
            worker.start_service(plan.order, program.package_data(self._package_data_root))
        except (EnvironmentFailed, WorkerFailed, JobRefused) as error:
            logger.info("The service %s was not started in advance: %s", service.path, error)

    async def _run_in_worker(self, open_job: _OpenJob) -> None:
        job = open_job.job
        where = f"the block {job.block_path or f'of node {job.node_id} in {job.directory}'}"
        plan = await self._planner.plan(Program.of_job(job), where, self._report_to(job))
        order = self._orders.order(job, plan)
        worker = await self._workers.worker(job, plan.spec)
        worker.run(order, self._receive)
        open_job.worker = worker

    async def _run_command(self, open_job: _OpenJob) -> None:
        job = open_job.job
        await self._planner.prepare(Program.of_job(job), self._report_to(job))
        inputs = with_secrets(job.inputs, job.inputs_def)
        command = ShellCommand(job, inputs, self._receive, self._guard)
        await command.run()
        open_job.command = command
        self._commands.add(command)
        self._backlog.attach(command)

    def _report_to(self, job: Job) -> Report:
        """What makes lines about the preparations for a job logs of it."""

        def report(line: str) -> None:
            message = {"type": "BlockLog", "job_id": job.job_id, "log": line, "stdio": "stderr"}
            self._receive(message, len(line))

        return report

    def _time_out(self, job: Job, timeout: float) -> None:
        error = f"{job.job_id} timeout after {_plain_number(timeout)}s"
        message = {"type": "BlockError", "job_id": job.job_id, "error": error, "timeout": timeout}
        self._receive(message, len(error))
        self.abort(job.job_id)

    def _fail(self, job: Job, error: str) -> None:
        message = {"type": "BlockFinished", "job_id": job.job_id, "error": error}
        self._receive(message, len(error))

    def _receive(self, message: dict[str, Any], size: int) -> None:
        open_job = self._jobs.get(message["job_id"])
        if open_job is None:
            return
        if message["type"] == "BlockFinished":
            del self._jobs[message["job_id"]]
            open_job.stop_timer()
            self._workers.job_over(open_job.job)
            if open_job.command is not None:
                self._commands.discard(open_job.command)
                self._backlog.detach(open_job.command)
        self._backlog.add(size)
        self._deliver(message)


@dataclass
class _OpenJob:
    """A job that is not over, and what runs it: at first nothing, then one of these two."""

    job: Job
    starting: asyncio.Task[None] | None = None
    worker: Worker | None = None
    command: ShellCommand | None = None
    timer: asyncio.TimerHandle | None = None

    def leave(self) -> None:
        """The task is being closed, and with it what runs the job, unless others share it."""
        if self.starting is not None:
            self.starting.cancel()
        self.stop_timer()
        if self.job.service is not None and self.worker is not None:
            self.worker.abort(self.job.job_id)

    def abort(self) -> None:
        """Nobody waits for the job any more, others may run beside it."""
        if self.starting is not None:
            self.starting.cancel()
        self.stop_timer()
        if self.worker is not None:
            self.worker.abort(self.job.job_id)
        if self.command is not None:
            self.command.kill()

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


def _plain_number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
