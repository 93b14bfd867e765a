from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packages import task_text, write_package
from servers import Connection, ServerProcess, ended, is_running, wait_until

from oomol_connect_sdk.server import LocalServer
from oomol_connect_sdk.server.backend import open_service

StartProcess = Callable[..., ServerProcess]


class Files:
    """The files through which a test and the blocks of its task meet."""

    def __init__(self, directory: Path) -> None:
        self.notes = directory / "notes"
        self.runs = directory / "runs"
        self.gate = directory / "gate"

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def ran(self) -> list[str]:
        return self.runs.read_text().splitlines() if self.runs.exists() else []


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def two_nodes(files: Files) -> dict[str, str]:
    return {"notes": str(files.notes), "file": str(files.runs), "gate": str(files.gate)}


def warnings(logs: list[dict[str, Any]]) -> list[str]:
    return [row["event"]["warning"] for row in logs if row["type"] == "BlockWarning"]


def test_a_killed_server_loses_nothing_and_repeats_only_what_was_in_flight(
    start_process: StartProcess, files: Files
) -> None:
    process = start_process(max_tasks=1)
    connection = process.connection
    running = connection.create("shop::two", two_nodes(files))
    waiting = connection.create("shop::add", {"a": 1, "b": 1})
    wait_until(files.ran, "the second node")
    wait_until(lambda: any(row["type"] == "BlockOutputs" for row in connection.logs(running)))
    before = connection.logs(running)
    worker = int(files.ran()[0])
    assert connection.task(waiting)["status"] == "pending"
    process.kill()
    wait_until(lambda: not is_running(worker), "the end of the orphaned worker")

    files.gate.touch()
    connection = start_process(max_tasks=1).connection
    task = connection.wait(running)
    assert task["status"] == "completed"
    assert task["result"] == {"answer": "hello!"}
    assert files.noted() == ["hello"]
    assert len(files.ran()) == 2
    after = connection.logs(running)
    assert after[: len(before)] == before
    (warning,) = warnings(after)
    assert "restarted" in warning
    assert connection.wait(waiting)["result"] == {"sum": 2}


def test_the_log_of_a_resumed_task_reads_like_one_run(
    start_process: StartProcess, files: Files
) -> None:
    process = start_process()
    task_id = process.connection.create("shop::two", two_nodes(files))
    wait_until(files.ran, "the second node")
    process.kill()
    files.gate.touch()
    connection = start_process().connection
    task = connection.wait(task_id)
    resumed = connection.logs(task_id)
    for kind in ("SessionStarted", "FlowStarted", "FlowFinished", "SessionFinished"):
        assert [row["type"] for row in resumed].count(kind) == 1
    started = [row["node_id"] for row in resumed if row["type"] == "BlockStarted"]
    finished = [row["node_id"] for row in resumed if row["type"] == "BlockFinished"]
    assert sorted(started) == sorted(finished) == ["first", "second"]
    assert {row["session_id"] for row in resumed} == {task["session_id"]}


def test_an_output_that_was_delivered_is_not_delivered_again(
    start_process: StartProcess, files: Files
) -> None:
    process = start_process()
    inputs = [
        {
            "nodeId": "_",
            "inputs": [
                {"handle": "file", "value": str(files.runs)},
                {"handle": "gate", "value": str(files.gate)},
            ],
        },
        {"nodeId": "sink", "inputs": [{"handle": "file", "value": str(files.notes)}]},
    ]
    task_id = process.connection.create("shop::count", inputs)
    wait_until(lambda: len(files.noted()) == 2, "two notes")

    def sinks_finished() -> bool:
        rows = process.connection.logs(task_id)
        return [(r["type"], r["node_id"]) for r in rows].count(("BlockFinished", "sink")) == 2

    wait_until(sinks_finished, "two finished notes")
    process.kill()
    files.gate.touch()
    connection = start_process().connection
    assert connection.wait(task_id)["status"] == "completed"
    assert len(files.ran()) == 2
    assert files.noted() == ["1", "2", "3"]


def test_a_task_whose_objects_died_with_the_server_starts_over(
    start_process: StartProcess, files: Files
) -> None:
    process = start_process()
    inputs = {"file": str(files.notes), "gate": str(files.gate)}
    task_id = process.connection.create("shop::objects", inputs)
    wait_until(lambda: files.noted() == ["made", "used"], "the second node")
    before = process.connection.task(task_id)
    process.kill()
    files.gate.touch()
    connection = start_process().connection
    task = connection.wait(task_id)
    assert task["result"] == {"items": 3}
    assert files.noted() == ["made", "used", "made", "used"]
    assert task["session_id"] != before["session_id"]
    (warning,) = warnings(connection.logs(task_id))
    assert "starts over" in warning


def test_tasks_survive_kills_at_any_moment(start_process: StartProcess, files: Files) -> None:
    generator = random.Random(20)
    files.gate.touch()
    expected: dict[str, dict[str, Any]] = {}
    answered: dict[str, list[dict[str, Any]]] = {}
    for number in range(6):
        process = start_process(max_tasks=2)
        expected[process.connection.create("shop::add", {"a": number, "b": 1})] = {
            "sum": number + 1
        }
        for _ in range(2):
            expected[process.connection.create("shop::two", two_nodes(files))] = {
                "answer": "hello!"
            }
        time.sleep(generator.random() * 0.4)
        for task_id in expected:
            earlier = answered.get(task_id, [])
            answered[task_id] = process.connection.logs(task_id)
            assert answered[task_id][: len(earlier)] == earlier
        process.kill()
    connection = start_process().connection
    for task_id, result in expected.items():
        assert connection.wait(task_id)["result"] == result
        logs = connection.logs(task_id)
        assert logs[: len(answered[task_id])] == answered[task_id]
        kinds = [row["type"] for row in logs]
        assert [kinds.count(kind) for kind in ("SessionStarted", "SessionFinished")] == [1, 1]


DELEGATING = {
    "tasks/boss/task.oo.yaml": task_text("helper file gate", "text"),
    "tasks/boss/main.py": """
async def main(params, context):
    given = {}
    run = context.run_block(params["helper"], inputs={**params, "text": "child"})
    run.add_output_callback(given.update)
    await run.finish()
    return {"text": given["text"]}
""",
    "tasks/helper/task.oo.yaml": task_text("file gate text", "text"),
    "tasks/helper/main.py": """
import os, time

def main(params, context):
    with open(params["file"], "a") as file:
        file.write("run\\n")
    while not os.path.exists(params["gate"]):
        time.sleep(0.01)
    return {"text": params["text"]}
""",
    "subflows/wrapped/subflow.oo.yaml": """
inputs_def: [{handle: file}, {handle: gate}, {handle: text}]
outputs_def: [{handle: text}]
outputs_from: [{handle: text, from_node: [{node_id: work, output_handle: text}]}]
nodes:
  - node_id: work
    task: self::helper
    inputs_from:
      - {handle: file, from_flow: [{input_handle: file}]}
      - {handle: gate, from_flow: [{input_handle: gate}]}
      - {handle: text, from_flow: [{input_handle: text}]}
""",
    "flows/main/flow.oo.yaml": """
inputs_def: [{handle: helper}, {handle: file}, {handle: gate}]
nodes:
  - node_id: boss
    task: self::boss
    inputs_from:
      - {handle: helper, from_flow: [{input_handle: helper}]}
      - {handle: file, from_flow: [{input_handle: file}]}
      - {handle: gate, from_flow: [{input_handle: gate}]}
""",
    "flows/late/flow.oo.yaml": """
inputs_def: [{handle: file}, {handle: gate}]
nodes:
  - node_id: late
    subflow: self::wrapped
    timeout: 0.5
    inputs_from:
      - {handle: file, from_flow: [{input_handle: file}]}
      - {handle: gate, from_flow: [{input_handle: gate}]}
      - {handle: text, value: x}
""",
}


@pytest.fixture
def start_delegating(tmp_path: Path) -> Iterator[StartProcess]:
    """Start server processes with a package whose blocks run blocks."""
    package = write_package(tmp_path / "delegating", "delegating", files=DELEGATING)
    with contextlib.ExitStack() as stack:

        def start() -> ServerProcess:
            process = ServerProcess(package, tmp_path / "data")
            stack.callback(process.kill)
            return process

        yield start


@pytest.mark.parametrize("helper", ["self::helper", "self::wrapped"])
@pytest.mark.parametrize("target", ["delegating::boss", "main"])
def test_a_block_that_runs_a_block_asks_for_it_again_after_a_kill(
    start_delegating: StartProcess, files: Files, target: str, helper: str
) -> None:
    process = start_delegating()
    inputs = {"helper": helper, "file": str(files.runs), "gate": str(files.gate)}
    task_id = process.connection.create(target, inputs)
    wait_until(files.ran, "the block that the block runs")
    process.kill()
    files.gate.touch()
    connection = start_delegating().connection
    task = connection.wait(task_id)
    logs = connection.logs(task_id)
    assert task["status"] == "completed", logs[-3:]
    assert task["result"] == {"text": "child"}
    assert files.ran() == ["run", "run"]
    assert len(warnings(logs)) == 1
    assert "BlockRequest" not in {row["type"] for row in logs}
    assert "BlockRestarted" not in {row["type"] for row in logs}


def test_a_subflow_that_takes_too_long_fails_also_after_a_kill(
    start_delegating: StartProcess, files: Files
) -> None:
    process = start_delegating()
    inputs = {"file": str(files.runs), "gate": str(files.gate)}
    task_id = process.connection.create("late", inputs)
    wait_until(files.ran, "the block in the subflow")
    process.kill()
    connection = start_delegating().connection
    task = connection.wait(task_id)
    assert (task["status"], task["error"]["message"]) == ("failed", "Timeout")
    assert task["error"]["nodePath"] == ["late"]
    (error,) = (r["event"] for r in connection.logs(task_id) if r["type"] == "BlockError")
    assert error["error"].endswith(" timeout after 0.5s")


def suspended_task(shop: Path, directory: Path, files: Files) -> str:
    """Return the id of a task whose server was stopped in the middle of it."""
    with LocalServer([shop], data_dir=directory, token="") as server:
        connection = Connection(server.base_url, "")
        task_id = connection.create("shop::two", two_nodes(files))
        wait_until(files.ran, "the second node")
        connection.http.close()
    return task_id


def outcome(shop: Path, directory: Path, task_id: str) -> tuple[dict[str, Any], list[str]]:
    """Start a server again; return the task at its end and the warnings in its log."""
    with LocalServer([shop], data_dir=directory, token="") as server:
        connection = Connection(server.base_url, "")
        task = connection.wait(task_id)
        told = warnings(connection.logs(task_id))
        connection.http.close()
    return task, told


def test_a_task_whose_flow_was_changed_meanwhile_starts_over(
    shop: Path, tmp_path: Path, files: Files
) -> None:
    package = shutil.copytree(shop, tmp_path / "shop")
    task_id = suspended_task(package, tmp_path / "data", files)
    files.gate.touch()
    flow = package / "flows/two/flow.oo.yaml"
    flow.write_text(flow.read_text().replace("node_id: first", "node_id: opening"))
    task, told = outcome(package, tmp_path / "data", task_id)
    assert task["result"] == {"answer": "hello!"}
    assert len(told) == 1
    assert "manifests were changed" in told[0]
    assert files.noted() == ["hello", "hello"]


def test_a_task_whose_flow_is_gone_fails_and_says_so(
    shop: Path, tmp_path: Path, files: Files
) -> None:
    package = shutil.copytree(shop, tmp_path / "shop")
    task_id = suspended_task(package, tmp_path / "data", files)
    shutil.rmtree(package / "flows/two")
    task, _ = outcome(package, tmp_path / "data", task_id)
    assert task["status"] == "failed"
    assert "flows/two" in task["error"]["message"]


def test_a_block_that_prints_much_keeps_order_and_reports_its_progress(
    connection: Connection,
) -> None:
    task_id = connection.create("shop::chat", {"lines": 3_000})
    seen: list[float] = []

    def ended() -> bool:
        task = connection.task(task_id)
        seen.append(task.get("progress", 0))
        return bool(task["status"] == "completed")

    wait_until(ended, "the end")
    lines = [row["event"]["log"] for row in connection.logs(task_id) if row["type"] == "BlockLog"]
    assert lines == [f"line {number}" for number in range(3_000)]
    assert seen == sorted(seen)
    assert seen[-1] == 100


REPORTING = {
    "tasks/report/task.oo.yaml": task_text("gate", "done"),
    "tasks/report/main.py": """
import os, time

def main(params, context):
    context.report_progress(40)
    while not os.path.exists(params["gate"]):
        time.sleep(0.01)
""",
    "flows/main/flow.oo.yaml": """
inputs_def: [{handle: gate}]
nodes:
  - {node_id: a, task: self::report,
     inputs_from: [{handle: gate, from_flow: [{input_handle: gate}]}]}
  - {node_id: b, task: self::report, progress_weight: 3,
     inputs_from: [{handle: gate, from_flow: [{input_handle: gate}]}]}
""",
}


@pytest.mark.parametrize("target", ["reporting::report", "main"])
def test_the_progress_of_a_task_can_be_seen_while_it_runs(
    tmp_path: Path, files: Files, target: str
) -> None:
    package = write_package(tmp_path / "reporting", "reporting", files=REPORTING)
    with LocalServer([package], token="") as server:
        connection = Connection(server.base_url, "")
        task_id = connection.create(target, {"gate": str(files.gate)})
        wait_until(lambda: connection.task(task_id).get("progress") == 40, "a progress of 40")
        assert connection.task(task_id)["status"] == "running"
        files.gate.touch()
        assert connection.wait(task_id)["progress"] == 100
        connection.http.close()


async def test_a_block_that_prints_much_costs_few_commits(shop: Path) -> None:
    async with open_service([shop]) as service:
        before = service.commits
        task = await service.create("shop::chat", {"lines": 3_000})
        await ended(service, task.id)
        _, events = await service.logs(task.id)
        assert len(events) > 3_000
        assert service.commits - before < 100


LASTING = {
    "tasks/py/task.oo.yaml": task_text("notes"),
    "tasks/py/main.py": """
import os, subprocess, sys, threading, time

def main(params, context):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    threading.Thread(target=time.sleep, args=[600]).start()
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    with open(params["notes"], "a") as file:
        file.write(f"{os.getpid()} {child.pid}\\n")
    time.sleep(600)
""",
    "tasks/sh/task.oo.yaml": "executor: {name: shell}\ninputs_def: [{handle: command}]\n",
    "tasks/js/task.oo.yaml": """
executor: {name: nodejs, options: {entry: main.mjs}}
inputs_def: [{handle: notes}]
""",
    "tasks/js/main.mjs": """
import { appendFileSync } from "node:fs";
import { spawn } from "node:child_process";

export default function main({ notes }) {
  const child = spawn("sleep", ["600"]);
  appendFileSync(notes, `${process.pid} ${child.pid}\\n`);
  return new Promise(() => {});
}
""",
    "services/svc/service.oo.yaml": """
executor: {name: python, entry: main.py, function: main}
blocks: [{name: stay, inputs_def: [{handle: notes}]}]
""",
    "services/svc/main.py": """
import os, time

def stay(inputs, context):
    with open(inputs["notes"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(600)

def main(service):
    service.block_handler = {"stay": stay}
""",
    "flows/main/flow.oo.yaml": """
inputs_def: [{handle: notes}, {handle: command}]
nodes:
  - node_id: py
    task: self::py
    inputs_from: &notes [{handle: notes, from_flow: [{input_handle: notes}]}]
  - {node_id: js, task: self::js, inputs_from: *notes}
  - {node_id: svc, service: self::svc::stay, inputs_from: *notes}
  - node_id: sh
    task: self::sh
    inputs_from: [{handle: command, from_flow: [{input_handle: command}]}]
""",
}


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_stopping_a_task_leaves_no_process_behind(tmp_path: Path, files: Files) -> None:
    package = write_package(tmp_path / "lasting", "lasting", files=LASTING)
    command = f"sleep 600 & echo $$ $! >> '{files.notes}'; sleep 600"
    with LocalServer([package], data_dir=tmp_path / "data", token="") as server:
        connection = Connection(server.base_url, "")
        task_id = connection.create("main", {"notes": str(files.notes), "command": command})
        wait_until(lambda: len(files.noted()) == 4, "four blocks that run")
        processes = [int(number) for line in files.noted() for number in line.split()]
        assert len(processes) == 7
        assert all(map(is_running, processes))
        assert connection.stop(task_id)["status"] == "stopped"
        wait_until(lambda: not any(map(is_running, processes)), "the end of all processes")
        # A fork that told nobody its number is gone as well.
        wait_until(lambda: not processes_of(str(tmp_path)), "the end of the forks")
        connection.http.close()


def processes_of(word: str) -> list[str]:
    """Give the command lines that contain a word, but for those of this process and its parents."""
    own = {os.getpid(), os.getppid()}
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) not in own:
            with contextlib.suppress(OSError):
                line = (process / "cmdline").read_text(errors="replace")
                found += [line] if word in line else []
    return found


def test_temporary_files_go_with_a_task_that_succeeds_and_stay_with_one_that_fails(
    tmp_path: Path,
) -> None:
    leaving = {
        "tasks/leave/task.oo.yaml": task_text("error=", "directory"),
        "tasks/leave/main.py": """
import os

def main(params, context):
    with open(os.path.join(context.tmp_dir, "left"), "w") as file:
        file.write("text")
    context.output("directory", context.tmp_dir)
    if params["error"]:
        raise ValueError(params["error"])
""",
    }
    package = write_package(tmp_path / "leaving", "leaving", files=leaving)
    with LocalServer([package], data_dir=tmp_path / "data", token="") as server:
        connection = Connection(server.base_url, "")
        left = []
        for error in ("", "no luck"):
            task_id = connection.create("leaving::leave", {"error": error})
            connection.wait(task_id)
            (row,) = [r for r in connection.logs(task_id) if r["type"] == "BlockOutput"]
            left.append(Path(row["event"]["output"]) / "left")
        wait_until(lambda: not left[0].exists(), "the removal")
        assert left[1].read_text() == "text"
        assert left[0].parent.name.rpartition("-")[0] == "leave"
        connection.http.close()
