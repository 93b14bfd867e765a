"""What a Python block may do and what comes of it, in real worker processes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from executor_task import ExecutorTask, running_task

from oomol_connect_sdk.server.executors import Environments, WorkerPool

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(Environments(tmp_path_factory.mktemp("environments")))
    yield pool
    await pool.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest_asyncio.fixture(loop_scope="module")
async def task(pool: WorkerPool, root: Path) -> AsyncIterator[ExecutorTask]:
    """A task; all tasks of the module run in one package and share its warm worker."""
    async with running_task(pool, root) as task:
        yield task


RETURNS: list[tuple[str, Any]] = [
    ("def main(inputs, context): return {'out': inputs['n'] + 1}", {"result": {"out": 2}}),
    ("async def main(inputs, context): return {'out': inputs['n']}", {"result": {"out": 1}}),
    ("def main(inputs, context): pass", {}),
    ("def main(): return {'out': 'none'}", {"result": {"out": "none"}}),
    ("def main(inputs): return {'out': inputs}", {"result": {"out": {"n": 1}}}),
    ("def main(*inputs): return {'out': len(inputs)}", {"result": {"out": 1}}),
    (
        "from oocana import Context\n"
        "def main(context: Context):\n"
        "    assert isinstance(context, Context)\n"
        "    return {'out': context.inputs['n']}",
        {"result": {"out": 1}},
    ),
    ("def main(inputs: 'Context'): return {'out': inputs}", {"result": {"out": {"n": 1}}}),
    ("def main(inputs, context, more=3): return {'out': more}", {"result": {"out": 3}}),
    (
        "class Main:\n    def __call__(self, inputs, context): return {'out': 5}\nmain = Main()",
        {"result": {"out": 5}},
    ),
    (
        "class Main:\n    async def __call__(self, inputs): return {'out': 6}\nmain = Main()",
        {"result": {"out": 6}},
    ),
    (
        "import asyncio\nasync def main(inputs, context):\n"
        "    await asyncio.sleep(0)\n    context.output('out', 1)",
        {},
    ),
]


@pytest.mark.parametrize(("source", "expected"), RETURNS)
async def test_a_main_function_gets_its_arguments_and_its_return_value_is_the_result(
    task: ExecutorTask, source: str, expected: dict[str, Any]
) -> None:
    assert await task.run(source, n=1) == expected


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        ("[1]", "list"),
        ("(n for n in ())", "generator"),
        ("coroutine()", "coroutine"),
        ("'text'", "str"),
    ],
)
async def test_a_return_value_that_is_no_dict_fails_the_job(
    task: ExecutorTask, returned: str, kind: str
) -> None:
    finished = await task.run(f"async def coroutine(): pass\ndef main(): return {returned}")
    assert finished == {
        "error": f"return object needs to be a dictionary, but get type: {kind}",
    }


@pytest.mark.parametrize("parameters", ["a, b, c", "inputs, *, context"])
async def test_parameters_that_cannot_be_given_are_a_type_error(
    task: ExecutorTask, parameters: str
) -> None:
    finished = await task.run(f"def main({parameters}): pass")
    assert finished["error"].startswith("TypeError: main() ")


async def test_a_job_kept_alive_ends_when_its_block_says_so(task: ExecutorTask) -> None:
    finished = await task.run("""
        import threading
        def main(inputs, context):
            def later():
                context.output("out", 1)
                context.finish(result={"other": 2})
            threading.Timer(0.05, later).start()
            return context.keepAlive
        """)
    assert finished == {"result": {"other": 2}}
    assert task.of("block-1", "BlockOutput") == [{"handle": "out", "output": 1}]


async def test_the_first_end_counts_and_what_follows_is_dropped(task: ExecutorTask) -> None:
    await task.run("""
        def main(inputs, context):
            context.finish(result={"out": 1})
            context.output("out", 2)
            context.finish(error="late")
            return {"out": 3}
        """)
    other = task.start(task.block("other", "def main(): pass"))
    await task.finished(other)
    assert task.of("block-1", "BlockFinished") == [{"result": {"out": 1}}]
    assert task.of("block-1", "BlockOutput") == []


async def test_an_explicit_error_fails_the_job(task: ExecutorTask) -> None:
    finished = await task.run("def main(i, context): context.finish(error=ValueError('no luck'))")
    assert finished == {"error": "no luck"}


async def test_everything_a_context_sends_arrives_in_order(task: ExecutorTask) -> None:
    await task.run("""
        def main(inputs, context):
            context.output("out", 1)
            context.output("out", 2, to_node=[{"node_id": "a", "input_handle": "b"}])
            context.outputs({"out": 3, "other": 4})
            context.report_log("said", "stderr")
            context.report_log("plain")
            context.log_json({"a": [1]})
            context.send_warning("careful")
            context.error("soft")
            context.send_message({"m": 1})
            context.preview({"type": "text", "data": "hello"}, id="p")
            context.logger.info("logged")
            context.logger.warning("warned")
            context.internal.update_node_weight
        """)
    target = {"to_node": [{"node_id": "a", "input_handle": "b"}], "to_flow": None}
    assert [{k: v for k, v in m.items() if k != "job_id"} for m in task.messages] == [
        {"type": "BlockOutput", "handle": "out", "output": 1},
        {"type": "BlockOutput", "handle": "out", "output": 2, "options": {"target": target}},
        {"type": "BlockOutputs", "outputs": {"out": 3, "other": 4}},
        {"type": "BlockLog", "log": "said", "stdio": "stderr"},
        {"type": "BlockLog", "log": "plain", "stdio": "stdout"},
        {"type": "BlockLogJSON", "json": {"a": [1]}},
        {"type": "BlockWarning", "warning": "careful"},
        {"type": "BlockError", "error": "soft"},
        {"type": "BlockMessage", "payload": {"m": 1}},
        {"type": "BlockPreview", "payload": {"type": "text", "data": "hello", "id": "p"}},
        {"type": "BlockLog", "log": "logged", "stdio": "stdout"},
        {"type": "BlockLog", "log": "warned", "stdio": "stderr"},
        {"type": "BlockFinished"},
    ]


async def test_an_undeclared_output_is_dropped_with_a_warning(task: ExecutorTask) -> None:
    finished = await task.run("def main(i, context): return {'zzz': 1, 'out': 2}")
    assert finished == {"result": {"out": 2}}
    assert task.of("block-1", "BlockWarning") == [
        {"warning": "Output handle key: [zzz] is not defined in Block outputs schema."}
    ]


async def test_the_last_progress_is_reported_before_the_end_and_each_one_once(
    task: ExecutorTask,
) -> None:
    source = """
        def main(inputs, context):
            for n in range(inputs["upto"] + 1):
                context.report_progress(n)
        """
    block = task.block("steps", source)
    jobs = [task.start(block, upto=upto) for upto in (40, 50)]
    for job_id, last in zip(jobs, (40, 50), strict=True):
        await task.finished(job_id)
        assert task.of(job_id, "BlockProgress") == [{"progress": 0}, {"progress": last}]


async def test_printed_lines_become_logs_of_their_stream(task: ExecutorTask) -> None:
    await task.run("""
        import sys
        def main():
            print("one\\ntwo")
            print("par", end="")
            print("tial", end="", flush=True)
            print("worse", file=sys.stderr)
            sys.stdout.buffer.write("bytes ü\\n".encode())
            print("10 %\\r20 %\\r30 %\\r", end="\\n", file=sys.stderr)
            print("x" * 70000)
            print("end", end="")
        """)
    stdout = [m["log"] for m in task.of("block-1", "BlockLog") if m["stdio"] == "stdout"]
    stderr = [m["log"] for m in task.of("block-1", "BlockLog") if m["stdio"] == "stderr"]
    assert stdout == ["one", "two", "partialbytes ü", "x" * 65536, "x" * 4464, "end"]
    assert stderr == ["worse", "30 %"]


async def test_each_of_two_parallel_jobs_keeps_its_own_prints_in_all_its_threads(
    task: ExecutorTask,
) -> None:
    block = task.block(
        "talk",
        """
        import asyncio, threading
        def say(*words): print(*words)
        async def main(inputs):
            name = inputs["name"]
            for n in range(20):
                print(name, n)
                thread = threading.Thread(target=say, args=(name, "thread", n))
                thread.start()
                await asyncio.to_thread(say, name, "pool", n)
                thread.join()
        """,
    )
    jobs = {name: task.start(block, name=name) for name in ("a", "b")}
    for name, job_id in jobs.items():
        await task.finished(job_id)
        expected = {f"{name}{kind} {n}" for n in range(20) for kind in ("", " thread", " pool")}
        assert set(task.logs(job_id)) == expected
        assert len(task.logs(job_id)) == len(expected)


async def test_what_child_processes_and_c_code_write_is_logged_before_the_end(
    task: ExecutorTask,
) -> None:
    await task.run("""
        import os, subprocess, sys
        def main():
            subprocess.run(["echo", "from a child"])
            os.write(1, b"raw \\xff")
            assert sys.stdin.read() == ""
        """)
    logs = [m["log"] for m in task.messages[:-1]]
    assert logs == ["from a child", "raw \ufffd"]
    assert task.messages[-1]["type"] == "BlockFinished"
    assert {m["stdio"] for m in task.of("block-1", "BlockLog")} == {"stderr"}


async def test_a_forked_child_prints_and_leaves_the_connection_alone(task: ExecutorTask) -> None:
    finished = await task.run("""
        import multiprocessing
        def shout(n):
            print("child", n)
            return n * 2
        def main():
            with multiprocessing.get_context("fork").Pool(2) as pool:
                doubled = pool.map(shout, [1, 2, 3])
            return {"out": doubled}
        """)
    assert finished == {"result": {"out": [2, 4, 6]}}
    assert sorted(task.logs("block-1")) == ["child 1", "child 2", "child 3"]


async def test_an_exception_is_told_with_the_traceback_of_the_block_only(
    task: ExecutorTask,
) -> None:
    for keyword in ("def", "async def"):
        finished = await task.run(f"""
            def deeper():
                raise KeyError("gone")
            {keyword} main():
                deeper()
            """)
        error = finished["error"]
        assert error.startswith("Traceback (most recent call last):\n  File ")
        assert error.endswith("KeyError: 'gone'")
        assert error.count("  File ") == 2
        assert "in main" in error
        assert "in deeper" in error


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("import no_such_module", {}, "No module named 'no_such_module'"),
        ("def main(:", {}, "SyntaxError: "),
        ("1 / 0", {}, "ZeroDivisionError: division by zero"),
        ("", {}, "function main not found in "),
        ("def main(): pass", {"function": "nope"}, "function nope not found in "),
        ("notcallable = 1", {"function": "notcallable"}, "notcallable is not a function in "),
        ("", {"entry": "missing.py"}, "missing.py not found"),
    ],
)
async def test_an_entry_that_cannot_be_used_is_named(
    task: ExecutorTask, source: str, options: dict[str, str], said: str
) -> None:
    job = task.job(task.block("entry", source), {}, **options)
    finished = await task.finished(task.start_job(job))
    assert said in finished["error"]
    assert "python_worker" not in finished["error"]


@pytest.mark.parametrize("keyword", ["def", "async def"])
@pytest.mark.parametrize(
    ("leave", "expected"),
    [
        ("sys.exit()", {}),
        ("sys.exit(0)", {}),
        ("exit()", {}),
        ("sys.exit(3)", {"error": "block call exit with message: 3"}),
        ("exit('enough')", {"error": "block call exit with message: enough"}),
    ],
)
async def test_exit_ends_the_job_and_not_the_worker(
    task: ExecutorTask, keyword: str, leave: str, expected: dict[str, str]
) -> None:
    finished = await task.run(f"import os, sys\n{keyword} main():\n    {leave}")
    assert finished == expected
    await task.finished(task.start(task.block("after", "def main(): print(input)")))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(1, 2)", [1, 2]),
        ("Decimal('1.5')", 1.5),
        ("float('nan')", None),
        ("{1: Point(2, 3)}", {"1": {"x": 2, "y": 3}}),
        ("b'bytes'", "bytes"),
        ("'\\ud800'", "\ud800"),
    ],
)
async def test_values_become_json(task: ExecutorTask, expression: str, value: Any) -> None:
    finished = await task.run(f"""
        from dataclasses import dataclass
        from decimal import Decimal
        @dataclass
        class Point:
            x: int
            y: int
        def main(): return {{"out": {expression}}}
        """)
    assert finished == {"result": {"out": value}}


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("return {'other': 1, 'out': {1, 2}}", "Object of type set is not JSON serializable"),
        ("context.output('out', object())", "Object of type object is not JSON serializable"),
        ("context.outputs({'other': 1, 'out': b'\\xff'})", "can't decode byte 0xff"),
        ("return {'other': 1, 'out': 'x' * 70_000_000}", "too large to send"),
        ("context.output('out', 'x' * 70_000_000)", "give the path"),
    ],
)
async def test_a_value_that_cannot_be_sent_fails_the_job_and_names_its_handle(
    task: ExecutorTask, use: str, said: str
) -> None:
    finished = await task.run(f"def main(inputs, context):\n    {use}")
    assert "the value of output [out]" in finished["error"]
    assert said in finished["error"]


async def test_inputs_that_are_too_large_are_refused_with_the_handle(task: ExecutorTask) -> None:
    finished = await task.run("def main(): pass", small=1, big="x" * 70_000_000)
    assert "the value of input [big] is too large" in finished["error"]


VAR = {"json_schema": {"contentMediaType": "oomol/var"}}
BIN = {"json_schema": {"contentMediaType": "oomol/bin"}}


async def test_an_object_passes_through_a_var_handle(task: ExecutorTask) -> None:
    make = task.block("make", "def main(): return {'out': {1, 2, 3}}")
    maker = task.job(make, {}, outputs_def={"out": {"handle": "out", **VAR}})
    reference = (await task.finished(task.start_job(maker)))["result"]["out"]
    use = task.block("use", "def main(inputs): return {'out': sum(inputs['it'])}")
    user = task.job(use, {"it": reference}, inputs_def={"it": {"handle": "it", **VAR}})
    assert await task.finished(task.start_job(user)) == {"result": {"out": 6}}


async def test_a_var_of_a_worker_that_is_gone_is_a_clear_error(task: ExecutorTask) -> None:
    key = {"executor": "python", "handle": "out", "job_id": "old", "session_id": "s"}
    reference = {"__OOMOL_TYPE__": "oomol/var", "value": key, "serialize_path": None}
    use = task.block("use", "def main(inputs): pass")
    user = task.job(use, {"it": reference}, inputs_def={"it": {"handle": "it", **VAR}})
    finished = await task.finished(task.start_job(user))
    assert finished["error"].startswith("input [it] was kept in memory by job old, whose worker")


async def test_bytes_pass_through_a_bin_handle_by_file(task: ExecutorTask) -> None:
    make = task.block("make", "def main(): return {'out': bytes(range(256))}")
    maker = task.job(make, {}, outputs_def={"out": {"handle": "out", **BIN}})
    reference = (await task.finished(task.start_job(maker)))["result"]["out"]
    assert Path(reference["value"]).is_relative_to(task.directories.session_dir)
    use = task.block("use", "def main(inputs): return {'out': list(inputs['it'])}")
    user = task.job(use, {"it": reference}, inputs_def={"it": {"handle": "it", **BIN}})
    assert await task.finished(task.start_job(user)) == {"result": {"out": list(range(256))}}
    lost = {**reference, "value": reference["value"] + ".lost"}
    user = task.job(use, {"it": lost}, inputs_def={"it": {"handle": "it", **BIN}})
    finished = await task.finished(task.start_job(user))
    assert finished["error"].startswith("input [it] can't be read from its file")


async def test_a_block_finds_its_directories_and_the_modules_of_its_package(
    task: ExecutorTask,
) -> None:
    (task.package_dir / "shared.py").write_text("NAME = 'the package'")
    block = task.block(
        "look",
        """
        import os, pathlib, sys
        import frames
        from shared import NAME
        def main(inputs, context):
            pathlib.Path(context.tmp_dir, "t").touch()
            pathlib.Path(context.pkg_data_dir, "d").touch()
            return {"out": {
                "name": NAME, "frames": frames.MINE, "first": sys.path[0],
                "session": context.session_dir, "tmp": context.tmp_dir,
                "data": context.pkg_data_dir, "variable": os.environ["OOCANA_PKG_DIR"],
                "forked": os.environ["IS_FORKED"], "cwd": os.getcwd(),
            }}
        """,
    )
    (task.package_dir / "tasks" / "look" / "frames.py").write_text("MINE = True")
    out = (await task.finished(task.start(block)))["result"]["out"]
    directories = task.directories
    temporary = Path(out.pop("tmp"))
    assert temporary.parent == directories.temporary_root
    assert temporary.name.startswith("look-")
    assert len(temporary.name) == len("look-") + 8
    data = str(directories.package_data_root / "demo")
    assert out == {
        "name": "the package",
        "frames": True,
        "first": str(task.package_dir / "tasks" / "look"),
        "session": str(directories.session_dir),
        "data": data,
        "variable": data,
        "forked": "1",
        "cwd": os.getcwd(),
    }
