"""What stands behind the question mark of a request, checked."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request

from .store import ENDED, UNFINISHED, TaskFilter
from .task_requests import CLIENT_LENGTH, checked_label, checked_name

#: The most tasks that one event stream takes by their ids; a client's tasks have no limit.
MOST_TASKS = 500


def whole_number(request: Request, name: str, *, least: int = 0) -> int | None:
    """Return a number of the query; None when it is not given."""
    text = request.query_params.get(name)
    if text is None:
        return None
    number = _number(text)
    if number is None or number < least:
        at_least = f" of at least {least}" if least else ""
        raise HTTPException(400, f"{name} must be a whole number{at_least}, not {text!r}.")
    return number


def task_filter(request: Request) -> TaskFilter:
    """Return which tasks of the list are wanted; raises InvalidOption."""
    statuses = [text.strip() for text in request.query_params.get("status", "").split(",")]
    unknown = [status for status in statuses if status not in ("", *UNFINISHED, *ENDED)]
    if unknown:
        raise HTTPException(400, f"There is no status {unknown[0]!r}.")
    labels = (label.partition(":") for label in request.query_params.getlist("label"))
    return TaskFilter(
        statuses=[status for status in statuses if status],
        client=_client(request),
        labels=dict(checked_label(key, value) for key, _, value in labels),
    )


def cursor_of(request: Request) -> int | None:
    """Return where a list goes on."""
    text = request.query_params.get("cursor")
    number = None if text is None else _number(text)
    if text is not None and number is None:
        raise HTTPException(400, "cursor must be the nextCursor of an answer before.")
    return number


def selected_tasks(request: Request) -> tuple[str | None, list[str], int, bool]:
    """Return whose events are wanted: client and tasks, after which id, and whether with logs."""
    client = _client(request)
    task_ids = list(dict.fromkeys(request.query_params.getlist("task")))
    if client is None and not task_ids:
        raise HTTPException(400, "Name a client or at least one task: ?client=<id> or ?task=<id>.")
    if len(task_ids) > MOST_TASKS:
        raise HTTPException(400, f"A stream takes at most {MOST_TASKS} tasks by their ids.")
    last = request.headers.get("last-event-id")
    # A browser that reconnects sends the header to the address it was given once.
    after = _number(last or "") or whole_number(request, "after") or 0
    return client, task_ids, after, request.query_params.get("logs") != "0"


def _client(request: Request) -> str | None:
    return checked_name("client", request.query_params.get("client"), CLIENT_LENGTH)


def _number(text: str) -> int | None:
    # SQLite's integers end at 63 bits.
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None
