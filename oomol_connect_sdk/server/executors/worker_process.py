"""The process of a worker: its start, its group, its pipes and its end."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from .python_worker.frames import FrameDecoder, encode_frame
from .python_worker.lines import LineSplitter
from .python_worker.protocol import MARK_END, MARK_START

#: Seconds between the end of a process and that of its pipes, which a descendant that left the
#: group may keep open.
_PIPES_LIMIT = 1.0

#: What a process needs to run at all, where files, people and certificates are. All else the
#: server has in its environment, secrets among it, is none of a block's business.
_INHERITED = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "OO_HOST_ENDPOINT"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "TEMP", "TMP"),
        *("USERPROFILE", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES"),
    )
)


class Listener(Protocol):
    """Who is told what a process does."""

    def message_received(self, message: dict[str, Any]) -> None:
        """It sent a message."""

    def line_received(self, line: str) -> None:
        """It wrote a line of error output."""

    def mark_received(self, number: int) -> None:
        """It wrote this mark into its error output."""

    def process_ended(self, reason: str) -> None:
        """It is gone, and nothing of it will follow."""


class WorkerProcess(asyncio.SubprocessProtocol):
    """A process in a group of its own that speaks in frames."""

    def __init__(self, listener: Listener) -> None:
        #: True once the process has ended, was told to or can't be talked to any more.
        self.ending = False
        self._listener = listener
        self._transport: asyncio.SubprocessTransport
        self._frames = FrameDecoder()
        self._errors = ErrorOutput()
        self._fault: str | None = None
        self._gone = False

    @classmethod
    async def start(cls, command: Sequence[str], listener: Listener) -> WorkerProcess:
        """Start a process in the server's working directory. Raises OSError."""
        _, process = await asyncio.get_running_loop().subprocess_exec(
            lambda: cls(listener),
            *command,
            env=worker_environment(os.environ),
            start_new_session=True,
        )
        return process

    def send(self, body: bytes) -> None:
        """Send one frame; dropped when the process is gone."""
        pipe = cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(0))
        if not self.ending and pipe is not None:
            pipe.write(encode_frame(body))

    def kill(self) -> None:
        """End the process and every descendant that stayed in its group."""
        self.ending = True
        if self._gone:
            # Its number may belong to another process by now.
            return
        if hasattr(os, "killpg"):
            _kill_group(self._transport.get_pid())
        elif self._transport.get_returncode() is None:
            self._transport.kill()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process has started."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """The process wrote something."""
        if fd == 2:
            self._tell(self._errors.feed(data))
            return
        try:
            for body in self._frames.feed(data):
                self._listener.message_received(json.loads(body, parse_constant=_no_number))
        except ValueError as error:
            self._fault = f"the worker process sent something unreadable: {error}"
            self.kill()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A pipe has ended, and without one of these two the process is of no use."""
        if fd != 2 and not self.ending:
            self.ending = True
            asyncio.get_running_loop().call_later(_PIPES_LIMIT, self.kill)

    def process_exited(self) -> None:
        """The process has ended; what it left behind goes with it."""
        self.kill()
        asyncio.get_running_loop().call_later(_PIPES_LIMIT, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The process has ended and its pipes were read to their ends."""
        self._gone = True
        self._transport.close()
        self._tell(self._errors.flush())
        self._listener.process_ended(self._fault or _reason(self._transport.get_returncode()))

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
    inherited = {name: value for name, value in server.items() if _is_inherited(name)}
    return {**inherited, "IS_FORKED": "1", "PYTHONUNBUFFERED": "1"}


def _is_inherited(name: str) -> bool:
    # The token of a Connect server is for the client, not for blocks.
    if name.startswith("OOMOL_CONNECT_"):
        return False
    return name.upper() in _INHERITED or name.startswith(("OOMOL_", "LC_"))


def _reason(returncode: int | None) -> str:
    if returncode is None:
        return "the worker process is out of reach"
    if returncode >= 0:
        return f"the worker process ended (exit code {returncode})"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "signal"
    return f"the worker process was killed by signal {name} ({-returncode})"


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    # All are gone; of a group that only awaits its burial macOS says that it is not permitted.
    except (ProcessLookupError, PermissionError):
        return


def _no_number(name: str) -> None:
    """NaN and the infinities are null, as everywhere in JSON."""
