"""Services: one process, one start, many blocks, and when it ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from executor_task import PATIENCE, ExecutorTask, is_running, running_task, until_gone

from oomol_connect_sdk.server.engine.actions import Service, ServiceStart
from oomol_connect_sdk.server.executors import AppServices, Environments, WorkerPool

#: Counts its starts and the calls of its blocks.
COUNTER = """
    import os
    STARTS = []
    def main(service):
        STARTS.append(1)
        calls = []
        def count(inputs, context):
            calls.append(1)
            print("counting", inputs)
            return {"out": [len(STARTS), len(calls), os.getpid()]}
        async def wait(inputs, context):
            import asyncio
            context.output("out", os.getpid())
            await asyncio.sleep(600)
        def hang(inputs, context):
            import time
            context.output("out", os.getpid())
            time.sleep(600)
        service.block_handler = {"count": count, "wait": wait, "hang": hang}
    """
NODE_COUNTER = """
    let starts = 0;
    export function main(service) {
        starts++;
        let calls = 0;
        service.blockHandler = {
            count: inputs => {
                console.log("counting", inputs);
                return { out: [starts, ++calls, process.pid] };
            },
        };
    }
    """


#: Notes its process in the package's own directory as soon as it starts.
NOTING = """
    import os
    NOTE = os.path.join(os.environ["OOCANA_PKG_DIR"], "process")
    STARTS = []
    def main(service):
        STARTS.append(1)
        calls = []
        def count(inputs, context):
            calls.append(1)
            return {"out": [len(STARTS), len(calls), os.getpid()]}
        service.block_handler = {"count": count}
        with open(NOTE, "w") as file:
            file.write(f"{os.getpid()}\\n")
    """
NODE_NOTING = """
    import { writeFileSync } from "node:fs";
    let starts = 0;
    let calls = 0;
    export function main(service) {
        starts++;
        service.blockHandler = { count: () => ({ out: [starts, ++calls, process.pid] }) };
        writeFileSync(`${process.env.OOCANA_PKG_DIR}/process`, `${process.pid}\\n`);
    }
    """


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(Environments(tmp_path / "environments"))
    yield pool
    await pool.close()


@pytest.fixture
async def task(pool: WorkerPool, tmp_path: Path) -> AsyncIterator[ExecutorTask]:
    async with running_task(pool, tmp_path) as task:
        yield task


def write(task: ExecutorTask, source: str, entry: str = "index.py") -> None:
    task.block("service", source)
    directory = task.package_dir / "tasks" / "service"
    (directory / "index.py").rename(directory / entry)


def manifest(package_dir: Path) -> Path:
    return package_dir / "tasks" / "service" / "service.oo.yaml"


def in_advance(
    package_dir: Path,
    start_at: str,
    *,
    stop_at: str = "session_end",
    executor: str = "python",
    entry: str = "index.py",
) -> ServiceStart:
    """What starts the service before any block of it."""
    options = {"entry": entry, "function": "main"}
    service = Service(manifest(package_dir), "count", executor, options, start_at, stop_at)
    return ServiceStart(service, package_dir, package_dir.name)


async def noted_process(file: Path) -> int:
    """Wait until a service has noted its process there."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not text(file).endswith("\n"):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    return int(text(file))


def text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def start(
    task: ExecutorTask,
    block: str = "count",
    *,
    start_at: str = "block_start",
    stop_at: str = "session_end",
    keep_alive: float | None = None,
    executor: str = "python",
    entry: str = "index.py",
    **inputs: Any,
) -> str:
    options = {"entry": entry, "function": "main"}
    path = manifest(task.package_dir)
    service = Service(path, block, executor, options, start_at, stop_at, keep_alive)
    job = task.job("service", inputs)
    # In a process that several tasks share the ids must differ, as those of the engine do.
    return task.start_job(replace(job, service=service, job_id=f"{task.session_id}-{job.job_id}"))


async def count(task: ExecutorTask, **more: Any) -> tuple[int, int, int]:
    """Starts, calls and process of the counter."""
    starts, calls, process = (await task.finished(start(task, **more)))["result"]["out"]
    return starts, calls, process


LANGUAGES = [
    pytest.param("python", COUNTER, "index.py"),
    pytest.param(
        "nodejs",
        NODE_COUNTER,
        "main.mjs",
        marks=pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed"),
    ),
]


@pytest.mark.parametrize(("executor", "source", "entry"), LANGUAGES)
async def test_a_service_is_started_once_and_runs_its_blocks_in_a_process_of_its_own(
    task: ExecutorTask, executor: str, source: str, entry: str
) -> None:
    write(task, source, entry)
    first = await count(task, executor=executor, entry=entry, n=1)
    second = await count(task, executor=executor, entry=entry, n=2)
    assert first[:2] == (1, 1)
    assert second[:2] == (1, 2)
    assert first[2] == second[2]
    assert "counting" in task.all_of("BlockLog")[0]["log"]
    block = task.block("who", "import os\ndef main(): return {'out': os.getpid()}")
    assert (await task.finished(task.start(block)))["result"]["out"] != first[2]
    await task.executors.close(kill=False)
    assert not is_running(first[2])


async def test_a_handler_for_all_blocks_is_told_which_one(task: ExecutorTask) -> None:
    write(
        task,
        """
        async def main(service):
            async def handle(name, inputs, context):
                return {"out": [name, inputs, context.job_id]}
            service["block_handler"] = handle
        """,
    )
    job_id = start(task, "any", n=1)
    assert await task.finished(job_id) == {"result": {"out": ["any", {"n": 1}, job_id]}}


async def test_blocks_wait_until_a_service_says_that_it_is_ready(task: ExecutorTask) -> None:
    write(
        task,
        """
        import time
        def main(service):
            ready = []
            service.waiting_ready_notify = True
            service.block_handler = {"ask": lambda inputs, context: {"out": ready}}
            time.sleep(0.2)
            ready.append("ready")
            service.notify_ready()
            while True:
                time.sleep(1)
        """,
    )
    assert await task.finished(start(task, "ask")) == {"result": {"out": ["ready"]}}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (COUNTER, "the service has no handler for its block missing"),
        ("def main(service): pass", "the service has no handler for its block missing"),
        ("def main(service): 1 / 0", "ZeroDivisionError: division by zero"),
        ("def other(): pass", "function main not found in "),
        ("import nothing_of_ours", "No module named 'nothing_of_ours'"),
    ],
)
async def test_a_service_that_fails_says_so_to_each_of_its_blocks(
    task: ExecutorTask, source: str, said: str
) -> None:
    write(task, source)
    for _ in range(2):
        assert said in (await task.finished(start(task, "missing")))["error"]


async def test_a_service_that_ends_with_its_blocks_is_kept_for_a_moment(
    task: ExecutorTask,
) -> None:
    write(task, COUNTER)
    first = await count(task, stop_at="block_end", keep_alive=600)
    again = await count(task, stop_at="block_end", keep_alive=0.05)
    assert again == (1, 2, first[2])
    await until_gone(first[2])
    starts, calls, process = await count(task, stop_at="block_end", keep_alive=0.05)
    assert (starts, calls) == (1, 1)
    assert process != first[2]


async def test_a_service_that_ends_with_the_server_serves_all_tasks(
    pool: WorkerPool, tmp_path: Path
) -> None:
    found = []
    for session_id in ("a", "b"):
        async with running_task(pool, tmp_path, session_id=session_id) as task:
            if session_id == "a":
                write(task, COUNTER)
            found.append(await count(task, stop_at="app_end"))
            await task.executors.close(kill=True)
    (_, _, process), second = found
    assert second == (1, 2, process)
    assert is_running(process)
    await pool.close()
    assert not is_running(process)


async def test_a_killed_task_takes_its_blocks_out_of_a_shared_service(
    pool: WorkerPool, tmp_path: Path
) -> None:
    async with running_task(pool, tmp_path, session_id="other") as other:
        write(other, COUNTER)
        async with running_task(pool, tmp_path, session_id="a") as task:
            waiting = start(task, "wait", stop_at="never")
            process = (await task.message(waiting, "BlockOutput"))["output"]
            hanging = start(task, "hang", stop_at="never")
            await task.message(hanging, "BlockOutput")
            bystander = start(other, "wait", stop_at="never")
            await other.message(bystander, "BlockOutput")
            await task.executors.close(kill=True)
            assert is_running(process)
        # What hangs in the process can't be ended: the next block gets a new one.
        deadline = asyncio.get_running_loop().time() + 20
        while (await count(other, stop_at="never"))[2] == process:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
        assert is_running(process)
        other.executors.abort(bystander)
        await until_gone(process)


async def test_a_service_that_dies_is_started_again(task: ExecutorTask) -> None:
    write(
        task,
        """
        import os
        def main(service):
            service.block_handler = {
                "die": lambda inputs, context: os._exit(1),
                "live": lambda inputs, context: {"out": 1},
            }
        """,
    )
    assert "exit code 1" in (await task.finished(start(task, "die")))["error"]
    assert await task.finished(start(task, "live")) == {"result": {"out": 1}}


NOTERS = [
    pytest.param("python", NOTING, "index.py"),
    pytest.param("nodejs", NODE_NOTING, "main.mjs", marks=LANGUAGES[1].marks),
]


@pytest.mark.parametrize(("executor", "source", "entry"), NOTERS)
async def test_a_service_may_start_with_its_task_and_ends_with_it(
    task: ExecutorTask, tmp_path: Path, executor: str, source: str, entry: str
) -> None:
    write(task, source, entry)
    how: dict[str, Any] = {"executor": executor, "entry": entry}
    starting = in_advance(task.package_dir, "session_start", **how)
    task.executors.start_services([starting])
    process = await noted_process(tmp_path / "d/demo/process")
    assert await count(task, start_at="session_start", **how) == (1, 1, process)
    assert await count(task, start_at="session_start", **how) == (1, 2, process)
    await task.executors.close(kill=False)
    assert not is_running(process)


async def test_a_service_that_no_block_used_ends_with_its_task_as_well(
    task: ExecutorTask, tmp_path: Path
) -> None:
    write(task, NOTING)
    starting = in_advance(task.package_dir, "session_start", stop_at="block_end")
    task.executors.start_services([starting])
    process = await noted_process(tmp_path / "d/demo/process")
    await task.executors.close(kill=False)
    assert not is_running(process)


async def test_a_task_that_is_closed_at_once_leaves_no_service_behind(
    pool: WorkerPool, tmp_path: Path
) -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = text(children).split()
    async with running_task(pool, tmp_path) as task:
        write(task, NOTING)
        task.executors.start_services([in_advance(task.package_dir, "session_start")])
        await asyncio.sleep(0)
        await task.executors.close(kill=True)
    await pool.close()
    assert set(text(children).split()) <= set(before)


async def test_a_service_ends_with_its_blocks_also_when_it_started_before_them(
    task: ExecutorTask, tmp_path: Path
) -> None:
    write(task, NOTING)
    starting = in_advance(task.package_dir, "session_start", stop_at="block_end")
    task.executors.start_services([starting])
    process = await noted_process(tmp_path / "d/demo/process")
    how: dict[str, Any] = {"start_at": "session_start", "stop_at": "block_end", "keep_alive": 0.05}
    assert await count(task, **how) == (1, 1, process)
    await until_gone(process)


async def test_a_service_that_fails_early_says_so_to_its_blocks(task: ExecutorTask) -> None:
    write(task, "raise ValueError('no database')")
    task.executors.start_services([in_advance(task.package_dir, "session_start")])
    for _ in range(2):
        assert "no database" in (await task.finished(start(task, "any")))["error"]


@pytest.mark.parametrize("stop_at", ["session_end", "app_end", "never"])
@pytest.mark.parametrize(("executor", "source", "entry"), NOTERS)
async def test_a_service_may_start_with_the_server_and_ends_with_it(
    pool: WorkerPool, tmp_path: Path, executor: str, source: str, entry: str, stop_at: str
) -> None:
    how: dict[str, Any] = {"executor": executor, "entry": entry, "stop_at": stop_at}
    async with running_task(pool, tmp_path, session_id="writer") as writer:
        write(writer, source, entry)
    services = AppServices(pool, tmp_path / "generated", tmp_path / "d")
    services.start([in_advance(tmp_path / "demo", "app_start", **how)])
    process = await noted_process(tmp_path / "d/demo/process")
    for calls, session_id in enumerate("ab", 1):
        async with running_task(pool, tmp_path, session_id=session_id) as task:
            found = await count(task, start_at="app_start", **how)
            assert found == (1, calls, process)
    assert is_running(process)
    await services.close()
    await pool.close()
    assert not is_running(process)


async def test_a_service_of_the_server_that_died_is_started_by_its_next_block(
    pool: WorkerPool, tmp_path: Path
) -> None:
    async with running_task(pool, tmp_path) as task:
        write(task, NOTING)
        services = AppServices(pool, tmp_path / "generated", tmp_path / "d")
        services.start([in_advance(task.package_dir, "app_start")])
        process = await noted_process(tmp_path / "d/demo/process")
        os.kill(process, signal.SIGKILL)
        await until_gone(process)
        finished = await task.finished(start(task, start_at="app_start"))
        # The server may notice the death only by what it sends there.
        while "SIGKILL" in finished.get("error", ""):
            finished = await task.finished(start(task, start_at="app_start"))
        starts, calls, other = finished["result"]["out"]
        assert (starts, calls) == (1, 1)
        assert other != process
        await services.close()


async def test_a_service_of_the_server_that_can_not_be_started_is_logged(
    pool: WorkerPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    services = AppServices(pool, tmp_path / "generated", tmp_path / "d")
    services.start([in_advance(tmp_path / "demo", "app_start", executor="rust")])
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while "can't be started with the server" not in caplog.text:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    assert "needs the executor 'rust'" in caplog.text
    await services.close()
