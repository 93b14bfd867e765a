"""Shell blocks: one command, its lines as logs, and its output as two values."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.actions import Job
from .process_group import FILE_TOO_LARGE, ProcessGroup, inherited_environment
from .process_guard import ProcessGuard
from .python_worker.frames import MESSAGE_LIMIT
from .python_worker.lines import LineSplitter
from .worker import Deliver, JobRefused, WorkerFailed

_STREAMS = {1: "stdout", 2: "stderr"}


class ShellCommand(ProcessGroup):
    """The process of one shell job.

    Inputs are ``command``, ``cwd`` (relative to the block; by default its directory) and
    ``envs`` (``K=V,K=V``; a value may contain ``=``). Every line is logged at once, and at the
    end there is one output each for ``stdout`` and ``stderr``, without its last line end.
    """

    def __init__(
        self, job: Job, inputs: Mapping[str, Any], deliver: Deliver, guard: ProcessGuard
    ) -> None:
        super().__init__(guard)
        self._job = job
        self._inputs = inputs
        self._deliver = deliver
        self._texts = {descriptor: _Text() for descriptor in _STREAMS}

    async def run(self) -> None:
        """Start the command. Raises JobRefused or WorkerFailed."""
        command = self._inputs.get("command")
        if not isinstance(command, str) or not command:
            raise JobRefused("a shell block needs its input [command], a text")
        directory = self._directory()
        environment = {**inherited_environment(os.environ), **self._variables()}
        try:
            await self.start(["sh", "-c", command], environment=environment, directory=directory)
        except (OSError, ValueError) as error:
            raise WorkerFailed(f"the command can't be started: {error}") from error

    def received(self, descriptor: int, data: bytes) -> None:
        """Log the lines that are complete."""
        text = self._texts[descriptor]
        self._log(descriptor, text.feed(data))
        if text.size > MESSAGE_LIMIT:
            self.end(self._refusal(descriptor))

    def ended(self, status: int | None) -> None:
        """Give the two outputs and finish the job."""
        for descriptor, text in self._texts.items():
            self._log(descriptor, text.end())
            if text.is_too_large:
                self.fault = self.fault or self._refusal(descriptor)
        if self.fault is None:
            for descriptor, handle in _STREAMS.items():
                text = self._texts[descriptor]
                message = {"type": "BlockOutput", "handle": handle, "output": text.value}
                self._send(message, text.size)
        error = self.fault or self._failure(status)
        self._send({"type": "BlockFinished"} | ({} if error is None else {"error": error}), 0)

    def _directory(self) -> Path:
        given = self._inputs.get("cwd")
        directory = self._job.directory / (given if isinstance(given, str) else "")
        if not directory.is_dir():
            raise JobRefused(f"the directory {directory} (input [cwd]) does not exist")
        return directory

    def _variables(self) -> dict[str, str]:
        given = self._inputs.get("envs")
        pairs = given.split(",") if isinstance(given, str) else []
        variables = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        ids = {"OOCANA_SESSION_ID": self._job.session_id, "OOCANA_JOB_ID": self._job.job_id}
        return {**variables, **ids}

    def _failure(self, status: int | None) -> str | None:
        if status == 0:
            return None
        block = f"Task block '{self._job.block_path or self._job.node_id}'"
        if status is None:
            return f"{block} is out of reach"
        if status < 0:
            return f"{block} was killed by {self.death(-status)}"
        # The shell's way to say that what it ran was killed.
        killer = status - 128
        why = f" ({self.death(killer)})" if killer == FILE_TOO_LARGE else ""
        return f"{block} exited with code {status}{why}"

    def _refusal(self, descriptor: int) -> str:
        return (
            f"the value of output [{_STREAMS[descriptor]}] is too large: the limit is "
            f"{MESSAGE_LIMIT} bytes as JSON. Let the command write to a file."
        )

    def _log(self, descriptor: int, lines: list[str]) -> None:
        for line in lines:
            message = {"type": "BlockLog", "log": line, "stdio": _STREAMS[descriptor]}
            self._send(message, len(line))

    def _send(self, message: dict[str, Any], size: int) -> None:
        self._deliver({**message, "job_id": self._job.job_id}, size)


class _Text:
    """What one stream said: as lines now, and as one value in the end."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[str] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lines = LineSplitter()

    def feed(self, data: bytes, *, last: bool = False) -> list[str]:
        self.size += len(data)
        text = self._decoder.decode(data, final=last)
        self._pieces.append(text)
        return self._lines.feed(text)

    def end(self) -> list[str]:
        return [*self.feed(b"", last=True), *self._lines.flush()]

    @property
    def is_too_large(self) -> bool:
        # One character may take six as JSON.
        return self.size > MESSAGE_LIMIT // 6 and len(json.dumps(self.value)) > MESSAGE_LIMIT

    @property
    def value(self) -> str:
        text = "".join(self._pieces)
        return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
