"""Running up to some nodes of a flow, over HTTP, with inputs that nodes had in earlier runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packages import task_text, write_package
from servers import Connection, ServerProcess, wait_until

from oomol_connect_sdk.server import LocalServer
from oomol_connect_sdk.server.input_caches import InputCaches

FILES = {
    "tasks/add/task.oo.yaml": task_text("a b=1 notes gate=", "sum"),
    "tasks/add/main.py": """
import os, time

def main(params, context):
    with open(params["notes"], "a") as file:
        file.write(f"{context.node_id} {params['a']}\\n")
    while params["gate"] and not os.path.exists(params["gate"]):
        time.sleep(0.01)
    if params["a"] < 0:
        raise ValueError("too small")
    return {"sum": params["a"] + 1}
""",
    "flows/main/flow.oo.yaml": """
inputs_def: [{handle: start}, {handle: notes}, {handle: gate, value: ""}]
nodes:
  - node_id: first
    task: self::add
    inputs_from: &common
      - {handle: b, value: 1}
      - {handle: notes, from_flow: [{input_handle: notes}]}
      - {handle: gate, value: ""}
      - {handle: a, from_flow: [{input_handle: start}]}
  - node_id: second
    task: self::add
    inputs_from:
      - {handle: b, value: 1}
      - {handle: notes, from_flow: [{input_handle: notes}]}
      - {handle: gate, from_flow: [{input_handle: gate}]}
      - {handle: a, from_node: [{node_id: first, output_handle: sum}]}
  - node_id: third
    task: self::add
    inputs_from:
      - {handle: b, value: 1}
      - {handle: notes, from_flow: [{input_handle: notes}]}
      - {handle: gate, value: ""}
      - {handle: a, from_node: [{node_id: second, output_handle: sum}]}
""",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path / "sums", "sums", files=FILES)


@pytest.fixture
def server(package: Path, tmp_path: Path) -> Iterator[Connection]:
    with LocalServer([package], data_dir=tmp_path / "data", token="") as server:
        connection = Connection(server.base_url, "")
        yield connection
        connection.http.close()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def run(server: Connection, notes: Path, start: int = 1, **options: Any) -> dict[str, Any]:
    """Run the flow to its end, and give the task."""
    inputs = {"start": start, "notes": str(notes)}
    return server.wait(server.create("main", inputs, **options))


def noted(notes: Path) -> list[str]:
    """Which nodes ran since the last time, with which numbers."""
    lines = notes.read_text().splitlines() if notes.exists() else []
    notes.unlink(missing_ok=True)
    return lines


def said(server: Connection, task: dict[str, Any], kind: str) -> dict[str, Any]:
    (event,) = (row["event"] for row in server.logs(task["id"]) if row["type"] == kind)
    return dict(event)


def test_only_the_nodes_that_are_asked_for_and_those_before_them_run(
    server: Connection, notes: Path
) -> None:
    task = run(server, notes, nodes=["second"])
    assert (task["status"], task["nodes"]) == ("completed", ["second"])
    assert noted(notes) == ["first 1", "second 2"]
    assert said(server, task, "FlowNodesWillRun")["end_nodes"] == ["second"]
    for kind in ("SessionStarted", "SessionFinished"):
        event = said(server, task, kind)
        assert (event["partial"], event["cache"]) == (True, False)


def test_a_node_can_be_run_again_with_the_inputs_it_had(server: Connection, notes: Path) -> None:
    run(server, notes)
    noted(notes)
    task = run(server, notes, start=100, nodes=["third"], useCache=True)
    assert noted(notes) == ["third 3"]
    assert task["useCache"] is True
    for kind in ("SessionStarted", "SessionFinished"):
        event = said(server, task, kind)
        assert (event["partial"], event["cache"]) == (True, True)
    again = server.http.post(f"/v1/tasks/{task['id']}/rerun").json()["task"]
    assert server.wait(again["id"])["nodes"] == ["third"]
    assert noted(notes) == ["third 3"]


def test_what_a_failed_run_reached_serves_the_next_one(server: Connection, notes: Path) -> None:
    assert run(server, notes, start=-2)["status"] == "failed"
    noted(notes)
    assert run(server, notes, start=5, nodes=["first"])["status"] == "completed"
    noted(notes)
    # The second node did not run, and yet it was given its input.
    run(server, notes, start=0, nodes=["second"], useCache=True)
    assert noted(notes) == ["second 6"]


def test_without_an_earlier_run_everything_that_is_needed_runs(
    server: Connection, notes: Path
) -> None:
    run(server, notes, nodes=["second"], useCache=True)
    assert noted(notes) == ["first 1", "second 2"]


def test_a_cache_that_was_damaged_counts_as_none(
    server: Connection, notes: Path, tmp_path: Path
) -> None:
    run(server, notes)
    noted(notes)
    (cache,) = (tmp_path / "data" / "input-caches").iterdir()
    cache.write_text('{"third": {"a"')
    run(server, notes, nodes=["third"], useCache=True)
    assert noted(notes) == ["first 1", "second 2", "third 3"]


@pytest.mark.parametrize(
    ("target", "options", "fault"),
    [
        ("main", {"nodes": ["gone"]}, "no node 'gone' that runs (there are 'first', "),
        ("sums::add", {"nodes": ["first"]}, "a task has no nodes"),
        ("sums::add", {"useCache": True}, "a task has no nodes"),
        ("main", {"nodes": []}, "nodes must be a list of the ids of nodes, one at least"),
        ("main", {"nodes": "first"}, "nodes must be a list"),
        ("main", {"nodes": [1]}, "nodes must be a list"),
        ("main", {"useCache": "yes"}, "useCache must be true or false"),
    ],
)
def test_what_can_not_be_run_is_refused(
    server: Connection, target: str, options: dict[str, Any], fault: str
) -> None:
    body = {"manifest": target, "inputValues": {"start": 1, "a": 1, "notes": ""}, **options}
    if target != "main":
        del body["inputValues"]["start"]
    answer = server.http.post("/v1/tasks", json=body)
    assert answer.status_code == 400
    assert fault in answer.json()["message"]


def test_a_form_takes_the_same_options(server: Connection, notes: Path) -> None:
    fields = {
        "manifest": "main",
        "inputValues": f'{{"start": 1, "notes": "{notes}"}}',
        "nodes": '["first"]',
        "useCache": "false",
    }
    files = [(name, (None, value)) for name, value in fields.items()]
    answer = server.http.post("/v1/tasks", files=files)
    assert answer.status_code == 200, answer.text
    task = server.wait(answer.json()["task"]["id"])
    assert noted(notes) == ["first 1"]
    assert "useCache" not in task


def test_a_key_tells_parts_of_a_flow_apart(server: Connection, notes: Path) -> None:
    body = {"manifest": "main", "inputValues": {"start": 1, "notes": str(notes)}}
    headers = {"Idempotency-Key": "part"}
    first = server.http.post("/v1/tasks", json={**body, "nodes": ["first"]}, headers=headers)
    same = server.http.post("/v1/tasks", json={**body, "nodes": ["first"]}, headers=headers)
    other = server.http.post("/v1/tasks", json={**body, "nodes": ["second"]}, headers=headers)
    assert first.json()["task"]["id"] == same.json()["task"]["id"]
    assert other.status_code == 422


def test_a_part_goes_on_after_a_kill_with_the_inputs_it_began_with(
    package: Path, tmp_path: Path, notes: Path
) -> None:
    process = ServerProcess(package, tmp_path / "data")
    run(process.connection, notes)
    noted(notes)
    gate = tmp_path / "gate"
    inputs = {"start": 50, "notes": str(notes), "gate": str(gate)}
    task_id = process.connection.create("main", inputs, nodes=["second"], useCache=True)
    # The gate is an input of the flow, and those are given anew.
    wait_until(lambda: notes.exists() and notes.read_text() == "second 2\n", "the second node")
    process.kill()
    gate.touch()
    process = ServerProcess(package, tmp_path / "data")
    try:
        task = process.connection.wait(task_id)
        assert task["nodeResults"] == {"second": {"sum": 3}}
        assert noted(notes) == ["second 2", "second 2"]
    finally:
        process.kill()


def test_inputs_of_several_runs_come_together(tmp_path: Path) -> None:
    caches = InputCaches(tmp_path / "caches")
    assert caches.load("/flow") == {}
    caches.add("/flow", {"a": {"x": 1, "y": 1}, "b": {"x": 1}})
    caches.add("/flow", {"a": {"y": 2}})
    caches.add("/other", {"c": {"x": float("inf")}})
    assert caches.load("/flow") == {"a": {"x": 1, "y": 2}, "b": {"x": 1}}
    assert caches.load("/other") == {"c": {"x": float("inf")}}
    assert [file.suffix for file in caches_of(tmp_path)] == [".json", ".json"]


def caches_of(directory: Path) -> list[Path]:
    return list((directory / "caches").iterdir())
