"""The command line as a person or a script uses it: as a process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="the local server needs Python 3.10 or newer"
)

TASK = """
description: Greets a number of times.
inputs_def:
  - {handle: name, json_schema: {type: string}}
  - {handle: times, json_schema: {type: integer}, value: 2}
outputs_def:
  - {handle: lines}
executor: {name: python, options: {entry: main.py}}
"""

CODE = """
import time
from pathlib import Path

def main(inputs, context):
    if inputs["name"] == "nobody":
        raise ValueError("there is nobody to greet")
    if inputs["name"] == "slow":
        Path("started").write_text("")
        time.sleep(60)
    lines = []
    for number in range(inputs["times"]):
        lines.append(f"hello {inputs['name']}")
        print(lines[-1])
        context.report_progress(100 * (number + 1) / inputs["times"])
    return {"lines": lines}
"""

FLOW = """
nodes:
  - node_id: first
    task: self::greet
    inputs_from:
      - {handle: name}
      - {handle: times, value: 1}
outputs_def: [{handle: lines}]
outputs_from:
  - {handle: lines, from_node: [{node_id: first, output_handle: lines}]}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    files = {
        "package.oo.yaml": "name: hello\nversion: 0.1.0\n",
        "tasks/greet/task.oo.yaml": TASK,
        "tasks/greet/main.py": CODE,
        "flows/once/flow.oo.yaml": FLOW,
    }
    for name, text in files.items():
        file = tmp_path / "some-directory" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path / "some-directory"


def environment(tmp_path: Path, **more: str) -> Dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OOMOL_")}
    return {**kept, "OOMOL_CONNECT_CACHE": str(tmp_path / "cache"), **more}


def start(tmp_path: Path, *words: Any, **more: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "oomol_connect_sdk", *map(str, words)],
        cwd=tmp_path,
        env=environment(tmp_path, **more),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def call(tmp_path: Path, *words: Any, stdin: str = "", **more: str) -> Any:
    process = start(tmp_path, *words, **more)
    output, errors = process.communicate(stdin, timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def test_the_result_is_all_there_is_on_standard_output(tmp_path: Path, package: Path) -> None:
    done = call(tmp_path, "run", f"{package}::greet", "-i", "name=Ada")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"lines": ["hello Ada", "hello Ada"]}
    assert done.stderr.count("hello Ada\n") == 2
    assert "100 %" in done.stderr


def test_a_relative_path_and_a_flow_with_inputs_of_its_nodes(tmp_path: Path, package: Path) -> None:
    done = call(tmp_path, "run", "./some-directory::once", "-i", "first.name=Bob")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"lines": ["hello Bob"]}
    assert "first | hello Bob\n" in done.stderr


@pytest.mark.parametrize(
    ("words", "stdin", "lines"),
    [
        (["-i", "name=5"], "", None),
        (["-i", 'name="5"', "-i", "times=1"], "", ["hello 5"]),
        (["--inputs-file", "-"], '{"name": "Eve", "times": 1}', ["hello Eve"]),
        (["--inputs-file", "-", "-i", "times=1"], '{"name": "Eve"}', ["hello Eve"]),
    ],
)
def test_inputs_are_json_or_text(
    tmp_path: Path, package: Path, words: List[str], stdin: str, lines: Any
) -> None:
    done = call(tmp_path, "run", f"{package}::greet", "--quiet", *words, stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"lines": lines or ["hello 5", "hello 5"]}
    assert done.stderr == ""


def test_a_failed_task_says_why(tmp_path: Path, package: Path) -> None:
    done = call(tmp_path, "run", f"{package}::once", "-i", "first.name=nobody")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "failed at node first" in done.stderr
    assert "ValueError: there is nobody to greet" in done.stderr


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["run", "{package}::greet"], "name"),
        (["run", "{package}::greet", "-i", "name=x", "-i", "nmae=x"], "nmae"),
        (["run", "{package}::gret", "-i", "name=x"], "greet"),
        (["run", "{package}::greet", "-i", "name"], "HANDLE=VALUE"),
        (["run", "{package}::greet", "--inputs-file", "-"], "--inputs-file"),
        (["run", "./nowhere::greet"], "no directory './nowhere'"),
        (["run", "hello::greet"], "--server"),
        (["serve"], "--package"),
        (["serve", "--package", "{package}", "--host", "0.0.0.0", "--port", "0"], "token"),
    ],
)
def test_a_wrong_call_is_named_and_has_status_2(
    tmp_path: Path, package: Path, words: List[str], fault: str
) -> None:
    done = call(tmp_path, *[word.format(package=package) for word in words], stdin="[1]")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert fault in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_manifest_is_named_with_its_line(tmp_path: Path, package: Path) -> None:
    manifest = package / "tasks" / "greet" / "task.oo.yaml"
    manifest.write_text(TASK + "\noutputs_def: [\n", encoding="utf-8")
    done = call(tmp_path, "run", f"{package}::greet", "-i", "name=x")
    assert done.returncode == 2
    assert re.search(r"task\.oo\.yaml:\d+: ", done.stderr), done.stderr


def test_ctrl_c_stops_the_task(tmp_path: Path, package: Path) -> None:
    process = start(
        tmp_path, "run", f"{package}::greet", "-i", "name=slow", "--data", tmp_path / "data"
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert output == ""
    assert errors.endswith("interrupted\n")
    after = served(tmp_path, package)
    try:
        listing = call(tmp_path, "run", "hello::greet", "-i", "name=Ada", "-q", **after.environment)
        assert listing.returncode == 0, listing.stderr
        assert after.statuses() == ["completed", "stopped"]
    finally:
        after.end()


class Served:
    """A server that ``oomol-connect serve`` runs."""

    def __init__(self, process: Any) -> None:
        self._process = process
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        self.environment = {
            "OOMOL_CONNECT_BASE_URL": found[0] + "/api",
            "OOMOL_CONNECT_API_TOKEN": "secret",
        }

    def statuses(self) -> List[str]:
        import httpx

        address = self.environment["OOMOL_CONNECT_BASE_URL"] + "/v1/tasks"
        answer = httpx.get(address, headers={"Authorization": "secret"})
        return [task["status"] for task in answer.json()["tasks"]]

    def end(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=20)
        assert self._process.returncode in (0, 130)


def served(tmp_path: Path, package: Path) -> Served:
    words = ["serve", "--package", package, "--port", "0", "--token", "secret"]
    return Served(start(tmp_path, *words, "--data", tmp_path / "data"))


def test_run_uses_a_server_that_is_named(tmp_path: Path, package: Path) -> None:
    server = served(tmp_path, package)
    try:
        done = call(tmp_path, "run", "hello::greet", "-i", "name=Ada", **server.environment)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"lines": ["hello Ada", "hello Ada"]}
        wrong = {**server.environment, "OOMOL_CONNECT_API_TOKEN": "mistaken-secret"}
        refused = call(tmp_path, "run", "hello::greet", "-i", "name=Ada", **wrong)
        assert refused.returncode == 2
        assert "token" in refused.stderr
        assert "mistaken-secret" not in refused.stderr
    finally:
        server.end()


def test_help_names_every_option_and_status(tmp_path: Path) -> None:
    done = call(tmp_path, "run", "--help")
    assert done.returncode == 0
    for word in ("--input", "--package", "--base-url", "--data", "--timeout", "Exit status"):
        assert word in done.stdout
