"""The JSON the server answers with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from .feed import TaskEvent
from .store import StoredEvent, TaskRecord


def success(value: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer of status 200."""
    return _json(strict_json(value), headers=headers)


def failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error answer, its message where every known client looks for it."""
    body = {"success": False, "message": message, "error": {"message": message}}
    return _json(strict_json(body), status, headers)


def task_answer(
    task: TaskRecord, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """Return one task, with the entity tag of its record."""
    body = {"task": task_row(task), **more, "success": True}
    return success(body, {"ETag": etag_of(task), **(headers or {})})


def not_modified(task: TaskRecord, headers: Mapping[str, str]) -> Response:
    """Return the answer to a client that has this task as it is."""
    return Response(status_code=304, headers={"ETag": etag_of(task), **headers})


def etag_of(task: TaskRecord) -> str:
    """Return the strong entity tag of a task as it is now."""
    return f'"{task.revision}"'


def log_answer(
    task: TaskRecord, events: Sequence[StoredEvent], headers: Mapping[str, str]
) -> Response:
    """Return the log rows of a task; the events' JSON goes out as it was stored."""
    rows = ",".join(log_row(event, task) for event in events)
    return _json(f'{{"logs":[{rows}],"success":true}}', headers=headers)


def log_row(event: StoredEvent, task: TaskRecord) -> str:
    """Return the JSON of one row of a task's log."""
    return _log_row(event, task.project_name, task.manifest_path)


def feed_rows(items: Sequence[TaskEvent]) -> str:
    """Return the JSON of log rows of one task that follow each other, and whose they are."""
    rows = ",".join(_log_row(item.event, item.project_name, item.manifest_path) for item in items)
    return f'{{"task_id":{strict_json(items[0].task_id)},"logs":[{rows}]}}'


def task_row(task: TaskRecord) -> dict[str, Any]:
    """Return a task in the wire's shape, followed by our additions; absent is what is not known."""
    row = {
        "id": task.id,
        "project_id": task.project_id,
        "manifest_path": task.manifest_path,
        "status": task.status,
        "inputValues": task.input_values,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
        "session_id": task.session_id,
        "progress": task.progress,
        "result": task.result,
        "nodeResults": task.node_results,
        "error": task.error,
        "priority": task.priority,
        "labels": task.labels,
        "deadline": task.deadline,
        "rerunOf": task.rerun_of,
        "nodes": task.nodes,
        "useCache": None if task.cache is None else True,
    }
    return {name: value for name, value in row.items() if value is not None}


def strict_json(value: Any) -> str:
    """Return ``value`` as JSON that every parser takes: ASCII, with null for NaN and infinities."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return _without_nan(json.dumps(value))


def _without_nan(text: str) -> str:
    value = json.loads(text, parse_constant=lambda _: None)
    return json.dumps(value, separators=(",", ":"))


def _log_row(event: StoredEvent, project_name: str, manifest_path: str) -> str:
    text = event.text
    if "NaN" in text or "Infinity" in text:
        text = _without_nan(text)
    head = strict_json(
        {
            "id": event.id,
            "project_name": project_name,
            "session_id": event.session_id,
            "node_id": event.node_id,
            "manifest_path": manifest_path,
            "type": event.type,
        }
    )
    return f'{head[:-1]},"event":{text},"created_at":{event.created_at}}}'


def _json(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text, status, headers, media_type="application/json")
