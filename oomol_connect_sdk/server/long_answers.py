"""Answers that may be longer than memory: the list of all tasks, and the whole log of one.

Clients of the common wire ask for both without pages.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from .answers import log_row, strict_json, task_row
from .service import TaskService
from .store import StoredEvent, TaskFilter, TaskPage, TaskRecord

#: Tasks that are read at once for a list of all.
TASKS_AT_ONCE = 500

JSON_HEADERS = {"Content-Type": "application/json"}


async def all_tasks(
    service: TaskService, wanted: TaskFilter, page: TaskPage
) -> AsyncGenerator[bytes, None]:
    """Yield the JSON of these tasks and all that follow them; only a page is in memory.

    A task that is removed meanwhile may be missing.
    """
    yield b'{"tasks":['
    comma = ""
    while page.tasks:
        rows = ",".join(strict_json(task_row(task)) for task in page.tasks)
        yield f"{comma}{rows}".encode()
        comma = ","
        if page.next_cursor is None:
            break
        page = await service.page(wanted, cursor=page.next_cursor, limit=TASKS_AT_ONCE)
    yield b"]}"


async def whole_log(
    service: TaskService, task: TaskRecord, events: Sequence[StoredEvent], limit: int | None
) -> AsyncGenerator[bytes, None]:
    """Yield the JSON of these log rows and of those that follow, ``limit`` in all."""
    yield b'{"logs":['
    comma = ""
    left = limit
    while events:
        yield (comma + ",".join(log_row(event, task) for event in events)).encode()
        comma = ","
        if left is not None:
            left -= len(events)
            if left <= 0:
                break
        events = await service.more_logs(task, events[-1].id, left)
    yield b'],"success":true}'
