"""One worker and its jobs, as the server sees them."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .process_guard import ProcessGuard
from .python_worker import protocol
from .python_worker.frames import FRAME_LIMIT
from .worker_process import WorkerProcess

#: Seconds that a new process gets until it takes jobs; a cold machine imports slowly.
START_LIMIT = 60.0
#: Seconds that a worker gets to be made like new.
RESET_LIMIT = 5.0
#: Seconds that a cancelled async function gets to clean up.
ABORT_LIMIT = 2.0
#: Lines of error output that are told when the process dies, and characters of each.
TAIL_LINES = 30
TAIL_WIDTH = 1000

#: Gets a message and the number of bytes it took.
Deliver = Callable[[dict[str, Any], int], None]


class WorkerFailed(Exception):
    """There is no worker process to run a job."""


class JobRefused(Exception):
    """A job can't be given to a worker."""


@dataclass(frozen=True)
class WorkerSpec:
    """What tells one kind of worker from another."""

    package_dir: Path
    #: The program and its arguments.
    command: tuple[str, ...]
    #: Whether the process can be made like new for the next task.
    reusable: bool = True


class Worker:
    """A process that runs the blocks of one package, several jobs at once if need be."""

    def __init__(self, spec: WorkerSpec, guard: ProcessGuard) -> None:
        self.spec = spec
        self._process = WorkerProcess(self, guard)
        self._jobs: dict[str, _Job] = {}
        #: The jobs the process has not let go of, with the timer of those being aborted.
        self._running: dict[str, asyncio.TimerHandle | None] = {}
        self._marks = itertools.count(1)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._damaged = False
        self._retired = False
        self._pauses = 0
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[str | None] = loop.create_future()
        self._reset: asyncio.Future[str | None] | None = None
        self._ended: asyncio.Future[None] = loop.create_future()

    @classmethod
    async def start(cls, spec: WorkerSpec, guard: ProcessGuard) -> Worker:
        """Start a process and wait until it takes jobs. Raises WorkerFailed."""
        worker = cls(spec, guard)
        try:
            await worker._process.launch(spec.command)
        except OSError as error:
            raise WorkerFailed(f"the worker process can't be started: {error}") from error
        try:
            await worker._until_ready()
        except BaseException:
            worker.kill()
            await worker.ended()
            raise
        return worker

    @property
    def alive(self) -> bool:
        """False once the process has ended or was told to."""
        return not self._process.ending

    @property
    def exited(self) -> bool:
        """What ``alive`` will say in a moment, at the price of a system call."""
        return self._process.exited

    @property
    def gone(self) -> bool:
        """True once nothing more will come of it."""
        return self._ended.done()

    @property
    def damaged(self) -> bool:
        """True when something runs in it that can't be ended and nobody waits for."""
        return self._damaged

    def run(self, order: Mapping[str, Any], deliver: Deliver) -> None:
        """Run a job; its messages go to ``deliver``. Raises WorkerFailed or JobRefused."""
        if not self.alive:
            raise WorkerFailed("the worker process has just ended")
        job_id = order["job_id"]
        job = _Job(job_id, next(self._marks), deliver)
        body = _encode({"type": protocol.RUN_JOB, "job": {**order, "mark": job.mark}})
        if len(body) > FRAME_LIMIT:
            raise JobRefused(_too_large(order["inputs"], len(body)))
        self._jobs[job_id] = job
        self._running[job_id] = None
        self._process.send(body)

    def start_service(self, order: Mapping[str, Any], package_data: Path) -> None:
        """Start the service of this process, unless it has started; dropped when it is gone."""
        message = {"type": protocol.START_SERVICE, **order, "pkg_dir": str(package_data)}
        self._process.send(_encode(message))

    def abort(self, job_id: str) -> None:
        """Deliver nothing more of this job and make it end, if need be by a kill."""
        if self._jobs.pop(job_id, None) is not None and job_id in self._running:
            loop = asyncio.get_running_loop()
            self._running[job_id] = loop.call_later(ABORT_LIMIT, self._give_up)
            self._process.send(_encode({"type": protocol.ABORT_JOB, "job_id": job_id}))

    def respond(self, job_id: str, response: Mapping[str, Any]) -> None:
        """Hand the answer to one of its questions to a job; dropped when the job is over."""
        body = _encode({"type": protocol.RESPOND, "job_id": job_id, "response": response})
        if len(body) > FRAME_LIMIT:
            small = {key: response[key] for key in ("session_id", "job_id", "request_id")}
            self.respond(job_id, {**small, "error": "the answer is too large to be sent"})
        elif job_id in self._jobs:
            self._process.send(body)

    def notify(self, job_id: str, event: Mapping[str, Any]) -> None:
        """Show an event of a block that this job runs to it; dropped when the job is over."""
        if job_id in self._jobs:
            self._process.send(_encode({"type": protocol.NOTIFY, "job_id": job_id, "event": event}))

    async def reset(self) -> bool:
        """Make the process like new for the next task; False if that can't be done."""
        if self._damaged or self._jobs or not self.alive:
            return False
        reset = self._reset = asyncio.get_running_loop().create_future()
        self._process.send(_encode({"type": protocol.RESET}))
        try:
            problem = await asyncio.wait_for(reset, RESET_LIMIT)
        except asyncio.TimeoutError:
            return False
        self._tail.clear()
        return problem is None and self.alive

    def kill(self) -> None:
        """End the process and its descendants at once."""
        self._process.kill()

    async def ended(self) -> None:
        """Wait until the process is gone and all it wrote was delivered."""
        await asyncio.shield(self._ended)

    def retire(self) -> None:
        """End the process as soon as nobody waits for a job of it."""
        self._retired = True
        self._end_if_retired()

    def pause(self) -> None:
        """Receive nothing until ``resume`` was called as often as this."""
        self._pauses += 1
        if self._pauses == 1:
            self._process.pause()

    def resume(self) -> None:
        """Take back one ``pause``."""
        self._pauses -= 1
        if self._pauses == 0:
            self._process.resume()

    def message_received(self, message: dict[str, Any], size: int) -> None:
        """The process sent a message."""
        kind = message["type"]
        if kind == protocol.WORKER_READY:
            _resolve(self._ready, None)
        elif kind == protocol.RESET_DONE:
            _resolve(self._reset, message["problem"])
        elif kind == protocol.JOB_ENDED:
            self._job_ended(message["job_id"])
        elif kind == protocol.JOB_UNSTOPPABLE:
            if message["job_id"] in self._running:
                self._give_up()
        elif kind == "BlockFinished":
            self._finish(message, size)
        elif message["job_id"] in self._jobs:
            self._jobs[message["job_id"]].deliver(message, size)

    def line_received(self, line: str) -> None:
        """The process, or one of its children, wrote a line of error output."""
        self._tail.append(line[:TAIL_WIDTH])
        if self._jobs:
            latest = next(reversed(self._jobs.values()))
            log = {"type": "BlockLog", "job_id": latest.job_id, "log": line, "stdio": "stderr"}
            latest.deliver(log, len(line))

    def mark_received(self, number: int) -> None:
        """All error output up to the end of a job was received."""
        for job in list(self._jobs.values()):
            if job.mark == number:
                job.marked = True
                if job.finish is not None:
                    self._finish(*job.finish)

    def process_ended(self, reason: str) -> None:
        """The process is gone: so are its jobs."""
        error = "\n".join([reason, *self._tail])
        for timer in self._running.values():
            if timer is not None:
                timer.cancel()
        self._running.clear()
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            finish = {"type": "BlockFinished", "job_id": job.job_id, "error": error}
            job.deliver(*(job.finish or (finish, len(error))))
        _resolve(self._ready, error)
        _resolve(self._reset, error)
        self._ended.set_result(None)

    async def _until_ready(self) -> None:
        try:
            problem = await asyncio.wait_for(asyncio.shield(self._ready), START_LIMIT)
        except asyncio.TimeoutError:
            problem = f"it took no jobs within {START_LIMIT:g} seconds"
        if problem is not None:
            raise WorkerFailed(
                f"the worker for {self.spec.package_dir} didn't start with "
                f"{self.spec.command[0]}: {problem}"
            )

    def _finish(self, message: dict[str, Any], size: int) -> None:
        job = self._jobs.get(message["job_id"])
        if job is None:
            return
        job.finish = message, size
        if job.marked:
            del self._jobs[job.job_id]
            job.deliver(message, size)
            self._end_if_retired()

    def _job_ended(self, job_id: str) -> None:
        timer = self._running.pop(job_id, None)
        if timer is not None:
            timer.cancel()

    def _end_if_retired(self) -> None:
        if self._retired and not self._jobs:
            self.kill()

    def _give_up(self) -> None:
        """Something runs that nothing but a kill can end; other jobs may finish before it."""
        if self._jobs:
            self._damaged = True
        else:
            self.kill()


@dataclass
class _Job:
    job_id: str
    #: Its number in the error output, and whether that was seen.
    mark: int
    deliver: Deliver
    marked: bool = False
    #: Its BlockFinished and that one's size, held back until the mark is seen.
    finish: tuple[dict[str, Any], int] | None = None


def _resolve(future: asyncio.Future[str | None] | None, value: str | None) -> None:
    if future is not None and not future.done():
        future.set_result(value)


def _encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode()


def _too_large(inputs: Mapping[str, Any], size: int) -> str:
    largest = max(inputs, key=lambda handle: len(_encode({handle: inputs[handle]})), default="")
    return (
        f"the value of input [{largest}] is too large: the inputs take {size} bytes as JSON, the "
        f"limit is {FRAME_LIMIT}. Pass a file path, or declare the handles on both sides as "
        "oomol/var or oomol/bin."
    )
