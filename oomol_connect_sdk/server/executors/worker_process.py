"""The process of a worker: what it says in frames and what it writes besides."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from .process_group import PIPES_LIMIT, ProcessGroup, inherited_environment
from .process_guard import ProcessGuard
from .python_worker.frames import FrameDecoder, encode_frame
from .python_worker.lines import LineSplitter
from .python_worker.protocol import MARK_END, MARK_START


class Listener(Protocol):
    """Who is told what a process does."""

    def message_received(self, message: dict[str, Any], size: int) -> None:
        """It sent a message that took so many bytes."""

    def line_received(self, line: str) -> None:
        """It wrote a line of error output."""

    def mark_received(self, number: int) -> None:
        """It wrote this mark into its error output."""

    def process_ended(self, reason: str) -> None:
        """It is gone, and nothing of it will follow."""


class WorkerProcess(ProcessGroup):
    """A process in a group of its own that speaks in frames."""

    def __init__(self, listener: Listener, guard: ProcessGuard) -> None:
        super().__init__(guard)
        self._listener = listener
        self._frames = FrameDecoder()
        self._errors = ErrorOutput()

    async def launch(self, command: Sequence[str]) -> None:
        """Start it in the server's working directory. Raises OSError."""
        await self.start(command, environment=worker_environment(os.environ), talks=True)

    def send(self, body: bytes) -> None:
        """Send one frame; dropped when the process is gone."""
        self.write(encode_frame(body))

    def received(self, descriptor: int, data: bytes) -> None:
        """Tell the listener."""
        if descriptor == 2:
            self._tell(self._errors.feed(data))
            return
        try:
            for body in self._frames.feed(data):
                message = json.loads(body, parse_constant=_no_number)
                self._listener.message_received(message, len(body))
        except ValueError as error:
            self.end(f"the worker process sent something unreadable: {error}")

    def ended(self, status: int | None) -> None:
        """Tell the listener."""
        self._tell(self._errors.flush())
        self._listener.process_ended(self.fault or self._reason(status))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A pipe has ended, and without one of these two the process is of no use."""
        if fd != 2 and not self.ending:
            self.ending = True
            asyncio.get_running_loop().call_later(PIPES_LIMIT, self.kill)

    def _reason(self, status: int | None) -> str:
        if status is None:
            return "the worker process is out of reach"
        if status >= 0:
            return f"the worker process ended (exit code {status})"
        return f"the worker process was killed by {self.death(-status)}"

    def _tell(self, output: Iterator[str | int]) -> None:
        for item in output:
            if isinstance(item, int):
                self._listener.mark_received(item)
            else:
                self._listener.line_received(item)


class ErrorOutput:
    """Error output cut into lines (str) and marks (int)."""

    _MARK = re.compile(f"{MARK_START}([0-9]+){MARK_END}".encode())
    #: Bytes of an incomplete mark at most.
    _MARK_SIZE = 32

    def __init__(self) -> None:
        self._received = b""
        self._lines = LineSplitter()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> Iterator[str | int]:
        """What these bytes complete."""
        text, *rest = self._MARK.split(self._received + data)
        for number, following in zip(rest[::2], rest[1::2], strict=True):
            yield from self._end_line(text)
            yield int(number)
            text = following
        cut = self._start_of_mark(text)
        self._received = text[cut:]
        yield from self._lines.feed(self._decoder.decode(text[:cut]))

    def flush(self) -> Iterator[str | int]:
        """What is left when the output has ended."""
        yield from self._end_line(self._received)

    def _end_line(self, text: bytes) -> Iterator[str]:
        yield from self._lines.feed(self._decoder.decode(text, final=True))
        yield from self._lines.flush()

    def _start_of_mark(self, text: bytes) -> int:
        cut = text.rfind(b"\0")
        return cut if cut >= 0 and len(text) - cut < self._MARK_SIZE else len(text)


def worker_environment(server: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of a worker, out of those of the server."""
    return {**inherited_environment(server), "IS_FORKED": "1", "PYTHONUNBUFFERED": "1"}


def _no_number(name: str) -> None:
    """NaN and the infinities are null, as everywhere in JSON."""
