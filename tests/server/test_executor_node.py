"""What a JavaScript or TypeScript block may do and what comes of it, in real processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from executor_task import PATIENCE, ExecutorTask, running_task, until_gone

from oomol_connect_sdk.server.executors import Environments, WorkerPool

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(Environments(tmp_path_factory.mktemp("environments")))
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="module")
async def task(pool: WorkerPool, tmp_path: Path) -> AsyncIterator[ExecutorTask]:
    async with running_task(pool, tmp_path) as task:
        yield task


def write(task: ExecutorTask, block: str, files: dict[str, str]) -> None:
    """Write these files of a block; names that start with ``/`` are of its package."""
    for name, source in files.items():
        directory = task.package_dir if name[0] == "/" else task.package_dir / "tasks" / block
        file = directory / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source), "utf-8")


def start(
    task: ExecutorTask,
    source: str,
    inputs: dict[str, Any] | None = None,
    *,
    block: str = "block",
    entry: str = "main.mjs",
    **options: Any,
) -> str:
    write(task, block, {entry: source})
    job = task.job(block, inputs or {}, executor="nodejs", entry=entry, **options)
    return task.start_job(job)


async def run(task: ExecutorTask, source: str, **more: Any) -> dict[str, Any]:
    return await task.finished(start(task, source, **more))


def contents(file: str) -> bytes:
    return Path(file).read_bytes()


RETURNS: list[tuple[str, Any]] = [
    ("export default inputs => ({ out: inputs.n + 1 });", {"result": {"out": 2}}),
    ("export default async ({ n }) => ({ out: n });", {"result": {"out": 1}}),
    ("export function main() {}", {}),
    ("export const main = (inputs, context) => { context.finish(); };", {}),
    ("export default () => ({ out: undefined });", {"result": {"out": None}}),
    ("export default () => ({ out: NaN, other: new Date(0) });",
     {"result": {"out": None, "other": "1970-01-01T00:00:00.000Z"}}),
    ("export default (inputs, context) => {"
     " setTimeout(() => context.finish({ result: { out: 1 } }), 20); return context.keepAlive; }",
     {"result": {"out": 1}}),
    ("export default () => null;", {"error": "return value must be an object, but got null"}),
    ("export default () => 'text';", {"error": "return value must be an object, but got 'text'"}),
    ("export default () => [1];", {"error": "return value must be an object, but got [ 1 ]"}),
    ("export default (inputs, context) => context.finish({ error: 'no luck' });",
     {"error": "no luck"}),
    ("export default () => process.exit();", {}),
    ("export default async () => process.exit(3);",
     {"error": "block call exit with message: 3"}),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), RETURNS)
async def test_what_a_function_returns_is_the_result(
    task: ExecutorTask, source: str, expected: Any
) -> None:
    assert await run(task, source, inputs={"n": 1}) == expected


FUNCTIONS = [
    ("export const wanted = () => ({ out: 1 }); export default () => ({ out: 2 });", "main.mjs", 1),
    ("export const main = () => ({ out: 3 }); export default () => ({ out: 2 });", "main.mjs", 2),
    ("export const main = () => ({ out: 3 });", "main.mjs", 3),
    ("exports.wanted = () => ({ out: 4 });", "main.cjs", 4),
    ("module.exports = () => ({ out: 5 });", "main.cjs", 5),
    ("module.exports = { main: () => ({ out: 6 }) };", "main.js", 6),
]


@pytest.mark.parametrize(("source", "entry", "expected"), FUNCTIONS)
async def test_the_function_is_the_named_one_or_the_default_or_main(
    task: ExecutorTask, source: str, entry: str, expected: int
) -> None:
    finished = await run(task, source, entry=entry, function="wanted")
    assert finished == {"result": {"out": expected}}


@pytest.mark.parametrize(
    ("source", "entry", "said"),
    [
        ("export const other = 1;", "main.mjs", 'function "default" or "main" not found in '),
        ("export default (", "main.mjs", "SyntaxError: "),
        ("import 'no-such-module-of-ours';", "main.mjs", "Cannot find package"),
        ("throw new Error('at import');", "main.mjs", "Error: at import"),
        ("import nothing from './nothing'; export default nothing;", "main.ts", "nothing"),
    ],
)
async def test_an_entry_that_cannot_be_used_is_named(
    task: ExecutorTask, source: str, entry: str, said: str
) -> None:
    error = (await run(task, source, entry=entry))["error"]
    assert said in error
    assert "node_worker" not in error


@pytest.mark.parametrize("entry", ["missing.js", "missing.ts"])
async def test_an_entry_that_is_not_there_is_named(task: ExecutorTask, entry: str) -> None:
    task.block("block", "")
    job = task.job("block", {}, executor="nodejs", entry=entry)
    finished = await task.finished(task.start_job(job))
    assert finished["error"].endswith(f"{entry} not found")


async def test_an_exception_is_told_with_the_stack_of_the_block_only(task: ExecutorTask) -> None:
    source = """
        function deeper() { throw new TypeError("gone", { cause: new Error("why") }); }
        export default async function main() { deeper(); }
        """
    error = (await run(task, source))["error"]
    assert error.startswith("TypeError: gone\n    at deeper (")
    assert "main.mjs:3" in error
    assert "[cause]: Error: why" in error
    assert "node_worker" not in error


@pytest.mark.parametrize(
    "source",
    [
        "setTimeout(() => { throw new Error('late'); }, 10); return context.keepAlive;",
        "Promise.reject(new Error('late')); return context.keepAlive;",
        "setTimeout(() => process.exit('late'), 10); return context.keepAlive;",
    ],
)
async def test_an_error_that_nobody_catches_fails_its_job_and_not_the_others(
    task: ExecutorTask, source: str
) -> None:
    other = start(
        task,
        "export default () => new Promise(done => setTimeout(() => done({ out: 1 }), 300));",
        block="other",
    )
    finished = await run(task, f"export default (inputs, context) => {{ {source} }}")
    assert "late" in finished["error"]
    assert await task.finished(other) == {"result": {"out": 1}}


async def test_everything_a_context_sends_arrives_in_order(task: ExecutorTask) -> None:
    await run(
        task,
        """
        export default async (inputs, context) => {
            await context.output("out", 1);
            await context.output("out", 2, { to_node: [{ node_id: "a", input_handle: "b" }] });
            await context.outputs({ out: 3, other: 4, zzz: 5 });
            await context.reportLog("said", "stderr");
            await context.logJSON({ a: [1] });
            await context.warning("careful");
            await context.error("soft");
            await context.sendMessage({ m: 1 });
            await context.preview({ type: "text", data: "hello" }, "p");
            await context.internal.updateNodeWeight("n", 2);
        };
        """,
    )
    messages = [{k: v for k, v in m.items() if k != "job_id"} for m in task.messages]
    assert messages[-2].pop("request_id")
    assert messages == [
        {"type": "BlockOutput", "handle": "out", "output": 1},
        {
            "type": "BlockOutput",
            "handle": "out",
            "output": 2,
            "options": {"target": {"to_node": [{"node_id": "a", "input_handle": "b"}]}},
        },
        {
            "type": "BlockWarning",
            "warning": "Output handle key: [zzz] is not defined in Block outputs schema.",
        },
        {"type": "BlockOutputs", "outputs": {"out": 3, "other": 4}},
        {"type": "BlockLog", "log": "said", "stdio": "stderr"},
        {"type": "BlockLogJSON", "json": {"a": [1]}},
        {"type": "BlockWarning", "warning": "careful"},
        {"type": "BlockError", "error": "soft"},
        {"type": "BlockMessage", "payload": {"m": 1}},
        {"type": "BlockPreview", "payload": {"type": "text", "data": "hello", "id": "p"}},
        {"type": "BlockRequest", "action": "UpdateNodeWeight", "node_id": "n", "weight": 2},
        {"type": "BlockFinished"},
    ]


async def test_a_block_finds_what_surrounds_it(
    task: ExecutorTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOMOL_LLM_MODELS", "a,b")
    monkeypatch.setenv("OO_HOST_ENDPOINT", "host")
    stacks = ({"flow_job_id": "f", "flow": "/flow/flow.oo.yaml", "node_id": "n"},)
    write(task, "block", {"main.mjs": """
        export default (inputs, context) => ({ out: {
            ...context, inputs: undefined, models: context.OOMOL_LLM_ENV.models,
            frozen: Object.isFrozen(inputs), same: inputs === context.inputs,
            data: process.env.OOCANA_PKG_DIR, forked: process.env.IS_FORKED,
        } });
        """})  # fmt: skip
    job = task.job("block", {"n": 1}, executor="nodejs", entry="main.mjs")
    job_id = task.start_job(type(job)(**{**vars(job), "stacks": stacks}))
    out = (await task.finished(job_id))["result"]["out"]
    directories = task.directories
    data = str(directories.package_data_root / "demo")
    expected = {
        "sessionId": task.session_id,
        "jobId": job_id,
        "block_path": str(task.package_dir / "tasks" / "block" / "task.oo.yaml"),
        "stacks": list(stacks),
        "node_id": "n",
        "packageName": "demo",
        "sessionDir": str(directories.session_dir),
        "pkgDir": data,
        "pkgDataDir": data,
        "hostInfo": {"gpuVendor": "unknown", "gpuRenderer": "unknown"},
        "hostEndpoint": "host",
        "inputsDef": {},
        "outputsDef": {"out": {"handle": "out"}, "other": {"handle": "other"}},
        "models": ["a", "b"],
        "frozen": True,
        "same": True,
        "data": data,
        "forked": "1",
    }
    assert {key: out[key] for key in expected} == expected
    assert out["tmpPkgDir"] == f"{out['tmpDir']}/demo"
    assert Path(out["tmpDir"]).parent == directories.temporary_root
    warnings = [message["warning"] for message in task.of(job_id, "BlockWarning")]
    assert len(warnings) == 3
    assert warnings[0].startswith("OOMOL_LLM_ENV variable baseUrl is empty")


async def test_printed_lines_become_logs_of_the_job_that_printed_them(task: ExecutorTask) -> None:
    source = """
        const pause = () => new Promise(done => setTimeout(done, 1));
        export default async ({ name }) => {
            for (let n = 0; n < 20; n++) {
                console.log(name, n);
                await pause();
                console.error(name, "worse", { n });
            }
            process.stdout.write("no line end");
        };
        """
    jobs = {name: start(task, source, inputs={"name": name}) for name in ("a", "b")}
    for name, job_id in jobs.items():
        await task.finished(job_id)
        logs = [(message["stdio"], message["log"]) for message in task.of(job_id, "BlockLog")]
        assert [log for stdio, log in logs if stdio == "stderr"] == [
            f"{name} worse {{ n: {n} }}" for n in range(20)
        ]
        stdout = [log for stdio, log in logs if stdio == "stdout"]
        assert stdout == [*(f"{name} {n}" for n in range(20)), "no line end"]


async def test_what_a_child_process_writes_is_logged_and_reads_nothing(task: ExecutorTask) -> None:
    job_id = start(
        task,
        """
        import { execSync } from "node:child_process";
        export default () => { execSync("cat; echo from a child", { stdio: "inherit" }); };
        """,
    )
    await task.finished(job_id)
    assert task.logs(job_id) == ["from a child"]


async def test_progress_is_paced_and_its_last_report_comes_before_the_end(
    task: ExecutorTask,
) -> None:
    source = """
        export default (inputs, context) => {
            for (let n = 0; n <= 40; n++) context.reportProgress(n);
        };
        """
    job_id = start(task, source)
    await task.finished(job_id)
    assert task.of(job_id, "BlockProgress") == [{"progress": 0}, {"progress": 40}]


async def test_the_state_of_a_module_lasts_for_the_task(
    task: ExecutorTask, pool: WorkerPool, tmp_path: Path
) -> None:
    source = "let calls = 0; export default () => ({ out: [++calls, process.pid] });"
    (first, process), (again, same) = [(await run(task, source))["result"]["out"] for _ in range(2)]
    assert (first, again) == (1, 2)
    assert same == process
    async with running_task(pool, tmp_path, session_id="next") as other:
        fresh, another = (await run(other, source))["result"]["out"]
    assert fresh == 1
    assert another != process


async def test_a_node_keeps_what_it_stores_while_its_flow_runs(task: ExecutorTask) -> None:
    source = """
        export default (inputs, { flowNodeStore: store }) => {
            store.calls = (store.calls ?? 0) + 1;
            return { out: store.calls };
        };
        """
    write(task, "block", {"main.mjs": source})
    counts = []
    for flow, node in (("f", "n"), ("f", "n"), ("f", "m"), ("g", "n")):
        stacks = ({"flow_job_id": flow, "flow": "/f/flow.oo.yaml", "node_id": node},)
        job = task.job("block", {}, executor="nodejs", entry="main.mjs")
        finished = await task.finished(task.start_job(type(job)(**{**vars(job), "stacks": stacks})))
        counts.append(finished["result"]["out"])
    assert counts == [1, 2, 1, 1]


VAR = {"json_schema": {"contentMediaType": "oomol/var"}}
BIN = {"json_schema": {"contentMediaType": "oomol/bin"}}


async def test_objects_and_bytes_pass_from_block_to_block(task: ExecutorTask) -> None:
    source = "export default () => ({ out: new Set([1, 2]), other: Buffer.from([1, 255]) });"
    write(task, "make", {"main.mjs": source})
    definitions = {"out": {"handle": "out", **VAR}, "other": {"handle": "other", **BIN}}
    maker = task.job("make", {}, executor="nodejs", entry="main.mjs", outputs_def=definitions)
    made = (await task.finished(task.start_job(maker)))["result"]
    assert made["out"]["value"]["executor"] == "nodejs"
    assert contents(made["other"]["value"]) == b"\x01\xff"
    source = "export default ({ out, other }) => ({ out: [out.size, [...other]] });"
    write(task, "use", {"main.mjs": source})
    user = task.job("use", made, executor="nodejs", entry="main.mjs", inputs_def=definitions)
    assert await task.finished(task.start_job(user)) == {"result": {"out": [2, [1, 255]]}}
    reference = {**made["out"], "value": {**made["out"]["value"], "job_id": "old"}}
    user = task.job(
        "use", {"out": reference}, executor="nodejs", entry="main.mjs", inputs_def=definitions
    )
    finished = await task.finished(task.start_job(user))
    assert finished["error"].startswith("input [out] was kept in memory by job old, whose worker")


async def test_a_credential_is_what_query_auth_takes(task: ExecutorTask) -> None:
    definitions = {"it": {"handle": "it", "json_schema": {"contentMediaType": "oomol/credential"}}}
    write(task, "auth", {"main.mjs": """
        export default async ({ it }, context) => ({ out: await context.queryAuth(it) });
        """})  # fmt: skip
    job = task.job(
        "auth",
        {"it": "${{OO_CREDENTIAL:api,Mine,id-1}}"},
        executor="nodejs",
        entry="main.mjs",
        inputs_def=definitions,
    )
    job_id = task.start_job(job)
    request = await task.message(job_id, "BlockRequest")
    assert request["payload"] == "id-1"
    task.executors.respond(job_id, request["request_id"], {"key": "k"}, None)
    assert await task.finished(job_id) == {"result": {"out": {"key": "k"}}}


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("return { other: 1, out: 1n }", "the value of output [out] can't be sent as JSON: "),
        ("context.output('out', 1n)", "the value of output [out] can't be sent as JSON: "),
        ("const o = {}; o.o = o; return { out: o }", "the value of output [out] can't be sent"),
        ("return { other: 1, out: 'x'.repeat(7e7) }", "the value of output [out] is too large"),
    ],
)
async def test_a_value_that_cannot_be_sent_fails_the_job_and_names_its_handle(
    task: ExecutorTask, use: str, said: str
) -> None:
    finished = await run(task, f"export default (inputs, context) => {{ {use}; }}")
    assert said in finished["error"]


async def test_a_large_input_arrives(task: ExecutorTask) -> None:
    text = "ü" * 5_000_000
    finished = await run(task, "export default ({ text }) => ({ out: text.length });",
                         inputs={"text": text})  # fmt: skip
    assert finished == {"result": {"out": len(text)}}


RUN_BLOCK = """
    export default async (inputs, context) => {
        const heard = [];
        const job = context.runBlock("self::child", { inputs: { n: 1 } }, true);
        job.onOutput(outputs => heard.push(outputs));
        job.onOutput("a")(value => heard.push(value));
        job.onProgress(progress => heard.push(progress));
        await job.finish();
        return { out: heard };
    };
    """


async def test_a_block_runs_another_and_hears_what_comes_of_it(task: ExecutorTask) -> None:
    job_id = start(task, RUN_BLOCK)
    request = await task.message(job_id, "BlockRequest")
    assert request["action"] == "RunBlock"
    assert request["payload"] == {"inputs": {"n": 1}}
    assert request["strict"] is True
    for event in (
        {"type": "BlockOutput", "handle": "a", "output": 1},
        {"type": "BlockProgress", "progress": 50},
        {"type": "BlockFinished", "result": {"b": 2}},
    ):
        task.executors.notify(job_id, {**event, "job_id": request["block_job_id"]})
    assert await task.finished(job_id) == {"result": {"out": [{"a": 1}, 1, 50, {"b": 2}, 100]}}


async def test_a_block_that_cannot_be_run_is_an_error_where_it_is_awaited(
    task: ExecutorTask,
) -> None:
    job_id = start(task, RUN_BLOCK)
    request = await task.message(job_id, "BlockRequest")
    task.executors.respond(job_id, request["request_id"], None, "no such block")
    error = (await task.finished(job_id))["error"]
    assert error.startswith("Error: run block self::child failed: no such block")


@pytest.mark.parametrize(
    ("question", "action"),
    [
        ("context.queryBlock('self::x')", "QueryBlock"),
        ("context.queryDownstream(['out'])", "QueryDownstream"),
    ],
)
async def test_a_question_is_answered_or_an_error(
    task: ExecutorTask, question: str, action: str
) -> None:
    source = f"export default async (inputs, context) => ({{ out: await {question} }});"
    for result, error in (({"found": 1}, None), (None, "no idea")):
        job_id = start(task, source)
        request = await task.message(job_id, "BlockRequest")
        assert request["action"] == action
        task.executors.respond(job_id, request["request_id"], result, error)
        finished = await task.finished(job_id)
        assert finished.get("result", {}).get("out") == result
        assert (error or "") in finished.get("error", "")


async def test_a_table_is_previewed_as_a_file(task: ExecutorTask) -> None:
    source = """
        export default (inputs, context) => context.preview(
            { type: "table", data: { columns: ["a", "b"], rows: [[1, 'x,"y"']] } });
        """
    job_id = start(task, source)
    await task.finished(job_id)
    payload = task.of(job_id, "BlockPreview")[0]["payload"]
    assert payload["type"] == "table"
    assert contents(payload["data"]) == b'a,b\n1,"x,""y"""\n'


TYPESCRIPT = """
    import { readFileSync } from "node:fs";
    import { double } from "./more";
    enum Color { Red = 3 }
    export default async function main(inputs: { n: number }): Promise<{ out: unknown }> {
        const own = readFileSync(new URL("data.txt", import.meta.url), "utf8");
        const path = require("node:path");
        if (inputs.n < 0) {
            throw new Error("negative");
        }
        return { out: [double(inputs.n), Color.Red, own, path.basename(__dirname)] };
    }
    """


async def test_typescript_is_bundled(task: ExecutorTask) -> None:
    more = {"more.ts": "export const double = (n: number): number => 2 * n;", "data.txt": "data"}
    write(task, "block", more)
    finished = await run(task, TYPESCRIPT, inputs={"n": 2}, entry="main.ts")
    assert finished == {"result": {"out": [4, 3, "data", "block"]}}
    error = (await run(task, TYPESCRIPT, inputs={"n": -1}, entry="main.ts"))["error"]
    assert f"{Path('tasks', 'block', 'main.ts')}:9:" in error
    assert sorted(path.name for path in (task.package_dir / "tasks" / "block").iterdir()) == [
        "data.txt",
        "main.ts",
        "more.ts",
    ]


async def test_without_an_entry_the_usual_files_are_looked_for(task: ExecutorTask) -> None:
    for name, source in (
        ("index.js", "exports.main = () => ({ out: 1 });"),
        ("index.ts", "export const main = (): object => ({ out: 2 });"),
        ("main.ts", "export const main = (): object => ({ out: 3 });"),
    ):
        write(task, name, {name: source})
        job = task.job(name, {}, executor="nodejs")
        finished = await task.finished(task.start_job(job))
        assert finished == {"result": {"out": {"index.js": 1, "index.ts": 2, "main.ts": 3}[name]}}


async def test_a_source_in_the_manifest_is_run(task: ExecutorTask) -> None:
    task.block("block", "")
    source = "export default (inputs: { n: number }): object => ({ out: inputs.n });"
    job = task.job("block", {"n": 1}, executor="nodejs", source=source)
    assert await task.finished(task.start_job(job)) == {"result": {"out": 1}}


@pytest.mark.parametrize("entry", ["main.mjs", "main.cjs", "main.ts"])
async def test_what_a_package_depends_on_is_installed_outside_of_it(
    task: ExecutorTask, tmp_path: Path, entry: str
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "package.json").write_text('{"name": "our-library", "version": "1.0.0"}')
    (library / "index.js").write_text("exports.name = 'the library';")
    write(task, "block", {"/package.json": json.dumps(
        {"dependencies": {"our-library": "file:../library"}, "scripts": {"install": "exit 1"}}
    )})  # fmt: skip
    load = "import library from 'our-library';" if entry != "main.cjs" else (
        "const library = require('our-library');"
    )  # fmt: skip
    export = "export default" if entry != "main.cjs" else "module.exports ="
    job_id = start(task, f"{load} {export} () => ({{ out: library.name }});", entry=entry)
    assert await task.finished(job_id) == {"result": {"out": "the library"}}
    assert task.logs(job_id)[0] == "installing the Node.js modules of demo"
    assert sorted(path.name for path in task.package_dir.iterdir()) == ["package.json", "tasks"]


async def test_a_dependency_that_cannot_be_had_fails_the_block_with_npm_s_words(
    task: ExecutorTask,
) -> None:
    manifest = {"dependencies": {"no-such": "file:nowhere.tgz"}}
    write(task, "block", {"/package.json": json.dumps(manifest)})
    error = (await run(task, "export default () => {};"))["error"]
    assert error.startswith("the Node.js modules of demo can't be installed: npm failed")
    write(task, "block", {"/package.json": "{"})
    error = (await run(task, "export default () => {};"))["error"]
    assert "package.json: " in error


async def test_without_node_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    pool = WorkerPool(Environments(tmp_path / "environments"))
    async with running_task(pool, tmp_path) as task:
        finished = await run(task, "export default () => {};")
    await pool.close()
    assert (
        "'node' was not found: JavaScript and TypeScript blocks need Node.js" in (finished["error"])
    )


async def test_without_esbuild_typescript_runs_where_node_can_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("node", "sh"):
        (programs / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(programs))
    pool = WorkerPool(Environments(tmp_path / "environments"))
    async with running_task(pool, tmp_path) as task:
        source = "export const main = (): object => ({ out: 1 });"
        finished = await run(task, source, entry="main.ts")
        node = await pool.environments.node.find_node()
        if node.runs_typescript:
            assert finished == {"result": {"out": 1}}
        else:
            assert finished["error"].startswith("the program 'npm' was not found: ")
    await pool.close()


async def test_a_package_s_own_esbuild_and_modules_are_used(task: ExecutorTask) -> None:
    """A command of its own that only copies tells that it was this one."""
    library = "/node_modules/our-library"
    write(task, "block", {
        "/package.json": '{"dependencies": {"our-library": "1.0.0"}}',
        f"{library}/package.json": '{"name": "our-library", "exports": "./index.mjs"}',
        f"{library}/index.mjs": "export const name = 'its own';",
        "/node_modules/.bin/esbuild": """\
            #!/bin/sh
            for argument; do case $argument in
                --outfile=*) out=${argument#*=};;
                --metafile=*) echo '{"inputs": {}}' > "${argument#*=}";;
            esac; done
            { echo "const copied = true;"; cat "$1"; } > "$out"
            """,
    })  # fmt: skip
    (task.package_dir / "node_modules" / ".bin" / "esbuild").chmod(0o755)
    source = """
        import { name } from "our-library";
        export default () => ({ out: [name, copied] });
        """
    assert await run(task, source, entry="main.ts") == {"result": {"out": ["its own", True]}}
    assert task.logs("block-1") == []


SPIN = """
    export default (inputs, context) => {
        context.output("out", process.pid);
        for (;;);
    };
    """


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_block_that_never_returns_is_killed(task: ExecutorTask, how: str) -> None:
    job_id = start(task, SPIN)
    process = (await task.message(job_id, "BlockOutput"))["output"]
    if how == "abort":
        task.executors.abort(job_id)
    else:
        await task.executors.close(kill=True)
    await until_gone(process)
    assert task.of(job_id, "BlockFinished") == []


async def test_a_crash_fails_the_job_with_what_was_said(task: ExecutorTask) -> None:
    source = """
        import { writeSync } from "node:fs";
        export default () => { writeSync(2, "last words\\n"); process.abort(); };
        """
    error = (await run(task, source))["error"]
    assert error.startswith("the worker process was killed by signal SIGABRT (6)\nlast words")


SERVER = """
import asyncio, sys
from pathlib import Path
from executor_task import running_task
from oomol_connect_sdk.server.executors import Environments, WorkerPool

async def serve(root):
    pool = WorkerPool(Environments(root / "environments"))
    async with running_task(pool, root) as task:
        job_id = task.start_job(task.job("block", {}, executor="nodejs", entry="main.mjs"))
        print((await task.message(job_id, "BlockOutput"))["output"], flush=True)
        await asyncio.sleep(600)

asyncio.run(serve(Path(sys.argv[1])))
"""


async def test_a_block_that_never_returns_ends_with_a_server_that_is_killed(
    task: ExecutorTask, tmp_path: Path
) -> None:
    write(task, "block", {"main.mjs": SPIN})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVER, str(tmp_path)), env=environment, stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    process = int(await asyncio.wait_for(server.stdout.readline(), PATIENCE))
    server.kill()
    await server.wait()
    await until_gone(process)
