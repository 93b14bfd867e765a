"""A task's log: read every row once and in order, and find the result or the reason in it."""

from __future__ import annotations

import json
from typing import Any, Awaitable, Callable, Dict, Iterable, List, Mapping, Sequence, Tuple

from .types import Task, TaskLog

FetchLogs = Callable[[], Awaitable[List[TaskLog]]]


class LogReader:
    """Reads a task's log again and again and gives each row once, ascending by id."""

    def __init__(self, fetch: FetchLogs) -> None:
        self._fetch = fetch
        self._seen: Dict[str, None] = {}
        self.rows: List[TaskLog] = []

    async def new_rows(self) -> List[TaskLog]:
        """Fetch the log and return the rows that were not there before."""
        fresh = []
        for key, row in _keyed(await self._fetch()):
            if key not in self._seen:
                self._seen[key] = None
                fresh.append(row)
        fresh.sort(key=_order)
        self.rows.extend(fresh)
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
        _, outputs = jobs.setdefault(job_id, (len(event.get("stacks") or ()), {}))
        outputs.update(_outputs(event))
        if str(event.get("type")).endswith("Finished") and job_id not in finished:
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
        path = error.get("nodePath") or [None]
        return _text(error.get("message")), _text(path[-1])
    for event in _events(reversed(rows)):
        if event.get("type") in ("BlockFinished", "BlockError") and event.get("error"):
            return _text(event["error"]), _node(event)
    for event in _events(reversed(rows)):
        hidden = event.get("_error")
        if isinstance(hidden, Mapping) and hidden.get("message"):
            return _text(hidden["message"]), None
        if event.get("type") == "SessionFinished" and event.get("error"):
            return _text(event["error"]), None
    return _text(error), None


def _events(rows: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for row in rows:
        event = row.get("event")
        if isinstance(event, Mapping):
            yield {"type": row.get("type"), **event}


def _outputs(event: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = event["type"]
    if kind in ("BlockOutput", "SubflowBlockOutput", "SlotflowOutput") and "handle" in event:
        return {event["handle"]: event.get("output")}
    values = event.get({"BlockOutputs": "outputs", "BlockFinished": "result"}.get(kind, ""))
    return values if isinstance(values, Mapping) else {}


def _node(event: Mapping[str, Any]) -> str | None:
    stacks = event.get("stacks")
    return _text(stacks[-1].get("node_id")) if stacks else None


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _keyed(rows: Iterable[TaskLog]) -> Iterable[Tuple[str, TaskLog]]:
    copies: Dict[str, int] = {}
    for row in rows:
        if row.get("id") is not None:
            yield f"id {row['id']}", row
            continue
        # Without an id two equal lines are two lines: the n-th copy is told apart by its number.
        text = json.dumps(row, sort_keys=True, default=str)
        copies[text] = copies.get(text, 0) + 1
        yield f"{copies[text]} {text}", row


def _order(row: TaskLog) -> Tuple[int, float]:
    identity: Any = row.get("id")
    try:
        return 0, float(identity)
    except (TypeError, ValueError):
        return 1, 0.0


def is_ended(task: Task) -> bool:
    """Tell whether the task is over: by its status, or by a time stamp of its end."""
    record: Mapping[str, Any] = task
    return record.get("status") in ("completed", "failed", "stopped") or bool(
        record.get("ended_at") or record.get("finished_at")
    )
