"""Virtual environments of packages: built once, kept, rebuilt when half done, errors readable."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from executor_task import running_task
from packages import task_text, write_package
from packaging.requirements import Requirement
from servers import ended

from oomol_connect_sdk.server.backend import open_service
from oomol_connect_sdk.server.executors import EnvironmentFailed, Environments, WorkerPool, building
from oomol_connect_sdk.server.executors.project_file import read_project

#: A requirement that no installer can meet.
BROKEN = "no-such-package-of-ours @ file:///nowhere/no_such_package-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def kept_cache() -> Iterator[Path]:
    """One cache for all tests that only need some environment."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "demo"
    package.mkdir()
    return package


@pytest.fixture
async def environments(kept_cache: Path) -> AsyncIterator[Environments]:
    environments = Environments(kept_cache)
    yield environments
    await environments.close()


def imports(python: Path, *modules: str) -> bool:
    command = [str(python), "-c", f"import {', '.join(modules)}"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"requirements.txt": "# nothing yet\n\n"},
        {"pyproject.toml": "[project]\nname = 'demo'\nrequires-python = '>=3.8'\n"},
        {"pyproject.toml": "[tool.other]\n"},
    ],
)
async def test_a_package_without_requirements_runs_on_the_server_s_python(
    environments: Environments, package: Path, files: dict[str, str]
) -> None:
    for name, text in files.items():
        (package / name).write_text(text)
    lines: list[str] = []
    assert await environments.interpreter(package, lines.append) == Path(sys.executable)
    assert lines == []


async def test_requirements_lead_to_an_environment_that_is_built_once(
    environments: Environments, kept_cache: Path, package: Path
) -> None:
    (package / "requirements.txt").write_text("six==1.17.0\n")
    lines: list[str] = []
    other: list[str] = []
    python, same = await asyncio.gather(
        environments.interpreter(package, lines.append),
        environments.interpreter(package, other.append),
    )
    assert python == same
    assert imports(python, "six", "oocana")
    assert lines[0] == "preparing the environment of demo"
    assert any("six" in line for line in lines)
    assert lines.count(lines[0]) == 1
    again: list[str] = []
    assert await Environments(kept_cache).interpreter(package, again.append) == python
    assert again == []


async def test_the_dependencies_of_a_project_file_count_too(
    environments: Environments, package: Path
) -> None:
    (package / "pyproject.toml").write_text("[project]\nname='demo'\ndependencies=['six==1.17.0']")
    python = await environments.interpreter(package, lambda line: None)
    assert imports(python, "six", "oocana")


POETRY = """
[tool.poetry.dependencies]
python = "^3.8"
six = "^1.17.0"
no-such-extra = { version = "*", optional = true }
"""


async def test_the_dependencies_of_poetry_count_too(
    environments: Environments, package: Path
) -> None:
    (package / "pyproject.toml").write_text(POETRY)
    python = await environments.interpreter(package, lambda line: None)
    assert imports(python, "six", "oocana")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ('"^1.2.3"', ["x>=1.2.3,<2"]),
        ('"^0.2.3"', ["x>=0.2.3,<0.3"]),
        ('"^0.0.3"', ["x>=0.0.3,<0.0.4"]),
        ('"^0.0"', ["x>=0.0,<0.1"]),
        ('"^0"', ["x>=0,<1"]),
        ('"^1"', ["x>=1,<2"]),
        ('"~1.2.3"', ["x>=1.2.3,<1.3"]),
        ('"~1"', ["x>=1,<2"]),
        ('"~=1.2"', ["x~=1.2"]),
        ('"1.2"', ["x==1.2"]),
        ('"1.*"', ["x==1.*"]),
        ('"*"', ["x"]),
        ('">= 1, <2"', ["x>=1,<2"]),
        ('{ version = "^1", extras = ["a", "b"] }', ["x[a,b]>=1,<2"]),
        ('{ version = "1", optional = true }', []),
        ('{ version = "1", markers = "os_name == \'nt\'" }', ["x==1 ; (os_name == 'nt')"]),
        ('{ version = "1", python = "<3.9" }', ["x==1 ; python_version < '3.9'"]),
        ('{ git = "https://h/x.git", tag = "v1" }', ["x @ git+https://h/x.git@v1"]),
        ('{ url = "https://h/x.whl" }', ["x @ https://h/x.whl"]),
        (
            '[{ version = "1", python = "^3.8" }, { version = "2", python = "~4.0" }]',
            [
                "x==1 ; python_version >= '3.8' and python_version < '4'",
                "x==2 ; python_version >= '4.0' and python_version < '4.1'",
            ],
        ),
    ],
)
def test_a_dependency_of_poetry_is_written_as_installers_read_it(
    package: Path, wanted: str, expected: list[str]
) -> None:
    file = package / "pyproject.toml"
    file.write_text(f"[tool.poetry.dependencies]\npython = '>=3.8'\nx = {wanted}\n")
    project = read_project(file)
    assert list(project.dependencies) == expected
    assert project.python == ">=3.8"
    for dependency in project.dependencies:
        Requirement(dependency)


async def test_a_package_for_another_python_gets_one_of_this_machine(
    environments: Environments, package: Path
) -> None:
    other = await another_python()
    if other is None:
        pytest.skip("this machine has no other Python that oocana works with")
    (package / "pyproject.toml").write_text(f"[project]\nrequires-python = '=={other}.*'\n")
    python = await environments.interpreter(package, lambda line: None)
    assert imports(python, "oocana")
    command = [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    assert subprocess.check_output(command, text=True).strip() == other  # noqa: ASYNC221


async def another_python() -> str | None:
    for minor in range(10, 14):
        if sys.version_info[:2] != (3, minor) and await building.find_interpreter(f"3.{minor}"):
            return f"3.{minor}"
    return None


async def test_a_block_runs_in_the_environment_of_its_package_and_hears_of_its_making(
    tmp_path: Path, package: Path
) -> None:
    (package / "requirements.txt").write_text("six==1.17.0\n")
    pool = WorkerPool(Environments(tmp_path / "cache"))
    async with running_task(pool, tmp_path) as task:
        finished = await task.run("import six, sys\ndef main(): return {'out': sys.prefix}")
        assert finished["result"]["out"].startswith(str(tmp_path / "cache"))
        assert task.logs("block-1")[0] == "preparing the environment of demo"
        assert {message["stdio"] for message in task.of("block-1", "BlockLog")} == {"stderr"}
    await pool.close()


async def test_a_requirement_that_cannot_be_met_fails_the_block_with_the_installer_s_words(
    tmp_path: Path, package: Path
) -> None:
    (package / "requirements.txt").write_text(BROKEN)
    pool = WorkerPool(Environments(tmp_path / "cache"))
    async with running_task(pool, tmp_path) as task:
        finished = await task.run("def main(): pass")
    await pool.close()
    assert finished["error"].startswith("the environment of demo can't be built: ")
    assert "no_such_package-1.0" in finished["error"]


async def test_a_half_built_environment_is_thrown_away_at_the_next_try(
    tmp_path: Path, package: Path
) -> None:
    wheel = package / "wheel.txt"
    wheel.write_text(BROKEN)
    requirements = package / "requirements.txt"
    requirements.write_text("-r wheel.txt\n")
    environments = Environments(tmp_path / "cache")
    with pytest.raises(EnvironmentFailed):
        await environments.interpreter(package, lambda line: None)
    (half,) = (entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir())
    leftover = half / "leftover"
    leftover.touch()
    with pytest.raises(EnvironmentFailed):
        await environments.interpreter(package, lambda line: None)
    assert not leftover.exists()
    wheel.write_text("six==1.17.0")
    assert imports(await environments.interpreter(package, lambda line: None), "six")


async def test_two_servers_build_the_same_environment_once(tmp_path: Path, package: Path) -> None:
    (package / "requirements.txt").write_text("six==1.17.0\n")
    servers = [Environments(tmp_path / "cache") for _ in range(2)]
    lines: list[str] = []
    pythons = await asyncio.gather(
        *(server.interpreter(package, lines.append) for server in servers)
    )
    assert pythons[0] == pythons[1]
    assert lines.count("preparing the environment of demo") == 1


async def test_a_job_that_leaves_does_not_end_the_build_for_the_others(
    tmp_path: Path, package: Path
) -> None:
    (package / "requirements.txt").write_text("six==1.17.0\n")
    environments = Environments(tmp_path / "cache")
    began = asyncio.Event()
    leaving = asyncio.create_task(environments.interpreter(package, lambda line: began.set()))
    await began.wait()
    staying = asyncio.create_task(environments.interpreter(package, lambda line: None))
    leaving.cancel()
    assert imports(await staying, "six")


async def test_closing_ends_a_build(tmp_path: Path, package: Path) -> None:
    (package / "requirements.txt").write_text("six==1.17.0\n")
    environments = Environments(tmp_path / "cache")
    began = asyncio.Event()
    waiting = asyncio.create_task(environments.interpreter(package, lambda line: began.set()))
    await began.wait()
    await environments.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize(
    ("project", "said"),
    [
        ("requires-python = '>=4'", "needs Python >=4 (requires-python in its pyproject.toml)"),
        ("requires-python = 'new'", "pyproject.toml: Invalid specifier: 'new'"),
        ("dependencies = 'six'", "project.dependencies is not a list of strings"),
        ("dependencies = [", "pyproject.toml: "),
        ("[tool.poetry.dependencies]\nx = '1 || 2'", "the alternatives '1 || 2' for x can't be"),
        ("[tool.poetry.dependencies]\nx = '^new'", "pyproject.toml: Invalid version: 'new'"),
        ("[tool.poetry.dependencies]\npython = '>=4'", "needs Python >=4"),
    ],
)
async def test_a_project_that_cannot_run_here_says_why(
    environments: Environments, package: Path, project: str, said: str
) -> None:
    (package / "pyproject.toml").write_text(f"[project]\n{project}\n")
    with pytest.raises(EnvironmentFailed) as failure:
        await environments.interpreter(package, lambda line: None)
    assert said in str(failure.value)


async def test_without_uv_the_environment_is_built_by_pip(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setitem(sys.modules, "uv", None)
    if shutil.which("uv"):
        pytest.skip("uv is installed for everybody on this machine")
    assert building.find_uv() is None
    (package / "requirements.txt").write_text("six==1.17.0\n")
    python = await Environments(tmp_path / "cache").interpreter(package, lambda line: None)
    assert imports(python, "six", "oocana", "pip")


MEETING = """
import os, time, six

def main(params):
    open(params["mine"], "w").close()
    while not os.path.exists(params["other"]):
        time.sleep(0.01)
    return {"version": six.__version__}
"""


async def test_packages_that_pin_different_versions_of_a_library_run_at_the_same_time(
    tmp_path: Path, kept_cache: Path
) -> None:
    versions = {"old": "1.16.0", "new": "1.17.0"}
    packages = [
        write_package(
            tmp_path / name,
            name,
            files={
                "requirements.txt": f"six=={version}\n",
                "tasks/meet/task.oo.yaml": task_text("mine other", "version"),
                "tasks/meet/main.py": MEETING,
            },
        )
        for name, version in versions.items()
    ]
    places = [str(tmp_path / "first"), str(tmp_path / "second")]
    async with open_service(packages, environments_dir=kept_cache) as service:
        tasks = [
            await service.create(f"{name}::meet", {"mine": mine, "other": other})
            for name, mine, other in zip(versions, places, places[::-1], strict=True)
        ]
        results = [(await ended(service, task.id)).result for task in tasks]
    assert results == [{"version": version} for version in versions.values()]
