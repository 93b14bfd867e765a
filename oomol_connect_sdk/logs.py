"""A task's log: read every row once and in order, and find the result or the reason in it."""

from __future__ import annotations

import itertools
import json
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Set, Tuple

from .types import Task, TaskLog


class LogReader:
    """Keeps the rows of one task's log: each once, however often and in what order they come."""

    def __init__(self) -> None:
        #: All rows so far, ascending by id.
        self.rows: List[TaskLog] = []
        #: The highest number among the rows' ids; 0 before the first.
        self.last_id = 0
        self._seen: Set[Any] = set()

    def take(self, rows: Iterable[TaskLog]) -> List[TaskLog]:
        """Add rows and return those that were not there before, ascending by id."""
        fresh = []
        for key, row in _keyed(rows):
            if key not in self._seen:
                self._seen.add(key)
                fresh.append(row)
        fresh.sort(key=row_order)
        late = bool(self.rows and fresh) and row_order(fresh[0]) < row_order(self.rows[-1])
        self.rows.extend(fresh)
        if late:
            self.rows.sort(key=row_order)
        numbers = (row["id"] for row in fresh if _is_whole(row.get("id")))
        self.last_id = max(itertools.chain([self.last_id], numbers))
        return fresh


def result_of(task: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Any:
    """Return the values a finished task gave: handle → value, or None when it gave none.

    The task's own ``result`` where the server has one. Otherwise the outputs in the log: of
    the root block, or of the last node of the outermost flow that finished with any.
    """
    if "result" in task:
        return task["result"]
    jobs: Dict[str, Tuple[int, Dict[str, Any]]] = {}
    finished: List[str] = []
    for event in _events(rows):
        job_id = str(event.get("job_id", ""))
        _, outputs = jobs.setdefault(job_id, (len(event["stacks"]), {}))
        outputs.update(_outputs(event))
        if event["type"].endswith("Finished") and job_id not in finished:
            finished.append(job_id)
    candidates = [jobs[job_id] for job_id in finished if jobs[job_id][1]]
    if not candidates:
        return None
    outermost = min(depth for depth, _ in candidates)
    return [outputs for depth, outputs in candidates if depth == outermost][-1]


def reason_of(
    task: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Tuple[str | None, str | None]:
    """Return why a task failed and the id of the node that failed, each None if unknown."""
    error = task.get("error")
    if isinstance(error, Mapping):
        path = error.get("nodePath")
        node = path[-1] if isinstance(path, list) and path else None
        return _text(error.get("message")), _text(node)
    for event in _events(reversed(rows)):
        if event["type"] in ("BlockFinished", "BlockError") and event.get("error"):
            return _text(event["error"]), _node(event)
    for event in _events(reversed(rows)):
        hidden = event.get("_error")
        if isinstance(hidden, Mapping) and hidden.get("message"):
            return _text(hidden["message"]), None
        if event["type"] == "SessionFinished" and event.get("error"):
            return _text(event["error"]), None
    return _text(error), None


def _events(rows: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Give the rows' events, their ``type`` as text and their ``stacks`` as a list of mappings."""
    for row in rows:
        event = row.get("event")
        if isinstance(event, Mapping):
            stacks = event.get("stacks")
            frames = stacks if isinstance(stacks, list) else []
            frames = [frame for frame in frames if isinstance(frame, Mapping)]
            yield {**event, "type": str(event.get("type", row.get("type"))), "stacks": frames}


def _outputs(event: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = event["type"]
    if kind in ("BlockOutput", "SubflowBlockOutput", "SlotflowOutput") and "handle" in event:
        return {str(event["handle"]): event.get("output")}
    values = event.get({"BlockOutputs": "outputs", "BlockFinished": "result"}.get(kind, ""))
    return values if isinstance(values, Mapping) else {}


def _node(event: Mapping[str, Any]) -> str | None:
    stacks = event["stacks"]
    return _text(stacks[-1].get("node_id")) if stacks else None


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _keyed(rows: Iterable[TaskLog]) -> Iterable[Tuple[Any, TaskLog]]:
    copies: Dict[str, int] = {}
    for row in rows:
        if not isinstance(row, Mapping):
            continue  # What is no object is no row.
        identity: Any = row.get("id")
        if isinstance(identity, str) or _is_whole(identity):
            yield identity, row
            continue
        # Without an id two equal lines are two lines: the n-th copy is told apart by its number.
        text = json.dumps(row, sort_keys=True, default=str)
        copies[text] = copies.get(text, 0) + 1
        yield (copies[text], text), row


def row_order(row: TaskLog) -> Tuple[int, int]:
    """Order rows by the number that their id is, however large; others stay behind as they came."""
    identity: Any = row.get("id")
    if isinstance(identity, str) and len(identity) < 100 and identity.isdecimal():
        return 0, int(identity)
    return (0, identity) if _is_whole(identity) else (1, 0)


def _is_whole(identity: Any) -> bool:
    return isinstance(identity, int) and not isinstance(identity, bool)


def is_ended(task: Task) -> bool:
    """Tell whether the task is over: by its status, or by a time stamp of its end."""
    record: Mapping[str, Any] = task
    return record.get("status") in ("completed", "failed", "stopped") or bool(
        record.get("ended_at") or record.get("finished_at")
    )
