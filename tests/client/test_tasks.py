from __future__ import annotations

import builtins
import time
from typing import Any, Callable, List

import pytest
from scripted import Reply, ScriptedServer, log, task

from oomol_connect_sdk import (
    ApiError,
    BackoffStrategy,
    BadAnswerError,
    ConnectionFailedError,
    OomolConnectError,
    TaskFailedError,
    TaskStoppedError,
    TimeoutError,
)
from oomol_connect_sdk.task_api import TaskApi

FAST = {"interval_ms": 5, "backoff_strategy": BackoffStrategy.FIXED}
GET = "GET /api/v1/tasks/t1"
LOGS = "GET /api/v1/tasks/t1/logs"
STOP = "POST /api/v1/tasks/t1/stop"
CREATE = "POST /api/v1/tasks"


def scripted_run(server: ScriptedServer, *statuses: str, logs: Any = ()) -> None:
    server.on(CREATE, {"task": task("created"), "userID": "u", "success": True})
    server.on(GET, *[{"task": task(status), "success": True} for status in statuses])
    server.on(LOGS, {"logs": list(logs), "success": True})
    server.on(STOP, {"task": task("stopped"), "success": True})


def test_run_returns_the_result_of_the_last_node(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    rows = [
        log(1, "BlockFinished", job_id="a", stacks=[{"node_id": "a"}], result={"x": 1}),
        log(2, "BlockOutput", job_id="b", stacks=[{"node_id": "b"}], handle="y", output=2),
        log(3, "BlockFinished", job_id="b", stacks=[{"node_id": "b"}], result={"z": 3}),
        log(4, "BlockFinished", job_id="c", stacks=[{"node_id": "c"}]),
    ]
    scripted_run(server, "running", "completed", logs=rows)
    result = face(base_url=server.url).tasks.run({"blockId": "p::b"}, FAST)
    assert result == {
        "task_id": "t1",
        "task": task("completed"),
        "logs": rows,
        "result": {"y": 2, "z": 3},
    }


def test_a_task_is_named_in_every_way_servers_read(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    scripted_run(server, "completed")
    client = face({"base_url": server.url})
    client.tasks.create({"manifest": "p::b", "inputValues": {"n": 1}})
    client.tasks.create({"flowName": "flow-1"})
    block, flow = [call.json for call in server.routes(CREATE)]
    assert block == {
        "manifest": "p::b",
        "blockId": "p::b",
        "inputValues": [{"nodeId": "_", "inputs": [{"handle": "n", "value": 1}]}],
    }
    assert flow == {"manifest": "flow-1", "blockId": "flow-1", "flowName": "flow-1"}


def test_a_created_task_is_there_as_itself_and_wrapped(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    scripted_run(server, "completed")
    created = face(base_url=server.url).tasks.create({"blockId": "p::b"})
    assert created["id"] == created["task"]["id"] == "t1"
    assert created["userID"] == "u"


@pytest.mark.parametrize(
    ("request_body", "fault"),
    [
        ({}, "blockId, manifest, flowName"),
        ({"blockId": ""}, "non-empty text"),
        ({"blockId": 7}, "non-empty text"),
        ({"blockId": "a::b", "manifest": "c::d"}, "different things"),
        ({"blockId": "a::b", "input": {}}, "'input'"),
        ("a::b", "mapping"),
    ],
)
def test_a_request_that_names_nothing_to_run_is_refused_unsent(
    face: Callable[..., Any], server: ScriptedServer, request_body: Any, fault: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=fault):
        face(base_url=server.url).tasks.create(request_body)
    assert server.calls == []


def test_progress_and_logs_are_told_in_order_and_once(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    scripted_run(server, "running", "running", "completed")
    first, second, third = (log(number, log=str(number)) for number in (1, 2, 3))
    server.on(
        LOGS, {"logs": [second, first]}, {"logs": [second, first]}, {"logs": [third, second, first]}
    )
    statuses: List[str] = []
    rows: List[Any] = []
    options = {**FAST, "on_progress": lambda t: statuses.append(t["status"]), "on_log": rows.append}
    result = face(base_url=server.url).tasks.run({"blockId": "p::b"}, options)
    assert statuses == ["running", "running", "completed"]
    assert rows == [first, second, third] == result["logs"]


def test_log_rows_without_ids_and_with_text_ids_are_told_once(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    bare = {"type": "BlockLog", "event": {"log": "same"}}
    scripted_run(server, "running", "completed")
    server.on(LOGS, {"logs": [log("b2"), bare]}, {"logs": [log("b2"), bare, bare]})
    rows: List[Any] = []
    face(base_url=server.url).tasks.wait_for_completion("t1", {**FAST, "on_log": rows.append})
    assert rows == [log("b2"), bare, bare]


def test_logs_are_not_fetched_when_nobody_listens(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    scripted_run(server, "running", "completed")
    assert face(base_url=server.url).tasks.wait_for_completion("t1", FAST)["status"] == "completed"
    assert server.routes(LOGS) == []


def test_a_failed_task_says_why_and_where(face: Callable[..., Any], server: ScriptedServer) -> None:
    scripted_run(
        server,
        "failed",
        logs=[log(1, "BlockFinished", stacks=[{"node_id": "clean"}], error="bad row 7")],
    )
    with pytest.raises(TaskFailedError, match="task t1 failed at node clean: bad row 7") as caught:
        face(base_url=server.url).tasks.run({"blockId": "p::b"}, FAST)
    error = caught.value
    assert (error.task_id, error.reason, error.node_id) == ("t1", "bad row 7", "clean")
    assert error.task == task("failed")


def test_a_stopped_task_raises_its_own_error(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    scripted_run(server, "stopped")
    with pytest.raises(TaskStoppedError) as caught:
        face(base_url=server.url).tasks.wait_for_completion("t1", FAST)
    assert caught.value.task_id == "t1"


def test_trouble_on_the_way_does_not_end_the_wait(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    scripted_run(server, "completed")
    good = Reply({"task": task("running")})
    server.on(
        GET,
        Reply(status=503, body={"message": "busy"}),
        good,
        Reply(good.body, cut=0),
        Reply(good.body, cut=20),
        Reply(b"<html>maintenance</html>", headers={"Content-Type": "text/html"}),
        Reply(status=404, body={"message": "not there yet"}),
        good,
        Reply({"task": task("completed")}),
    )
    assert face(base_url=server.url).tasks.wait_for_completion("t1", FAST)["status"] == "completed"
    assert len(server.routes(GET)) == 8


@pytest.mark.parametrize(("status", "looks"), [(401, 1), (403, 1), (404, 3)])
def test_a_final_refusal_ends_the_wait(
    face: Callable[..., Any], server: ScriptedServer, status: int, looks: int
) -> None:
    server.on(GET, Reply({"message": "no"}, status=status))
    with pytest.raises(ApiError, match="no") as caught:
        face(base_url=server.url).tasks.wait_for_completion("t1", FAST)
    assert caught.value.status == status
    assert len(server.routes(GET)) == looks


def test_an_unknown_status_is_not_an_ending(
    face: Callable[..., Any], server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    scripted_run(server, "paused", "paused", "completed")
    assert face(base_url=server.url).tasks.wait_for_completion("t1", FAST)["status"] == "completed"
    assert caplog.text.count("unknown status 'paused'") == 1


def test_an_unknown_status_with_a_stamp_of_its_end_is_a_failure(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    server.on(GET, {"task": task("cancelled", ended_at=9)})
    server.on(LOGS, {"logs": []})
    with pytest.raises(TaskFailedError, match="cancelled"):
        face(base_url=server.url).tasks.wait_for_completion("t1", FAST)


def test_a_run_that_times_out_stops_its_task(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    scripted_run(server, "running")
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="it was stopped") as caught:
        face(base_url=server.url).tasks.run(
            {"blockId": "p::b"}, {"timeout_ms": 2000, "interval_ms": 60000}
        )
    assert time.monotonic() - started < 5
    assert caught.value.stopped
    assert caught.value.task == task("running")
    assert isinstance(caught.value, builtins.TimeoutError)
    assert len(server.routes(STOP)) == 1


def test_a_wait_for_a_task_of_others_leaves_it_running(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    scripted_run(server, "running")
    with pytest.raises(TimeoutError, match="it was left running") as caught:
        face(base_url=server.url).tasks.wait_for_completion("t1", {**FAST, "timeout_ms": 30})
    assert not caught.value.stopped
    assert server.routes(STOP) == []


def test_a_slow_server_does_not_stretch_the_timeout(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    def slow(call: Any) -> Reply:
        time.sleep(1.5)
        return Reply({"task": task("running")})

    server.on(GET, slow)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        face(base_url=server.url).tasks.wait_for_completion("t1", {"timeout_ms": 100})
    assert time.monotonic() - started < 1.4


def test_an_error_in_a_callback_reaches_the_caller_and_stops_the_task(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    scripted_run(server, "running")

    def broken(_: Any) -> None:
        raise RuntimeError("broken callback")

    with pytest.raises(RuntimeError, match="broken callback"):
        face(base_url=server.url).tasks.run({"blockId": "p::b"}, {**FAST, "on_progress": broken})
    assert len(server.routes(STOP)) == 1


def test_ctrl_c_stops_the_task_unless_it_is_to_be_left(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    scripted_run(server, "running")

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    client = face(base_url=server.url)
    for options, stops in (({}, 1), ({"on_cancel": "detach"}, 1)):
        with pytest.raises(KeyboardInterrupt):
            client.tasks.run({"blockId": "p::b"}, {**FAST, "on_progress": interrupt, **options})
        assert len(server.routes(STOP)) == stops


@pytest.mark.parametrize(
    "options",
    [
        {"interval": 5},
        {"interval_ms": "5"},
        {"timeout_ms": -1},
        {"backoff_factor": 0.5},
        {"backoff_strategy": "linear"},
        {"on_log": 5},
        {"on_timeout": "kill"},
        {"interval_ms": float("nan")},
    ],
)
def test_an_unusable_polling_option_is_named_before_anything_is_sent(
    face: Callable[..., Any], server: ScriptedServer, options: Any
) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        face(base_url=server.url).tasks.run({"blockId": "p::b"}, options)
    assert server.calls == []


def test_a_create_whose_outcome_is_unknown_is_not_sent_again(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    server.on(CREATE, Reply(cut=0))
    with pytest.raises(ConnectionFailedError, match="may have been carried out") as caught:
        face(base_url=server.url).tasks.create({"blockId": "p::b"})
    assert caught.value.outcome_unknown
    assert len(server.routes(CREATE)) == 1


def test_a_create_that_was_refused_with_a_pace_is_sent_again(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    refusal = Reply({"message": "slow down"}, status=429, headers={"Retry-After": "0"})
    server.on(CREATE, refusal, {"task": task("created")})
    assert face(base_url=server.url).tasks.create({"blockId": "p::b"})["id"] == "t1"


def test_a_create_that_failed_on_the_server_is_not_sent_again(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    server.on(CREATE, Reply({"error": {"message": "disk full"}}, status=500))
    with pytest.raises(ApiError, match="disk full"):
        face(base_url=server.url).tasks.create({"blockId": "p::b"})
    assert len(server.routes(CREATE)) == 1


def test_a_server_that_is_not_there_is_never_reached(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    client = face(base_url="http://127.0.0.1:1/api", max_retries=1)
    with pytest.raises(ConnectionFailedError) as caught:
        client.tasks.create({"blockId": "p::b"})
    assert not caught.value.outcome_unknown


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (Reply({"error": {"message": "nested"}}, status=400), ApiError, "nested"),
        (Reply({"message": None, "error": "flat"}, status=400), ApiError, "flat"),
        (Reply({"message": None}, status=418), ApiError, "HTTP status 418"),
        (Reply(["no"], status=400), ApiError, "HTTP status 400"),
        (Reply({"success": False, "message": "refused"}), ApiError, "refused"),
        (Reply(b"", status=200), BadAnswerError, "instead of JSON"),
        (Reply(b"{broken"), BadAnswerError, "instead of JSON"),
        (Reply({"tusk": 1}), BadAnswerError, "without 'task'"),
        (Reply({"task": {"id": "t1"}}), BadAnswerError, "without 'status'"),
        (Reply([]), BadAnswerError, "without 'task'"),
        (Reply({}, status=302, headers={"Location": "http://elsewhere/"}), ApiError, "redirected"),
    ],
)
def test_every_unusable_answer_is_an_error_that_shows_it(
    face: Callable[..., Any], server: ScriptedServer, reply: Reply, kind: type, message: str
) -> None:
    server.on(GET, reply)
    with pytest.raises(kind, match=message) as caught:
        face(base_url=server.url, max_retries=0).tasks.get("t1")
    assert caught.value.status == reply.status  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "task_id", ["../../packages", "a/../b", "x?admin=1", "x#frag", "x/stop", "%2e%2e/x", "ü"]
)
def test_an_id_is_quoted_into_one_path_segment(
    face: Callable[..., Any], server: ScriptedServer, task_id: str
) -> None:
    with pytest.raises(ApiError):
        face(base_url=server.url).tasks.get(task_id)
    (call,) = server.calls
    assert call.path.count("/") == 4
    assert call.path.startswith("/api/v1/tasks/")
    assert "?" not in call.path


@pytest.mark.parametrize("task_id", ["", ".", ".."])
def test_an_id_that_is_none_is_refused_unsent(
    face: Callable[..., Any], server: ScriptedServer, task_id: str
) -> None:
    with pytest.raises(ValueError, match="not an id"):
        face(base_url=server.url).tasks.get(task_id)
    assert server.calls == []


def test_a_closed_client_says_so(face: Callable[..., Any], server: ScriptedServer) -> None:
    client = face(base_url=server.url)
    client.close()
    with pytest.raises(OomolConnectError, match="closed"):
        client.tasks.list()


def test_rows_that_came_before_an_error_are_heard_all_the_same(
    face: Callable[..., Any], server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskApi, "LOG_PAGE", 2)
    pages = {"Oomol-Connect-Features": "logs-after"}
    server.on(CREATE, Reply({"task": task("running")}, headers=pages))
    server.on(GET, Reply({"task": task("completed")}, headers=pages))
    logs = LOGS + "?after={}&limit=2"
    server.on(logs.format(0), {"logs": [log(1), log(2)]})
    server.on(logs.format(2), Reply({"message": "starting"}, status=503), {"logs": [log(3)]})
    heard: List[Any] = []
    client = face(base_url=server.url)
    options = {"interval_ms": 10, "on_log": heard.append}
    result = client.tasks.run({"blockId": "p::b"}, options)
    assert [row["id"] for row in heard] == [1, 2, 3]
    assert result["logs"] == heard
