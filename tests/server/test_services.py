"""Services in a server: when they start and end, and their blocks as tasks of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from packages import task_text, write_package
from servers import Connection, is_running, wait_until

from oomol_connect_sdk.server import LocalServer

SOURCE = """
import os
NOTES = os.path.join(os.path.dirname(__file__), "notes")

def main(service):
    calls = []

    def count(inputs, context):
        calls.append(1)
        return {"calls": len(calls), "process": os.getpid()}

    service.block_handler = {"count": count}
    with open(NOTES, "a") as file:
        file.write(f"{os.getpid()}\\n")
"""
OTHER = """
import os, time

def main(params):
    while not os.path.exists(params["gate"]):
        time.sleep(0.01)
    return {"done": True}
"""


def write(directory: Path, start_at: str, stop_at: str) -> Path:
    service = f"""
executor: {{name: python, entry: main.py, function: main, start_at: {start_at}, stop_at: {stop_at}}}
blocks:
  - name: count
    inputs_def: [{{handle: after, value: nothing}}]
    outputs_def: [{{handle: calls}}, {{handle: process}}]
"""
    flow = """
inputs_def: [{handle: gate}]
nodes:
  - node_id: wait
    task: self::wait
    inputs_from: [{handle: gate, from_flow: [{input_handle: gate}]}]
  - node_id: count
    service: self::counter::count
    inputs_from: [{handle: after, from_node: [{node_id: wait, output_handle: done}]}]
"""
    files = {
        "services/counter/service.oo.yaml": service,
        "services/counter/main.py": SOURCE,
        "tasks/wait/task.oo.yaml": task_text("gate", "done"),
        "tasks/wait/main.py": OTHER,
        "flows/main/flow.oo.yaml": flow,
    }
    return write_package(directory / "pkg", "pkg", files=files)


def noted(package: Path) -> list[int]:
    """The processes of the service, one a start."""
    notes = package / "services/counter/notes"
    return [int(line) for line in notes.read_text().split()] if notes.exists() else []


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def test_a_block_of_a_service_is_a_task_like_any_other(tmp_path: Path) -> None:
    package = write(tmp_path, "block_start", "session_end")
    with LocalServer([package], token="") as server:
        connection = Connection(server.base_url, "")
        first = connection.run("pkg::counter::count")
        path = str(package / "services/counter/service.oo.yaml")
        assert (first["status"], first["manifest_path"]) == ("completed", f"{path}::count")
        assert first["result"]["calls"] == 1
        events = [row["event"] for row in connection.logs(first["id"])]
        kinds = ["SessionStarted", "BlockStarted", "BlockFinished", "SessionFinished"]
        assert [event["type"] for event in events] == kinds
        assert {event.get("path", event.get("block_path")) for event in events} == {path}
        again = connection.http.post(f"/v1/tasks/{first['id']}/rerun").json()["task"]
        second = connection.wait(again["id"])["result"]
        assert second["calls"] == 1
        assert second["process"] != first["result"]["process"]
        connection.http.close()


def test_a_service_of_the_server_runs_before_any_task_and_until_the_end(tmp_path: Path) -> None:
    package = write(tmp_path, "app_start", "app_end")
    with LocalServer([package], token="") as server:
        wait_until(lambda: noted(package), "the start of the service")
        (process,) = noted(package)
        connection = Connection(server.base_url, "")
        results = [connection.run("pkg::counter::count")["result"] for _ in range(2)]
        assert results == [{"calls": n, "process": process} for n in (1, 2)]
        assert is_running(process)
        connection.http.close()
    assert not is_running(process)
    assert noted(package) == [process]


def test_a_service_of_a_session_runs_before_its_nodes_and_ends_with_the_task(
    tmp_path: Path, gate: Path
) -> None:
    package = write(tmp_path, "session_start", "session_end")
    with LocalServer([package], token="") as server:
        connection = Connection(server.base_url, "")
        task_id = connection.create("main", {"gate": str(gate)})
        wait_until(lambda: noted(package), "the start of the service")
        (process,) = noted(package)
        assert [row["node_id"] for row in connection.logs(task_id)][-1] == "wait"
        gate.touch()
        task = connection.wait(task_id)
        assert task["nodeResults"]["count"] == {"calls": 1, "process": process}
        wait_until(lambda: not is_running(process), "the end of the service")
        connection.http.close()


def test_stopping_a_task_ends_the_services_it_started(tmp_path: Path, gate: Path) -> None:
    package = write(tmp_path, "session_start", "session_end")
    with LocalServer([package], token="") as server:
        connection = Connection(server.base_url, "")
        task_id = connection.create("main", {"gate": str(gate)})
        wait_until(lambda: noted(package), "the start of the service")
        assert connection.stop(task_id)["status"] == "stopped"
        assert not is_running(noted(package)[0])
        connection.http.close()


def test_a_service_that_never_stops_outlives_the_tasks_that_use_it(tmp_path: Path) -> None:
    package = write(tmp_path, "block_start", "never")
    with LocalServer([package], token="") as server:
        connection = Connection(server.base_url, "")
        results = [connection.run("pkg::counter::count")["result"] for _ in range(2)]
        (process,) = noted(package)
        assert results == [{"calls": n, "process": process} for n in (1, 2)]
        connection.http.close()
    assert not is_running(process)
