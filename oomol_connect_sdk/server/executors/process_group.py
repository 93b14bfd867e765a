"""A child process in a group of its own: its environment, its pipes and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from .process_guard import ProcessGuard

#: Seconds between the end of a process and that of its pipes, which a descendant that left the
#: group may keep open.
PIPES_LIMIT = 1.0

#: Ends a process that writes a larger file than it may; Windows has no such signal.
FILE_TOO_LARGE = getattr(signal, "SIGXFSZ", None)

#: What a process needs to run at all, where files, people and certificates are. All else the
#: server has in its environment, secrets among it, is none of a block's business.
_INHERITED = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "OO_HOST_ENDPOINT"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        "NODE_EXTRA_CA_CERTS",
        *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "TEMP", "TMP"),
        *("USERPROFILE", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES"),
    )
)
#: Tokens and keys are for the client and the server, and the secrets are given one by one.
_WITHHELD = ("OOMOL_CONNECT_", "OOMOL_MODELS_", "OOMOL_SECRETS_FILE")


class ProcessGroup(asyncio.SubprocessProtocol):
    """A process and the descendants that stay in its group; they end together.

    Subclasses say what its output means, in ``received`` and ``ended``.
    """

    def __init__(self, guard: ProcessGuard) -> None:
        #: True once the process has ended, was told to or can't be talked to any more.
        self.ending = False
        #: Why it was ended, when that was not its own doing.
        self.fault: str | None = None
        self._guard = guard
        self._transport: asyncio.SubprocessTransport
        self._started = False
        self._gone = asyncio.Event()

    async def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path | None = None,
        talks: bool = False,
    ) -> None:
        """Start the process; with ``talks`` it has a standard input. Raises OSError."""
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                *self._guard.limited(command),
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                env={**environment, **self._guard.variables},
                cwd=directory,
                start_new_session=True,
            )
        except BaseException:
            # Whoever stops waiting for the start never gets hold of the process.
            if self._started:
                self.kill()
                await self.gone()
            raise

    def received(self, descriptor: int, data: bytes) -> None:
        """The process wrote this to its standard output (1) or error output (2)."""
        raise NotImplementedError

    def ended(self, status: int | None) -> None:
        """The process is gone and all it wrote was received; None when it can't be known how."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Write to its standard input; dropped when the process is gone."""
        pipe = cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(0))
        if not self.ending and pipe is not None:
            pipe.write(data)

    def pause(self) -> None:
        """Receive nothing for the time being: who writes much has to wait."""
        if not self.ending:
            for pipe in self._outputs():
                pipe.pause_reading()

    def resume(self) -> None:
        """Receive again."""
        for pipe in self._outputs():
            pipe.resume_reading()

    def kill(self) -> None:
        """End the process and every descendant that stayed in its group."""
        self.ending = True
        if self._gone.is_set():
            # Its number may belong to another process by now.
            return
        # What it wrote before fits into its pipes.
        self.resume()
        if hasattr(os, "killpg"):
            _kill_group(self._transport.get_pid())
        elif self._transport.get_returncode() is None:
            self._transport.kill()

    def end(self, why: str) -> None:
        """Kill it; the first reason given counts."""
        self.fault = self.fault or why
        self.kill()

    @property
    def group_id(self) -> int:
        """The number of the group, and of its first process."""
        return self._transport.get_pid()

    @property
    def exited(self) -> bool:
        """Whether the process has ended, also when the event loop has yet to learn it."""
        if self.ending or not hasattr(os, "waitid"):
            return self.ending
        try:
            # It stays to be buried by whoever waits for it.
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.group_id, options) is not None
        except ChildProcessError:
            return True

    async def gone(self) -> None:
        """Wait until the process is gone and all it wrote was received."""
        await self._gone.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process has started."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._started = True
        self._guard.started(self)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """The process wrote something."""
        self.received(fd, data)

    def process_exited(self) -> None:
        """The process has ended; what it left behind goes with it."""
        self.kill()
        asyncio.get_running_loop().call_later(PIPES_LIMIT, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The process has ended and its pipes were read to their ends."""
        self._gone.set()
        self._guard.ended(self)
        self._transport.close()
        self.ended(self._transport.get_returncode())

    def death(self, signal_number: int) -> str:
        """What killed it, in words."""
        name = signal_name(signal_number)
        if signal_number == FILE_TOO_LARGE:
            return f"{name}: a file became larger than {self._guard.file_limit}, the limit"
        return name

    def _outputs(self) -> list[asyncio.ReadTransport]:
        pipes = (self._transport.get_pipe_transport(fd) for fd in (1, 2))
        return [
            cast("asyncio.ReadTransport", pipe)
            for pipe in pipes
            if pipe is not None and not pipe.is_closing()
        ]


def inherited_environment(server: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that processes of blocks get, out of those of the server."""
    return {name: value for name, value in server.items() if _is_inherited(name)}


def signal_name(number: int) -> str:
    """The name of a signal and its number, as people know it."""
    try:
        return f"signal {signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def _is_inherited(name: str) -> bool:
    if name.startswith(_WITHHELD):
        return False
    return name.upper() in _INHERITED or name.startswith(("OOMOL_", "LC_"))


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    # All are gone; of a group that only awaits its burial macOS says that it is not permitted.
    except (ProcessLookupError, PermissionError):
        return
