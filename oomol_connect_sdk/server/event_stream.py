"""The feed of some tasks as server-sent events."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence

from .answers import feed_rows, strict_json, task_row
from .feed import FeedItem, Selection, TaskEvent
from .records import TaskRecord
from .service import TaskService

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # Else a proxy would collect events before it hands them on.
    "X-Accel-Buffering": "no",
}


async def event_stream(
    service: TaskService, selection: Selection, after: int, heartbeat: float
) -> AsyncGenerator[bytes, None]:
    """Yield the events after a position, then new ones as they happen, for ever.

    A client that resumes is told of every unfinished task, changed or not. After ``heartbeat``
    seconds without an event comes a comment. Only a page of events is in memory at any time: the
    next is read once this one was taken.
    """
    yield b"retry: 1000\n\n"
    cursor, resumes = after, after > 0
    with service.watch(selection) as watch:
        while not watch.over:
            page = await service.feed(selection, cursor)
            cursor, full, frames = page.cursor, page.full, _frames(page.items)
            # The client may take long for its frames: nothing else is kept meanwhile.
            del page
            if frames:
                yield frames
            if full:
                continue
            if resumes:
                resumes = False
                async for frames in _unfinished(service, selection, after, cursor):
                    if frames:
                        yield frames
            while not await watch.changed(heartbeat):
                if watch.over:
                    return
                yield b": \n\n"


async def _unfinished(
    service: TaskService, selection: Selection, changed_upto: int, event_id: int
) -> AsyncGenerator[bytes, None]:
    cursor, full = 0, True
    while full:
        page = await service.unfinished(selection, changed_upto, cursor)
        cursor, full = page.cursor, page.full
        yield _frames(page.items, event_id)


def _frames(items: Sequence[FeedItem], event_id: int | None = None) -> bytes:
    groups = itertools.groupby(items, lambda item: isinstance(item, TaskEvent) and item.task_id)
    return "".join(_frame(list(group), event_id) for _, group in groups).encode()


def _frame(items: Sequence[FeedItem], event_id: int | None) -> str:
    rows = [item for item in items if isinstance(item, TaskEvent)]
    if rows:
        return f"id: {rows[-1].event.id}\nevent: logs\ndata: {feed_rows(rows)}\n\n"
    tasks = [item for item in items if not isinstance(item, TaskEvent)]
    return "".join(_task_frame(task, event_id) for task in tasks)


def _task_frame(task: TaskRecord, event_id: int | None) -> str:
    data = strict_json({"task": task_row(task)})
    return f"id: {event_id or task.revision}\nevent: task\ndata: {data}\n\n"
