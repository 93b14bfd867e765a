"""Which tasks of a server's list are wanted, and page after page of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Set, Tuple, Union

from .errors import BadAnswerError

#: One status, or several.
StatusFilter = Union[str, Sequence[str]]

#: Tasks asked for at once when all are wanted one after the other.
PAGE = 100


@dataclass(frozen=True)
class TaskQuery:
    """The wanted tasks: of one of these statuses (none: of any), with all of these labels."""

    statuses: Tuple[str, ...]
    labels: Mapping[str, str]

    @classmethod
    def of(cls, status: StatusFilter | None, labels: Mapping[str, str] | None) -> TaskQuery:
        """Check what a caller gave; raises TypeError or ValueError."""
        return cls(_statuses(status), _labels(labels))

    def params(self, limit: int | None, cursor: str | None) -> Dict[str, Any] | None:
        """Return the query of the request, None for an empty one; raises ValueError."""
        params: Dict[str, Any] = {}
        if self.statuses:
            params["status"] = ",".join(self.statuses)
        if self.labels:
            params["label"] = [f"{key}:{value}" for key, value in self.labels.items()]
        if limit is not None:
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
                raise ValueError(f"limit must be a number of tasks, 1 or more, not {limit!r}")
            params["limit"] = str(limit)
        if cursor is not None:
            params["cursor"] = cursor
        return params or None

    def chosen(self, tasks: Iterable[Any]) -> List[Any]:
        """Return the wanted ones: a server that knows no filters answers with all."""
        if not self.statuses and not self.labels:
            return list(tasks)
        return [task for task in tasks if isinstance(task, Mapping) and self._wants(task)]

    def _wants(self, task: Mapping[str, Any]) -> bool:
        if self.statuses and task.get("status") not in self.statuses:
            return False
        labels = task.get("labels")
        return not self.labels or (
            isinstance(labels, Mapping) and self.labels.items() <= labels.items()
        )


def next_cursor(answer: Mapping[str, Any], passed: Set[str]) -> str | None:
    """Return where the list goes on, None at its end, and add it to those ``passed``.

    BadAnswerError when it is no cursor or leads in a circle.
    """
    cursor = answer.get("nextCursor")
    # A list that goes on has given something: pages without tasks could come for ever.
    if cursor is None or not answer["tasks"]:
        return None
    if not isinstance(cursor, str) or cursor in passed:
        raise BadAnswerError(f"the task list goes on at {cursor!r}", 200, answer)
    passed.add(cursor)
    return cursor


def _statuses(status: Any) -> Tuple[str, ...]:
    if status is None:
        return ()
    given = [status] if isinstance(status, str) else status
    if not isinstance(given, Iterable):
        raise TypeError(f"status must be text or several texts, not {status!r}")
    statuses = tuple(given)
    if not all(isinstance(one, str) for one in statuses):
        raise TypeError(f"status must be text or several texts, not {status!r}")
    return statuses


def _labels(labels: Any) -> Mapping[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels must be a mapping of texts, not {labels!r}")
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"labels must map texts to texts, not {key!r} to {value!r}")
        if not key or ":" in key:
            raise ValueError(f"the name of a label can't be empty or hold a colon: {key!r}")
    return labels
