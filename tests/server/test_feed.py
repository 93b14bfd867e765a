from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from servers import PATIENCE
from test_store import log, record

from oomol_connect_sdk.server.event_stream import event_stream
from oomol_connect_sdk.server.feed import (
    PAGE_SIZE,
    FeedPage,
    Selection,
    TaskEvent,
    read_feed,
    read_unfinished,
)
from oomol_connect_sdk.server.hub import Hub
from oomol_connect_sdk.server.store import Store
from oomol_connect_sdk.server.streaming import StreamedAnswer


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "connect.sqlite3")
    yield store
    store.close()


async def feed(store: Store, selection: Selection, after: int = 0) -> FeedPage:
    return await store.read(lambda db: read_feed(db, selection, after))


def told(page: FeedPage) -> list[str]:
    """Name the items of a page: an event by its text, a task by its id and status."""
    return [
        item.event.event["log"] if isinstance(item, TaskEvent) else f"{item.id} {item.status}"
        for item in page.items
    ]


async def test_a_feed_holds_events_in_order_and_each_task_at_its_last_change(
    store: Store,
) -> None:
    for task_id in ("a", "b"):
        await store.create_task(record(task_id, client="me"))
    await store.create_task(record("c", client="other"))
    await store.append_events("a", "s", [log("a1")], {"status": "running"})
    await store.append_events("c", "s", [log("c1")])
    await store.append_events("b", "s", [log("b1"), log("b2")], {"status": "completed"})
    await store.append_events("a", "s", [log("a2")])
    mine = await feed(store, Selection("me"))
    assert told(mine) == ["a1", "a running", "b1", "b2", "b completed", "a2"]
    assert not mine.full

    rest = await feed(store, Selection("me"), mine.cursor)
    assert (told(rest), rest.cursor) == ([], mine.cursor)
    await store.update_task("a", status="failed")
    assert told(await feed(store, Selection("me"), mine.cursor)) == ["a failed"]

    assert told(await feed(store, Selection("me", logs=False))) == ["b completed", "a failed"]
    named = Selection(task_ids=("a", "c"))
    assert told(await feed(store, named)) == ["c created", "a1", "c1", "a2", "a failed"]
    both = Selection("me", ("a", "c"))
    assert told(await feed(store, both)) == [
        *("c created", "a1", "c1", "b1", "b2", "b completed", "a2", "a failed")
    ]


async def test_a_position_of_another_database_starts_the_feed_at_its_beginning(
    store: Store,
) -> None:
    await store.create_task(record("a", client="me"))
    assert told(await feed(store, Selection("me"), 10**9)) == ["a created"]


async def test_only_unfinished_tasks_that_did_not_change_are_told_again(store: Store) -> None:
    for task_id, status in (("a", "running"), ("b", "failed"), ("c", "pending")):
        await store.create_task(record(task_id, client="me", status=status))
    upto = (await feed(store, Selection("me"))).cursor
    await store.update_task("a", progress=5)

    async def unfinished(cursor: int) -> FeedPage:
        return await store.read(lambda db: read_unfinished(db, Selection("me"), upto, cursor))

    page = await unfinished(0)
    assert told(page) == ["c pending"]
    assert told(await unfinished(page.cursor)) == []


async def test_a_page_is_bounded_whatever_waits(store: Store) -> None:
    texts = [f"{number:04}" + "x" * 1_000 for number in range(2_000)]
    await store.create_task(record("a", client="me"))
    await store.append_events("a", "s", [log(text) for text in texts])
    await store.update_task("a", status="completed", result={"text": "y" * 2_000_000})
    pages: list[FeedPage] = []
    while not pages or pages[-1].full:
        pages.append(await feed(store, Selection("me"), pages[-1].cursor if pages else 0))
    assert [line for page in pages for line in told(page)] == [*texts, "a completed"]
    sizes = [
        sum(len(item.event.text) for item in page.items if isinstance(item, TaskEvent))
        for page in pages
    ]
    assert max(sizes) < PAGE_SIZE + 2_000
    assert len(pages) > 2_000_000 / PAGE_SIZE


async def test_a_slow_reader_makes_the_stream_read_no_further_than_it_does(store: Store) -> None:
    await store.create_task(record("a", client="me"))
    for _ in range(20):
        await store.append_events("a", "s", [log("x" * 1_000) for _ in range(500)])
    service = _Counting(store)
    answer = StreamedAnswer(event_stream(service, Selection("me"), 0, 60), {})  # type: ignore[arg-type]
    client = _Client()
    serving = asyncio.create_task(answer({"method": "GET"}, client.receive, client.send))
    for taken in range(1, 6):
        while client.parts < taken + 1:
            await asyncio.sleep(0)
            client.take()
        await asyncio.sleep(0.05)
        # Beyond those that were taken, one waits for the client and one may be under way.
        assert service.pages <= taken + 2
    client.leave()
    await asyncio.wait_for(serving, PATIENCE)
    assert service.pages < 10
    gc.collect()
    # Nothing is left of the client.
    assert store.hub._by_client == {}


async def test_watches_are_told_of_their_own_tasks_only_and_once() -> None:
    hub = Hub()
    with hub.watch(["a", "b"]) as some, hub.watch(client="me") as mine:
        hub.notify("c", "other")
        assert not await some.changed(0)
        assert not await mine.changed(0)
        hub.notify("b", "me")
        hub.notify("a", "me")
        assert await some.changed(0)
        assert await mine.changed(0)
        assert not await some.changed(0)
    hub.notify("a", "me")
    assert not await some.changed(0)


async def test_a_closed_hub_ends_every_wait() -> None:
    hub = Hub()
    with hub.watch(["a"]) as watch:
        waiting = asyncio.create_task(watch.changed(PATIENCE))
        await asyncio.sleep(0)
        hub.close()
        assert not await waiting
        assert watch.over
        assert not await watch.changed(PATIENCE)


class _Counting:
    """The part of a service that a stream needs, counting what it reads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.pages = 0

    def watch(self, selection: Selection) -> Any:
        return self._store.hub.watch(selection.task_ids, selection.client)

    async def feed(self, selection: Selection, after: int) -> FeedPage:
        self.pages += 1
        return await feed(self._store, selection, after)


class _Client:
    """A client that takes a part of the answer when it is told to."""

    def __init__(self) -> None:
        self.parts = 0
        self._room = asyncio.Semaphore(1)
        self._gone = asyncio.Event()

    def take(self) -> None:
        if self._room.locked():
            self._room.release()

    def leave(self) -> None:
        self._gone.set()

    async def receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self._gone.is_set():
            return
        if message["type"] == "http.response.body":
            await self._room.acquire()
            self.parts += 1
