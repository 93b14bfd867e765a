from __future__ import annotations

import builtins
from typing import Any, Callable, Dict, List

import pytest
from scripted import Reply, ScriptedServer

from oomol_connect_sdk import ApiError, BadAnswerError, InstallFailedError, TimeoutError

Face = Callable[..., Any]

FAST = {"interval_ms": 5, "backoff_strategy": "fixed"}
INSTALL = "POST /api/packages/install"
LIST = "GET /api/packages/install"
GET = "GET /api/packages/install/i1"


def installing(status: str, **more: Any) -> Dict[str, Any]:
    """An install task as the wire has it."""
    return {"id": "i1", "name": "p", "version": "1.0.0", "status": status, "createdAt": 1, **more}


def test_packages_are_listed_as_the_server_has_them(face: Face, server: ScriptedServer) -> None:
    server.on("GET /api/packages", {"packages": [{"name": "p", "version": "1.0.0"}]}, {"rows": []})
    packages = face(base_url=server.url).packages
    assert packages.list() == {"packages": [{"name": "p", "version": "1.0.0"}]}
    with pytest.raises(BadAnswerError, match="without 'packages'"):
        packages.list()


def test_install_tasks_are_listed(face: Face, server: ScriptedServer) -> None:
    answer = {"success": True, "tasks": [installing("running")]}
    server.on(LIST, answer)
    assert face(base_url=server.url).packages.list_install_tasks() == answer


@pytest.mark.parametrize(
    "answer",
    [
        {"success": True, "taskId": "i1"},
        {"success": True, "task": installing("pending")},
        installing("pending"),
    ],
)
def test_an_installation_has_an_id_whatever_the_server_calls_it(
    face: Face, server: ScriptedServer, answer: Any
) -> None:
    server.on(INSTALL, answer)
    begun = face(base_url=server.url).packages.install("p", "1.0.0")
    assert begun["id"] == begun["taskId"] == begun["task"]["id"] == "i1"
    assert server.calls[0].json == {"name": "p", "version": "1.0.0"}


def test_without_a_version_none_is_sent(face: Face, server: ScriptedServer) -> None:
    server.on(INSTALL, {"success": True, "taskId": "i1"})
    face(base_url=server.url).packages.install("p")
    assert server.calls[0].json == {"name": "p"}


@pytest.mark.parametrize(
    ("name", "version"), [("", None), (None, None), (7, None), ("p", ""), ("p", 1)]
)
def test_a_package_without_a_usable_name_is_refused_unsent(
    face: Face, server: ScriptedServer, name: Any, version: Any
) -> None:
    with pytest.raises(TypeError, match="of a package must be non-empty text"):
        face(base_url=server.url).packages.install(name, version)
    assert server.calls == []


@pytest.mark.parametrize("status", [200, 404, 409])
def test_a_refused_package_is_an_error_with_the_reason(
    face: Face, server: ScriptedServer, status: int
) -> None:
    refusal = Reply({"success": False, "error": "no such version"}, status=status)
    server.on(INSTALL, refusal)
    with pytest.raises(InstallFailedError, match=r"package p 9\.9\.9.*no such version") as caught:
        face(base_url=server.url).packages.install_and_wait("p", "9.9.9")
    assert caught.value.task is None
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"success": False, "message": "wrong token"}, status=401),
        Reply({"message": "no such route"}, status=404),
        Reply({"success": False, "message": "overloaded"}, status=500),
    ],
)
def test_trouble_with_the_server_is_not_told_as_a_refused_package(
    face: Face, server: ScriptedServer, reply: Reply
) -> None:
    server.on(INSTALL, reply)
    with pytest.raises(ApiError) as caught:
        face(base_url=server.url).packages.install("p")
    assert caught.value.status == reply.status


def test_an_answer_without_any_id_says_what_came(face: Face, server: ScriptedServer) -> None:
    server.on(INSTALL, {"success": True, "state": "queued"})
    with pytest.raises(BadAnswerError, match=r"without an id.*queued"):
        face(base_url=server.url).packages.install("p")


@pytest.mark.parametrize("wrapped", [True, False])
def test_install_and_wait_ends_with_the_installed_package(
    face: Face, server: ScriptedServer, wrapped: bool
) -> None:
    rows = [
        installing("pending"),
        installing("running"),
        installing("success", packagePath="/p/p-1.0.0"),
    ]
    server.on(INSTALL, {"success": True, "taskId": "i1"})
    server.on(GET, *[{"success": True, "task": row} if wrapped else row for row in rows])
    seen: List[str] = []
    options = {**FAST, "on_progress": lambda task: seen.append(task["status"])}
    done = face(base_url=server.url).packages.install_and_wait("p", "1.0.0", options)
    assert (done["status"], done["packagePath"]) == ("success", "/p/p-1.0.0")
    assert done["task"]["status"] == "success"
    assert seen == ["pending", "running", "success"]


@pytest.mark.parametrize("success", [True, False])
def test_a_failed_installation_says_why(face: Face, server: ScriptedServer, success: bool) -> None:
    failed = installing("failed", error="checksum differs")
    server.on(GET, {"success": success, "task": failed})
    with pytest.raises(InstallFailedError, match=r"p 1\.0\.0 is not.*checksum differs") as caught:
        face(base_url=server.url).packages.wait_for_install_completion("i1", FAST)
    assert caught.value.task_id == "i1"
    assert caught.value.task["error"] == "checksum differs"


def test_trouble_on_the_way_does_not_end_the_wait(face: Face, server: ScriptedServer) -> None:
    server.on(
        GET,
        Reply(cut=0),
        Reply(b"<html>", headers={"Content-Type": "text/html"}),
        Reply({"message": "not yet"}, status=404),
        Reply({"success": True, "task": installing("unpacking")}),
        Reply({"success": True, "task": installing("success")}),
    )
    packages = face(base_url=server.url).packages
    assert packages.wait_for_install_completion("i1", FAST)["status"] == "success"
    assert len(server.calls) == 5


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_to_look_ends_the_wait(face: Face, server: ScriptedServer, status: int) -> None:
    server.on(GET, Reply({"message": "no"}, status=status))
    with pytest.raises(ApiError) as caught:
        face(base_url=server.url).packages.wait_for_install_completion("i1", FAST)
    assert caught.value.status == status


def test_a_wait_that_runs_out_of_time_knows_the_last_state(
    face: Face, server: ScriptedServer
) -> None:
    server.on(GET, {"success": True, "task": installing("running")})
    packages = face(base_url=server.url).packages
    # The first request loads certificates, which takes long on a busy machine.
    packages.get_install_task("i1")
    with pytest.raises(builtins.TimeoutError, match=r"i1 was not over after 0\.4 s") as caught:
        packages.wait_for_install_completion("i1", {**FAST, "timeout_ms": 400})
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.task_id == "i1"
    assert caught.value.task is not None
    assert caught.value.task["status"] == "running"
    assert {call.method for call in server.calls} == {"GET"}


def test_a_server_that_never_answers_does_not_outlast_the_deadline(
    face: Face, server: ScriptedServer
) -> None:
    server.on(GET, Reply(cut=0))
    with pytest.raises(TimeoutError, match="never seen"):
        face(base_url=server.url).packages.wait_for_install_completion(
            "i1", {**FAST, "timeout_ms": 300}
        )


def test_an_id_stays_one_segment_of_the_path(face: Face, server: ScriptedServer) -> None:
    packages = face(base_url=server.url).packages
    with pytest.raises(ApiError):
        packages.get_install_task("../../v1/tasks?x=1#y")
    assert server.calls[0].path == "/api/packages/install/..%2F..%2Fv1%2Ftasks%3Fx%3D1%23y"
    with pytest.raises(ValueError, match="is not an id"):
        packages.get_install_task("")
