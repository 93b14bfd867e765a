"""What is stored, as values: tasks and the events of their journal."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Event of a message that a job sent: an input of the engine, fed back to it at replay.
JOB = "job"
#: Event that the engine made by itself: made again at replay, and not written twice.
ENGINE = "engine"
#: Message of a job that is no event (a request): fed back at replay, and never shown.
REQUEST = "request"
#: Event about the run itself, such as its stop: no part of a replay.
SERVER = "server"

UNFINISHED = ("created", "pending", "running")
ENDED = ("completed", "failed", "stopped")


@dataclass(frozen=True)
class TaskRecord:
    """One task as it is stored; times are Unix milliseconds."""

    id: str
    session_id: str
    project_id: str
    #: Name of the package that holds the manifest.
    project_name: str
    #: Absolute path of the manifest that runs; of a service with ``::block`` behind it.
    manifest_path: str
    #: The wire's ``NodeInputs[]``; None when the client gave none.
    input_values: Sequence[Mapping[str, Any]] | None
    created_at: int
    updated_at: int
    status: str = "created"
    #: Percent.
    progress: float | None = None
    result: Mapping[str, Any] | None = None
    node_results: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    #: Where its last change stands in the order of all events and changes; the store gives it.
    revision: int = 0
    #: The client that made it, by the name it gave itself.
    client: str | None = None
    idempotency_key: str | None = None
    #: What a second request with that key must have.
    request_hash: str | None = None
    #: Among tasks that wait, a higher one starts first; None counts as 0.
    priority: int | None = None
    labels: Mapping[str, str] | None = None
    #: The task is stopped when it has not ended by then.
    deadline: int | None = None
    #: Id of the task this one repeats.
    rerun_of: str | None = None
    #: The session whose directory holds the files that came with the task.
    uploads_session_id: str | None = None
    #: The nodes of the flow up to which it runs; None for all of it.
    nodes: Sequence[str] | None = None
    #: Node id → handle → value of earlier runs; None when they are not to be used. May be large,
    #: so that it is empty in all records but that of a new task and that of one to be run.
    cache: Mapping[str, Any] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ENDED


@dataclass(frozen=True)
class JournalEntry:
    """One event on its way into the journal."""

    event: Mapping[str, Any]
    #: JOB, ENGINE, REQUEST or SERVER.
    origin: str
    #: Unix milliseconds.
    created_at: int = field(default_factory=lambda: now_ms())

    @functools.cached_property
    def text(self) -> str:
        """The event as JSON: ASCII, on one line, also NaN and lone surrogates."""
        return json.dumps(self.event, separators=(",", ":"))


@dataclass(frozen=True)
class StoredEvent:
    """One event of the journal; ids ascend over all tasks and are never used again."""

    id: int
    session_id: str
    node_id: str
    type: str
    origin: str
    #: The event as JSON text.
    text: str
    created_at: int

    @property
    def event(self) -> dict[str, Any]:
        """The event as it was appended."""
        event: dict[str, Any] = json.loads(self.text)
        return event


def now_ms() -> int:
    """Return the time as Unix milliseconds."""
    return int(time.time() * 1000)
