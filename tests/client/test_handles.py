from __future__ import annotations

import inspect
from typing import Any, Callable, List

import pytest
from scripted import Reply, ScriptedServer, log, task

from oomol_connect_sdk import (
    OomolConnectClient,
    SyncOomolConnectClient,
    SyncTaskHandle,
    TaskFailedError,
    TaskHandle,
    TaskStoppedError,
    TimeoutError,
)

FAST: Any = {"interval_ms": 5, "backoff_strategy": "fixed"}
CREATE = "POST /api/v1/tasks"
GET = "GET /api/v1/tasks/t1"
LOGS = "GET /api/v1/tasks/t1/logs"
STOP = "POST /api/v1/tasks/t1/stop"


class Handles:
    """Handles of one face, whose methods all return their results."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(self) -> Any:
        return self._blocking(self._client.tasks.submit({"blockId": "p::b"}))

    def handle(self, task_id: str) -> Any:
        return self._blocking(self._client.tasks.handle(task_id))

    def _blocking(self, handle: Any) -> Any:
        if isinstance(handle, SyncTaskHandle):
            return handle
        assert isinstance(handle, TaskHandle)
        # The client of the fixture is the blocking proxy of an asynchronous one.
        return type(self._client)(handle, self._client._loop)

    def all(self, items: Any) -> List[Any]:
        if hasattr(items, "__aiter__"):
            return self._client._loop.run_until_complete(_listed(items))  # type: ignore[no-any-return]
        return list(items)


async def _listed(items: Any) -> List[Any]:
    return [item async for item in items]


@pytest.fixture
def handles(face: Callable[..., Any], server: ScriptedServer) -> Handles:
    server.on(CREATE, {"task": task("created"), "success": True})
    server.on(STOP, {"task": task("stopped"), "success": True})
    return Handles(face(base_url=server.url))


def script(server: ScriptedServer, *statuses: str, logs: Any = ()) -> None:
    server.on(GET, *[{"task": task(status), "success": True} for status in statuses])
    server.on(LOGS, *(logs or [{"logs": []}]))


def public(kind: type) -> Any:
    return {
        name: method
        for name, method in inspect.getmembers(kind, callable)
        if not name.startswith("_")
    }


def test_both_faces_have_the_same_handles() -> None:
    ours, twins = public(TaskHandle), public(SyncTaskHandle)
    assert set(ours) == set(twins)
    for name, method in ours.items():
        assert inspect.getdoc(method), name
        assert inspect.getdoc(method) == inspect.getdoc(twins[name]), name
        parameters = inspect.signature(method).parameters
        assert parameters == inspect.signature(twins[name]).parameters, name


def test_both_handles_show_their_id_and_nothing_else() -> None:
    asynchronous = OomolConnectClient(base_url="http://x", api_token="secret").tasks.handle("t1")
    blocking = SyncOomolConnectClient(base_url="http://x", api_token="secret").tasks.handle("t1")
    assert (repr(asynchronous), repr(blocking)) == ("TaskHandle('t1')", "SyncTaskHandle('t1')")


def test_a_submitted_task_is_looked_at_and_stopped(
    handles: Handles, server: ScriptedServer
) -> None:
    script(server, "running")
    handle = handles.submit()
    assert handle.get() == task("running")
    assert handle.status() == "running"
    assert handle.stop()["status"] == "stopped"
    assert len(server.routes(STOP)) == 1


def test_a_handle_gives_the_result_the_task_and_all_of_it(
    handles: Handles, server: ScriptedServer
) -> None:
    rows = [log(1, "BlockFinished", job_id="j", result={"x": 1})]
    script(server, "running", "completed", logs=[{"logs": rows}])
    handle = handles.submit()
    assert handle.wait(FAST) == task("completed")
    assert handle.result(FAST) == {"x": 1}
    whole = {"task_id": "t1", "task": task("completed"), "logs": rows, "result": {"x": 1}}
    assert handle.run_result(FAST) == whole


def test_a_task_is_taken_up_by_its_id(handles: Handles, server: ScriptedServer) -> None:
    script(server, "running", "completed")
    assert handles.handle("t1").wait(FAST)["status"] == "completed"
    assert server.routes(CREATE) == []


@pytest.mark.parametrize("task_id", ["", ".", "..", 5])
def test_an_id_that_is_none_makes_no_handle(handles: Handles, task_id: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        handles.handle(task_id)


def test_logs_come_from_the_first_to_the_last_row(handles: Handles, server: ScriptedServer) -> None:
    rows = [log(number) for number in range(1, 6)]
    answers = [{"logs": rows[:2][::-1]}, {"logs": rows[:3]}, {"logs": rows[::-1]}]
    script(server, "running", "running", "completed", logs=answers)
    handle = handles.submit()
    assert handles.all(handle.logs(FAST)) == rows


@pytest.mark.parametrize("status", ["completed", "failed", "stopped"])
def test_events_are_the_changes_up_to_the_end(
    handles: Handles, server: ScriptedServer, status: str
) -> None:
    script(server, "created", "running", "running", status)
    seen = handles.all(handles.submit().events(FAST))
    assert [record["status"] for record in seen] == ["created", "running", status]


@pytest.mark.parametrize(
    ("status", "error"), [("failed", TaskFailedError), ("stopped", TaskStoppedError)]
)
def test_waiting_raises_what_became_of_the_task(
    handles: Handles, server: ScriptedServer, status: str, error: type
) -> None:
    script(server, status)
    for wait in ("wait", "result", "run_result"):
        with pytest.raises(error):
            getattr(handles.submit(), wait)(FAST)


def test_a_handle_leaves_its_task_running_unless_told(
    handles: Handles, server: ScriptedServer
) -> None:
    script(server, "running")
    handle = handles.submit()
    with pytest.raises(TimeoutError, match="left running"):
        handle.wait({**FAST, "timeout_ms": 50})
    with pytest.raises(TimeoutError, match="left running"):
        handles.all(handle.logs({**FAST, "timeout_ms": 50}))
    with pytest.raises(TimeoutError, match="left running"):
        handles.all(handle.events({**FAST, "timeout_ms": 50}))
    assert server.routes(STOP) == []
    with pytest.raises(TimeoutError, match="was stopped"):
        handle.result({**FAST, "timeout_ms": 50, "on_timeout": "stop"})
    assert len(server.routes(STOP)) == 1


def test_trouble_on_the_way_ends_neither_logs_nor_events(
    handles: Handles, server: ScriptedServer
) -> None:
    script(server, "running", "completed")
    rows = [log(1), log(2)]
    busy = Reply({"message": "busy"}, status=503)
    server.on(GET, busy, Reply({"task": task("running")}), busy, Reply({"task": task("completed")}))
    server.on(LOGS, Reply(cut=0), Reply({"logs": rows}, cut=9), Reply({"logs": rows}))
    handle = handles.submit()
    assert handles.all(handle.logs(FAST)) == rows
    server.on(GET, busy, Reply({"task": task("completed")}))
    assert [record["status"] for record in handles.all(handle.events(FAST))] == ["completed"]


async def test_logs_that_are_given_up_are_asked_for_no_more(server: ScriptedServer) -> None:
    script(server, "running", logs=[{"logs": [log(1)]}])
    async with OomolConnectClient(base_url=server.url) as client:
        rows = client.tasks.handle("t1").logs(FAST)
        async for row in rows:
            assert row["id"] == 1
            break
        await rows.aclose()
        asked = len(server.calls)
        waiting = client.tasks.handle("t1")
        with pytest.raises(TimeoutError):
            await waiting.wait({"interval_ms": 200, "timeout_ms": 100})
        assert len(server.calls) - asked <= 2


def test_logs_that_are_given_up_are_asked_for_no_more_in_threads(server: ScriptedServer) -> None:
    script(server, "running", logs=[{"logs": [log(1)]}])
    with SyncOomolConnectClient(base_url=server.url) as client:
        rows = client.tasks.handle("t1").logs(FAST)
        assert next(rows)["id"] == 1
        asked = len(server.calls)
        rows.close()  # type: ignore[attr-defined]
        with pytest.raises(StopIteration):
            next(rows)
        assert len(server.calls) == asked
