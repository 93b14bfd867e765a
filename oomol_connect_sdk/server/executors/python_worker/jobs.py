"""One run of one block inside the worker."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from pathlib import Path
from typing import Any

import oocana
from oocana import BlockInfo, Context

from .capture import Capture
from .channel import Channel
from .entries import (
    Entries,
    EntryError,
    call_arguments,
    is_coroutine_function,
    prefer_directory,
)
from .lines import LineSplitter
from .mainframe import JobMainframe
from .progress import ProgressThrottle
from .protocol import JOB_ENDED, JOB_UNSTOPPABLE
from .service import ServicePlace
from .values import InputUnavailable, encode_message, resolve_inputs

#: Characters of an error text; of a longer one the end is kept.
ERROR_LIMIT = 256 * 1024


@dataclass(frozen=True)
class Workplace:
    """What all jobs of the process share."""

    channel: Channel
    capture: Capture
    entries: Entries
    #: Objects behind var handles, by their StoreKey.
    store: dict[Any, Any]
    package_dir: Path
    #: The one service of the process, if it runs one.
    service_place: ServicePlace


class Job:
    """Runs a block's function in a thread of its own and sends what comes of it.

    ``order`` is what the server sent: the ids, the entry, the inputs with their definitions
    and the directories.
    """

    def __init__(
        self, order: Mapping[str, Any], workplace: Workplace, ended: Callable[[Job], None]
    ) -> None:
        self.job_id: str = order["job_id"]
        self.session_id: str = order["session_id"]
        self.over = False
        self._returned = False
        self._order = order
        self._workplace = workplace
        self._ended = ended
        self._lock = threading.RLock()
        self._lines = {"stdout": LineSplitter(), "stderr": LineSplitter()}
        self._progress = ProgressThrottle(self._send_body, self._lock)
        self._context: Context | None = None
        #: Where the answers to the job's questions and the events of its blocks go.
        self.mainframe = JobMainframe(self)
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        # Threads that a block starts inherit the flag, and they must count as left behind.
        self._thread = threading.Thread(target=self._run, name=f"job {self.job_id}", daemon=False)

    def start(self) -> None:
        """Run, in a thread of its own."""
        self._thread.start()

    def wait(self, timeout: float) -> bool:
        """Wait for the thread's end, at most that many seconds; tell whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abort(self) -> None:
        """Send nothing more; cancel an async function, and say so if there is none to cancel."""
        with self._lock:
            self.over = True
            self._progress.drop()
        running = self._running
        if running is None:
            self._report(JOB_UNSTOPPABLE)
            return
        loop, task = running
        # The loop may just have been closed: then the job has ended by itself.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(task.cancel)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message of this job, or drop it when the job is over.

        Raises TypeError or ValueError for a value that can't be sent.
        """
        self._send_body(self._encode(message))

    def print(self, text: str, stdio: str) -> None:
        """Log what the block printed, line by line."""
        with self._lock:
            self._log(self._lines[stdio].feed(text), stdio)

    def preview(self, payload: Any) -> None:
        """Show this as if the block had called ``context.preview``."""
        if self._context is not None:
            self._context.preview(payload)

    def finish(self, message: Mapping[str, Any]) -> None:
        """Send BlockFinished, after everything that is still held back; only the first counts."""
        with self._lock:
            if self.over:
                return
            if "error" in message:
                message = {"type": "BlockFinished", "error": str(message["error"])[-ERROR_LIMIT:]}
            body = self._encode(message)
            self._progress.flush()
            for stdio, lines in self._lines.items():
                self._log(lines.flush(), stdio)
            self._workplace.channel.mark(self._order["mark"])
            self._send_body(body)
            self.over = True
            if self._returned:
                self._end()

    def report_progress(self, progress: float) -> None:
        """Report the job's progress; more than three reports a second become one."""
        self._progress.report(self._encode({"type": "BlockProgress", "progress": progress}))

    def _run(self) -> None:
        self._workplace.capture.enter(self)
        try:
            self._call()
        except (EntryError, InputUnavailable) as error:
            self._fail(str(error))
        except SystemExit as leaving:
            self._leave(leaving.code)
        except BaseException as error:
            self._fail(block_traceback(error))
        with self._lock:
            self._returned = True
            # One that asked to be kept alive ends later, by finish().
            if self.over:
                self._end()

    def _end(self) -> None:
        self._report(JOB_ENDED)
        self._ended(self)

    def _call(self) -> None:
        order = self._order
        prefer_directory(Path(order["import_dir"]), self._workplace.package_dir)
        context = self._context = self._make_context()
        function, arguments = self._callable(context)
        if self.over:
            return
        if is_coroutine_function(function):
            returned = asyncio.run(self._await(function, arguments))
        else:
            returned = function(*arguments)
        self._take_return(returned, context)

    def _callable(self, context: Context) -> tuple[Callable[..., Any], Sequence[Any]]:
        """What to call, with which arguments."""
        order = self._order
        load = partial(self._workplace.entries.function, Path(order["entry"]), order["function"])
        if order["service_block"] is not None:
            service = self._workplace.service_place.service(load)
            return service.handler(order["service_block"], context)
        function = load()
        return function, call_arguments(function, context)

    async def _await(self, function: Callable[..., Any], arguments: Any) -> Any:
        task = asyncio.current_task()
        if task is not None:
            self._running = (asyncio.get_running_loop(), task)
        try:
            return await function(*arguments)
        finally:
            self._running = None

    def _make_context(self) -> Context:
        order = self._order
        inputs = resolve_inputs(order["inputs"], order["inputs_def"], self._workplace.store)
        context = Context(
            inputs=inputs,
            blockInfo=BlockInfo(
                session_id=self.session_id,
                job_id=self.job_id,
                stacks=order["stacks"],
                block_path=order["block_path"],
            ),
            mainframe=self.mainframe,
            store=self._workplace.store,
            inputs_def=order["inputs_def"],
            outputs_def=order["outputs_def"],
            session_dir=order["session_dir"],
            tmp_dir=order["tmp_dir"],
            package_name=order["package_name"],
            pkg_dir=order["pkg_dir"],
        )
        context._logger = self._logger()
        # The class's own throttle is one for all contexts of the process.
        context.report_progress = self.report_progress
        return context

    def _logger(self) -> logging.Logger:
        # Not in logging's registry, which would keep it for ever.
        logger = logging.Logger(f"block.{self.job_id}", logging.INFO)
        logger.addHandler(_BlockLogHandler(self))
        return logger

    def _take_return(self, returned: Any, context: Context) -> None:
        if returned is context.keepAlive:
            return
        if returned is None:
            context.finish()
        elif isinstance(returned, dict):
            context.finish(result=returned)
        else:
            if asyncio.iscoroutine(returned):
                returned.close()
            kind = type(returned).__name__
            self._fail(f"return object needs to be a dictionary, but get type: {kind}")

    def _leave(self, code: object) -> None:
        if code is None or code == 0:
            self.finish({"type": "BlockFinished"})
        else:
            self._fail(f"block call exit with message: {code}")

    def _fail(self, error: str) -> None:
        self.finish({"type": "BlockFinished", "error": error})

    def _log(self, lines: list[str], stdio: str) -> None:
        # Text needs no encoder for values, and there may be much of it.
        fields = {"type": "BlockLog", "job_id": self.job_id, "stdio": stdio}
        self._send_body(*(json.dumps({**fields, "log": line}).encode() for line in lines))

    def _encode(self, message: Mapping[str, Any]) -> bytes:
        return encode_message({**message, "job_id": self.job_id})

    def _send_body(self, *bodies: bytes) -> None:
        with self._lock:
            if bodies and not self.over:
                self._workplace.channel.send(*bodies)

    def _report(self, kind: str) -> None:
        self._workplace.channel.send(encode_message({"type": kind, "job_id": self.job_id}))


class _BlockLogHandler(logging.Handler):
    """Makes a record of ``context.logger`` a BlockLog; warnings and worse go to stderr."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def emit(self, record: logging.LogRecord) -> None:
        stdio = "stderr" if record.levelno >= logging.WARNING else "stdout"
        self._job.send({"type": "BlockLog", "log": self.format(record), "stdio": stdio})


def block_traceback(error: BaseException) -> str:
    """The error as Python prints it, without the worker's own frames."""
    report = traceback.TracebackException(type(error), error, error.__traceback__)
    block_frames = dropwhile(lambda frame: _calls_blocks(frame.filename), report.stack)
    report.stack = traceback.StackSummary.from_list(
        [frame for frame in block_frames if not _is_ours(frame.filename)]
    )
    return "".join(report.format()).rstrip("\n")


def _calls_blocks(file: str) -> bool:
    libraries = Path(asyncio.__file__).parent, Path(oocana.__file__).parent
    return _is_ours(file) or file.startswith("<frozen ") or Path(file).parent in libraries


def _is_ours(file: str) -> bool:
    return Path(file).parent == Path(__file__).parent
