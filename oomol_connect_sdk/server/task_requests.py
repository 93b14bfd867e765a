"""What a client asks for when it creates a task, checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .inputs import NodeInputs
from .uploads import Upload

#: The most characters a client may name itself with.
CLIENT_LENGTH = 128
#: The most characters of an idempotency key.
KEY_LENGTH = 255
_LABELS = 16
_LABEL_KEY_LENGTH = 64
_LABEL_VALUE_LENGTH = 256
_PRIORITY = 1_000_000
#: Integers of SQLite end at 63 bits.
_LATEST = 2**53


class InvalidOption(Exception):
    """An option of a request can't be used; the message names it."""


@dataclass(frozen=True)
class TaskOptions:
    """How a task is to be run and found again; None or empty is what was not given."""

    #: Among tasks that wait, a higher one starts first.
    priority: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Unix milliseconds; a task that has not ended by then is stopped.
    deadline: int | None = None
    #: The nodes of the flow up to which it runs; none for all of it.
    nodes: tuple[str, ...] = ()
    #: Whether inputs that nodes had in earlier runs serve again.
    use_cache: bool = False


@dataclass(frozen=True)
class TaskRequest:
    """All that makes a new task."""

    target: str
    #: In any of the formats of the wire.
    input_values: Any = None
    options: TaskOptions = field(default_factory=TaskOptions)
    #: Files that came along, in the order they came.
    uploads: Sequence[Upload] = ()
    #: The session that files were received for; a new one when there are none.
    session_id: str | None = None
    #: What the client calls itself.
    client: str | None = None
    idempotency_key: str | None = None
    #: Id of the task this one repeats, and the session that holds the files it was given.
    rerun_of: str | None = None
    uploads_session_id: str | None = None


def task_options(values: Mapping[str, Any]) -> TaskOptions:
    """Read the options among the members of a request; raises InvalidOption."""
    return TaskOptions(
        priority=_whole_number(values, "priority", -_PRIORITY, _PRIORITY),
        labels=_labels(values.get("labels")),
        deadline=_whole_number(values, "deadline", 0, _LATEST),
        nodes=_nodes(values.get("nodes")),
        use_cache=_flag(values, "useCache"),
    )


def request_hash(request: TaskRequest, values: NodeInputs | None) -> str:
    """Return what two requests with one idempotency key have in common if they are the same.

    ``values`` are the request's inputs in their normal form, files not yet bound.
    """
    options = request.options
    parts: dict[str, Any] = {
        "target": request.target,
        "inputs": values,
        "options": [options.priority, options.labels, options.deadline],
        "files": [[upload.name, upload.size, upload.digest] for upload in request.uploads],
        "rerunOf": request.rerun_of,
    }
    # Left out when not given: keys of servers that did not know it stay what they were.
    if options.nodes or options.use_cache:
        parts["part"] = [options.nodes, options.use_cache]
    text = json.dumps(parts, sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()


def checked_name(name: str, value: str | None, longest: int) -> str | None:
    """Return the value of a header that names something; raises InvalidOption."""
    if value is None:
        return None
    if not value or len(value) > longest or not (value.isascii() and value.isprintable()):
        raise InvalidOption(f"{name} must be 1 to {longest} printable ASCII characters.")
    return value


def checked_label(key: str, value: str) -> tuple[str, str]:
    """Return a label; raises InvalidOption."""
    if not 0 < len(key) <= _LABEL_KEY_LENGTH or ":" in key:
        raise InvalidOption(
            f"The key of a label must have 1 to {_LABEL_KEY_LENGTH} characters and no colon, "
            f"not {key[:_LABEL_KEY_LENGTH]!r}."
        )
    if len(value) > _LABEL_VALUE_LENGTH:
        raise InvalidOption(f"Label {key!r} is longer than {_LABEL_VALUE_LENGTH} characters.")
    return key, value


def _labels(labels: Any) -> dict[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        raise InvalidOption("labels must be an object of texts.")
    if len(labels) > _LABELS:
        raise InvalidOption(f"A task can have {_LABELS} labels, not {len(labels)}.")
    return dict(checked_label(key, value) for key, value in labels.items())


def _nodes(nodes: Any) -> tuple[str, ...]:
    if nodes is None:
        return ()
    if not isinstance(nodes, list) or not nodes or not all(isinstance(n, str) for n in nodes):
        raise InvalidOption("nodes must be a list of the ids of nodes, one at least.")
    return tuple(dict.fromkeys(nodes))


def _flag(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidOption(f"{name} must be true or false.")
    return value


def _whole_number(values: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    # True and False are integers to Python.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidOption(f"{name} must be a whole number from {least} to {most}.")
    return value
