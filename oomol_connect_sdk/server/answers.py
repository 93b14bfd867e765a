"""The JSON the server answers with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from .store import StoredEvent, TaskRecord


def success(value: Mapping[str, Any]) -> Response:
    """Return an answer of status 200."""
    return _json(strict_json(value))


def failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error answer, its message where every known client looks for it."""
    body = {"success": False, "message": message, "error": {"message": message}}
    return _json(strict_json(body), status, headers)


def log_answer(task: TaskRecord, events: Sequence[StoredEvent]) -> Response:
    """Return the log rows of a task; the events' JSON goes out as it was stored."""
    rows = ",".join(_log_row(task, event) for event in events)
    return _json(f'{{"logs":[{rows}],"success":true}}')


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


def _log_row(task: TaskRecord, event: StoredEvent) -> str:
    text = event.text
    if "NaN" in text or "Infinity" in text:
        text = _without_nan(text)
    head = strict_json(
        {
            "id": event.id,
            "project_name": task.project_name,
            "session_id": event.session_id,
            "node_id": event.node_id,
            "manifest_path": task.manifest_path,
            "type": event.type,
        }
    )
    return f'{head[:-1]},"event":{text},"created_at":{event.created_at}}}'


def _json(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text, status, headers, media_type="application/json")
