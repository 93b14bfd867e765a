"""Services: one process, one start, many blocks, and when it ends."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from executor_task import ExecutorTask, is_running, running_task, until_gone

from oomol_connect_sdk.server.engine.actions import Service
from oomol_connect_sdk.server.executors import Environments, WorkerPool

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


def start(
    task: ExecutorTask,
    block: str = "count",
    *,
    stop_at: str = "session_end",
    keep_alive: float | None = None,
    executor: str = "python",
    entry: str = "index.py",
    **inputs: Any,
) -> str:
    manifest = task.package_dir / "tasks" / "service" / "service.oo.yaml"
    options = {"entry": entry, "function": "main"}
    service = Service(manifest, block, executor, options, "block_start", stop_at, keep_alive)
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
