"""The blocks that jobs run themselves, by ``context.run_block``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from .errors import EngineError
from .events import JobInfo, Trouble
from .machine import Machine
from .references import Caller
from .wiring import Edge


class RequestRefused(EngineError):
    """A job asked for something it can't have."""


class Host(Protocol):
    """What the requests of a job are about: the flow it is a node of, or the root task."""

    @property
    def requested(self) -> RequestedBlocks:
        """The blocks that its jobs run themselves."""

    def caller(self, node_id: str) -> Caller:
        """Say who refers to a block."""

    def level(self, node_id: str) -> Mapping[str, Any]:
        """Give the level of the stacks below it."""

    def downstream(self, job_id: str, handles: Sequence[str] | None) -> dict[str, Any]:
        """Say where the outputs of a job go; None stands for all outputs."""

    def set_weight(self, node_id: str, weight: float) -> None:
        """Change a node's share in the progress; raises RequestRefused when there is none."""


class Abortable(Protocol):
    """Something that runs."""

    def abort(self) -> None:
        """Stop it, without an event."""


class RequestedBlocks:
    """The running blocks that the jobs of one host asked for; to them it is the owner.

    What they give reaches who asked as events. They outlive who asked, and nobody fails with
    them; ``idle`` is called when the last one is over.
    """

    def __init__(self, machine: Machine, host: Host, idle: Callable[[], None]) -> None:
        self._machine = machine
        self._host = host
        self._idle = idle
        self._running: dict[str, Abortable] = {}

    def __bool__(self) -> bool:
        return bool(self._running)

    @property
    def host(self) -> Host:
        """Where the blocks that one of them runs in turn belong."""
        return self._host

    def add(self, job_id: str, requester: str, run: Abortable) -> None:
        """Take a block that begins to run."""
        self._running[job_id] = run
        self._machine.requesters[job_id] = requester

    def drop(self, requester: str) -> None:
        """Stop what a job asked for, and what that asked for in turn: the job starts anew."""
        requesters = self._machine.requesters
        for job_id in [job_id for job_id in self._running if requesters[job_id] == requester]:
            self.drop(job_id)
            self._forget(job_id).abort()

    def abort(self) -> None:
        """Stop everything, without an event."""
        for job_id in list(self._running):
            self._forget(job_id).abort()

    def deliver(
        self, job_id: str, handle: str, value: Any, only: frozenset[Edge] | None = None
    ) -> None:
        """Nothing but the events leads an output further."""

    def progressed(self, job_id: str, progress: float) -> None:
        """It counts in no flow's progress."""

    def previewed(self, job_id: str, payload: Any) -> None:
        """No flow forwards it."""

    def ended(self, job_id: str, result: Mapping[str, Any], trouble: Trouble | None) -> None:
        """Forget a block that is over, however it ended."""
        if job_id in self._running:
            self._forget(job_id)
            if not self._running:
                self._idle()

    def _forget(self, job_id: str) -> Abortable:
        del self._machine.requesters[job_id]
        return self._running.pop(job_id)


class RunningTask:
    """A task that a job asked for."""

    def __init__(self, machine: Machine, info: JobInfo) -> None:
        self._machine = machine
        self._info = info

    def abort(self) -> None:
        """Stop it, without an event."""
        self._machine.abort(self._info.job_id)
