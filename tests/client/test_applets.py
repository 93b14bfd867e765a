from __future__ import annotations

from typing import Any, Callable, Dict, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Reply, ScriptedServer, scripted_server, task

from oomol_connect_sdk import ApiError, BadAnswerError, OomolConnectClient, OomolConnectError
from oomol_connect_sdk.applets import split_package_id

Face = Callable[..., Any]

APPLETS = "POST /api/rpc/listApplets"
CREATE = "POST /api/v1/tasks"


@pytest.fixture
def directory() -> Iterator[ScriptedServer]:
    """The server that knows the applets, which is not the one that runs them."""
    with scripted_server() as running:
        yield running


def applet(package_id: str = "json-repair-1.0.1", **preset: Any) -> Dict[str, Any]:
    data = {"id": "d1", "createdAt": 1, "packageId": package_id, "blockName": "repair"}
    if preset:
        data["presetInputs"] = preset
    return {"appletId": "a1", "userId": "u", "createdAt": 1, "updatedAt": 2, "data": data}


def installed(server: ScriptedServer, *versions: str, package: str = "json-repair") -> None:
    rows = [
        {"package": package, "name": "repair", "path": f"/p/{package}-{v}/tasks/repair"}
        for v in versions
    ]
    server.on("GET /api/v1/blocks", {"blocks": rows})
    server.on(CREATE, {"task": task("created"), "success": True})
    server.on("GET /api/v1/tasks/t1", {"task": task("completed", result={"x": 1})})
    server.on("GET /api/v1/tasks/t1/logs", {"logs": []})


def test_the_applet_server_gets_neither_the_token_nor_the_headers(
    face: Face, directory: ScriptedServer, server: ScriptedServer
) -> None:
    directory.on(APPLETS, Reply([applet()]))
    client = face(
        base_url=server.url,
        api_token="api-secret",
        default_headers={"X-Tenant": "secret", "Authorization": "secret"},
        applets_url=directory.url,
    )
    assert client.applets.list() == [applet()]
    (call,) = directory.calls
    assert call.json == {}
    assert "authorization" not in call.headers
    assert "secret" not in str(call.headers)
    assert server.calls == []


def test_the_applet_server_gets_a_token_only_when_it_has_one_of_its_own(
    face: Face, directory: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOMOL_CONNECT_API_TOKEN", "from-environment")
    directory.on(APPLETS, Reply([]))
    face(base_url="http://127.0.0.1:1", applets_url=directory.url).applets.list()
    face(applets_url=directory.url, applets_token="of-its-own").applets.list()
    sent = [call.headers.get("authorization") for call in directory.calls]
    assert sent == [None, "of-its-own"]


def test_applets_are_looked_up_at_oomol_unless_told_otherwise() -> None:
    from oomol_connect_sdk.config import Config

    assert Config.of({}, {}).applets_url == "https://chat-data.oomol.com"
    with pytest.raises(ValueError, match="applets_url must be an http"):
        OomolConnectClient(applets_url="ftp://x")


def test_an_applet_runs_with_its_preset_inputs(
    face: Face, directory: ScriptedServer, server: ScriptedServer
) -> None:
    directory.on(APPLETS, Reply([{"appletId": "other"}, applet(content="{", indent=2)]))
    installed(server, "1.0.1")
    result = face(base_url=server.url, applets_url=directory.url).applets.run("a1")
    assert result["result"] == {"x": 1}
    (created,) = server.routes(CREATE)
    assert created.json["blockId"] == "json-repair::repair"
    inputs = [{"handle": "content", "value": "{"}, {"handle": "indent", "value": 2}]
    assert created.json["inputValues"] == [{"nodeId": "_", "inputs": inputs}]


@pytest.mark.parametrize(
    ("values", "merged"),
    [
        ({"b": 9, "c": 3}, {"_": {"a": 1, "b": 9, "c": 3}}),
        ([{"handle": "b", "value": None}], {"_": {"a": 1, "b": None}}),
        (
            [
                {"nodeId": "n1", "inputs": [{"handle": "x", "value": 1}]},
                {"nodeId": "_", "inputs": [{"handle": "a", "value": 7}]},
                {"nodeId": "n2", "inputs": [{"handle": "y", "value": 2}]},
                {"nodeId": "n1", "inputs": [{"handle": "z", "value": 3}]},
            ],
            {"_": {"a": 7, "b": 2}, "n1": {"x": 1, "z": 3}, "n2": {"y": 2}},
        ),
        (None, {"_": {"a": 1, "b": 2}}),
        ({}, {"_": {"a": 1, "b": 2}}),
    ],
)
def test_given_inputs_win_handle_by_handle_in_every_format(
    face: Face, directory: ScriptedServer, server: ScriptedServer, values: Any, merged: Any
) -> None:
    directory.on(APPLETS, Reply([applet(a=1, b=2)]))
    installed(server, "1.0.1")
    face(base_url=server.url, applets_url=directory.url).applets.run("a1", values)
    sent = server.routes(CREATE)[0].json["inputValues"]
    assert {
        entry["nodeId"]: {item["handle"]: item["value"] for item in entry["inputs"]}
        for entry in sent
    } == merged
    assert len(sent) == len(merged)


@pytest.mark.parametrize(
    ("versions", "block_id"),
    [
        (["1.0.1"], "json-repair::repair"),
        (["1.0.0", "1.0.1"], "json-repair::repair"),
        (["1.0.1", "2.0.0"], "json-repair@1.0.1::repair"),
        ([], "json-repair::repair"),
        (["latest"], "json-repair::repair"),
    ],
)
def test_the_version_of_the_applet_is_the_one_that_runs(
    face: Face, directory: ScriptedServer, server: ScriptedServer, versions: Any, block_id: str
) -> None:
    directory.on(APPLETS, Reply([applet()]))
    installed(server, *versions)
    face(base_url=server.url, applets_url=directory.url).applets.run("a1")
    assert server.routes(CREATE)[0].json["blockId"] == block_id


def test_an_applet_whose_version_is_missing_says_how_to_get_it(
    face: Face, directory: ScriptedServer, server: ScriptedServer
) -> None:
    directory.on(APPLETS, Reply([applet()]))
    installed(server, "2.0.0", "1.0.0")
    with pytest.raises(
        OomolConnectError, match=r"json-repair 1.0.1, but the server has 1.0.0, 2.0.0: install it"
    ):
        face(base_url=server.url, applets_url=directory.url).applets.run("a1")
    assert server.routes(CREATE) == []


def test_an_unknown_applet_is_told_apart(
    face: Face, directory: ScriptedServer, server: ScriptedServer
) -> None:
    directory.on(APPLETS, Reply([applet()]))
    with pytest.raises(ApiError, match="no applet 'a2' among the 1 of http://127") as caught:
        face(base_url=server.url, applets_url=directory.url).applets.run("a2")
    assert caught.value.status == 404
    assert server.calls == []


@pytest.mark.parametrize(
    "answer", [{"applets": []}, [{"appletId": "a1"}], [{"appletId": "a1", "data": {"id": "d"}}]]
)
def test_an_answer_that_is_no_list_of_applets_is_named(
    face: Face, directory: ScriptedServer, server: ScriptedServer, answer: Any
) -> None:
    directory.on(APPLETS, Reply(answer))
    with pytest.raises(BadAnswerError, match=r"no list|without 'data'|without 'packageId'"):
        face(base_url=server.url, applets_url=directory.url).applets.run("a1")


@pytest.mark.parametrize(
    ("package_id", "name", "version"),
    [
        ("json-repair-1.0.1", "json-repair", "1.0.1"),
        ("p-1.0.0-beta.1", "p", "1.0.0-beta.1"),
        ("p-1.0.0+build.5", "p", "1.0.0+build.5"),
        ("p-1.0.0-rc.1+5", "p", "1.0.0-rc.1+5"),
        ("@scope/name-1.2.3", "@scope/name", "1.2.3"),
        ("@scope/name-x-10.20.30-a", "@scope/name-x", "10.20.30-a"),
        ("name-2-1.2.3", "name-2", "1.2.3"),
        ("name-1.2-x", "name-1.2-x", None),
        ("name", "name", None),
        ("-1.0.0", "-1.0.0", None),
    ],
)
def test_a_package_id_is_a_name_and_a_version(package_id: str, name: str, version: Any) -> None:
    assert split_package_id(package_id) == (name, version)


@given(
    name=st.from_regex(r"(@[a-z]+/)?[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*", fullmatch=True),
    version=st.from_regex(
        r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(-[a-z]{1,5}(\.[0-9]{1,2})?)?", fullmatch=True
    ),
)
def test_every_name_and_version_come_apart_again(name: str, version: str) -> None:
    assert split_package_id(f"{name}-{version}") == (name, version)
