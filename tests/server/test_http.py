from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import Connection

from oomol_connect_sdk import __version__
from oomol_connect_sdk.server import LocalServer
from oomol_connect_sdk.server.app import create_app
from oomol_connect_sdk.server.backend import open_service

TOKEN = "secret-token"
LIMIT = 64 * 1024 * 1024


@pytest.fixture(params=["", "/api"], ids=["at /", "at /api"])
def wire(request: pytest.FixtureRequest, server: LocalServer) -> Iterator[Connection]:
    """A client of the server, at both places its routes are."""
    connection = Connection(server.base_url + request.param, server.token)
    yield connection
    connection.http.close()


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    """Check an error answer: its status, its shape, and what its message says."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"success", "message", "error"}
    assert body["success"] is False
    assert body["error"] == {"message": body["message"]}
    for word in words:
        assert word in body["message"]


def test_a_task_runs_and_its_row_has_the_fields_of_the_wire_first(
    wire: Connection, shop: Path
) -> None:
    answer = wire.http.post(
        "/v1/tasks", json={"manifest": "shop::add", "inputValues": {"a": 2, "b": 3}}
    ).json()
    assert list(answer) == ["task", "userID", "success"]
    assert answer["userID"]
    assert answer["success"] is True
    assert answer["task"]["status"] == "created"

    task = wire.wait(answer["task"]["id"])
    assert list(task)[:7] == [
        "id",
        "project_id",
        "manifest_path",
        "status",
        "inputValues",
        "created_at",
        "updated_at",
    ]
    assert re.fullmatch(r"shop_[0-9a-f]{12}", task["project_id"])
    assert task["manifest_path"] == str(shop / "tasks/add/task.oo.yaml")
    assert task["status"] == "completed"
    assert task["inputValues"] == [
        {"nodeId": "_", "inputs": [{"handle": "a", "value": 2}, {"handle": "b", "value": 3}]}
    ]
    assert 0 < task["created_at"] <= task["updated_at"]
    assert task["result"] == {"sum": 5}
    assert task["progress"] == 100
    assert "error" not in task


def test_one_task_and_all_tasks_are_answered(wire: Connection) -> None:
    first = wire.create("shop::add", {"a": 1})
    second = wire.create("shop::add", {"a": 2})
    wire.wait(first)
    wire.wait(second)
    answer = wire.http.get(f"/v1/tasks/{first}").json()
    assert set(answer) == {"task", "success"}
    tasks = wire.http.get("/v1/tasks").json()["tasks"]
    assert [task["id"] for task in tasks[:2]] == [second, first]
    assert answer["task"] in tasks


def test_log_rows_have_the_shape_of_the_wire(wire: Connection) -> None:
    task = wire.run("shop::add", {"a": 1})
    answer = wire.http.get(f"/v1/tasks/{task['id']}/logs").json()
    assert set(answer) == {"logs", "success"}
    rows = answer["logs"]
    for row in rows:
        assert list(row) == [
            "id",
            "project_name",
            "session_id",
            "node_id",
            "manifest_path",
            "type",
            "event",
            "created_at",
        ]
        assert row["project_name"] == "shop"
        assert row["session_id"] == task["session_id"] == row["event"]["session_id"]
        assert row["node_id"] == "none"
        assert row["manifest_path"] == task["manifest_path"]
        assert row["type"] == row["event"]["type"]
    assert [row["type"] for row in rows] == [
        "SessionStarted",
        "BlockStarted",
        "BlockFinished",
        "SessionFinished",
    ]
    assert rows[2]["event"]["result"] == {"sum": 11}
    ids = [row["id"] for row in rows]
    assert ids == sorted(ids)


def test_only_later_rows_are_answered_after_an_id(connection: Connection) -> None:
    task = connection.run("shop::add", {"a": 1})
    rows = connection.logs(task["id"])
    assert connection.logs(task["id"], rows[1]["id"]) == rows[2:]
    assert connection.logs(task["id"], rows[-1]["id"]) == []


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "", "٣", "9" * 30])
def test_an_id_that_is_no_number_is_refused(connection: Connection, after: str) -> None:
    answer = connection.http.get("/v1/tasks/any/logs", params={"after": after})
    refused(answer, 400, "after must be a whole number")


@pytest.mark.parametrize("key", ["manifest", "blockId", "flowName"])
def test_every_key_of_the_wire_names_the_block(connection: Connection, key: str) -> None:
    task_id = connection.create("shop::add", {"a": 5}, key)
    assert connection.wait(task_id)["result"] == {"sum": 15}


def test_the_bare_name_of_a_flow_is_enough(connection: Connection) -> None:
    task = connection.wait(connection.create("failing", None, "flowName"))
    assert task["manifest_path"].endswith("/flows/failing/flow.oo.yaml")


def test_keys_that_agree_are_taken_and_keys_that_differ_are_named(
    connection: Connection,
) -> None:
    def post(**body: Any) -> httpx.Response:
        return connection.http.post("/v1/tasks", json={**body, "inputValues": {"a": 1}})

    assert post(manifest="shop::add", blockId="shop::add").status_code == 200
    refused(
        post(manifest="shop::add", blockId="shop::note"),
        400,
        "manifest 'shop::add'",
        "blockId 'shop::note'",
    )


@pytest.mark.parametrize(
    "values",
    [
        {"a": 1, "b": 2},
        [{"handle": "a", "value": 1}, {"handle": "b", "value": 2}],
        [{"nodeId": "_", "inputs": [{"handle": "a", "value": 1}, {"handle": "b", "value": 2}]}],
    ],
)
def test_the_three_input_formats_are_stored_as_one(connection: Connection, values: Any) -> None:
    task = connection.run("shop::add", values)
    assert task["result"] == {"sum": 3}
    assert task["inputValues"] == [
        {"nodeId": "_", "inputs": [{"handle": "a", "value": 1}, {"handle": "b", "value": 2}]}
    ]


def test_a_handle_that_comes_without_a_value_is_not_given(connection: Connection) -> None:
    """What JavaScript sends for a value that is undefined."""
    task = connection.run("shop::add", [{"handle": "a", "value": 5}, {"handle": "b"}])
    assert task["result"] == {"sum": 15}
    assert task["inputValues"] == [{"nodeId": "_", "inputs": [{"handle": "a", "value": 5}]}]
    answer = connection.http.post(
        "/v1/tasks", json={"manifest": "shop::add", "inputValues": [{"handle": "a"}]}
    )
    refused(answer, 400, "no value for 'a'")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("a=1", "inputValues must be an object or a list"),
        ([1], "inputValues[0] must be an object with a handle"),
        ([{"handle": "a", "value": 1}, {"handle": 2}], "inputValues[1] must be an object"),
        (
            [{"handle": "a", "value": 1}, {"handle": "a", "value": 2}],
            "inputValues[1] gives handle 'a' a second value",
        ),
        (
            [{"nodeId": "_", "inputs": []}, {"handle": "a", "value": 1}],
            "inputValues[1] must be an object with a nodeId",
        ),
        ([{"nodeId": "_"}], "inputValues[0].inputs must be a list"),
        ([{"nodeId": "_", "inputs": [{"value": 1}]}], "inputValues[0].inputs[0] must be"),
    ],
)
def test_malformed_inputs_are_refused_by_the_name_of_the_element(
    connection: Connection, values: Any, message: str
) -> None:
    answer = connection.http.post(
        "/v1/tasks", json={"manifest": "shop::add", "inputValues": values}
    )
    refused(answer, 400, message)


def test_a_missing_input_is_refused_by_its_name(connection: Connection) -> None:
    answer = connection.http.post("/v1/tasks", json={"manifest": "shop::add"})
    refused(answer, 400, "a")


def test_an_unknown_block_is_refused_with_suggestions(connection: Connection) -> None:
    answer = connection.http.post("/v1/tasks", json={"manifest": "shop::ad"})
    refused(answer, 404, "shop::ad", "shop::add")


def test_a_broken_manifest_is_refused_by_its_file(connection: Connection) -> None:
    answer = connection.http.post("/v1/tasks", json={"manifest": "shop::broken"})
    refused(answer, 422, "broken/task.oo.yaml")


def test_a_refused_task_is_not_stored(connection: Connection) -> None:
    before = connection.http.get("/v1/tasks").json()
    connection.http.post("/v1/tasks", json={"manifest": "shop::add"})
    assert connection.http.get("/v1/tasks").json() == before


def test_a_failing_block_gives_its_reason(connection: Connection) -> None:
    task = connection.run("shop::fail", {"reason": "gone"})
    assert task["status"] == "failed"
    assert "no such customer: gone" in task["error"]["message"]
    assert task["error"]["nodePath"] == []
    assert task["error"]["blockPath"].endswith("tasks/fail/task.oo.yaml")
    assert "result" not in task


def test_a_failing_node_is_named(connection: Connection) -> None:
    task = connection.run("shop::failing")
    assert task["status"] == "failed"
    assert "no such customer: gone" in task["error"]["message"]
    assert task["error"]["nodePath"] == ["breaks"]
    last = connection.logs(task["id"])[-1]
    assert last["type"] == "SessionFinished"
    assert last["event"]["error"]


def test_numbers_that_are_none_are_null_on_the_wire(connection: Connection) -> None:
    task = connection.run("shop::not_a_number")

    def reject(name: str) -> None:
        raise AssertionError(name)

    for path in (f"/v1/tasks/{task['id']}", f"/v1/tasks/{task['id']}/logs", "/v1/tasks"):
        json.loads(connection.http.get(path).text, parse_constant=reject)
    assert task["result"] == {"values": [None, 1, None]}


def test_blocks_flows_and_packages_are_listed(wire: Connection, shop: Path) -> None:
    blocks = wire.http.get("/v1/blocks").json()["blocks"]
    (add,) = [block for block in blocks if block["name"] == "add"]
    assert add["package"] == "shop"
    assert add["path"].startswith(str(shop))
    assert add["description"] == "a block of the shop"
    assert [item["handle"] for item in add["inputs"]] == ["a", "b"]

    flows = wire.http.get("/v1/flows").json()["flows"]
    assert {flow["name"] for flow in flows} >= {"two", "count", "failing"}
    assert all(flow["path"].startswith(str(shop)) for flow in flows)

    (package,) = wire.http.get("/packages").json()["packages"]
    assert package["name"] == "shop"
    assert package["version"] == "1.2.0"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": TOKEN},
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"bEARER   {TOKEN}"},
        {"X-API-Key": TOKEN},
        {"X-API-Key": TOKEN, "Authorization": "Basic abc"},
    ],
)
def test_every_form_of_the_token_is_taken(server: LocalServer, headers: dict[str, str]) -> None:
    assert httpx.get(f"{server.base_url}/v1/tasks", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/v1/tasks", "/api/packages", "/nowhere"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "secret-toke"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer wrong"},
        {"X-API-Key": f"Bearer {TOKEN}"},
        {"Authorization": "Bearer gl\xfcck"},
    ],
)
def test_a_wrong_or_missing_token_is_refused(
    server: LocalServer, headers: dict[str, str], path: str
) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = httpx.get(server.base_url + path, headers=encoded)
    refused(answer, 401, "token")
    assert "Bearer" in answer.headers["WWW-Authenticate"]
    assert TOKEN not in answer.text


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:9999", "[::1]", "[::1]:52222"]
)
def test_the_names_of_this_machine_are_taken_as_host(connection: Connection, host: str) -> None:
    assert connection.http.get("/packages", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost.evil.example:3000",
        "127.0.0.1@evil.example",
        "::1",
        "",
    ],
)
def test_a_foreign_host_is_refused(connection: Connection, host: str) -> None:
    refused(connection.http.get("/packages", headers={"Host": host}), 400, "Host")


def test_every_answer_tells_the_version_and_a_request_id(connection: Connection) -> None:
    answers = [connection.http.get(path) for path in ("/packages", "/nowhere", "/packages")]
    answers.append(connection.http.get("/packages", headers={"Authorization": "wrong"}))
    assert {answer.headers["Oomol-Connect-Local"] for answer in answers} == {__version__}
    assert {answer.headers["Oomol-Connect-Features"] for answer in answers} == {
        "events, wait, logs-after, idempotency, pages, files"
    }
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 4


def test_an_unknown_task_is_refused(wire: Connection) -> None:
    refused(wire.http.get("/v1/tasks/nobody"), 404, "'nobody'")
    refused(wire.http.get("/v1/tasks/nobody/logs"), 404, "'nobody'")
    refused(wire.http.post("/v1/tasks/nobody/stop"), 404, "'nobody'")


def test_an_unknown_path_and_a_wrong_method_are_refused(wire: Connection) -> None:
    refused(wire.http.get("/v2/tasks"), 404)
    answer = wire.http.delete("/v1/tasks")
    refused(answer, 405)
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"manifest": "\xff"}', "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "names nothing to run"),
        (b'{"manifest": null}', "names nothing to run"),
        (b'{"manifest": 5}', "manifest must be a string"),
        (b'{"manifest": ""}', "manifest must be a string"),
        (b'{"manifest": "shop::add", "inputValues": {"a": NaN}}', "NaN"),
        (b'{"manifest": "shop::add", "inputValues": {"a": -Infinity}}', "Infinity"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "nested deeper"),
        (b"[" * 1_000_000, "JSON"),
    ],
    ids=range(12),
)
def test_a_body_that_is_no_request_is_refused(
    connection: Connection, body: bytes, words: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = connection.http.post("/v1/tasks", content=body, headers=headers)
    refused(answer, 400) if words == "JSON" else refused(answer, 400, words)


def test_a_wide_body_is_not_a_deep_one(connection: Connection) -> None:
    values = {"a": 1, "b": [[{}] for _ in range(1_000)]}
    answer = connection.http.post(
        "/v1/tasks", json={"manifest": "shop::add", "inputValues": values}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "content_type", ["text/plain", "multipart/mixed; boundary=x", "", "application/jsonx"]
)
def test_a_body_of_another_type_is_refused(connection: Connection, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    answer = connection.http.post("/v1/tasks", content=b"{}", headers=headers)
    refused(answer, 415, "application/json")


def test_a_body_that_is_announced_beyond_the_limit_is_refused_before_it_is_sent(
    server: LocalServer,
) -> None:
    address = httpx.URL(server.base_url)
    with contextlib.closing(http.client.HTTPConnection(address.host, address.port)) as stream:
        stream.putrequest("POST", "/v1/tasks")
        stream.putheader("Authorization", TOKEN)
        stream.putheader("Content-Type", "application/json")
        stream.putheader("Content-Length", str(LIMIT + 1))
        stream.endheaders()
        answer = stream.getresponse()
        assert answer.status == 413
        assert f"{LIMIT} bytes" in json.load(answer)["message"]


def test_a_body_that_turns_out_beyond_the_limit_is_refused(connection: Connection) -> None:
    headers = {"Content-Type": "application/json"}
    chunks = (b" " * 2**20 for _ in range(65))
    refused(connection.http.post("/v1/tasks", content=chunks, headers=headers), 413, f"{LIMIT}")


def test_the_text_of_a_task_survives_as_it_is(connection: Connection, tmp_path: Path) -> None:
    text = 'größe "x" \\ 文字 \ud800 \u2028 \x00'
    inputs = {"file": str(tmp_path / "notes"), "text": text}
    answer = connection.http.post(
        "/v1/tasks",
        content=json.dumps({"manifest": "shop::note", "inputValues": inputs}),
        headers={"Content-Type": "application/json"},
    )
    task = connection.wait(answer.json()["task"]["id"])
    assert task["inputValues"][0]["inputs"][1]["value"] == text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_origin_can_change_nothing_without_a_token(
    shop: Path, origin: str
) -> None:
    with LocalServer([shop], token="") as server:
        form = {"manifest": (None, "shop::add"), "inputValues": (None, '{"a": 1}')}
        url = f"{server.base_url}/v1/tasks"
        refused(httpx.post(url, files=form, headers={"Origin": origin}), 403, "other origins")
        assert httpx.get(url, headers={"Origin": origin}).json() == {"tasks": []}
        own = httpx.post(url, files=form, headers={"Origin": server.base_url})
        assert own.status_code == 200


@pytest.mark.parametrize("token", ["", TOKEN])
def test_no_other_origin_is_let_in(shop: Path, token: str) -> None:
    origin = {"Origin": "http://evil.example"}
    preflight = {
        **origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    with LocalServer([shop], token=token) as server:
        for path in ("/v1/tasks", "/ui", "/doc", "/packages", "/api/v1/blocks"):
            answers = [
                httpx.options(server.base_url + path, headers=preflight),
                httpx.get(server.base_url + path, headers={**origin, "Authorization": token}),
            ]
            assert answers[0].status_code >= 400
            for answer in answers:
                assert not [name for name in answer.headers if name.startswith("access-control")]
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_fault_of_the_server_gives_no_internals_away(shop: Path) -> None:
    async with open_service([shop]) as service:
        app = create_app(service, token=None, hosts=None)
    # The store is closed now.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        answer = await client.get("/v1/tasks")
    refused(answer, 500, "its log says why")
    assert "store" not in answer.text
    assert answer.headers["X-Request-Id"]
