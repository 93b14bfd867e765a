"""Shell blocks: a command, its lines, its output, its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from executor_task import ExecutorTask, running_task, until_gone

from oomol_connect_sdk.server.executors import Environments, WorkerPool


@pytest.fixture
async def task(tmp_path: Path) -> AsyncIterator[ExecutorTask]:
    pool = WorkerPool(Environments(tmp_path / "environments"))
    async with running_task(pool, tmp_path) as task:
        task.block("shell", "")
        yield task
    await pool.close()


def start(task: ExecutorTask, command: Any, **inputs: Any) -> str:
    job = task.job("shell", {"command": command, **inputs}, executor="shell")
    return task.start_job(job)


def outputs(task: ExecutorTask, job_id: str) -> dict[str, str]:
    return {message["handle"]: message["output"] for message in task.of(job_id, "BlockOutput")}


async def test_the_lines_are_logs_and_the_whole_is_the_outputs(task: ExecutorTask) -> None:
    job_id = start(task, "echo one; echo two; printf 'three\n\n'; echo worse >&2")
    assert await task.finished(job_id) == {}
    logs = [(m["stdio"], m["log"]) for m in task.of(job_id, "BlockLog")]
    assert sorted(logs) == sorted(
        [
            ("stdout", "one"),
            ("stdout", "two"),
            ("stdout", "three"),
            ("stdout", ""),
            ("stderr", "worse"),
        ]
    )
    assert outputs(task, job_id) == {"stdout": "one\ntwo\nthree\n", "stderr": "worse"}
    assert [m["type"] for m in task.messages][-3:] == [
        "BlockOutput",
        "BlockOutput",
        "BlockFinished",
    ]


async def test_a_line_is_logged_before_the_command_ends(task: ExecutorTask) -> None:
    job_id = start(task, "echo now; sleep 600")
    assert await task.message(job_id, "BlockLog") == {"log": "now", "stdio": "stdout"}
    task.executors.abort(job_id)


@pytest.mark.parametrize(
    ("envs", "expected"),
    [
        ("A=1,B=two words", "1|two words|"),
        ("A=x=y,nothing,C=,B=", "x=y||"),
        (None, "||"),
    ],
)
async def test_variables_are_given_as_one_text(
    task: ExecutorTask, envs: str | None, expected: str
) -> None:
    job_id = start(task, 'echo "$A|$B|$C"', envs=envs)
    await task.finished(job_id)
    assert outputs(task, job_id)["stdout"] == expected


async def test_the_command_knows_its_job_and_no_secret_of_the_server(
    task: ExecutorTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOMOL_CONNECT_API_TOKEN", "secret")
    monkeypatch.setenv("SOMETHING_SECRET", "secret")
    job_id = start(task, "env; cat", envs="OOCANA_JOB_ID=mine")
    await task.finished(job_id)
    lines = outputs(task, job_id)["stdout"].splitlines()
    assert f"OOCANA_JOB_ID={job_id}" in lines
    assert f"OOCANA_SESSION_ID={task.session_id}" in lines
    assert not [line for line in lines if "secret" in line]


async def test_it_runs_in_the_block_s_directory_or_one_relative_to_it(task: ExecutorTask) -> None:
    directory = task.package_dir / "tasks" / "shell"
    (directory / "below").mkdir()
    for cwd, expected in ((None, directory), ("below", directory / "below"), ("/", Path("/"))):
        job_id = start(task, "pwd", cwd=cwd)
        await task.finished(job_id)
        assert outputs(task, job_id)["stdout"] == str(expected)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"command": "exit 3"}, "tasks/shell/task.oo.yaml' exited with code 3"),
        ({"command": "kill -9 $$"}, "was killed by signal SIGKILL (9)"),
        ({"command": "no-such-command-of-ours"}, "exited with code 127"),
        ({"command": None}, "needs its input [command]"),
        ({"command": "pwd", "cwd": "nowhere"}, "nowhere (input [cwd]) does not exist"),
        ({"command": "a\0b"}, "the command can't be started: "),
    ],
)
async def test_a_command_that_fails_says_how(
    task: ExecutorTask, inputs: dict[str, Any], said: str
) -> None:
    assert said in (await task.finished(start(task, **inputs)))["error"]


async def test_a_failed_command_gives_its_output_all_the_same(task: ExecutorTask) -> None:
    job_id = start(task, "echo so far; exit 1")
    await task.finished(job_id)
    assert outputs(task, job_id) == {"stdout": "so far", "stderr": ""}


@pytest.mark.parametrize("how", ["abort", "close", "timeout"])
async def test_a_command_that_never_ends_is_killed_with_its_children(
    task: ExecutorTask, how: str
) -> None:
    command = "sleep 600 & echo $$ $!; wait"
    timeout = 0.3 if how == "timeout" else None
    job = task.job("shell", {"command": command}, executor="shell", timeout=timeout)
    job_id = task.start_job(job)
    processes = [int(word) for word in (await task.message(job_id, "BlockLog"))["log"].split()]
    if how == "abort":
        task.executors.abort(job_id)
    elif how == "close":
        await task.executors.close(kill=True)
    else:
        await task.message(job_id, "BlockError")
    await until_gone(*processes)
    assert task.of(job_id, "BlockFinished") == []


async def test_what_a_command_leaves_behind_ends_with_it(task: ExecutorTask) -> None:
    job_id = start(task, "sleep 600 & echo $!")
    assert await task.finished(job_id) == {}
    await until_gone(int(outputs(task, job_id)["stdout"]))


async def test_a_command_that_writes_without_end_is_ended(task: ExecutorTask) -> None:
    job_id = start(task, "echo $$; exec yes $(printf '%0999d' 0)")
    finished = await task.finished(job_id)
    assert "the value of output [stdout] is too large" in finished["error"]
    await until_gone(int(task.logs(job_id)[0]))
    assert outputs(task, job_id) == {}


async def test_an_output_that_is_too_large_as_json_is_refused(task: ExecutorTask) -> None:
    job_id = start(task, "head -c 12000000 /dev/zero")
    finished = await task.finished(job_id)
    assert "the value of output [stdout] is too large" in finished["error"]
    assert outputs(task, job_id) == {}


async def test_a_command_can_be_killed_while_it_starts(task: ExecutorTask) -> None:
    witness = task.package_dir / "witness"
    start(task, f"sleep 0.3; touch {witness}")
    await asyncio.sleep(0)
    await task.executors.close(kill=True)
    assert task.messages == []
    await asyncio.sleep(0.6)
    assert not witness.exists()


async def test_a_kill_from_outside_is_told(task: ExecutorTask) -> None:
    job_id = start(task, "echo $$; exec sleep 600")
    process = int((await task.message(job_id, "BlockLog"))["log"])
    os.kill(process, signal.SIGTERM)
    assert (await task.finished(job_id))["error"].endswith("was killed by signal SIGTERM (15)")
