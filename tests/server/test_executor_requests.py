"""What a block asks of the flow, and the blocks it runs: questions, answers and events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from executor_task import ExecutorTask, running_task

from oomol_connect_sdk.server.executors import Environments, WorkerPool

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Runs a block and tells what it heard of it.
PARENT = """
    async def main(inputs, context):
        heard = []
        job = context.run_block("self::child", inputs={"n": 1}, strict=True)
        job.add_output_callback(heard.append)
        job.add_progress_callback(heard.append)
        await job.finish()
        return {"out": heard}
    """


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(Environments(tmp_path_factory.mktemp("environments")))
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="module")
async def task(
    pool: WorkerPool, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ExecutorTask]:
    async with running_task(pool, tmp_path_factory.mktemp("task")) as task:
        yield task


async def started(task: ExecutorTask, source: str) -> tuple[str, dict[str, Any]]:
    """A job of a block with this source, and the first thing it asks."""
    job_id = task.start(task.block("block", source))
    return job_id, await task.message(job_id, "BlockRequest")


async def test_a_block_runs_another_and_hears_what_comes_of_it(task: ExecutorTask) -> None:
    job_id, request = await started(task, PARENT)
    child = request.pop("block_job_id")
    request_id = request.pop("request_id")
    assert request == {
        "action": "RunBlock",
        "block": "self::child",
        "payload": {
            "inputs": {"n": 1},
            "additional_inputs_def": None,
            "additional_outputs_def": None,
        },
        "stacks": [],
        "strict": True,
    }
    task.executors.respond(job_id, request_id, {}, None)
    for event in (
        {"type": "BlockStarted"},
        {"type": "BlockOutput", "handle": "a", "output": 1},
        {"type": "BlockOutputs", "outputs": {"b": 2, "c": 3}},
        {"type": "BlockProgress", "progress": 50},
        {"type": "BlockFinished", "result": {"d": 4}},
    ):
        task.executors.notify(
            job_id, {**event, "job_id": child, "session_id": task.session_id, "stacks": []}
        )
    heard = (await task.finished(job_id))["result"]["out"]
    assert heard == [{"a": 1}, {"b": 2, "c": 3}, 50, {"d": 4}, 100]


async def test_a_block_runs_a_subflow_too(task: ExecutorTask) -> None:
    job_id, request = await started(task, PARENT)
    ids = {"job_id": request["block_job_id"], "session_id": task.session_id}
    output = {"type": "SubflowBlockOutput", "handle": "a", "output": 1}
    task.executors.notify(job_id, {**output, **ids})
    task.executors.notify(job_id, {"type": "SubflowBlockFinished", "error": None, **ids})
    assert await task.finished(job_id) == {"result": {"out": [{"a": 1}, 100]}}


@pytest.mark.parametrize("how", ["refused", "failed"])
async def test_a_block_that_cannot_be_run_or_fails_raises_where_it_is_awaited(
    task: ExecutorTask, how: str
) -> None:
    job_id, request = await started(task, PARENT)
    if how == "refused":
        task.executors.respond(job_id, request["request_id"], None, "no such block")
    else:
        finished = {"type": "BlockFinished", "job_id": request["block_job_id"]}
        task.executors.notify(
            job_id, {**finished, "session_id": task.session_id, "error": "no such block"}
        )
    error = (await task.finished(job_id))["error"]
    assert error.endswith("run block self::child failed: no such block")


async def test_two_blocks_run_by_one_hear_only_their_own(task: ExecutorTask) -> None:
    job_id = task.start(
        task.block(
            "block",
            """
            import asyncio
            async def main(inputs, context):
                heard = {}
                async def run(name):
                    job = context.run_block(name, inputs={})
                    job.add_output_callback(lambda outputs: heard.setdefault(name, outputs))
                    await job.finish()
                await asyncio.gather(run("self::a"), run("self::b"))
                context.output("other", 1)
                return {"out": heard}
            """,
        )
    )
    await task.until(lambda: task.has(job_id, "BlockRequest", 2))
    for request in reversed(task.of(job_id, "BlockRequest")):
        finished = {"type": "BlockFinished", "job_id": request["block_job_id"]}
        result = {"result": {"ran": request["block"]}, "session_id": task.session_id}
        task.executors.notify(job_id, {**finished, **result})
    expected = {"self::a": {"ran": "self::a"}, "self::b": {"ran": "self::b"}}
    assert await task.finished(job_id) == {"result": {"out": expected}}


async def test_a_callback_may_print_and_send(task: ExecutorTask) -> None:
    job_id, request = await started(
        task,
        """
        async def main(inputs, context):
            def hear(outputs):
                print("heard", outputs)
                context.output("out", outputs["a"])
            job = context.run_block("self::child", inputs={})
            job.add_output_callback(hear)
            await job.finish()
        """,
    )
    finished = {"type": "BlockFinished", "job_id": request["block_job_id"], "result": {"a": 1}}
    task.executors.notify(job_id, {**finished, "session_id": task.session_id})
    await task.finished(job_id)
    assert task.logs(job_id) == ["heard {'a': 1}"]
    assert task.of(job_id, "BlockOutput") == [{"handle": "out", "output": 1}]


async def test_only_an_async_block_can_run_another(task: ExecutorTask) -> None:
    finished = await task.run("def main(i, context): context.run_block('self::x', inputs={})")
    assert finished["error"].endswith("a block that runs another one must be `async def`")
    assert task.all_of("BlockRequest") == []


QUESTIONS = [
    ("context.query_block('self::x')", {"action": "QueryBlock", "block": "self::x"}),
    ("context.query_downstream(['out'])", {"action": "QueryDownstream", "handles": ["out"]}),
    ("context.query_downstream()", {"action": "QueryDownstream", "handles": None}),
    ("context.query_auth(CredentialInput('t', 'id'))", {"action": "QueryAuth", "payload": "id"}),
]


@pytest.mark.parametrize(("question", "request_"), QUESTIONS)
async def test_a_question_is_asked_and_its_answer_returned(
    task: ExecutorTask, question: str, request_: dict[str, Any]
) -> None:
    job_id, asked = await started(
        task,
        f"""
        from oocana import CredentialInput
        async def main(inputs, context):
            return {{"out": await {question}}}
        """,
    )
    request_id = asked.pop("request_id")
    assert asked == {**request_, "session_id": task.session_id}
    task.executors.respond(job_id, request_id, {"found": [1]}, None)
    assert await task.finished(job_id) == {"result": {"out": {"found": [1]}}}


async def test_an_answer_of_nothing_is_empty_and_hangs_nothing(task: ExecutorTask) -> None:
    job_id, asked = await started(
        task, "async def main(i, context): return {'out': await context.query_downstream()}"
    )
    task.executors.respond(job_id, asked["request_id"], None, None)
    assert await task.finished(job_id) == {"result": {"out": {}}}


@pytest.mark.parametrize(
    ("result", "error", "said"),
    [
        (None, "no such block", "ValueError: no such block"),
        ({"big": "x" * 70_000_000}, None, "ValueError: the answer is too large to be sent"),
    ],
)
async def test_a_question_that_fails_raises(
    task: ExecutorTask, result: Any, error: str | None, said: str
) -> None:
    job_id, asked = await started(
        task, "async def main(i, context): await context.query_block('self::x')"
    )
    task.executors.respond(job_id, asked["request_id"], result, error)
    assert (await task.finished(job_id))["error"].endswith(said)


async def test_a_node_s_weight_is_told_and_nothing_waits(task: ExecutorTask) -> None:
    job_id, asked = await started(
        task, "async def main(i, context): await context.internal.update_node_weight('n', 2)"
    )
    request_id = asked.pop("request_id")
    assert asked == {"action": "UpdateNodeWeight", "node_id": "n", "weight": 2}
    assert await task.finished(job_id) == {}
    task.executors.respond(job_id, request_id, {}, None)


async def test_what_comes_for_a_job_that_is_over_is_dropped(task: ExecutorTask) -> None:
    job_id, request = await started(
        task, "async def main(i, context): context.run_block('self::x', inputs={})"
    )
    await task.finished(job_id)
    task.executors.respond(job_id, request["request_id"], None, "late")
    task.executors.notify(job_id, {"type": "BlockFinished", "job_id": request["block_job_id"]})
    after = task.block("after", "def main(): return {'out': 1}")
    assert await task.finished(task.start(after)) == {"result": {"out": 1}}


async def test_a_block_that_never_hears_can_be_aborted(task: ExecutorTask, tmp_path: Path) -> None:
    witness = tmp_path / "cancelled"
    job_id, _ = await started(
        task,
        f"""
        import pathlib
        async def main(inputs, context):
            try:
                await context.run_block("self::x", inputs={{}}).finish()
            finally:
                pathlib.Path({str(witness)!r}).touch()
        """,
    )
    task.executors.abort(job_id)
    after = task.block("after", "def main(): return {'out': 1}")
    assert await task.finished(task.start(after)) == {"result": {"out": 1}}
    await task.executors.close(kill=False)
    assert witness.exists()
