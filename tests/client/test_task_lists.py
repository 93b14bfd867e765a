"""Lists of tasks: filters, pages, and running a task of the list again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Callable, Iterator, List
from urllib.parse import parse_qs, urlsplit

import pytest
from scripted import Call, Reply, ScriptedServer, task

from oomol_connect_sdk import ApiError, BadAnswerError, OomolConnectClient

TASKS = "GET /api/v1/tasks"


def listed(client: Any, items: Any) -> List[Any]:
    """Return all items of an iterator of either face."""

    async def collected() -> List[Any]:
        return [item async for item in items]

    if hasattr(items, "__aiter__"):
        return client._loop.run_until_complete(collected())  # type: ignore[no-any-return]
    return list(items)


class PagedServer:
    """Answers a list in pages, whatever the query; its cursors are numbers."""

    def __init__(self, server: ScriptedServer, count: int, most: int) -> None:
        self.queries: List[Any] = []
        self._tasks = [task("completed", f"t{number}") for number in range(count)]
        self._most = most
        # Answers are looked up by the whole path: this one is for all of them.
        server.answer = self._answer  # type: ignore[method-assign]

    def _answer(self, call: Call) -> Reply:
        query = {key: values[0] for key, values in parse_qs(urlsplit(call.path).query).items()}
        self.queries.append(query)
        start = int(query.get("cursor", 0))
        end = start + min(self._most, int(query["limit"]))
        answer = {"tasks": self._tasks[start:end]}
        return Reply(answer if end >= len(self._tasks) else {**answer, "nextCursor": str(end)})


def test_iterating_goes_through_all_pages(face: Callable[..., Any], server: ScriptedServer) -> None:
    paged = PagedServer(server, count=25, most=10)
    client = face(base_url=server.url)
    tasks = listed(client, client.tasks.iterate())
    assert [record["id"] for record in tasks] == [f"t{number}" for number in range(25)]
    assert [query.get("cursor") for query in paged.queries] == [None, "10", "20"]


def test_pages_are_asked_for_when_they_are_needed(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    paged = PagedServer(server, count=250, most=1000)
    client = face(base_url=server.url)
    tasks = listed(client, client.tasks.iterate())
    assert len(tasks) == 250
    assert len(paged.queries) == 3


def test_iterating_works_on_a_server_without_pages(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    everything = [task("running", "t1"), task("completed", "t2"), task("running", "t3")]
    server.on(f"{TASKS}?limit=100", {"tasks": everything})
    server.on(f"{TASKS}?status=running&limit=100", {"tasks": everything})
    client = face(base_url=server.url)
    assert listed(client, client.tasks.iterate()) == everything
    running = listed(client, client.tasks.iterate(status="running"))
    assert [record["id"] for record in running] == ["t1", "t3"]


@pytest.mark.parametrize("cursor", ["again", "", 7, {}, True])
def test_a_list_that_leads_in_a_circle_or_nowhere_ends(
    face: Callable[..., Any], server: ScriptedServer, cursor: Any
) -> None:
    page = Reply({"tasks": [task("running")], "nextCursor": cursor})
    server.answer = lambda call: page  # type: ignore[method-assign]
    client = face(base_url=server.url)
    with pytest.raises(BadAnswerError, match="goes on at"):
        listed(client, client.tasks.iterate())


def test_pages_without_tasks_do_not_come_for_ever(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    calls: List[Any] = []

    def endless(call: Call) -> Reply:
        calls.append(call)
        return Reply({"tasks": [], "nextCursor": str(len(calls))})

    server.answer = endless  # type: ignore[method-assign]
    client = face(base_url=server.url)
    assert listed(client, client.tasks.iterate()) == []
    assert len(calls) == 1


def test_a_list_is_asked_for_as_the_caller_wants_it(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    server.on(TASKS, {"tasks": [], "extra": 1})
    client = face(base_url=server.url)
    assert client.tasks.list() == {"tasks": [], "extra": 1}
    path = "/api/v1/tasks?status=running%2Cpending&label=a%3A1&label=b%3A2%3A3&limit=5&cursor=x"
    server.on(f"GET {path}", {"tasks": [], "nextCursor": "y"})
    answer = client.tasks.list(
        status=["running", "pending"], labels={"a": "1", "b": "2:3"}, limit=5, cursor="x"
    )
    assert answer == {"tasks": [], "nextCursor": "y"}


def test_a_server_without_filters_is_filtered_here(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    rows: List[Any] = [
        task("running", "t1", labels={"a": "1", "b": "2"}),
        task("running", "t2", labels={"a": "2"}),
        task("failed", "t3", labels={"a": "1"}),
        task("running", "t4"),
        task("running", "t5", labels="a"),
        None,
        "running",
    ]
    server.answer = lambda call: Reply({"tasks": rows})  # type: ignore[method-assign]
    tasks = face(base_url=server.url).tasks
    wanted = tasks.list(status="running", labels={"a": "1"})["tasks"]
    assert [record["id"] for record in wanted] == ["t1"]
    ended = tasks.list(status=("failed", "stopped"))["tasks"]
    assert [record["id"] for record in ended] == ["t3"]
    assert tasks.list()["tasks"] == rows


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"status": 5}, "status"),
        ({"status": ["running", 5]}, "status"),
        ({"labels": ["a"]}, "labels"),
        ({"labels": {"a": 1}}, "labels"),
        ({"labels": {"a:b": "1"}}, "label"),
        ({"labels": {"": "1"}}, "label"),
        ({"limit": 0}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": "5"}, "limit"),
    ],
)
def test_an_unusable_filter_is_refused_unsent(
    face: Callable[..., Any], server: ScriptedServer, options: Any, fault: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=fault):
        face(base_url=server.url).tasks.list(**options)
    assert server.calls == []


async def test_an_iteration_that_is_given_up_asks_for_no_more(server: ScriptedServer) -> None:
    paged = PagedServer(server, count=25, most=10)
    async with OomolConnectClient(base_url=server.url) as client:
        tasks = client.tasks.iterate()
        async for record in tasks:
            assert record["id"] == "t0"
            break
        await tasks.aclose()
    assert len(paged.queries) == 1


def test_running_again_is_created_once_and_gives_a_handle(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    refusal = Reply({"message": "busy"}, status=503, headers={"Retry-After": "0"})
    server.on("POST /api/v1/tasks/old%2F1/rerun", refusal, {"task": task("created", "new")})
    server.on("GET /api/v1/tasks/new", {"task": task("completed", "new")})
    client = face(base_url=server.url)
    handle = client.tasks.rerun("old/1")
    assert handle.id == "new"
    first, second = server.calls
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.headers["oomol-connect-client"]
    assert first.body == b""


def test_a_server_that_cannot_run_again_says_so(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    with pytest.raises(ApiError) as caught:
        face(base_url=server.url).tasks.rerun("t1")
    assert caught.value.status == 404
    with pytest.raises(ValueError, match="is not an id"):
        face(base_url=server.url).tasks.rerun("")


@pytest.fixture(scope="module")
def local_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("uvicorn", reason="part of the server extra")
    from oomol_connect_sdk.server import LocalServer

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OOMOL_CONNECT_CACHE", str(tmp_path_factory.mktemp("cache")))
        package = write_package(tmp_path_factory.mktemp("packages"))
        with LocalServer([package], token="") as server:
            yield server.base_url


def write_package(directory: Path) -> Path:
    block = directory / "tasks" / "square"
    block.mkdir(parents=True)
    (directory / "package.oo.yaml").write_text("name: numbers\nversion: 1.0.0\n")
    (block / "task.oo.yaml").write_text(
        "executor: {name: python, options: {entry: main.py}}\n"
        "inputs_def: [{handle: n}]\noutputs_def: [{handle: square}]\n"
    )
    (block / "main.py").write_text(
        "def main(params, context):\n    return {'square': params['n'] ** 2}\n"
    )
    return directory


def test_the_local_server_gives_filtered_pages_and_runs_again(
    face: Callable[..., Any], local_url: str, request: pytest.FixtureRequest
) -> None:
    client = face(base_url=local_url)
    labels = {"test": request.node.name}
    runs = [
        {"blockId": "numbers::square", "inputValues": {"n": n}, "labels": labels} for n in range(5)
    ]
    ids = {item.result["task_id"] for item in client.tasks.map(runs)}
    client.tasks.run({"blockId": "numbers::square", "inputValues": {"n": 9}})

    first = client.tasks.list(labels=labels, limit=3)
    second = client.tasks.list(labels=labels, limit=3, cursor=first["nextCursor"])
    assert (len(first["tasks"]), len(second["tasks"])) == (3, 2)
    assert "nextCursor" not in second
    assert {record["id"] for record in first["tasks"] + second["tasks"]} == ids
    assert client.tasks.list(labels=labels, status=["failed", "stopped"])["tasks"] == []
    found = listed(client, client.tasks.iterate(labels=labels, status="completed"))
    assert {record["id"] for record in found} == ids

    (third,) = [one for one in found if one["inputValues"][0]["inputs"][0]["value"] == 3]
    handle = client.tasks.rerun(third["id"])
    result = handle.run_result()
    if asyncio.iscoroutine(result):
        result = client._loop.run_until_complete(result)
    assert result["result"] == {"square": 9}
    assert result["task"]["rerunOf"] == third["id"]
    assert result["task"]["labels"] == labels


def test_a_task_that_is_over_is_deleted(face: Callable[..., Any], server: ScriptedServer) -> None:
    server.on("DELETE /api/v1/tasks/t1", lambda call: Reply({"task": task("failed", "t1")}))
    server.on("DELETE /api/v1/tasks/t2", lambda call: Reply({"message": "it runs"}, status=409))
    client = face(base_url=server.url)
    assert client.tasks.delete("t1") is None
    with pytest.raises(ApiError, match="it runs") as caught:
        client.tasks.delete("t2")
    assert caught.value.status == 409


def test_part_of_a_flow_may_be_asked_for(face: Callable[..., Any], server: ScriptedServer) -> None:
    server.on("POST /api/v1/tasks", lambda call: Reply({"task": task("created", "t1")}))
    client = face(base_url=server.url)
    client.tasks.create({"flowName": "f", "nodes": ("a", "b"), "useCache": True})
    body = server.calls[-1].json
    assert (body["nodes"], body["useCache"]) == (["a", "b"], True)
