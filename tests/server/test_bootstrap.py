"""The scripts with which packages set themselves up."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from executor_task import ExecutorTask, running_task
from packages import task_text, write_package
from servers import ended

from oomol_connect_sdk.server.backend import open_service
from oomol_connect_sdk.server.executors import Environments, WorkerPool
from oomol_connect_sdk.server.executors.setup_scripts import left_to_run
from oomol_connect_sdk.server.service import TaskService

#: Notes that it ran, and what its environment is.
NOTING = """
  echo "setting up"
  echo "ran" >> runs
  command -v python > python
  python -m pip --version > pip
  env > variables
"""
WHO = "import sys\ndef main(): return {'out': sys.executable}"


def write_manifest(package: Path, script: str, version: str = "1.0.0") -> None:
    package.mkdir(exist_ok=True)
    block = textwrap.indent(textwrap.dedent(script).lstrip("\n"), "    ")
    manifest = f"name: demo\nversion: {version}\nscripts:\n  bootstrap: |\n{block}"
    (package / "package.oo.yaml").write_text(manifest)


@asynccontextmanager
async def opened(root: Path, *, allowed: bool = True) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(Environments(root / "environments", allow_bootstrap=allowed))
    yield pool
    await pool.close()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return tmp_path / "demo"


async def run(pool: WorkerPool, root: Path, source: str = WHO) -> tuple[dict[str, Any], list[str]]:
    """Run a block as a task of its own; give its end and its log."""
    async with running_task(pool, root) as task:
        job_id = task.start(task.block("block", source))
        return await task.finished(job_id), task.logs(job_id)


def text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def test_a_script_that_is_not_allowed_does_not_run_and_that_is_said_once(
    tmp_path: Path, package: Path
) -> None:
    write_manifest(package, NOTING)
    async with opened(tmp_path, allowed=False) as pool:
        finished, logs = await run(pool, tmp_path)
        assert "error" not in finished
        (line,) = logs
        assert "has a bootstrap script, which this server may not run" in line
        assert (await run(pool, tmp_path))[1] == []
    assert text(package / "runs") == ""


async def test_a_script_that_is_allowed_runs_once_before_the_first_block(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOMOL_CONNECT_API_TOKEN", "s3cret")
    write_manifest(package, NOTING)
    for number in range(2):
        async with opened(tmp_path) as pool:
            finished, logs = await run(pool, tmp_path)
            assert ("setting up" in logs) is (number == 0)
            # The block runs where the script has installed what it needs.
            python = finished["result"]["out"]
            assert text(package / "python").strip() == python
            assert str(tmp_path / "environments") in python
    assert text(package / "runs") == "ran\n"
    assert str(tmp_path / "environments") in text(package / "pip")
    assert "PATH=" in text(package / "variables")
    assert "s3cret" not in text(package / "variables")


async def test_the_script_of_another_version_runs_again(tmp_path: Path, package: Path) -> None:
    async with opened(tmp_path) as pool:
        for version in ("1.0.0", "1.0.1", "1.0.1"):
            write_manifest(package, "  echo ran >> runs", version)
            assert "error" not in (await run(pool, tmp_path))[0]
    assert text(package / "runs") == "ran\nran\n"


async def test_a_script_that_fails_fails_the_block_with_its_words_and_is_tried_again(
    tmp_path: Path, package: Path
) -> None:
    write_manifest(package, "  set -e\n  echo ran >> runs\n  cat no-such-file\n  echo no >> runs")
    async with opened(tmp_path) as pool:
        for _ in range(2):
            error = (await run(pool, tmp_path))[0]["error"]
            assert "the environment of demo can't be built: its bootstrap script failed" in error
            assert "no-such-file" in error
    assert text(package / "runs") == "ran\nran\n"


async def test_a_command_that_fails_in_the_middle_of_a_script_does_not_end_it(
    tmp_path: Path, package: Path
) -> None:
    write_manifest(package, "  cat no-such-file\n  echo ran >> runs")
    async with opened(tmp_path) as pool:
        assert "error" not in (await run(pool, tmp_path))[0]
    assert text(package / "runs") == "ran\n"


async def test_a_script_that_only_does_what_is_done_anyway_does_not_run(
    tmp_path: Path, package: Path
) -> None:
    """The template's script: not every machine has npm and poetry."""
    write_manifest(package, "  set -e\n  npm install\n  poetry install --no-root")
    async with opened(tmp_path) as pool:
        finished, logs = await run(pool, tmp_path)
    assert finished == {"result": {"out": sys.executable}}
    assert logs == []


@pytest.mark.parametrize(
    ("script", "files", "left"),
    [
        ("npm install\npoetry install", {}, ""),
        ("npm install\npoetry install", {"package.json": "{}"}, "npm install"),
        ("set -e; sudo npm ci && poetry install", {"package.json": "{}"}, "npm ci"),
        ("pnpm install\nnpm install", {"package.json": "{}"}, "npm install"),
        ("poetry install", {"package.json": "{}"}, ""),
        ("npm install && make", {}, "npm install && make"),
    ],
)
def test_of_a_routine_script_only_the_installation_of_modules_is_left(
    tmp_path: Path, script: str, files: dict[str, str], left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules are installed without the scripts that come with them unless such a script runs."""
    (tmp_path / "npm").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    package = write_package(tmp_path / "demo", "demo", files=files)
    assert left_to_run(script, package) == left


async def test_the_script_of_a_package_of_shell_blocks_runs_too(
    tmp_path: Path, package: Path
) -> None:
    write_manifest(package, "  echo ran >> runs")
    async with opened(tmp_path) as pool, running_task(pool, tmp_path) as task:
        task.block("shell", "")
        ends = await asyncio.gather(*(count_runs(task) for _ in range(3)))
    assert ends == ["1", "1", "1"]


async def count_runs(task: ExecutorTask) -> str:
    command = {"command": "wc -l < ../../runs"}
    job_id = task.start_job(task.job("shell", command, executor="shell"))
    await task.finished(job_id)
    output: str = task.of(job_id, "BlockOutput")[0]["output"]
    return output.strip()


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_server_runs_scripts_only_when_it_is_told_to(
    tmp_path: Path, package: Path, allowed: bool
) -> None:
    files = {
        "tasks/x/task.oo.yaml": task_text(),
        "tasks/x/main.py": "def main(): pass",
    }
    write_package(package, "demo", files=files)
    write_manifest(package, "  echo ran >> runs")
    options = {"environments_dir": tmp_path / "environments", "allow_bootstrap": allowed}
    async with open_service([package], **options) as service:
        task = await ended(service, (await service.create("demo::x")).id)
        assert task.status == "completed"
    assert text(package / "runs") == ("ran\n" if allowed else "")


INJECTING = """
nodes:
  - node_id: injected
    task: {executor: {name: python, options: {entry: n.py}}, outputs_def: [{handle: out}]}
    inject: {package: demo, script: "echo injecting; echo ran >> injected; no-such-command || true"}
  - {node_id: own, task: demo::x}
"""


def write_injecting(root: Path, flow: str = INJECTING) -> list[Path]:
    """Write a package with a flow that injects a task and a script into the package demo."""
    files = {"tasks/x/task.oo.yaml": task_text("", "out"), "tasks/x/main.py": WHO}
    flow_files = {"flows/main/flow.oo.yaml": flow, "flows/main/n.py": WHO}
    return [
        write_package(root / "demo", "demo", files=files),
        write_package(root / "pkg", "pkg", files=flow_files),
    ]


async def run_injecting(service: TaskService) -> tuple[dict[str, str], list[str]]:
    """Run the flow; give the interpreter of each node, and what it logged."""
    task = await ended(service, (await service.create("main")).id)
    assert task.status == "completed", task.error
    results = {node: result["out"] for node, result in (task.node_results or {}).items()}
    events = [json.loads(row.text) for row in (await service.logs(task.id))[1]]
    return results, [event["log"] for event in events if event["type"] == "BlockLog"]


async def test_an_injected_script_runs_once_where_the_task_it_is_for_runs(tmp_path: Path) -> None:
    packages = write_injecting(tmp_path)
    options = {"environments_dir": tmp_path / "environments", "allow_bootstrap": True}
    async with open_service(packages, **options) as service:
        interpreters, logs = await run_injecting(service)
        assert str(tmp_path / "environments") in interpreters["injected"]
        assert interpreters["own"] == sys.executable
        assert "injecting" in logs
        assert await run_injecting(service) == (interpreters, [])
    assert text(tmp_path / "demo/injected") == "ran\n"


async def test_an_injected_script_that_is_not_allowed_does_not_run_and_that_is_said_once(
    tmp_path: Path,
) -> None:
    async with open_service(write_injecting(tmp_path)) as service:
        interpreters, (line,) = await run_injecting(service)
        assert set(interpreters.values()) == {sys.executable}
        assert line.startswith("a flow injects a script into the package demo, which this server")
        assert (await run_injecting(service))[1] == []
    assert text(tmp_path / "demo/injected") == ""


async def test_an_injected_script_ends_at_the_first_command_that_fails(tmp_path: Path) -> None:
    flow = INJECTING.replace("echo injecting", "cat no-such-file")
    options = {"environments_dir": tmp_path / "environments", "allow_bootstrap": True}
    async with open_service(write_injecting(tmp_path, flow), **options) as service:
        task = await ended(service, (await service.create("main")).id)
    assert task.error is not None
    assert "an injected script failed" in task.error["message"]
    assert text(tmp_path / "demo/injected") == ""
