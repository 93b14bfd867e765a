"""What packages in the wild rely on: found by running them, told here in our own words."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from executor_task import ExecutorTask, running_task
from packages import write_package

from oomol_connect_sdk.server.executors import Environments, WorkerPool
from oomol_connect_sdk.server.executors.project_file import RequirementsUnreadable
from oomol_connect_sdk.server.executors.requirements import read_requirements
from oomol_connect_sdk.server.executors.setup_scripts import is_routine

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
in_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(Environments(tmp_path_factory.mktemp("environments")))
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="module")
async def task(pool: WorkerPool, tmp_path: Path) -> AsyncIterator[ExecutorTask]:
    async with running_task(pool, tmp_path) as task:
        yield task


def write(package_dir: Path, files: dict[str, str]) -> None:
    for name, source in files.items():
        file = package_dir / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source), "utf-8")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("poetry install --no-root", "six==1.17.0"),
        ("|\n    set -e\n    uv sync\n    apt-get -y install something", "six==1.17.0"),
        ("pip install -U .", "six==1.17.0"),
        ("npm install && pip install -r requirements.txt", "six==1.16.0"),
        ("poetry install && pip install -r requirements.txt", "six==1.16.0"),
        ("|\n    pip install six\n    . ./more.sh", "six==1.16.0"),
        ("", "six==1.16.0"),
    ],
)
def test_of_two_lists_of_requirements_the_one_that_the_bootstrap_script_installs_counts(
    tmp_path: Path, script: str, expected: str
) -> None:
    """Whoever moves to a project file tends to leave the old list lying, and it grows stale."""
    package = write_package(tmp_path, "demo", files={
        "package.oo.yaml": f"name: demo\nscripts:\n  bootstrap: {script}\n",
        "requirements.txt": "six==1.16.0\n",
        "pyproject.toml": "[project]\nname = 'demo'\ndependencies = ['six==1.17.0']\n",
    })  # fmt: skip
    assert read_requirements(package).lines == (expected,)


def test_without_dependencies_a_project_file_is_no_list_of_requirements(tmp_path: Path) -> None:
    package = write_package(tmp_path, "demo", files={
        "package.oo.yaml": "name: demo\nscripts: {bootstrap: poetry install}\n",
        "requirements.txt": "six==1.16.0\n",
        "pyproject.toml": "[project]\nname = 'demo'\nrequires-python = '>=3.8'\n",
    })  # fmt: skip
    assert read_requirements(package).lines == ("six==1.16.0",)
    assert read_requirements(package).python == ">=3.8"


def test_a_bootstrap_script_that_is_no_text_is_named(tmp_path: Path) -> None:
    package = write_package(tmp_path, "demo", files={
        "package.oo.yaml": "name: demo\nscripts:\n  bootstrap: [poetry, install]\n",
        "requirements.txt": "six==1.16.0\n",
        "pyproject.toml": "[project]\nname = 'demo'\ndependencies = ['six==1.17.0']\n",
    })  # fmt: skip
    with pytest.raises(RequirementsUnreadable, match=r"package\.oo\.yaml:3: scripts\.bootstrap"):
        read_requirements(package)


@pytest.mark.parametrize(
    ("script", "routine"),
    [
        ("npm install", True),
        ("set -e\npnpm install --no-lockfile # all\n\npoetry install --no-root\n", True),
        ("npm ci && sudo pip install -q -r requirements.txt", True),
        ("python -m pip install -r requirements.txt; echo done", True),
        ("# nothing yet", True),
        ("npm install lodash", False),
        ("pip install -r requirements.txt pandas", False),
        ("poetry install && apt-get -y install something", False),
        ("poetry add pandas", False),
        ("npm install && ./more.sh", False),
        ("npm install > log", False),
        ("echo 'apt-get update' | sh", False),
    ],
)
def test_a_script_that_installs_what_is_installed_anyway_is_routine(
    script: str, routine: bool
) -> None:
    """Most packages have such a script, from the template; that it does not run is no loss."""
    assert is_routine(script) is routine


@in_one_loop
async def test_only_a_script_that_would_do_more_is_said_not_to_run(
    pool: WorkerPool, tmp_path: Path
) -> None:
    lines: list[str] = []
    for name, script in {"usual": "npm install", "special": "apt-get -y install it"}.items():
        manifest = f"name: {name}\nscripts: {{bootstrap: {script}}}\n"
        package = write_package(tmp_path / name, name, files={"package.oo.yaml": manifest})
        await pool.environments.bootstrap(package, lines.append)
    assert ["special" in line for line in lines] == [True]


@in_one_loop
async def test_modules_at_the_top_of_a_package_need_no_init_file(task: ExecutorTask) -> None:
    write(task.package_dir, {"src/numbers_of_ours.py": "ANSWER = 42"})
    source = """
        from src.numbers_of_ours import ANSWER
        def main(inputs, context):
            return {"out": ANSWER}
        """
    assert await task.run(source) == {"result": {"out": 42}}


@needs_node
@in_one_loop
async def test_es_modules_in_a_package_that_does_not_say_so_run_without_a_word(
    task: ExecutorTask,
) -> None:
    write(task.package_dir, {
        "package.json": '{"private": true}',
        "tasks/block/main.js": "export default () => ({ out: 1 });",
    })  # fmt: skip
    job_id = task.start_job(task.job("block", {}, executor="nodejs", entry="main.js"))
    assert await task.finished(job_id) == {"result": {"out": 1}}
    assert task.logs(job_id) == []


@needs_node
@in_one_loop
@pytest.mark.parametrize("entry", ["main.js", "main.ts"])
async def test_imports_may_leave_out_what_require_would_add(task: ExecutorTask, entry: str) -> None:
    """A file of a dependency without its suffix is what bundlers and ``require`` accept."""
    write(task.package_dir, {
        "package.json": '{"private": true, "dependencies": {"dated": "1.0.0"}}',
        "node_modules/dated/package.json": '{"name": "dated", "main": "index.js"}',
        "node_modules/dated/index.js": "exports.name = 'dated';",
        "node_modules/dated/plugin/utc.js": "module.exports = 'utc';",
        "node_modules/dated/plugin/zones/index.js": "module.exports = 'zones';",
        "tasks/block/beside.js": "export default 'beside';",
        f"tasks/block/{entry}": """
            import dated from "dated";
            import utc from "dated/plugin/utc";
            import zones from "dated/plugin/zones";
            import beside from "./beside";
            export default () => ({ out: [dated.name, utc, zones, beside] });
            """,
    })  # fmt: skip
    job_id = task.start_job(task.job("block", {}, executor="nodejs", entry=entry))
    expected = {"result": {"out": ["dated", "utc", "zones", "beside"]}}
    assert await task.finished(job_id) == expected


@needs_node
@in_one_loop
async def test_an_import_that_nothing_finds_is_named(task: ExecutorTask) -> None:
    source = "import nothing from './nothing'; export default nothing;"
    write(task.package_dir, {"tasks/block/main.js": source})
    job_id = task.start_job(task.job("block", {}, executor="nodejs", entry="main.js"))
    error = (await task.finished(job_id))["error"]
    assert f"Cannot find module '{task.package_dir}/tasks/block/nothing'" in error


@needs_node
@in_one_loop
async def test_what_a_typescript_block_imports_finds_itself_where_it_lies(
    task: ExecutorTask,
) -> None:
    write(task.package_dir, {
        "shared/text.txt": "shared",
        "shared/text.ts": """\
            #!/usr/bin/env node
            import { readFileSync } from "node:fs";
            import { join } from "node:path";
            export const byDirectory = readFileSync(join(__dirname, "text.txt"), "utf8");
            export const byUrl = readFileSync(new URL("text.txt", import.meta.url), "utf8");
            export const file: string = __filename;
            export function fail(): never { throw new Error(import.meta.dirname); }
            """,
        "tasks/block/text.txt": "own",
        "tasks/block/main.ts": """\
            import { readFileSync } from "node:fs";
            import { byDirectory, byUrl, fail, file } from "../../shared/text";
            export default ({ n }: { n: number }) => {
                if (n < 0) fail();
                const own = readFileSync(`${import.meta.dirname}/text.txt`, "utf8");
                return { out: [own, byDirectory, byUrl], other: [__filename, file] };
            };
            """,
    })  # fmt: skip

    def start(n: int) -> str:
        return task.start_job(task.job("block", {"n": n}, executor="nodejs", entry="main.ts"))

    main, shared = (task.package_dir / path for path in ("tasks/block/main.ts", "shared/text.ts"))
    assert await task.finished(start(1)) == {
        "result": {"out": ["own", "shared", "shared"], "other": [str(main), str(shared)]}
    }
    error = (await task.finished(start(-1)))["error"]
    assert f"Error: {shared.parent}\n" in error
    assert f"{Path('shared', 'text.ts')}:7:" in error


ANYTHING = {
    "out": {"handle": "out", "json_schema": {"anyOf": [{"type": "string"}, {}]}},
    "other": {"handle": "other"},
}
KEPT = {
    "out": {"handle": "out", "json_schema": {"contentMediaType": "oomol/var"}},
    "other": {"handle": "other", "json_schema": {"contentMediaType": "oomol/bin"}},
}
LOST_OBJECT = {
    "__OOMOL_TYPE__": "oomol/var",
    "value": {"executor": "x", "handle": "h", "job_id": "j", "session_id": "s"},
}
LOST_FILE = {"__OOMOL_TYPE__": "oomol/bin", "value": "/no/such/file"}


@in_one_loop
async def test_a_python_block_gets_objects_and_bytes_at_handles_that_take_anything(
    task: ExecutorTask,
) -> None:
    make = task.block("make", "def main(): return {'out': {1, 2}, 'other': b'bytes'}")
    made = (await task.finished(task.start_job(task.job(make, {}, outputs_def=KEPT))))["result"]
    use = task.block(
        "use",
        "def main(inputs): return {'out': {k: repr(v) for k, v in inputs.items()}}",
    )
    undeclared = {**made, "more": made["other"]}
    job = task.job(use, undeclared, inputs_def=ANYTHING)
    shown = (await task.finished(task.start_job(job)))["result"]["out"]
    assert shown == {"out": "{1, 2}", "other": "b'bytes'", "more": repr(made["other"])}


@needs_node
@in_one_loop
async def test_a_javascript_block_gets_objects_and_bytes_at_handles_that_take_anything(
    task: ExecutorTask,
) -> None:
    write(task.package_dir, {
        "tasks/make/main.mjs": "export default () => ({ out: new Set([1]), other: Buffer.of(7) })",
        "tasks/use/main.mjs": "export default it => ({ out: [it.out.size, it.other[0]] })",
    })  # fmt: skip
    node = {"executor": "nodejs", "entry": "main.mjs"}
    maker = task.job("make", {}, outputs_def=KEPT, **node)
    made = (await task.finished(task.start_job(maker)))["result"]
    job = task.job("use", made, inputs_def=ANYTHING, **node)
    assert await task.finished(task.start_job(job)) == {"result": {"out": [1, 7]}}


@pytest.mark.parametrize(
    "stand_in",
    [
        LOST_OBJECT,
        LOST_FILE,
        {"__OOMOL_TYPE__": "oomol/var"},
        {"__OOMOL_TYPE__": "oomol/var", "value": 3},
        {"__OOMOL_TYPE__": "oomol/bin", "value": None},
        {"__OOMOL_TYPE__": "oomol/bin", "value": "nul\0"},
    ],
)
@pytest.mark.parametrize("language", ["python", pytest.param("nodejs", marks=needs_node)])
@in_one_loop
async def test_what_stands_for_a_value_that_is_not_to_be_had_passes_through_such_handles(
    task: ExecutorTask, language: str, stand_in: dict[str, object]
) -> None:
    """Blocks that only hand values on, such as loops, may run in another process."""
    write(task.package_dir, {
        "tasks/pass/index.py": "def main(inputs): return {'out': inputs['out']}",
        "tasks/pass/index.js": "exports.main = inputs => ({ out: inputs.out });",
    })  # fmt: skip
    job = task.job("pass", {"out": stand_in}, inputs_def=ANYTHING, executor=language)
    assert await task.finished(task.start_job(job)) == {"result": {"out": stand_in}}
