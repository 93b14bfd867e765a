"""Blocks that harm themselves: each ends with a clear error, and no other task notices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from executor_task import PATIENCE, ExecutorTask, running_task, until_gone

from oomol_connect_sdk.server.executors import Environments, WorkerPool

LIMIT = 1_000_000

PRINTER = """
    import os
    def main(inputs, context):
        context.output("out", os.getpid())
        for number in range(10_000):
            print(*(f"{number} {n} {'x' * 90}" for n in range(100)), sep="\\n")
        return {"other": number}
    """
SHELL_PRINTER = "echo $$; exec yes $(printf '%090d' 0)"


LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def run_on(
    new_loop: Callable[[], asyncio.AbstractEventLoop], test: Coroutine[Any, Any, None]
) -> None:
    """Run this to its end on such a loop; a server has uvloop where there is one."""
    loop = new_loop()
    try:
        loop.run_until_complete(test)
    finally:
        loop.close()


@asynccontextmanager
async def slow_task(root: Path) -> AsyncIterator[ExecutorTask]:
    """A task whose messages nobody takes, unless the test does."""
    pool = WorkerPool(Environments(root / "environments"))
    async with running_task(pool, root, unread_limit=LIMIT) as task:
        yield task
    await pool.close()


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(Environments(tmp_path / "environments"))
    yield pool
    await pool.close()


@pytest.fixture
async def task(pool: WorkerPool, tmp_path: Path) -> AsyncIterator[ExecutorTask]:
    async with running_task(pool, tmp_path) as task:
        yield task


def start(task: ExecutorTask, executor: str) -> str:
    if executor == "python":
        return task.start(task.block("printer", PRINTER))
    task.block("printer", "")
    job = task.job("printer", {"command": SHELL_PRINTER}, executor="shell")
    return task.start_job(job)


async def process_of(task: ExecutorTask, job_id: str, executor: str) -> int:
    if executor == "python":
        return int((await task.message(job_id, "BlockOutput"))["output"])
    return int((await task.message(job_id, "BlockLog"))["log"])


async def until_quiet(task: ExecutorTask) -> int:
    """Wait until no more messages come; gives how many there are."""
    count = -1
    while count != len(task.messages):
        count = len(task.messages)
        await asyncio.sleep(0.2)
    return count


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("executor", ["python", "shell"])
def test_who_writes_faster_than_it_is_read_has_to_wait(
    tmp_path: Path, executor: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def test() -> None:
        async with slow_task(tmp_path) as slow:
            start(slow, executor)
            await slow.until(lambda: bool(slow.all_of("BlockLog")))
            held = await until_quiet(slow)
            assert held < 10 * LIMIT / 600
            for _ in range(held):
                slow.executors.taken()
            await slow.until(lambda: len(slow.messages) > held)
            assert await until_quiet(slow) < held + 10 * LIMIT / 600

    run_on(new_loop, test())


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("executor", ["python", "shell"])
@pytest.mark.parametrize("how", ["abort", "close"])
def test_who_waits_can_be_ended(
    tmp_path: Path, executor: str, how: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def test() -> None:
        async with slow_task(tmp_path) as slow:
            job_id = start(slow, executor)
            process = await process_of(slow, job_id, executor)
            await until_quiet(slow)
            if how == "abort":
                slow.executors.abort(job_id)
            else:
                await slow.executors.close(kill=True)
            await until_gone(process)
            assert slow.of(job_id, "BlockFinished") == []

    run_on(new_loop, test())


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("executor", ["python", "shell"])
def test_who_dies_while_it_waits_is_noticed(
    tmp_path: Path, executor: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def test() -> None:
        async with slow_task(tmp_path) as slow:
            job_id = start(slow, executor)
            process = await process_of(slow, job_id, executor)
            await until_quiet(slow)
            os.kill(process, signal.SIGKILL)
            finished = await slow.finished(job_id)
            assert "killed by signal SIGKILL (9)" in finished["error"]

    run_on(new_loop, test())


async def test_a_million_lines_arrive_and_other_tasks_run_meanwhile(
    task: ExecutorTask, pool: WorkerPool, tmp_path: Path
) -> None:
    printer = task.block("printer", PRINTER)
    async with running_task(pool, tmp_path, package="other", session_id="other") as other:
        job_id = task.start(printer)
        await task.message(job_id, "BlockLog")
        ran = 0
        quick = other.block("quick", "def main(inputs): return {'out': inputs['n']}")
        while not task.has(job_id, "BlockFinished"):
            assert await other.finished(other.start(quick, n=ran)) == {"result": {"out": ran}}
            ran += 1
    assert ran > 10
    assert task.of(job_id, "BlockFinished") == [{"result": {"other": 9_999}}]
    assert len(task.messages) == 1_000_002


ABUSES = {
    "return 100 MB": (
        "return {'out': 'x' * 100_000_000}",
        "the value of output [out] is too large",
    ),
    "recurse": ("return main(inputs, context)", "RecursionError"),
    "os._exit": ("os._exit(0)", "the worker process ended (exit code 0)"),
    "segfault": ("ctypes.string_at(0)", "killed by signal SIGSEGV (11)"),
    "kill itself": ("os.kill(os.getpid(), 9)", "killed by signal SIGKILL (9)"),
    "kill its group": ("os.killpg(0, 9)", "killed by signal SIGKILL (9)"),
    "close all files": (
        "os.closerange(0, 1000); time.sleep(600)",
        "the worker process was killed by signal SIGKILL (9)",
    ),
    "fork and leave": ("os.fork() and os._exit(1); time.sleep(600)", "exit code 1"),
    "no memory": ("return {'out': bytearray(2 ** 60)}", "MemoryError"),
    "write nonsense": ("os.write(OUT, b'\\xff' * 100)", "sent something unreadable"),
}


@pytest.mark.parametrize("abuse", ABUSES)
async def test_an_abuse_ends_with_a_clear_error_and_harms_no_other_task(
    task: ExecutorTask, pool: WorkerPool, tmp_path: Path, abuse: str
) -> None:
    code, said = ABUSES[abuse]
    source = f"""
        import ctypes, os, threading, time
        # The pipe that the worker keeps for itself.
        OUT = 4
        def main(inputs, context):
            {code}
        """
    async with running_task(pool, tmp_path, session_id="other") as other:
        waiting = "import time\ndef main(): time.sleep(0.5); return {'out': 1}"
        bystander = other.start(other.block("bystander", waiting))
        assert said in (await task.run(source))["error"]
        assert await other.finished(bystander) == {"result": {"out": 1}}
    again = task.block("again", "def main(): return {'out': 2}")
    assert await task.finished(task.start(again)) == {"result": {"out": 2}}


async def test_a_fork_bomb_ends_with_its_task(task: ExecutorTask) -> None:
    job_id = task.start(
        task.block(
            "fork",
            """
            import os, time
            def main(inputs, context):
                for _ in range(5):
                    os.fork()
                os.write(2, f"{os.getpid()}\\n".encode())
                time.sleep(600)
            """,
        )
    )
    await task.until(lambda: task.has(job_id, "BlockLog", 32))
    processes = [int(line) for line in task.logs(job_id)]
    await task.executors.close(kill=True)
    await until_gone(*processes)


async def test_a_block_that_never_returns_ends_with_its_task(task: ExecutorTask) -> None:
    source = """
        import os
        def main(inputs, context):
            context.output("out", os.getpid())
            while True:
                pass
        """
    job_id = task.start(task.block("spin", source))
    process = (await task.message(job_id, "BlockOutput"))["output"]
    await asyncio.wait_for(task.executors.close(kill=True), PATIENCE)
    await until_gone(process)
