from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from package_sources import PackageRegistry, contents, package_files, write_files
from servers import Connection, ServerProcess, wait_until

from oomol_connect_sdk.server import InstallOptions, LocalServer

FLOW = """
nodes:
  - {node_id: tell, task: "base::tell"}
outputs_def: [{handle: version}]
outputs_from:
  - {handle: version, from_node: [{node_id: tell, output_handle: version}]}
"""
WAITING = """
executor: {name: python, options: {entry: main.py}}
inputs_def: [{handle: go_on}]
"""
WAIT = """
import os, time

def main(inputs, context):
    while not os.path.exists(inputs["go_on"]):
        time.sleep(0.01)
"""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageRegistry]:
    registry = PackageRegistry()
    monkeypatch.setenv("OOMOL_REGISTRY", registry.url)
    yield registry
    registry.close()


@pytest.fixture
def installing_server(shop: Path, registry: PackageRegistry) -> Iterator[LocalServer]:
    with LocalServer([shop]) as server:
        yield server


@pytest.fixture(params=["", "/api"], ids=["at /", "at /api"])
def wire(request: pytest.FixtureRequest, installing_server: LocalServer) -> Iterator[Connection]:
    connection = Connection(installing_server.base_url + request.param, installing_server.token)
    yield connection
    connection.http.close()


@pytest.fixture
def connection(installing_server: LocalServer) -> Iterator[Connection]:
    connection = Connection(installing_server.base_url, installing_server.token)
    yield connection
    connection.http.close()


def install_task(connection: Connection, task_id: str) -> dict[str, Any]:
    """Return an install task once it has ended."""

    def ended() -> dict[str, Any] | None:
        answer = connection.http.get(f"/packages/install/{task_id}").json()
        assert answer["success"] is True
        task: dict[str, Any] = answer["task"]
        return task if task["status"] in ("success", "failed") else None

    task: dict[str, Any] = wait_until(ended, f"the end of install {task_id}")
    return task


def start_install(connection: Connection, name: str, version: str | None = None) -> str:
    answer = connection.http.post("/packages/install", json={"name": name, "version": version})
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["success", "taskId"]
    task_id: str = answer.json()["taskId"]
    return task_id


def installed(connection: Connection, name: str, version: str | None = None) -> dict[str, Any]:
    return install_task(connection, start_install(connection, name, version))


def packages(connection: Connection) -> list[tuple[str, str]]:
    rows = connection.http.get("/packages").json()["packages"]
    return [(row["name"], row["version"]) for row in rows]


def refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["success"] is False
    assert words in answer.json()["message"]


def test_an_installed_package_runs_at_once(wire: Connection, registry: PackageRegistry) -> None:
    registry.publish("base", "1.0.0")
    refused(wire.http.post("/v1/tasks", json={"manifest": "base::tell"}), 404, "no block or flow")
    task = installed(wire, "base")
    assert task["status"] == "success"
    assert wire.http.get("/packages/install").json() == {"success": True, "tasks": [task]}
    assert packages(wire) == [("shop", "1.2.0"), ("base", "1.0.0")]
    assert "base::tell" in [row["blockId"] for row in wire.http.get("/v1/blocks").json()["blocks"]]
    assert wire.run("base::tell")["result"] == {"version": "1.0.0"}


def test_a_flow_runs_with_the_version_its_package_pins(
    connection: Connection, registry: PackageRegistry
) -> None:
    flow = {"flows/main/flow.oo.yaml": FLOW}
    registry.publish("old", "1.0.0", {"base": "1.0.0"}, flow)
    registry.publish("new", "1.0.0", {"base": "2.0.0"}, flow)
    registry.publish("free", "1.0.0", None, flow)
    registry.publish("base", "1.0.0")
    registry.publish("base", "2.0.0")
    for name in ("old", "new", "free"):
        assert installed(connection, name)["status"] == "success"
    versions = [version for name, version in packages(connection) if name == "base"]
    assert sorted(versions) == ["1.0.0", "2.0.0"]
    results = [connection.run(f"{name}::main")["result"] for name in ("old", "new", "free")]
    assert results == [{"version": "1.0.0"}, {"version": "2.0.0"}, {"version": "2.0.0"}]


def test_a_package_is_uninstalled_but_not_while_a_task_works_with_it(
    connection: Connection, registry: PackageRegistry, tmp_path: Path
) -> None:
    base = {"tasks/wait/task.oo.yaml": WAITING, "tasks/wait/main.py": WAIT}
    flow = FLOW.replace("base::tell", "base::wait").replace(
        "task:", f"inputs_from: [{{handle: go_on, value: '{tmp_path}/go-on'}}], task:"
    )
    registry.publish("base", "1.0.0", None, base)
    registry.publish("base", "2.0.0", None, base)
    registry.publish("app", "1.0.0", {"base": "1.0.0"}, {"flows/main/flow.oo.yaml": flow})
    installed(connection, "app")
    installed(connection, "base", "2.0.0")
    task_id = connection.create("app::main")
    for name in ("app", "base"):
        answer = connection.http.delete(f"/packages/{name}/1.0.0")
        refused(answer, 409, f"A task that has not ended works with {name}@1.0.0")
    answer = connection.http.delete("/packages/base/2.0.0")
    assert answer.json() == {"success": True, "package": {"name": "base", "version": "2.0.0"}}
    (tmp_path / "go-on").touch()
    assert connection.wait(task_id)["status"] == "completed"
    assert connection.http.delete("/packages/app/1.0.0").status_code == 200
    assert packages(connection) == [("shop", "1.2.0"), ("base", "1.0.0")]
    refused(connection.http.delete("/packages/app/1.0.0"), 404, "app@1.0.0 is not installed")


def test_a_scoped_package_is_uninstalled_however_its_name_is_quoted(
    connection: Connection, registry: PackageRegistry
) -> None:
    registry.publish("@acme/base", "1.0.0")
    for quoted in ("@acme/base", "@acme%2Fbase"):
        installed(connection, "@acme/base")
        assert ("@acme/base", "1.0.0") in packages(connection)
        assert connection.http.delete(f"/packages/{quoted}/1.0.0").status_code == 200
        assert ("@acme/base", "1.0.0") not in packages(connection)


def test_running_tasks_are_not_disturbed_by_an_install(
    connection: Connection, registry: PackageRegistry, tmp_path: Path
) -> None:
    source = write_files(
        tmp_path / "source",
        {
            **package_files("app", "1.0.0"),
            "tasks/wait/task.oo.yaml": WAITING,
            "tasks/wait/main.py": WAIT,
        },
    )
    installed(connection, str(source))
    go_on = tmp_path / "go-on"
    task_id = connection.create("app::wait", {"go_on": str(go_on)})
    registry.publish("app", "2.0.0")
    assert installed(connection, "app")["status"] == "success"
    assert "while a task works with it" in installed(connection, str(source))["error"]
    go_on.touch()
    assert connection.wait(task_id)["status"] == "completed"
    assert installed(connection, str(source))["status"] == "success"


def test_what_makes_no_sense_is_refused(connection: Connection, shop: Path) -> None:
    post = connection.http.post
    for body in ({}, {"name": ""}, {"name": 1}, {"name": None}, {"name": "a", "version": 1}):
        assert post("/packages/install", json=body).status_code == 400
    refused(post("/packages/install", json={"name": "No Name"}), 400, "is no package name")
    refused(post("/packages/install", json={"name": "a", "version": "x"}), 400, "exact version")
    assert post("/packages/install", content=b'{"name": "a"}').status_code == 415
    refused(connection.http.get("/packages/install/other"), 404, "no install task 'other'")
    refused(connection.http.delete("/packages/..%2F..%2Fetc/1.0.0"), 400, "no package name")
    refused(connection.http.delete("/packages/shop/1.2.0"), 404, "was started with it")
    assert connection.http.delete("/packages").status_code == 405
    assert shop.exists()


def test_paths_are_for_servers_that_allow_them(
    shop: Path, registry: PackageRegistry, tmp_path: Path
) -> None:
    source = write_files(tmp_path / "source", package_files("app", "1.0.0"))
    with LocalServer([shop], installing=InstallOptions()) as server:
        connection = Connection(server.base_url, server.token)
        answer = connection.http.post("/packages/install", json={"name": str(source)})
        refused(answer, 403, "from its registry only")
        connection.http.close()


def test_a_server_needs_no_package_to_start_with(registry: PackageRegistry, tmp_path: Path) -> None:
    registry.publish("base", "1.0.0")
    with LocalServer([], data_dir=tmp_path) as server:
        connection = Connection(server.base_url, server.token)
        assert packages(connection) == []
        task = installed(connection, "base")
        connection.http.close()
    registry.close()
    with LocalServer([], data_dir=tmp_path) as server:
        connection = Connection(server.base_url, server.token)
        assert packages(connection) == [("base", "1.0.0")]
        assert install_task(connection, task["id"]) == task
        assert connection.run("base::tell")["result"] == {"version": "1.0.0"}
        connection.http.close()


def test_the_environment_is_built_at_the_install_when_that_is_asked_for(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("odd", "1.0.0", None, {"pyproject.toml": "[project]\nrequires-python='<3'\n"})
    options = InstallOptions(build_environments=True)
    with LocalServer([], data_dir=tmp_path, installing=options) as server:
        connection = Connection(server.base_url, server.token)
        task = installed(connection, "odd")
        assert task["status"] == "failed"
        assert task["error"].startswith("odd@1.0.0 is installed, but the package odd-1.0.0 needs")
        assert task["packagePath"].endswith("odd-1.0.0")
        connection.http.close()


def test_a_killed_server_leaves_whole_packages_and_finishes_its_installs(
    start_process: Callable[..., ServerProcess], registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("app", "1.0.0", {"base": "1.0.0", "more": "1.0.0"})
    registry.publish("base", "1.0.0")
    registry.publish("more", "1.0.0", files={"data": "x" * 3_000_000})
    asked, go_on = threading.Event(), threading.Event()
    answers = registry.answers["/more/-/more-1.0.0.tgz"]

    def slow(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"the beginning")
        asked.set()
        go_on.wait(30)

    registry.answers["/more/-/more-1.0.0.tgz"] = slow
    server = start_process()
    task_id = start_install(server.connection, "app")
    waiting = start_install(server.connection, "more")
    assert asked.wait(30)
    server.kill()
    go_on.set()
    store = tmp_path / "data" / "packages"
    assert [path.name for path in store.iterdir()] == [".incoming"]
    assert [path for path in store.rglob("package.oo.yaml") if "base" in path.read_text()]
    registry.answers["/more/-/more-1.0.0.tgz"] = answers

    server = start_process()
    assert install_task(server.connection, task_id)["status"] == "success"
    assert install_task(server.connection, waiting)["status"] == "success"
    assert packages(server.connection)[1:] == [(name, "1.0.0") for name in ("app", "base", "more")]
    assert contents(store / "base-1.0.0") == package_files("base", "1.0.0")
    wait_until(lambda: list((store / ".incoming").iterdir()) == [])


@pytest.mark.parametrize("archives", [3, 13])
def test_a_server_killed_at_any_moment_leaves_no_half_package(
    start_process: Callable[..., ServerProcess],
    registry: PackageRegistry,
    tmp_path: Path,
    archives: int,
) -> None:
    names = [f"package-{number}" for number in range(12)]
    files = {f"file-{number}": str(number) for number in range(40)}
    for name in names:
        registry.publish(name, "1.0.0", None, files)
    registry.publish("all", "1.0.0", dict.fromkeys(names, "1.0.0"))
    server = start_process()
    task_id = start_install(server.connection, "all")
    wait_until(lambda: registry.count(".tgz") >= archives)
    server.kill()
    store = tmp_path / "data" / "packages"
    for directory in store.iterdir():
        if not directory.name.startswith("."):
            name = directory.name.removesuffix("-1.0.0")
            own = {} if name == "all" else files
            manifest = contents(directory).pop("package.oo.yaml")
            assert json.loads(manifest)["name"] == name
            assert {key for key in contents(directory) if key in files} == set(own)
    server = start_process()
    task = install_task(server.connection, task_id)
    assert task["status"] == "success"
    assert len(task["dependencies"]) == 12
    for name in names:
        directory = store / f"{name}-1.0.0"
        assert contents(directory) == {**package_files(name, "1.0.0"), **files}
