"""The OpenAPI document says what the server does: its routes, and the shapes of its answers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from package_sources import package_files, write_files
from servers import Connection, wait_until
from starlette.routing import Mount, Route

from oomol_connect_sdk.server import LocalServer
from oomol_connect_sdk.server.app import create_app
from oomol_connect_sdk.server.backend import open_service
from oomol_connect_sdk.server.guard import Guard


@pytest.fixture(scope="module")
def document(server: LocalServer) -> dict[str, Any]:
    answer = httpx.get(f"{server.base_url}/doc")
    assert answer.headers["Content-Type"] == "application/json"
    document: dict[str, Any] = answer.json()
    assert httpx.get(f"{server.base_url}/api/doc").json() == document
    return document


def check(document: dict[str, Any], answer: httpx.Response, path: str, method: str = "get") -> Any:
    """Check an answer against the schema of its operation; it may have nothing besides."""
    assert answer.status_code == 200, answer.text
    operation = document["paths"][path][method]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    validate(document, answer.json(), schema)
    return answer.json()


def validate(document: dict[str, Any], value: Any, schema: dict[str, Any]) -> None:
    whole = closed({"components": document["components"], **schema})
    jsonschema.Draft202012Validator(whole).validate(value)


def closed(schema: Any) -> Any:
    """Return a copy in which objects have no members but those that are described."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {key: closed(value) for key, value in schema.items()}
    if isinstance(copied.get("properties"), dict) and copied.get("type") == "object":
        copied["additionalProperties"] = False
    return copied


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


async def test_every_route_is_described_and_nothing_else(
    document: dict[str, Any], shop: Path
) -> None:
    async with open_service([shop]) as service:
        guard = create_app(service, token=None, hosts=None)
    assert isinstance(guard, Guard)
    routes = guard._app.routes  # type: ignore[attr-defined]
    (mount,) = [route for route in routes if isinstance(route, Mount)]
    assert mount.path == "/api"
    for place in (routes, mount.routes):
        served = {
            (route.path.replace(":path}", "}"), method.lower())
            for route in place
            if isinstance(route, Route)
            for method in (route.methods or set()) - {"HEAD"}
        }
        described = {(path, method) for path, item in document["paths"].items() for method in item}
        assert served == described


def test_the_document_is_whole(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        used = f"#/components/schemas/{name}" in references(document)
        assert used, name
    for path, item in document["paths"].items():
        named = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        for operation in item.values():
            parameters = operation["parameters"]
            assert {p["name"] for p in parameters if p["in"] == "path"} == named
            assert all(p["schema"] for p in parameters)
            assert operation["summary"]


def test_answers_about_tasks_have_the_shapes_described(
    document: dict[str, Any], connection: Connection, shop: Path
) -> None:
    body = {
        "manifest": "shop::add",
        "inputValues": {"a": 1},
        "labels": {"team": "red"},
        "priority": 3,
        "deadline": 4_000_000_000_000,
    }
    created = connection.http.post("/v1/tasks", json=body)
    task = check(document, created, "/v1/tasks", "post")["task"]
    again = connection.http.post(f"/v1/tasks/{task['id']}/rerun")
    repeated = check(document, again, "/v1/tasks/{task_id}/rerun", "post")["task"]
    failed = connection.run("shop::failing")
    left = connection.run("shop::leave", {"secret": str(shop / "secret")})
    for task_id in (task["id"], repeated["id"], failed["id"]):
        connection.wait(task_id)
        got = connection.http.get(f"/v1/tasks/{task_id}")
        check(document, got, "/v1/tasks/{task_id}")
        logs = connection.http.get(f"/v1/tasks/{task_id}/logs")
        assert check(document, logs, "/v1/tasks/{task_id}/logs")["logs"]
    files = connection.http.get(f"/v1/tasks/{left['id']}/files")
    assert check(document, files, "/v1/tasks/{task_id}/files")["files"]
    stopped = connection.http.post(f"/v1/tasks/{task['id']}/stop")
    check(document, stopped, "/v1/tasks/{task_id}/stop", "post")
    page = connection.http.get("/v1/tasks", params={"limit": 1})
    assert "nextCursor" in check(document, page, "/v1/tasks")
    check(document, connection.http.get("/v1/tasks"), "/v1/tasks")
    removed = connection.http.delete(f"/v1/tasks/{task['id']}")
    check(document, removed, "/v1/tasks/{task_id}", "delete")


def test_answers_about_packages_have_the_shapes_described(
    document: dict[str, Any], shop: Path, tmp_path: Path
) -> None:
    source = write_files(tmp_path / "source", package_files("small", "1.0.0"))
    with LocalServer([shop]) as server:
        connection = Connection(server.base_url, server.token)
        for name in (str(source), "./nowhere"):
            accepted = connection.http.post("/packages/install", json={"name": name})
            task_id = check(document, accepted, "/packages/install", "post")["taskId"]
            path = f"/packages/install/{task_id}"
            wait_until(
                lambda path=path: (
                    connection.http.get(path).json()["task"]["status"] in ("success", "failed")
                )
            )
            check(document, connection.http.get(path), "/packages/install/{install_id}")
        check(document, connection.http.get("/packages/install"), "/packages/install")
        packages = check(document, connection.http.get("/packages"), "/packages")["packages"]
        assert [package["name"] for package in packages] == ["shop", "small"]
        assert check(document, connection.http.get("/v1/blocks"), "/v1/blocks")["blocks"]
        assert check(document, connection.http.get("/v1/flows"), "/v1/flows")["flows"]
        gone = connection.http.delete("/packages/small/1.0.0")
        check(document, gone, "/packages/{name}/{version}", "delete")
        connection.http.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/tasks/nobody", 404),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/tasks", 405),
        ("POST", "/v1/tasks", 415),
        ("POST", "/packages/install", 415),
        ("GET", "/v1/events", 400),
    ],
)
def test_every_refusal_has_the_shape_described(
    document: dict[str, Any], connection: Connection, method: str, path: str, status: int
) -> None:
    answer = connection.http.request(method, path)
    assert answer.status_code == status
    validate(document, answer.json(), {"$ref": "#/components/schemas/Error"})


@pytest.mark.parametrize(
    "body",
    [
        {"manifest": "shop::add"},
        {"blockId": "shop::add", "inputValues": {"a": 1}},
        {"manifest": "shop::add", "inputValues": [{"handle": "a", "value": 1}]},
        {"manifest": "x", "inputValues": [{"nodeId": "_", "inputs": []}], "labels": {"a": "b"}},
        {"flowName": "two", "nodes": ["first"], "useCache": True, "priority": 1, "deadline": 5},
    ],
)
def test_requests_of_every_form_fit_the_document(document: dict[str, Any], body: Any) -> None:
    schema = copy.deepcopy(document["components"]["schemas"]["CreateTask"])
    jsonschema.Draft202012Validator(closed(schema)).validate(body)
