"""The README's commands and code, and the example scripts, run as they are written."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import httpx
import pytest

from oomol_connect_sdk import OomolConnectClient, SyncOomolConnectClient

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="the local server needs Python 3.10 or newer"
)


def fenced(marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)\n```", README, re.DOTALL)
    assert found, marker
    return found[1]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's files, as a newcomer has them."""
    directory = tmp_path_factory.mktemp("clone") / "project"
    leave = shutil.ignore_patterns(".*", "__pycache__", "dist", "build", "*.egg-info", "report")
    shutil.copytree(ROOT, directory, ignore=leave)
    return directory


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """The environment of a newcomer: no package environment was built yet."""
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "OOMOL_CONNECT_CACHE": str(cache), "PYTHONUNBUFFERED": "1"}


def run(command: list, directory: Path, environment: Dict[str, str]) -> subprocess.CompletedProcess:  # type: ignore[type-arg]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=600
    )


def test_the_main_command_shows_a_flow_at_work(clone: Path, environment: Dict[str, str]) -> None:
    done = run(["bash", "-c", fenced("command: main")], clone, environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["summary"]["revenue"] == pytest.approx(173375.0)
    assert Path(result["report"]) == (clone / "report" / "report.html").resolve()
    assert Path(result["report"]).stat().st_size > 10_000
    assert "estimate-revenue | " in done.stderr
    assert "%" in done.stderr


def test_the_test_command_is_the_one_the_gate_runs() -> None:
    assert fenced("command: test").endswith(".venv/bin/pytest")
    assert "readme_command test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def served(clone: Path, environment: Dict[str, str]) -> Iterator[str]:
    """The address of a server that `oomol-connect serve` runs."""
    command = [sys.executable, "-m", "oomol_connect_sdk", "serve", "--port", "0"]
    command += ["--package", "examples/packages/sales-report", "--token", "your-api-token"]
    server = subprocess.Popen(
        command, cwd=clone, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    with server.stderr:
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stderr.readline())
        assert found
        yield found[0]
        server.terminate()
        assert server.wait(30) == 0


def test_the_code_for_a_server_runs(clone: Path, environment: Dict[str, str], served: str) -> None:
    code = fenced("run: remote").replace("http://localhost:3000", served)
    done = run([sys.executable, "-c", code], clone, environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(" 173375.0")


@pytest.mark.parametrize(
    ("marker", "shown"),
    [
        ("local", "node read-sales failed"),
        ("sync", "sales-report::clean-sales 0.1.0"),
        ("batch", "no-such-folder failed"),
        ("batch", "saved.csv"),
    ],
)
def test_the_code_with_a_server_of_its_own_runs(
    clone: Path, environment: Dict[str, str], marker: str, shown: str
) -> None:
    done = run([sys.executable, "-c", fenced(f"run: {marker}")], clone, environment)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ("basic_usage.py", ["the flow gave: {'first_month': '2025-01'"]),
        ("advanced_usage.py", ["five tasks at once: 5 results", "HTTP 404: ", "it was stopped"]),
    ],
)
def test_the_example_scripts_run(
    clone: Path, environment: Dict[str, str], script: str, shown: List[str]
) -> None:
    done = run([sys.executable, f"examples/{script}"], clone, environment)
    assert done.returncode == 0, done.stderr
    assert [text for text in shown if text not in done.stdout] == []


def test_a_flow_gives_the_same_result_in_every_way(
    clone: Path, environment: Dict[str, str], served: str
) -> None:
    target = "sales-report::monthly-report"
    inputs = {"folder": "examples/data/sales", "output_dir": "same", "resamples": 200}
    options = {"base_url": f"{served}/api", "api_token": "your-api-token"}
    request: Any = {"blockId": target, "inputValues": inputs}

    async def asynchronously() -> Any:
        async with OomolConnectClient(**options) as client:
            return (await client.tasks.run(request))["result"]

    command = [sys.executable, "-m", "oomol_connect_sdk", "run", target, "--quiet"]
    for handle, value in inputs.items():
        command += ["-i", f"{handle}={value}"]
    named = {"OOMOL_CONNECT_BASE_URL": served, "OOMOL_CONNECT_API_TOKEN": "your-api-token"}
    shell = run(command, clone, {**environment, **named})
    assert shell.returncode == 0, shell.stderr
    with SyncOomolConnectClient(**options) as client:
        results = [
            json.loads(shell.stdout),
            asyncio.run(asynchronously()),
            client.tasks.run(request)["result"],
            plain_http(served, request),
        ]
    assert results[0]["summary"]["orders"] == 2860
    assert results == [results[0]] * 4


def plain_http(address: str, request: Any) -> Any:
    """Run a task with nothing but HTTP and return its result."""
    with httpx.Client(base_url=address, headers={"Authorization": "your-api-token"}) as http:
        task = http.post("/v1/tasks", json=request).json()["task"]
        while task["status"] not in ("completed", "failed", "stopped"):
            time.sleep(0.1)
            task = http.get(f"/v1/tasks/{task['id']}").json()["task"]
        return task["result"]
