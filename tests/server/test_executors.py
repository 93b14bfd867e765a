"""Workers from start to end: leases, resets, crashes, aborts, time-outs and kills."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from executor_task import PATIENCE, ExecutorTask, is_running, running_task, until_gone

from oomol_connect_sdk.server.executors import Environments, WorkerPool, python_worker
from oomol_connect_sdk.server.executors import pool as pool_module
from oomol_connect_sdk.server.executors.python_worker.frames import FrameDecoder, encode_frame
from oomol_connect_sdk.server.executors.python_worker.lines import LineSplitter
from oomol_connect_sdk.server.executors.worker_process import ErrorOutput, worker_environment

WHO = "import os\ndef main(): return {'out': os.getpid()}"

#: Starts a grandchild, tells both process ids and stays.
LINGER = """
    import os, subprocess, sys, time
    def main(inputs, context):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        context.output("out", [os.getpid(), child.pid])
        time.sleep(600)
    """


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(Environments(tmp_path / "environments"), max_idle=2)
    yield pool
    await pool.close()


@pytest.fixture
async def task(pool: WorkerPool, tmp_path: Path) -> AsyncIterator[ExecutorTask]:
    async with running_task(pool, tmp_path) as task:
        yield task


async def process_of(pool: WorkerPool, root: Path, package: str = "demo") -> int:
    """The worker that a new task over this package is given."""
    async with running_task(pool, root, package=package, session_id=f"who-{package}") as task:
        finished = await task.run(WHO)
        return int(finished["result"]["out"])


async def test_a_worker_serves_the_next_task_like_new(pool: WorkerPool, tmp_path: Path) -> None:
    source = """
        import os, sys, json
        import counter
        HERE = []
        def main():
            counter.CALLS += 1
            HERE.append(1)
            found = [counter.CALLS, len(HERE), "DIRTY" in os.environ, "/dirty" in sys.path]
            os.environ["DIRTY"] = "1"
            sys.path.append("/dirty")
            os.chdir("/")
            sys.stdout = sys.stderr = None
            return {"out": found, "other": [os.getpid(), id(json)]}
        """
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "counter.py").write_text("CALLS = 0")
    seen = []
    for session_id in ("first", "second"):
        async with running_task(pool, tmp_path, session_id=session_id) as task:
            block = task.block("count", source)
            again = await task.finished(task.start(block))
            again = await task.finished(task.start(block))
            seen.append(again["result"])
    first, second = seen
    assert first["out"] == second["out"] == [2, 2, True, True]
    assert first["other"] == second["other"]


async def test_an_edited_block_is_read_again_by_the_next_task(
    pool: WorkerPool, tmp_path: Path
) -> None:
    for number in (1, 2):
        async with running_task(pool, tmp_path, session_id=str(number)) as task:
            finished = await task.run(f"def main(): return {{'out': {number}}}")
            assert finished == {"result": {"out": number}}


@pytest.mark.parametrize(
    "left_behind",
    [
        "threading.Thread(target=time.sleep, args=(600,)).start()",
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])",
        "context.finish(); time.sleep(600)",
    ],
)
async def test_a_worker_in_which_something_still_runs_is_not_used_again(
    pool: WorkerPool, tmp_path: Path, left_behind: str
) -> None:
    async with running_task(pool, tmp_path) as task:
        job_id = task.start(
            task.block(
                "leave",
                f"""
                import os, subprocess, sys, threading, time
                def main(inputs, context):
                    context.output("out", os.getpid())
                    {left_behind}
                """,
            )
        )
        await task.finished(job_id)
        used = task.of(job_id, "BlockOutput")[0]["output"]
    await until_gone(used)
    assert await process_of(pool, tmp_path) != used


async def test_two_tasks_of_a_package_never_share_a_worker(
    pool: WorkerPool, tmp_path: Path
) -> None:
    async with running_task(pool, tmp_path, session_id="a") as one:
        mine = await one.run(WHO)
        async with running_task(pool, tmp_path, session_id="b") as other:
            assert await other.run(WHO) != mine


async def test_the_jobs_of_a_task_share_the_worker_of_their_package(task: ExecutorTask) -> None:
    block = task.block("who", WHO)
    jobs = [task.start(block) for _ in range(3)]
    assert len({str(await task.finished(job_id)) for job_id in jobs}) == 1


async def test_of_idle_workers_the_oldest_is_ended_first(pool: WorkerPool, tmp_path: Path) -> None:
    first, second, third = [await process_of(pool, tmp_path, name) for name in ("a", "b", "c")]
    await until_gone(first)
    assert [is_running(process) for process in (second, third)] == [True, True]
    assert await process_of(pool, tmp_path, "b") == second


async def test_more_workers_than_are_kept_may_wait_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many tasks that end at once do not end the workers that the next ones need."""
    monkeypatch.setattr(pool_module, "SURPLUS_TIME", PATIENCE)
    pool = WorkerPool(Environments(tmp_path / "environments"), max_idle=1)
    names = ("a", "b", "c", "d", "e")
    first, *kept = [await process_of(pool, tmp_path, name) for name in names]
    assert not is_running(first)
    assert [await process_of(pool, tmp_path, name) for name in names[1:]] == kept
    await pool.close()
    await until_gone(*kept)


async def test_an_idle_worker_that_died_is_replaced(pool: WorkerPool, tmp_path: Path) -> None:
    idle = await process_of(pool, tmp_path)
    os.kill(idle, signal.SIGKILL)
    await until_gone(idle)
    replacement = await process_of(pool, tmp_path)
    assert replacement != idle


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("os._exit(3)", "the worker process ended (exit code 3)"),
        ("ctypes.string_at(0)", "the worker process was killed by signal SIGSEGV (11)"),
    ],
)
async def test_a_crash_fails_the_jobs_of_its_worker_and_harms_no_other_task(
    pool: WorkerPool, tmp_path: Path, end: str, said: str
) -> None:
    crash = f"""
        import ctypes, os, sys
        def main(inputs, context):
            os.write(2, b"last words\\n")
            {end}
        """
    async with (
        running_task(pool, tmp_path, session_id="a") as task,
        running_task(pool, tmp_path, session_id="b") as other,
    ):
        bystander = other.start(
            other.block("wait", "import time\ndef main(inputs): time.sleep(0.5); return {'out': 1}")
        )
        finished = await task.run(crash)
        reason, *tail = finished["error"].splitlines()
        assert reason == said
        assert "last words" in tail
        assert task.logs("block-1")[0] == "last words"
        assert await other.finished(bystander) == {"result": {"out": 1}}
        again = await task.finished(task.start(task.block("who", WHO)))
        assert "result" in again


async def test_a_crash_is_noticed_though_a_child_that_left_the_group_keeps_the_pipes_open(
    task: ExecutorTask,
) -> None:
    job_id = task.start(
        task.block(
            "daemon",
            """
            import os, subprocess, sys
            def main(inputs, context):
                command = [sys.executable, "-c", "import time; time.sleep(600)"]
                context.output("out", subprocess.Popen(command, start_new_session=True).pid)
                os._exit(4)
            """,
        )
    )
    finished = await task.finished(job_id)
    os.kill(task.of(job_id, "BlockOutput")[0]["output"], signal.SIGKILL)
    assert finished == {"error": "the worker process ended (exit code 4)"}


async def test_a_native_crash_tells_the_block_that_caused_it(task: ExecutorTask) -> None:
    finished = await task.run("import ctypes\ndef main(): ctypes.string_at(0)")
    assert f"{Path('tasks', 'block', 'index.py')}" in finished["error"]


async def test_killing_a_task_ends_its_processes_and_their_children_at_once(
    task: ExecutorTask,
) -> None:
    job_id = task.start(task.block("linger", LINGER))
    processes = (await task.message(job_id, "BlockOutput"))["output"]
    delivered = len(task.messages)
    await task.executors.close(kill=True)
    assert not is_running(processes[0])
    await until_gone(*processes)
    assert len(task.messages) == delivered


async def test_a_task_can_be_killed_while_its_worker_starts(
    pool: WorkerPool, tmp_path: Path
) -> None:
    async with running_task(pool, tmp_path) as task:
        task.start(task.block("who", WHO))
        await asyncio.sleep(0.01)
        await task.executors.close(kill=True)
    assert task.messages == []


async def test_an_aborted_coroutine_is_cancelled_and_its_worker_lives_on(
    task: ExecutorTask, tmp_path: Path
) -> None:
    witness = tmp_path / "cleaned up"
    job_id = task.start(
        task.block(
            "wait",
            """
            import asyncio, os, pathlib
            async def main(inputs, context):
                context.output("out", os.getpid())
                try:
                    await asyncio.sleep(600)
                finally:
                    pathlib.Path(inputs["witness"]).touch()
            """,
        ),
        witness=str(witness),
    )
    worker = (await task.message(job_id, "BlockOutput"))["output"]
    task.executors.abort(job_id)
    finished = await task.finished(task.start(task.block("who", WHO)))
    assert finished == {"result": {"out": worker}}
    await task.executors.close(kill=False)
    assert witness.exists()
    assert is_running(worker)
    assert task.of(job_id, "BlockFinished") == []


async def test_a_coroutine_that_will_not_be_cancelled_is_killed(task: ExecutorTask) -> None:
    job_id = task.start(
        task.block(
            "stay",
            """
            import asyncio, os
            async def main(inputs, context):
                context.output("out", os.getpid())
                while True:
                    try:
                        await asyncio.sleep(600)
                    except asyncio.CancelledError:
                        continue
            """,
        )
    )
    worker = (await task.message(job_id, "BlockOutput"))["output"]
    task.executors.abort(job_id)
    await until_gone(worker)


async def test_an_aborted_function_is_killed_when_its_worker_runs_nothing_else(
    task: ExecutorTask,
) -> None:
    job_id = task.start(task.block("linger", LINGER))
    processes = (await task.message(job_id, "BlockOutput"))["output"]
    task.executors.abort(job_id)
    await until_gone(*processes)
    assert task.of(job_id, "BlockFinished") == []


async def test_an_aborted_job_that_was_kept_alive_is_killed(task: ExecutorTask) -> None:
    job_id = task.start(
        task.block(
            "keep",
            """
            import os, threading, time
            def main(inputs, context):
                threading.Thread(target=time.sleep, args=(600,)).start()
                context.output("out", os.getpid())
                return context.keepAlive
            """,
        )
    )
    worker = (await task.message(job_id, "BlockOutput"))["output"]
    task.executors.abort(job_id)
    await until_gone(worker)


async def test_an_aborted_function_lets_the_others_of_its_worker_finish(
    task: ExecutorTask,
) -> None:
    stuck = task.start(task.block("linger", LINGER))
    worker, child = (await task.message(stuck, "BlockOutput"))["output"]
    other = task.block("other", "import time\ndef main(inputs): time.sleep(0.4)")
    job_id = task.start(task.block("hello", "def main(): print('hello')\n"))
    await task.finished(job_id)
    job_id = task.start(other)
    await asyncio.sleep(0.1)
    task.executors.abort(stuck)
    assert await task.finished(job_id) == {}
    await task.executors.close(kill=False)
    await until_gone(worker, child)


async def test_a_job_whose_time_is_up_says_so_and_is_ended(task: ExecutorTask) -> None:
    job = task.job(task.block("linger", LINGER), {}, timeout=0.5)
    job_id = task.start_job(job)
    processes = (await task.message(job_id, "BlockOutput"))["output"]
    error = await task.message(job_id, "BlockError")
    assert error == {"error": f"{job_id} timeout after 0.5s", "timeout": 0.5}
    await until_gone(*processes)
    assert task.of(job_id, "BlockFinished") == []


async def test_a_job_that_ends_in_time_is_not_timed_out(task: ExecutorTask) -> None:
    job = task.job(task.block("quick", "def main(): pass"), {}, timeout=0.3)
    await task.finished(task.start_job(job))
    await asyncio.sleep(0.4)
    assert [message["type"] for message in task.messages] == ["BlockFinished"]


@pytest.mark.parametrize(
    ("executor", "why"),
    [
        ("elixir", ""),
        ("rust", ": such a block talks to the message broker of OOMOL's own engine"),
        ("connector", ": such a block calls OOMOL's connector service"),
    ],
)
async def test_an_executor_that_is_not_available_is_named(
    task: ExecutorTask, executor: str, why: str
) -> None:
    job = task.job(task.block("block", ""), {}, executor=executor)
    job_id = task.start_job(job)
    assert task.messages == []
    finished = await task.finished(job_id)
    assert (
        f"task.oo.yaml needs the executor '{executor}', which is not available here{why}"
        in (finished["error"])
    )
    assert finished["error"].endswith("available: nodejs, python, shell")


async def test_a_node_that_wants_its_own_process_gets_it(task: ExecutorTask) -> None:
    block = task.block("who", WHO)
    shared = await task.finished(task.start(block))
    own = [await task.finished(task.start_job(task.job(block, {}, spawn=True))) for _ in range(2)]
    assert own[0] == own[1] != shared


async def test_a_task_beside_a_node_runs_in_the_process_of_that_node(task: ExecutorTask) -> None:
    block = task.block("who", WHO)

    async def process(node_id: str, *, flow: str = "f", **changes: Any) -> int:
        stacks = ({"flow": flow, "node_id": "sub"}, {"flow": flow, "node_id": node_id})
        job = replace(task.job(block, {}), stacks=stacks, **changes)
        return int((await task.finished(task.start_job(job)))["result"]["out"])

    home = await process("home", options={"spawn": True})
    assert await process("guest", beside="home") == home
    assert await process("other") != home
    # A node without a process of its own has one that those beside it share.
    shared = await process("guest", beside="other")
    assert shared not in (home, await process("other"))
    assert await process("guest too", beside="other") == shared


async def test_a_source_in_the_manifest_runs_as_if_it_were_a_file_of_the_block(
    task: ExecutorTask,
) -> None:
    block = task.block("block", "")
    (task.package_dir / "tasks" / "block" / "helper.py").write_text("NAME = 'helper'")
    source = "from helper import NAME\ndef main(inputs): return {'out': [NAME, inputs['n']]}"
    job = task.job(block, {"n": 1}, source=source)
    assert await task.finished(task.start_job(job)) == {"result": {"out": ["helper", 1]}}


async def test_a_package_name_that_leaves_its_directory_is_refused(
    pool: WorkerPool, tmp_path: Path
) -> None:
    async with running_task(pool, tmp_path) as task:
        job = task.job(task.block("block", WHO), {})
        job_id = task.start_job(type(job)(**{**vars(job), "package_name": "../../etc"}))
        finished = await task.finished(job_id)
    assert finished == {"error": "'../../etc' is not a package name"}


async def test_blocks_of_one_flow_share_their_temporary_directory(task: ExecutorTask) -> None:
    flow = task.package_dir / "flows" / "report" / "flow.oo.yaml"
    stacks = ({"flow_job_id": "f", "flow": str(flow), "node_id": "n"},)
    found = set()
    for name in ("one", "two"):
        job = task.job(
            task.block(name, "def main(i, context): return {'out': context.tmp_dir}"), {}
        )
        job_id = task.start_job(type(job)(**{**vars(job), "stacks": stacks}))
        found.add((await task.finished(job_id))["result"]["out"])
    (directory,) = found
    assert Path(directory).name.startswith("report-")


async def test_a_closed_pool_starts_nothing(pool: WorkerPool, tmp_path: Path) -> None:
    await pool.close()
    async with running_task(pool, tmp_path) as task:
        assert await task.run(WHO) == {"error": "the server is closing"}


SERVER = """
import asyncio, sys
from pathlib import Path
from executor_task import running_task
from oomol_connect_sdk.server.executors import Environments, WorkerPool

async def serve(root):
    pool = WorkerPool(Environments(root / "environments"))
    async with running_task(pool, root) as task:
        job_id = task.start("linger")
        print(*(await task.message(job_id, "BlockOutput"))["output"], flush=True)
        await asyncio.sleep(600)

asyncio.run(serve(Path(sys.argv[1])))
"""


async def test_workers_and_their_children_end_with_a_server_that_is_killed(
    task: ExecutorTask, tmp_path: Path
) -> None:
    task.block("linger", LINGER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVER, str(tmp_path)),
        env=environment,
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    line = await asyncio.wait_for(server.stdout.readline(), PATIENCE)
    processes = [int(word) for word in line.split()]
    assert len(processes) == 2
    server.kill()
    await server.wait()
    await until_gone(*processes)


def test_a_worker_inherits_no_secret_of_the_server() -> None:
    server = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "OOMOL_TOKEN": "for blocks",
        "OO_HOST_ENDPOINT": "host",
        "OOMOL_CONNECT_API_TOKEN": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "PYTHONPATH": "/elsewhere",
    }
    environment = worker_environment(server)
    assert "secret" not in environment.values()
    assert set(environment) == {
        *("PATH", "LC_ALL", "OOMOL_TOKEN", "OO_HOST_ENDPOINT", "IS_FORKED", "PYTHONUNBUFFERED")
    }


def test_frames_are_found_wherever_the_bytes_are_cut() -> None:
    bodies = [b"{}", b"", b"x" * 300]
    data = b"".join(map(encode_frame, bodies))
    for size in (1, 3, 7, len(data)):
        decoder = FrameDecoder()
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert [body for piece in pieces for body in decoder.feed(piece)] == bodies


def test_lines_and_marks_are_found_wherever_the_bytes_are_cut() -> None:
    data = "one\nzwö".encode() + b"\0mark:12\0" + b"\nnot a \0 mark\n\xff rest"
    for size in (1, 2, 5, len(data)):
        output = ErrorOutput()
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        found: list[Any] = [item for piece in pieces for item in output.feed(piece)]
        found += output.flush()
        assert found == ["one", "zwö", 12, "", "not a \0 mark", "\ufffd rest"]


def test_a_line_that_never_ends_is_cut_and_not_kept() -> None:
    splitter = LineSplitter()
    cut = [line for _ in range(200) for line in splitter.feed("x" * 1000)]
    assert [len(line) for line in cut] == [65536, 65536, 65536]
    assert len(splitter.flush()[0]) == 200_000 - 3 * 65536
    assert splitter.flush() == []


def test_the_code_of_the_worker_is_readable_by_python_3_9() -> None:
    files = list(Path(python_worker.__file__).parent.glob("*.py"))
    assert files
    for file in files:
        ast.parse(file.read_text("utf-8"), feature_version=(3, 9))


async def test_a_chatty_block_does_not_hold_up_the_event_loop(task: ExecutorTask) -> None:
    job_id = task.start(task.block("chat", "def main():\n    for n in range(20000): print(n)"))
    longest, before = 0.0, time.monotonic()
    while not task.of(job_id, "BlockFinished"):
        await asyncio.sleep(0.005)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    assert len(task.logs(job_id)) == 20000
    assert longest < 1
