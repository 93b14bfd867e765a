"""The known defects of the official client 1.0.3, each shown to be none of ours.

Their numbers are those of the list the project was started with; what each was is said by the
name of its test.
"""

from __future__ import annotations

import ast
import builtins
import json
import time
from collections import UserDict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Dict, Iterator, List

import pytest
from file_server import FileServer, file_server
from scripted import Call, Reply, ScriptedServer, log, scripted_server, task

import oomol_connect_sdk
from oomol_connect_sdk import (
    ApiError,
    BadAnswerError,
    OomolConnectClient,
    OomolConnectError,
    TaskFailedError,
    TimeoutError,
)
from oomol_connect_sdk.polling import Wait

Face = Callable[..., Any]

FAST = {"interval_ms": 5, "backoff_strategy": "fixed"}
CREATE = "POST /api/v1/tasks"
GET = "GET /api/v1/tasks/t1"
LOGS = "GET /api/v1/tasks/t1/logs"
STOP = "POST /api/v1/tasks/t1/stop"


def scripted_task(server: ScriptedServer, *statuses: str, logs: Any = ()) -> None:
    server.on(CREATE, {"task": task("created"), "userID": "u", "success": True})
    server.on(GET, *[{"task": task(status), "success": True} for status in statuses])
    server.on(LOGS, {"logs": list(logs), "success": True})
    server.on(STOP, {"task": task("stopped"), "success": True})


@pytest.fixture
def files() -> Iterator[FileServer]:
    """A server that takes files."""
    with file_server() as running:
        yield running


def test_b01_a_client_is_made_by_keywords_or_by_a_mapping(
    face: Face, server: ScriptedServer
) -> None:
    server.on("GET /api/v1/tasks", {"tasks": []})
    face(base_url=server.url, api_token="t").tasks.list()
    face({"base_url": server.url, "api_token": "t"}).tasks.list()
    assert [call.headers["authorization"] for call in server.calls] == ["t", "t"]


@pytest.mark.parametrize("options", [{}, {"base_url": None}])
def test_b02_a_client_without_a_server_says_how_to_name_one(face: Face, options: Any) -> None:
    with pytest.raises(OomolConnectError, match=r"base_url.*OOMOL_CONNECT_BASE_URL"):
        face(**options).tasks.list()


def test_b03_an_upload_is_labelled_as_what_it_is(face: Face, files: FileServer) -> None:
    face(base_url=files.url).tasks.create_with_files("p::b", {"n": 1}, [b"one"])
    (upload,) = files.uploads
    assert upload.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert [content for _, _, content in upload.files] == [b"one"]


def test_b03b_an_upload_without_files_is_labelled_as_what_it_is(
    face: Face, files: FileServer
) -> None:
    face(base_url=files.url).tasks.create_with_files("p::b", {"n": 1})
    (upload,) = files.uploads
    assert upload.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert upload.fields["blockId"] == "p::b"


def test_b03c_a_path_sends_the_file_and_its_name(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    face(base_url=files.url).tasks.create_with_files("p::b", {}, str(path))
    assert files.uploads[0].files == [("a.txt", "text/plain", b"content")]


def test_b03d_bytes_get_names_that_tell_them_apart(face: Face, files: FileServer) -> None:
    face(base_url=files.url).tasks.create_with_files("p::b", {}, [b"1", b"2"])
    assert [name for name, _, _ in files.uploads[0].files] == ["file-1", "file-2"]


def test_b03e_an_input_that_json_cannot_hold_is_named(face: Face, files: FileServer) -> None:
    with pytest.raises(TypeError, match="handle 'picture'"):
        face(base_url=files.url).tasks.create_with_files("p::b", {"picture": b"x"}, b"1")
    assert files.uploads == []


def test_b04_a_get_has_no_content_type_and_empty_inputs_are_normal(
    face: Face, server: ScriptedServer
) -> None:
    scripted_task(server, "completed")
    tasks = face(base_url=server.url).tasks
    tasks.get("t1")
    tasks.create({"blockId": "p::b", "inputValues": {}})
    tasks.create({"blockId": "p::b", "inputValues": None})
    looked, empty, none = server.calls
    assert "content-type" not in looked.headers
    assert empty.json["inputValues"] == [{"nodeId": "_", "inputs": []}]
    assert "inputValues" not in none.json


def test_b05_a_created_task_has_its_id(face: Face, server: ScriptedServer) -> None:
    scripted_task(server, "completed")
    created = face(base_url=server.url).tasks.create({"blockId": "p::b"})
    assert created["id"] == created["task"]["id"] == "t1"


def test_b06_install_and_wait_understands_the_servers_own_answers(
    face: Face, server: ScriptedServer
) -> None:
    server.on("POST /api/packages/install", {"success": True, "taskId": "i1"})
    states = [{"success": True, "task": {"id": "i1", "status": s}} for s in ("running", "success")]
    server.on("GET /api/packages/install/i1", *states)
    done = face(base_url=server.url).packages.install_and_wait("p", "1.0.0", FAST)
    assert (done["id"], done["status"]) == ("i1", "success")


def test_b06_a_refused_installation_is_an_error(face: Face, server: ScriptedServer) -> None:
    server.on("POST /api/packages/install", {"success": False, "error": "unknown package"})
    with pytest.raises(oomol_connect_sdk.InstallFailedError, match="unknown package"):
        face(base_url=server.url).packages.install("p")


def test_b07_stop_returns_the_task(face: Face, server: ScriptedServer) -> None:
    scripted_task(server, "running")
    stopped = face(base_url=server.url).tasks.stop("t1")
    assert (stopped["id"], stopped["status"]) == ("t1", "stopped")
    assert stopped["task"]["id"] == "t1"


@pytest.mark.parametrize(
    "task_id",
    ["../../packages", "a/../../secret", "x?admin=1", "x#frag", "x/stop", "%2e%2e/x", "a b", "ü;"],
)
def test_b08_an_id_is_one_segment_of_the_path(
    face: Face, server: ScriptedServer, task_id: str
) -> None:
    from urllib.parse import quote

    route = "/api/v1/tasks/" + quote(task_id, safe="")
    server.on(f"GET {route}", {"task": task("running", task_id)})
    assert face(base_url=server.url).tasks.get(task_id)["id"] == task_id
    assert [call.path for call in server.calls] == [route]


@pytest.mark.parametrize("task_id", ["", ".", ".."])
def test_b08_what_cannot_be_an_id_is_refused_unsent(
    face: Face, server: ScriptedServer, task_id: str
) -> None:
    tasks = face(base_url=server.url).tasks
    for method in (tasks.get, tasks.stop, tasks.get_logs, tasks.wait_for_completion):
        with pytest.raises(ValueError, match="is not an id"):
            method(task_id)
    assert server.calls == []


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply({"error": {"message": "deep", "stack": "s"}}, status=400), "^deep$"),
        (Reply({"error": "flat"}, status=400), "^flat$"),
        (Reply({"message": None}, status=400), "GET /api/v1/tasks/t1.*400"),
        (Reply(["list"], status=400), "GET /api/v1/tasks/t1.*400"),
        (Reply(b"", status=302, headers={"Location": "http://other/"}), "redirected to http://oth"),
        (Reply(b"", status=200), "instead of JSON"),
        (Reply(b"{", status=200), "instead of JSON"),
        (Reply(b"hi", status=200, headers={"Content-Type": "text/plain"}), "text/plain instead"),
        (Reply({"success": False, "message": "no"}), "^no$"),
        (Reply({"task": None}), "without 'task'"),
    ],
)
def test_b09_every_bad_answer_is_an_error_that_says_what_came(
    face: Face, server: ScriptedServer, reply: Reply, message: str
) -> None:
    server.on(GET, reply)
    with pytest.raises(ApiError, match=message) as caught:
        face(base_url=server.url, max_retries=0).tasks.get("t1")
    assert caught.value.status == reply.status


def test_b10_log_rows_in_any_order_and_with_any_ids_come_once(
    face: Face, server: ScriptedServer
) -> None:
    scripted_task(server, "running", "running", "completed")
    bare = {"type": "BlockLog", "event": {"log": "x"}}
    first = [log(2), log(1)]
    server.on(
        LOGS,
        {"logs": first},
        Reply({"message": "broken"}, status=500),
        {"logs": [bare, log("b"), log(3), *first]},
    )
    rows: List[Any] = []
    options = {**FAST, "on_log": rows.append}
    face(base_url=server.url).tasks.wait_for_completion("t1", options)
    assert rows[:3] == [log(1), log(2), log(3)]
    assert sorted(map(str, rows[3:])) == sorted(map(str, [bare, log("b")]))


async def test_b11_coroutine_functions_are_awaited(server: ScriptedServer) -> None:
    scripted_task(server, "running", "completed", logs=[log(1)])
    heard: List[Any] = []

    async def hear(what: Any) -> None:
        heard.append(what)

    async with OomolConnectClient(base_url=server.url) as client:
        options: Any = {**FAST, "on_progress": hear, "on_log": hear}
        await client.tasks.wait_for_completion("t1", options)
    assert log(1) in heard
    assert heard[-1] == task("completed")


def test_b12_an_error_in_a_callback_reaches_the_caller_as_it_is(
    face: Face, server: ScriptedServer
) -> None:
    scripted_task(server, "running", "completed")

    def fail(_: Any) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        face(base_url=server.url).tasks.run({"blockId": "p::b"}, {**FAST, "on_progress": fail})
    assert server.routes(STOP)


@pytest.mark.parametrize("trouble", [Reply({"message": "later"}, status=503), Reply(cut=0)])
def test_b13_one_lost_poll_does_not_end_the_wait(
    face: Face, server: ScriptedServer, trouble: Reply
) -> None:
    scripted_task(server, "completed")
    server.on(GET, trouble, Reply({"task": task("completed")}))
    assert face(base_url=server.url).tasks.wait_for_completion("t1", FAST)["status"] == "completed"


def test_b14_a_long_pause_and_a_slow_answer_end_at_the_deadline(
    face: Face, server: ScriptedServer
) -> None:
    def slowly(_: Call) -> Reply:
        time.sleep(1.2)
        return Reply({"task": task("running")})

    scripted_task(server, "running")
    tasks = face(base_url=server.url).tasks
    tasks.get("t1")
    for options in ({"interval_ms": 1500, "timeout_ms": 300}, {"timeout_ms": 300}):
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            tasks.wait_for_completion("t1", options)
        assert 0.25 < time.monotonic() - begun < 0.9
        server.on(GET, slowly)


def test_b14_no_time_at_all_is_no_eternity_and_none_is_the_default(
    face: Face, server: ScriptedServer
) -> None:
    scripted_task(server, "running")
    tasks = face(base_url=server.url).tasks
    with pytest.raises(TimeoutError):
        tasks.wait_for_completion("t1", {**FAST, "timeout_ms": 0})
    scripted_task(server, "completed")
    assert tasks.wait_for_completion("t1", {"interval_ms": None})["status"] == "completed"


def test_b14_a_jump_of_the_wall_clock_is_no_passing_of_time(
    face: Face, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_task(server, "running", "running", "completed")
    jumps = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    done = face(base_url=server.url).tasks.wait_for_completion("t1", {**FAST, "timeout_ms": 20000})
    assert done["status"] == "completed"


def test_b15_an_unknown_status_with_an_end_is_an_end(face: Face, server: ScriptedServer) -> None:
    scripted_task(server, "running")
    server.on(GET, {"task": task("paused")}, {"task": task("cancelled", ended_at=5)})
    with pytest.raises(TaskFailedError, match="'cancelled'"):
        face(base_url=server.url).tasks.wait_for_completion("t1", FAST)


def test_b15_a_task_that_is_given_up_is_stopped(face: Face, server: ScriptedServer) -> None:
    scripted_task(server, "running")
    with pytest.raises(TimeoutError) as caught:
        face(base_url=server.url).tasks.run({"blockId": "p::b"}, {**FAST, "timeout_ms": 100})
    assert caught.value.stopped
    assert len(server.routes(STOP)) == 1


@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0, 3.0, 1e9])
def test_b16_the_pause_never_overflows(factor: float) -> None:
    wait = Wait.of({"interval_ms": 2000, "backoff_factor": factor}, ending="detach")
    assert wait.pause(10**7, 1e8) == (10.0 if factor > 1 else 2.0)


ROOT: Dict[str, Any] = {"job_id": "r", "stacks": []}
NODE_A: Dict[str, Any] = {"job_id": "a", "stacks": [{"node_id": "a"}]}
NODE_B: Dict[str, Any] = {"job_id": "b", "stacks": [{"node_id": "b"}]}


@pytest.mark.parametrize(
    ("rows", "result"),
    [
        (
            [
                log(1, "BlockFinished", result={"x": 1}, **NODE_A),
                log(2, "BlockFinished", **NODE_B),
            ],
            {"x": 1},
        ),
        (
            [
                log(1, "BlockOutput", handle="x", output=1, **NODE_A),
                log(2, "BlockOutputs", outputs={"y": 2}, **NODE_A),
                log(3, "BlockFinished", **NODE_A),
            ],
            {"x": 1, "y": 2},
        ),
        (
            [
                log(1, "BlockFinished", result={"inner": 1}, **NODE_A),
                log(2, "SubflowBlockOutput", handle="x", output=7, **ROOT),
                log(3, "SubflowBlockFinished", **ROOT),
            ],
            {"x": 7},
        ),
        ([log(1, "BlockFinished", **NODE_A)], None),
    ],
)
def test_b17_the_result_is_found_however_it_was_written(
    face: Face, server: ScriptedServer, rows: Any, result: Any
) -> None:
    scripted_task(server, "completed", logs=rows)
    assert face(base_url=server.url).tasks.run({"blockId": "p::b"}, FAST)["result"] == result


def test_b18_a_failure_has_its_reason_and_says_it_once(face: Face, server: ScriptedServer) -> None:
    scripted_task(server, "failed", logs=[log(1, "BlockFinished", error="bad row", **NODE_A)])
    with pytest.raises(TaskFailedError) as caught:
        face(base_url=server.url).tasks.run({"blockId": "p::b"}, FAST)
    assert caught.value.reason == "bad row"
    assert str(caught.value) == "task t1 failed at node a: bad row"


def test_b19_versions_are_read_from_real_layouts_and_the_latest_is_kept(
    face: Face, server: ScriptedServer
) -> None:
    paths = {
        "/oomol-driver/packages/ffmpeg-0.1.9/tasks/cut/task.oo.yaml": "0.1.9",
        r"C:\packages\ffmpeg-0.1.10\tasks\cut": "0.1.10",
        "/packages/ffmpeg-0.1.10-beta.2/tasks/cut": "0.1.10-beta.2",
    }
    rows: List[Any] = [{"package": "ffmpeg", "name": "cut", "path": path} for path in paths]
    server.on("GET /api/v1/blocks", {"blocks": [*rows, {"package": "p", "name": "b"}], "total": 4})
    blocks = face(base_url=server.url).blocks
    every = blocks.list(include_all_versions=True)
    assert [row["version"] for row in every["blocks"]] == [*paths.values(), "unknown"]
    assert every["total"] == 4
    latest = [(row["package"], row["version"]) for row in blocks.list()["blocks"]]
    assert latest == [("ffmpeg", "0.1.10"), ("p", "unknown")]


def test_b20_an_authorization_of_ones_own_wins_over_the_token(
    face: Face, server: ScriptedServer
) -> None:
    server.on("GET /api/v1/tasks", {"tasks": []})
    headers = {"Authorization": "mine"}
    face(base_url=server.url, api_token="token", default_headers=headers).tasks.list()
    assert server.calls[0].headers["authorization"] == "mine"


def test_b21_a_closed_client_says_so(face: Face, server: ScriptedServer) -> None:
    client = face(base_url=server.url)
    client.close()
    with pytest.raises(OomolConnectError, match="client is closed"):
        client.tasks.list()
    assert server.calls == []


def test_b22_the_applet_server_gets_no_secret(face: Face, server: ScriptedServer) -> None:
    with scripted_server() as applets:
        applets.on("POST /api/rpc/listApplets", Reply([]))
        headers = {"X-Key": "secret"}
        options = {"api_token": "secret", "default_headers": headers, "applets_url": applets.url}
        face(base_url=server.url, **options).applets.list()
        assert "secret" not in str(applets.calls[0].headers)


def test_b23_an_applet_keeps_its_version_and_the_inputs_of_all_nodes(
    face: Face, server: ScriptedServer
) -> None:
    scripted_task(server, "completed")
    data = {"packageId": "p-1.0.0-beta.1", "blockName": "b", "presetInputs": {"a": 1}}
    server.on("POST /api/rpc/listApplets", Reply([{"appletId": "a1", "data": data}]))
    rows = [{"package": "p", "name": "b", "version": v} for v in ("1.0.0-beta.1", "1.0.0")]
    server.on("GET /api/v1/blocks", {"blocks": rows})
    values = [{"nodeId": node, "inputs": [{"handle": "h", "value": node}]} for node in ("n1", "n2")]
    face(base_url=server.url, applets_url=server.url).applets.run("a1", values)
    (created,) = server.routes(CREATE)
    assert created.json["blockId"] == "p@1.0.0-beta.1::b"
    preset = {"nodeId": "_", "inputs": [{"handle": "a", "value": 1}]}
    assert created.json["inputValues"] == [preset, *values]


def test_b24_the_timeout_error_is_the_builtin_one_and_shadows_nothing() -> None:
    assert issubclass(TimeoutError, builtins.TimeoutError)
    names: Dict[str, Any] = {}
    exec("from oomol_connect_sdk import *", names)
    assert "TimeoutError" not in names
    assert "TaskFailedError" in names


def test_b25_the_package_says_that_it_is_typed() -> None:
    assert (Path(oomol_connect_sdk.__file__).parent / "py.typed").is_file()


def test_b26_the_client_is_written_in_the_python_it_promises() -> None:
    package = Path(oomol_connect_sdk.__file__).parent
    modules = [path for path in package.rglob("*.py") if "server" not in path.parts]
    assert len(modules) > 15
    for path in modules:
        text = path.read_text(encoding="utf-8")
        ast.parse(text, str(path), feature_version=(3, 8))
        later = "from __future__ import annotations" in text or "->" not in text
        assert later, f"{path} has annotations that are evaluated"


@pytest.mark.parametrize(
    "values",
    [
        UserDict(n=1),
        MappingProxyType({"n": 1}),
        ({"handle": "n", "value": 1},),
        {"nodeId": "_", "inputs": [{"handle": "n", "value": 1}]},
    ],
)
def test_b27_inputs_in_any_mapping_and_sequence_arrive(
    face: Face, server: ScriptedServer, values: Any
) -> None:
    scripted_task(server, "completed")
    face(base_url=server.url).tasks.create({"blockId": "p::b", "inputValues": values})
    sent = server.calls[0].json["inputValues"]
    assert sent == [{"nodeId": "_", "inputs": [{"handle": "n", "value": 1}]}]


@pytest.mark.parametrize(
    "values", [[{"handle": "n", "value": 1}, {"nodeId": "_", "inputs": []}], ["n"], [{"n": 1}], "n"]
)
def test_b27_inputs_that_are_none_are_refused_unsent(
    face: Face, server: ScriptedServer, values: Any
) -> None:
    with pytest.raises((TypeError, ValueError), match="inputValues"):
        face(base_url=server.url).tasks.create({"blockId": "p::b", "inputValues": values})
    assert server.calls == []


def test_others_a_log_nobody_listens_to_is_read_once(face: Face, server: ScriptedServer) -> None:
    scripted_task(server, *["running"] * 5, "completed", logs=[log(1)])
    result = face(base_url=server.url).tasks.run({"blockId": "p::b"}, FAST)
    assert result["logs"] == [log(1)]
    assert len(server.routes(LOGS)) == 1


def test_others_a_pause_is_not_cut_to_whole_milliseconds() -> None:
    wait = Wait.of({"interval_ms": 0.5, "backoff_strategy": "fixed"}, ending="detach")
    assert wait.pause(0, 0.0) == 0.0005


def test_others_an_answer_of_the_wrong_shape_is_no_key_error(
    face: Face, server: ScriptedServer
) -> None:
    server.on(CREATE, {"success": True, "task": {"status": "created"}})
    with pytest.raises(BadAnswerError, match="without 'id'") as caught:
        face(base_url=server.url).tasks.create({"blockId": "p::b"})
    assert json.dumps(caught.value.response)


#: What the official clients 1.0.0 to 1.0.3 export.
OFFICIAL_NAMES = """
    __version__ ApiError Applet AppletData AppletsClient BackoffStrategy Block BlocksClient
    ClientOptions CreateTaskRequest Flow FlowInputNode FlowsClient InputHandle InputValue
    InstallFailedError InstallTask InstallTaskStatus ListAppletsResponse ListBlocksResponse
    ListFlowsResponse ListInstallTasksResponse ListPackagesResponse ListTasksResponse NodeInputs
    OomolConnectClient OomolConnectError Package PackageDependency PackagesClient PollingOptions
    RunAppletRequest RunResult Task TaskFailedError TaskInputValues TaskLog TaskStatus
    TaskStoppedError TasksClient TimeoutError
"""


def test_others_every_official_name_can_be_imported() -> None:
    missing = [name for name in OFFICIAL_NAMES.split() if not hasattr(oomol_connect_sdk, name)]
    assert missing == []
