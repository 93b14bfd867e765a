"""Rebuilding a session from its journal, after the server that ran it was killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .engine.actions import Action, Emit, Finish, Record
from .engine.session import Session
from .store import ENGINE, JOB, REQUEST, StoredEvent

Message = Mapping[str, Any]


class ReplayDiverged(Exception):
    """The session does not do again what its journal says: its manifests were changed."""


@dataclass(frozen=True)
class Replayed:
    """Where a session stands at the end of its journal."""

    #: Events the engine made that the journal does not hold yet, in order.
    missing: Sequence[Mapping[str, Any]]
    #: Ids of the jobs that are in flight and had begun before the journal ended.
    interrupted: Sequence[str]
    #: How the session ended, when it did.
    finish: Finish | None


def replay(session: Session, journal: Sequence[StoredEvent]) -> Replayed:
    """Start ``session`` and feed it what its jobs sent before the journal ended.

    The engine is deterministic, so that the events it makes by itself are those of the journal
    in the same order; only the ones beyond them are missing. An empty journal just starts it.
    Raises ReplayDiverged when the session takes another way than its journal.
    """
    actions = session.start()
    for message in _messages(journal):
        own, rest = split_own_entry(session.handle(message))
        if own is None:
            raise ReplayDiverged(f"nobody waits for {message}")
        actions += rest
    emitted = [action.event for action in actions if isinstance(action, Emit)]
    known = [stored.event for stored in journal if stored.origin == ENGINE]
    if list(map(_identity, known)) != list(map(_identity, emitted[: len(known)])):
        raise ReplayDiverged("the engine's events are not those of the journal")
    begun = {stored.event["job_id"] for stored in journal if stored.type == "BlockStarted"}
    return Replayed(
        missing=emitted[len(known) :],
        interrupted=[job.job_id for job in session.running if job.job_id in begun],
        finish=next((action for action in actions if isinstance(action, Finish)), None),
    )


def holds_references(journal: Iterable[StoredEvent]) -> bool:
    """Whether a delivered value refers to an object that lived in a worker process."""
    return any(
        _refers([message.get(key) for key in ("output", "outputs", "result", "payload")])
        for message in _messages(stored for stored in journal if "oomol/var" in stored.text)
    )


class Redelivery:
    """Keeps a job that is run again from delivering an output twice.

    Per handle the first outputs are dropped, as many as the journal already holds.
    """

    def __init__(self, journal: Iterable[StoredEvent], job_ids: Iterable[str]) -> None:
        self._delivered: Counter[tuple[str, str]] = Counter()
        jobs = set(job_ids)
        for message in _messages(journal):
            if message["job_id"] in jobs:
                self._delivered.update((message["job_id"], handle) for handle in _handles(message))

    def filter(self, message: Message) -> Message | None:
        """Return what is new in this message; None when nothing is."""
        repeated = {handle for handle in _handles(message) if self._take(message, handle)}
        if not repeated:
            return message
        if message["type"] == "BlockOutput":
            return None
        outputs = {k: v for k, v in message["outputs"].items() if k not in repeated}
        return {**message, "outputs": outputs} if outputs else None

    def _take(self, message: Message, handle: str) -> bool:
        key = (message["job_id"], handle)
        if not self._delivered[key]:
            return False
        self._delivered[key] -= 1
        return True


def split_own_entry(actions: Sequence[Action]) -> tuple[Emit | Record | None, list[Action]]:
    """Return what the engine made of the message itself, and the rest of its answer."""
    own = next((action for action in actions[:1] if isinstance(action, (Emit, Record))), None)
    return own, [action for action in actions if action is not own]


def _messages(journal: Iterable[StoredEvent]) -> Iterator[dict[str, Any]]:
    return (stored.event for stored in journal if stored.origin in (JOB, REQUEST))


def _identity(event: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells an event of the engine from another, whenever it was made."""
    return event["type"], event.get("job_id"), event.get("stacks")


def _handles(message: Message) -> list[str]:
    if message["type"] == "BlockOutput":
        return [message["handle"]]
    if message["type"] == "BlockOutputs":
        return list(message["outputs"])
    return []


def _refers(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("__OOMOL_TYPE__") == "oomol/var" or any(map(_refers, value.values()))
    return isinstance(value, list) and any(map(_refers, value))
