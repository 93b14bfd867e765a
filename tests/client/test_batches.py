from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Callable, Dict, Iterator, List

import pytest
from scripted import Reply, ScriptedServer, log, task

from oomol_connect_sdk import OomolConnectClient, SyncOomolConnectClient, TaskFailedError

FAST: Any = {"interval_ms": 5, "backoff_strategy": "fixed"}
CREATE = "POST /api/v1/tasks"


class Factory:
    """Answers for tasks that are over at their second look; those of negative numbers fail."""

    def __init__(self, server: ScriptedServer) -> None:
        self.begun: List[Any] = []
        self.under_way: Dict[str, bool] = {}
        self.most = 0
        self.stopped: List[str] = []
        self._server = server
        self._lock = threading.Lock()
        server.on(CREATE, self._create)

    def _create(self, call: Any) -> Reply:
        value = call.json["inputValues"][0]["inputs"][0]["value"]
        with self._lock:
            task_id = f"t{len(self.begun)}"
            self.begun.append(value)
            self.under_way[task_id] = True
            self.most = max(self.most, sum(self.under_way.values()))
        running = Reply({"task": task("running", task_id)})
        self._server.on(f"GET /api/v1/tasks/{task_id}", running, self._end(task_id, value))
        rows = [log(1, "BlockFinished", job_id="j", result={"square": value * value})]
        if value < 0:
            rows = [log(1, "BlockFinished", job_id="j", error="a negative number")]
        self._server.on(f"GET /api/v1/tasks/{task_id}/logs", {"logs": rows})
        self._server.on(f"POST /api/v1/tasks/{task_id}/stop", self._stop(task_id))
        return Reply({"task": task("created", task_id)})

    def _end(self, task_id: str, value: int) -> Any:
        def end(_: Any) -> Reply:
            if value >= 1000:
                return Reply({"task": task("running", task_id)})
            self.under_way[task_id] = False
            return Reply({"task": task("failed" if value < 0 else "completed", task_id)})

        return end

    def _stop(self, task_id: str) -> Any:
        def stop(_: Any) -> Reply:
            self.stopped.append(task_id)
            return Reply({"task": task("stopped", task_id)})

        return stop


@pytest.fixture
def factory(server: ScriptedServer) -> Factory:
    return Factory(server)


def requests(*numbers: int) -> List[Any]:
    return [{"blockId": "p::square", "inputValues": {"n": number}} for number in numbers]


def collected(client: Any, items: Any) -> List[Any]:
    async def listed() -> List[Any]:
        return [item async for item in items]

    if hasattr(items, "__aiter__"):
        return client._loop.run_until_complete(listed())  # type: ignore[no-any-return]
    return list(items)


def test_results_come_in_the_order_of_the_requests(
    face: Callable[..., Any], server: ScriptedServer, factory: Factory
) -> None:
    named = [{**one, "custom_id": f"n{index}"} for index, one in enumerate(requests(3, 1, 2))]
    items = face(base_url=server.url).tasks.map(iter(named), FAST)
    assert [item.value() for item in items] == [{"square": 9}, {"square": 1}, {"square": 4}]
    assert [(item.index, item.custom_id) for item in items] == [(0, "n0"), (1, "n1"), (2, "n2")]
    assert "custom_id" not in server.routes(CREATE)[0].json


def test_no_more_tasks_are_under_way_than_allowed(
    face: Callable[..., Any], server: ScriptedServer, factory: Factory
) -> None:
    items = face(base_url=server.url).tasks.map(requests(*range(20)), FAST, limit=3)
    assert len(items) == 20
    assert 1 <= factory.most <= 3


def test_one_items_error_is_only_that_items(
    face: Callable[..., Any], server: ScriptedServer, factory: Factory
) -> None:
    broken: Any = {"blockId": "p::square", "inputValue": {}}
    items = face(base_url=server.url).tasks.map([*requests(1, -1, 2), broken], FAST)
    assert [type(item.error) for item in items] == [
        type(None),
        TaskFailedError,
        type(None),
        TypeError,
    ]
    with pytest.raises(TaskFailedError, match="a negative number"):
        items[1].value()
    assert items[1].result is None


def test_the_highest_priority_is_begun_first(
    face: Callable[..., Any], server: ScriptedServer, factory: Factory
) -> None:
    ranked = [{**one, "priority": rank} for one, rank in zip(requests(0, 1, 2, 3), (0, 5, -1, 5))]
    items = face(base_url=server.url).tasks.map(ranked, FAST, limit=1)
    assert factory.begun == [1, 3, 0, 2]
    assert [item.index for item in items] == [0, 1, 2, 3]
    # Servers that know priorities get them as well.
    assert [call.json["priority"] for call in server.routes(CREATE)] == [5, 5, 0, -1]


def test_progress_is_told_after_each_item(
    face: Callable[..., Any], server: ScriptedServer, factory: Factory
) -> None:
    told: List[Any] = []
    heard: List[Any] = []

    def on_item(item: Any, done: int, total: int) -> None:
        told.append((done, total))
        heard.append(item)

    items = face(base_url=server.url).tasks.map(requests(1, -1, 3), FAST, on_item=on_item)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert sorted(heard, key=lambda item: item.index) == items


def test_an_error_in_the_progress_callback_reaches_the_caller(
    face: Callable[..., Any], server: ScriptedServer, factory: Factory
) -> None:
    def on_item(item: Any, done: int, total: int) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        face(base_url=server.url).tasks.map(requests(*range(50)), FAST, limit=1, on_item=on_item)
    assert len(factory.begun) < 10


def test_a_coroutine_function_for_progress_is_refused_by_the_blocking_client(
    server: ScriptedServer, factory: Factory
) -> None:
    async def on_item(item: Any, done: int, total: int) -> None:
        raise AssertionError("never awaited")

    client = SyncOomolConnectClient(base_url=server.url)
    with client, pytest.raises(TypeError, match="coroutine function"):
        client.tasks.map(requests(1), FAST, on_item=on_item)


def test_the_first_error_ends_a_batch_that_fails_fast(
    face: Callable[..., Any], server: ScriptedServer, factory: Factory
) -> None:
    client = face(base_url=server.url)
    with pytest.raises(TaskFailedError):
        client.tasks.map(requests(-1, *range(50)), FAST, limit=1, fail_fast=True)
    assert len(factory.begun) < 10


async def test_the_first_error_stops_what_is_under_way_in_a_batch_that_fails_fast(
    server: ScriptedServer, factory: Factory
) -> None:
    async with OomolConnectClient(base_url=server.url) as client:
        with pytest.raises(TaskFailedError):
            await client.tasks.map(requests(1000, 1001, -1), FAST, limit=3, fail_fast=True)
    assert len(factory.stopped) == len(factory.begun) - 1


def test_the_first_error_begins_no_more_threads_in_a_batch_that_fails_fast(
    server: ScriptedServer, factory: Factory
) -> None:
    with SyncOomolConnectClient(base_url=server.url) as client:
        with pytest.raises(TaskFailedError):
            client.tasks.map(requests(-1, *range(50)), FAST, limit=2, fail_fast=True)
        await_end_of_threads()
    assert len(factory.begun) < 10


def await_end_of_threads() -> None:
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("batch-") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_items_come_as_they_are_completed(
    face: Callable[..., Any], server: ScriptedServer, factory: Factory
) -> None:
    client = face(base_url=server.url)
    named = [{**one, "custom_id": f"n{index}"} for index, one in enumerate(requests(1, -2, 3))]
    items = collected(client, client.tasks.as_completed(named, FAST))
    assert sorted(item.index for item in items) == [0, 1, 2]
    assert [item.custom_id for item in items if item.error] == ["n1"]
    assert {item.index: item.custom_id for item in items} == {0: "n0", 1: "n1", 2: "n2"}


def test_a_batch_of_nothing_is_empty(face: Callable[..., Any], server: ScriptedServer) -> None:
    assert face(base_url=server.url).tasks.map([]) == []
    assert server.calls == []


@pytest.mark.parametrize(
    ("batch", "options", "fault"),
    [
        (["p::b"], {}, "request 0"),
        ([{"blockId": "p::b"}, None], {}, "request 1"),
        ([{"blockId": "p::b", "priority": "high"}], {}, "priority of request 0"),
        ([{"blockId": "p::b"}], {"limit": 0}, "limit"),
        ([{"blockId": "p::b"}], {"limit": True}, "limit"),
    ],
)
def test_an_unusable_batch_is_refused_unsent(
    face: Callable[..., Any], server: ScriptedServer, batch: Any, options: Any, fault: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=fault):
        face(base_url=server.url).tasks.map(batch, **options)
    assert server.calls == []


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
def test_a_callback_that_gives_up_ends_the_batch(
    face: Callable[..., Any], server: ScriptedServer, factory: Factory, error: Any
) -> None:
    def give_up(_: Any) -> None:
        raise error

    with pytest.raises((error, RuntimeError)):
        face(base_url=server.url).tasks.map(
            requests(1, 2), {**FAST, "on_progress": give_up}, limit=1
        )


def test_ctrl_c_in_a_thread_reaches_the_caller(server: ScriptedServer, factory: Factory) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with SyncOomolConnectClient(base_url=server.url) as client, pytest.raises(KeyboardInterrupt):
        client.tasks.map(requests(1, 2), {**FAST, "on_progress": interrupt})
    assert factory.stopped


async def test_an_iteration_that_is_given_up_stops_what_is_under_way(
    server: ScriptedServer, factory: Factory
) -> None:
    async with OomolConnectClient(base_url=server.url) as client:
        items = client.tasks.as_completed(requests(1, *range(1000, 1010)), FAST, limit=5)
        async for item in items:
            assert item.index == 0
            break
        await items.aclose()
    assert len(factory.stopped) == len(factory.begun) - 1
    assert len(factory.begun) < 8


async def test_a_cancelled_batch_stops_what_is_under_way(
    server: ScriptedServer, factory: Factory
) -> None:
    async with OomolConnectClient(base_url=server.url) as client:
        batch = asyncio.ensure_future(client.tasks.map(requests(*range(1000, 1005)), FAST))
        while len(factory.begun) < 5:  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.01)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
    assert sorted(factory.stopped) == [f"t{number}" for number in range(5)]


async def test_a_slow_progress_callback_keeps_no_task_from_beginning(
    server: ScriptedServer, factory: Factory
) -> None:
    async def dawdle(item: Any, done: int, total: int) -> None:
        if done == 1:
            while len(factory.begun) < 10:  # noqa: ASYNC110 - the server is in another thread
                await asyncio.sleep(0.01)

    async with OomolConnectClient(base_url=server.url) as client:
        work = client.tasks.map(requests(*range(10)), FAST, limit=2, on_item=dawdle)
        assert len(await asyncio.wait_for(work, 10)) == 10


def test_an_iteration_in_threads_that_is_given_up_begins_no_more(
    server: ScriptedServer, factory: Factory
) -> None:
    with SyncOomolConnectClient(base_url=server.url) as client:
        items: Iterator[Any] = client.tasks.as_completed(requests(*range(50)), FAST, limit=2)
        next(items)
        items.close()  # type: ignore[attr-defined]
        await_end_of_threads()
    assert len(factory.begun) < 10
