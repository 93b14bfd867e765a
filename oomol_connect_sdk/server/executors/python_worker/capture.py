"""Which job is running here: ``print``, threads and ``exit()`` of blocks that share a process."""

from __future__ import annotations

import builtins
import io
import os
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NoReturn, Protocol

from .lines import LineSplitter


class Printer(Protocol):
    """A job, as far as what it shows is concerned."""

    @property
    def over(self) -> bool:
        """True once nothing of it is delivered any more."""

    def print(self, text: str, stdio: str) -> None:
        """Take text that was written to ``stdout`` or ``stderr``."""

    def preview(self, payload: Any) -> None:
        """Show this to whoever watches the job."""


class Capture:
    """Gives what is written to ``sys.stdout`` and ``sys.stderr`` to the job that wrote it.

    A job is known by a context variable; coroutines and ``asyncio.to_thread`` carry it by
    themselves, a plain thread is given it when it starts. ``latest`` names the job to take for
    a writer that belongs to no job that is still open, or None.
    """

    def __init__(self, latest: Callable[[], Printer | None]) -> None:
        self._latest = latest
        self._job: ContextVar[Printer | None] = ContextVar("job", default=None)
        self._forked = False
        self.stdout = JobStream("stdout", 1, self.current)
        self.stderr = JobStream("stderr", 2, self.current)

    def install(self) -> None:
        """Replace the streams, ``exit`` and the start of threads, for the whole process."""
        self.attach_streams()
        # The interpreter's own exit() also closes standard input.
        builtins.exit = builtins.quit = _leave  # type: ignore[assignment]
        self._carry_job_into_threads()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def attach_streams(self) -> None:
        """Set ``sys.stdout`` and ``sys.stderr``; a block may have replaced them."""
        sys.stdout, sys.stderr = self.stdout, self.stderr

    def enter(self, job: Printer) -> None:
        """From here on this thread works for that job."""
        self._job.set(job)

    def current(self) -> Printer | None:
        """The job this code works for; None in a forked child, whose output goes its own way."""
        if self._forked:
            return None
        job = self._job.get()
        return self._latest() if job is None or job.over else job

    def preview(self, payload: Any) -> None:
        """Show this as a preview of the job this code works for, if there is one."""
        job = self.current()
        if job is not None:
            job.preview(payload)

    def _carry_job_into_threads(self) -> None:
        start = threading.Thread.start
        job_variable = self._job

        def start_for_job(thread: threading.Thread) -> None:
            job, run = job_variable.get(), thread.run

            def run_for_job() -> None:
                del thread.run
                job_variable.set(job)
                run()

            if job is not None:
                thread.run = run_for_job  # type: ignore[method-assign]
            start(thread)

        threading.Thread.start = start_for_job  # type: ignore[method-assign, assignment]

    def _after_fork(self) -> None:
        self._forked = True


class JobStream(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr``."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, stdio: str, descriptor: int, current: Callable[[], Printer | None]) -> None:
        self.name = f"<{stdio}>"
        self.buffer = _Bytes(self)
        self._stdio = stdio
        self._descriptor = descriptor
        self._current = current
        self._loose = LineSplitter()

    def write(self, text: str) -> int:
        """Give the text to the job that writes it."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        job = self._current()
        if job is None:
            self._write_loose(self._loose.feed(text))
        else:
            job.print(text, self._stdio)
        return len(text)

    def flush(self) -> None:
        """Write what belongs to no job; the lines of a job wait for their ends."""
        self._write_loose(self._loose.flush())

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor that a child process may be given; what it writes is logged too."""
        return self._descriptor

    def reconfigure(self, **options: Any) -> None:
        """Accepted for scripts that set their encoding; it is always UTF-8 here."""

    def _write_loose(self, lines: list[str]) -> None:
        # Whole lines, because several forked children may write at once.
        for line in lines:
            os.write(2, f"{line}\n".encode("utf-8", "replace"))


class _Bytes(io.RawIOBase):
    def __init__(self, text: JobStream) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        received = bytes(data)
        self._text.write(received.decode("utf-8", "replace"))
        return len(received)


def _leave(code: object = None) -> NoReturn:
    raise SystemExit(code)
