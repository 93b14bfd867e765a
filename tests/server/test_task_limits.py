"""What one task may use: disk space, memory and room in the journal."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from executor_task import ExecutorTask, running_task, until_gone
from packages import task_text, write_package
from servers import PATIENCE, Connection, ended, is_running

from oomol_connect_sdk.server.backend import open_service
from oomol_connect_sdk.server.disk_watch import disk_use
from oomol_connect_sdk.server.executors import Environments, ProcessGuard, WorkerPool
from oomol_connect_sdk.server.limits import TaskLimits, size_text
from oomol_connect_sdk.server.service import TaskService

MIB = 1024**2
ON_LINUX = pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux tells")

FILES = {
    # Writes files of a megabyte into one of its directories, then waits for ever.
    "tasks/hoard/task.oo.yaml": task_text("count folder=session_dir", ""),
    "tasks/hoard/main.py": """
import os, time

def main(params, context):
    folder = os.path.join(getattr(context, params["folder"]), "deep")
    os.makedirs(folder)
    for number in range(params["count"]):
        with open(os.path.join(folder, str(number)), "wb") as file:
            file.write(b"x" * 1024 * 1024)
    print(os.getpid(), flush=True)
    time.sleep(600)
""",
    "tasks/large/task.oo.yaml": task_text("size", "path"),
    "tasks/large/main.py": """
import os

def main(params, context):
    path = os.path.join(context.session_dir, "large")
    with open(path, "wb") as file:
        file.write(b"x" * params["size"])
    return {"path": path}
""",
    "tasks/chat/task.oo.yaml": task_text("lines", "lines"),
    "tasks/chat/main.py": """
def main(params, context):
    for number in range(params["lines"]):
        print("x" * 1000)
    return {"lines": params["lines"]}
""",
    "tasks/quick/task.oo.yaml": task_text("", "done"),
    "tasks/quick/main.py": "def main(params, context): return {'done': True}",
    "tasks/shell/task.oo.yaml": "executor: {name: shell}\ninputs_def: [{handle: command}]",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path / "greedy", "greedy", files=FILES)


@asynccontextmanager
async def service_with(
    package: Path, data_dir: Path | None = None, **limits: Any
) -> AsyncIterator[TaskService]:
    async with open_service([package], data_dir=data_dir, limits=TaskLimits(**limits)) as service:
        yield service


async def failure(service: TaskService, target: str, inputs: dict[str, Any]) -> str:
    """Run a task that fails, and another one beside it that doesn't; give the error."""
    task = await service.create(target, inputs)
    other = await service.create("greedy::quick")
    failed = await ended(service, task.id)
    assert (await ended(service, other.id)).result == {"done": True}
    assert failed.status == "failed"
    assert failed.error is not None
    _, events = await service.logs(task.id)
    assert (events[-1].type, events[-1].event["error"]) == (
        "SessionFinished",
        failed.error["message"],
    )
    return str(failed.error["message"])


@pytest.mark.parametrize("folder", ["session_dir", "tmp_dir"])
async def test_a_task_that_fills_the_disk_fails_and_names_its_limit(
    package: Path, folder: str
) -> None:
    async with service_with(package, disk=4 * MIB) as service:
        message = await failure(service, "greedy::hoard", {"count": 6, "folder": folder})
        assert message == (
            "The files of the task take 6 MiB on the disk; the limit for one task is 4 MiB."
        )
        (row,) = [r for r in (await service.logs(await newest(service)))[1] if r.type == "BlockLog"]
        assert not is_running(int(row.event["log"]))


async def newest(service: TaskService) -> str:
    """The id of the newest task that hoards."""
    tasks = await service.list()
    return next(task.id for task in tasks if "hoard" in task.manifest_path)


async def test_what_was_uploaded_with_a_task_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "uploads" / "0").mkdir(parents=True)
    (tmp_path / "uploads" / "0" / "film").write_bytes(b"x" * MIB)
    (tmp_path / "made").write_bytes(b"x" * MIB)
    (tmp_path / "link").symlink_to(tmp_path / "uploads" / "0")
    assert disk_use([tmp_path], tmp_path / "uploads") < 1.1 * MIB
    assert disk_use([tmp_path / "uploads"]) >= MIB
    assert disk_use([tmp_path / "nothing"]) == 0


async def test_a_single_file_can_not_become_larger_than_the_limit(package: Path) -> None:
    async with service_with(package, disk=4 * MIB) as service:
        message = await failure(service, "greedy::large", {"size": 5 * MIB})
        assert "File too large" in message
        task = await ended(service, (await service.create("greedy::large", {"size": MIB})).id)
        assert task.status == "completed"


async def test_a_command_whose_file_becomes_too_large_says_so(package: Path) -> None:
    async with service_with(package, disk=4 * MIB) as service:
        command = f"head -c 5000000 /dev/zero > '{package}/large'; exit $?"
        message = await failure(service, "greedy::shell", {"command": command})
        assert message.endswith(
            "exited with code 153 (signal SIGXFSZ (25): a file became larger than 4 MiB, the limit)"
        )


async def test_a_log_that_becomes_too_large_ends_its_task(package: Path, tmp_path: Path) -> None:
    async with service_with(package, tmp_path / "data", log=100_000) as service:
        message = await failure(service, "greedy::chat", {"lines": 100_000})
        assert "the limit for one task is 97.7 KiB" in message
        chat = next(t for t in await service.list() if "chat" in t.manifest_path)
        _, events = await service.logs(chat.id)
        assert 80_000 < sum(len(event.text) for event in events) < 200_000
        # A log that fits is left alone.
        task = await ended(service, (await service.create("greedy::chat", {"lines": 50})).id)
        assert task.status == "completed"


async def test_the_log_before_a_restart_counts(package: Path, tmp_path: Path) -> None:
    async with service_with(package, tmp_path / "data", disk=None, log=None) as service:
        inputs = {"command": "head -c 50000 /dev/zero | tr '\\0' x | fold -w 500; sleep 600"}
        task = await service.create("greedy::shell", inputs)
        deadline = time.monotonic() + PATIENCE
        while len((await service.logs(task.id))[1]) < 100:
            assert time.monotonic() < deadline
    async with service_with(package, tmp_path / "data", log=80_000) as service:
        failed = await ended(service, task.id)
        assert failed.error is not None
        assert "the limit for one task" in failed.error["message"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1 bytes"), (1024, "1 KiB"), (1536, "1.5 KiB"), (20 * 1024**3, "20 GiB")],
)
def test_a_size_is_written_for_a_person(size: int, text: str) -> None:
    assert size_text(size) == text


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="'disk' must be a number of bytes above 0"):
        TaskLimits(disk=0)


@pytest.fixture
async def frugal(tmp_path: Path) -> AsyncIterator[ExecutorTask]:
    """A task whose processes may use 200 MiB of memory."""
    guard = ProcessGuard(memory=200 * MIB)
    pool = WorkerPool(Environments(tmp_path / "environments"), guard=guard)
    async with running_task(pool, tmp_path) as task:
        yield task
    await pool.close()


@ON_LINUX
async def test_a_worker_that_uses_too_much_memory_is_ended(frugal: ExecutorTask) -> None:
    source = "import time\ndef main(): data = b'x' * 300_000_000; time.sleep(600)"
    error = (await frugal.run(source))["error"]
    assert error.startswith("the processes that ran the block used ")
    assert error.splitlines()[0].endswith(" MiB of memory; the limit is 200 MiB")
    again = frugal.block("again", "def main(): return {'out': 2}")
    assert await frugal.finished(frugal.start(again)) == {"result": {"out": 2}}


@ON_LINUX
async def test_the_memory_of_children_counts(frugal: ExecutorTask) -> None:
    source = """
        import os, subprocess, sys, time
        def main(inputs, context):
            code = "import os, time; data = b'x' * 150_000_000; time.sleep(600)"
            children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
            context.output("out", [child.pid for child in children])
            time.sleep(600)
        """
    job_id = frugal.start(frugal.block("parent", source))
    assert "the limit is 200 MiB" in (await frugal.finished(job_id))["error"]
    await until_gone(*frugal.of(job_id, "BlockOutput")[0]["output"])


@ON_LINUX
async def test_memory_that_forked_processes_share_counts_once(frugal: ExecutorTask) -> None:
    source = """
        import os, time
        def main(inputs, context):
            data = b"x" * 100_000_000
            children = [os.fork() for _ in range(1)]
            if children == [0]:
                time.sleep(3)
                os._exit(0)
            os.waitpid(children[0], 0)
            return {"out": len(data)}
        """
    assert await frugal.run(source) == {"result": {"out": 100_000_000}}


@ON_LINUX
async def test_a_command_that_uses_too_much_memory_is_ended(frugal: ExecutorTask) -> None:
    frugal.block("shell", "")
    code = "import time; data = b'x' * 300_000_000; time.sleep(600)"
    command = f'{sys.executable} -c "{code}"'
    job = frugal.job("shell", {"command": command}, executor="shell")
    error = (await frugal.finished(frugal.start_job(job)))["error"]
    assert error.endswith(" MiB of memory; the limit is 200 MiB")


@ON_LINUX
async def test_when_memory_runs_out_processes_of_blocks_are_ended_before_the_server(
    frugal: ExecutorTask,
) -> None:
    source = "def main(): return {'out': open('/proc/self/oom_score_adj').read().strip()}"
    assert await frugal.run(source) == {"result": {"out": "500"}}
    own = await asyncio.to_thread(Path(f"/proc/{os.getpid()}/oom_score_adj").read_text)
    assert int(own) < 500


def test_the_command_line_sets_limits_and_lets_scripts_run(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOMOL_CONNECT_CACHE", str(tmp_path / "cache"))
    manifest = package / "package.oo.yaml"
    manifest.write_text(manifest.read_text() + "scripts: {bootstrap: echo ran >> runs}\n")
    options = ["--package", str(package), "--port", "0", "--allow-bootstrap"]
    options += ["--max-log", "0.0001", "--max-disk", "0", "--max-memory", "8"]
    process = subprocess.Popen(
        [sys.executable, "-m", "oomol_connect_sdk", "serve", *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        connection = Connection(process.stderr.readline().split()[-1], "")
        task = connection.run("greedy::chat", {"lines": 10_000})
        assert "the limit for one task is 104.9 KiB" in task["error"]["message"]
        assert (package / "runs").read_text() == "ran\n"
        connection.http.close()
        process.terminate()
