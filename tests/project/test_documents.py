"""The documents' commands and code, and the example scripts, run as they are written."""

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
MODELS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="the local server needs Python 3.10 or newer"
)


def fenced(marker: str, document: str = README) -> str:
    found = re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)\n```", document, re.DOTALL)
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
    assert fenced("command: test").endswith(".venv/bin/pytest -n 4")
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
        ("local", ["node read-sales failed"]),
        ("sync", ["sales-report::clean-sales 0.1.0"]),
        ("batch", ["no-such-folder failed", "saved.csv"]),
    ],
)
def test_the_code_with_a_server_of_its_own_runs(
    clone: Path, environment: Dict[str, str], marker: str, shown: List[str]
) -> None:
    done = run([sys.executable, "-c", fenced(f"run: {marker}")], clone, environment)
    assert done.returncode == 0, done.stderr
    assert [text for text in shown if text not in done.stdout] == []


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


@pytest.fixture
def service() -> Iterator[Any]:
    """An OpenAI-compatible model service."""
    from openai_server import openai_server

    with openai_server() as server:
        server.keys = {"your-api-key"}
        yield server


@pytest.mark.parametrize(
    ("document", "marker", "shown"),
    [
        (README, "models", ["capital of Japan?", "Tell a story.", "Shall I take an umbrella"]),
        (
            MODELS,
            "models",
            ["Echo: Tell a story.", "q1 Echo: What is art", "q2 Echo: What is ma", "48"],
        ),
        (
            MODELS,
            "agent",
            ['Tools: {"city": "Kyoto", "days": 1, "sky": "clear"}', "Echo: And tomorrow?"],
        ),
    ],
)
def test_the_code_about_models_runs(
    clone: Path,
    environment: Dict[str, str],
    service: Any,
    document: str,
    marker: str,
    shown: List[str],
) -> None:
    if marker == "agent":
        service.script(wanted_tools(weather={"city": "Kyoto"}))
    code = fenced(f"run: {marker}", document).replace("https://api.openai.com/v1", service.url)
    done = run([sys.executable, "-c", code], clone, environment)
    assert done.returncode == 0, done.stderr
    assert [text for text in shown if text not in done.stdout] == []


KYOTO = '{"city": "Kyoto", "temperature": 21, "unit": "celsius"}'


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        (
            "basics.py",
            [
                "callback: stop Usage(prompt_tokens=7",
                "answer: Echo: What is the capital of Japan?",
                "second: Echo: What is my name?",
                "remembered: ['user', 'assistant', 'user', 'assistant']",
                "image: Echo: Which colour is this? [image_url]",
                "collected: 2 replies, 24 tokens",
            ],
        ),
        (
            "streaming.py",
            [
                "1. Echo: Tell a joke about a workflow.\n",
                "2. 7 pieces: Echo:| Tell| a| joke",
                "3. (the model calls today)Tools: Friday\n",
                "4. Echo: Tell a joke about a workflow.\n",
            ],
        ),
        (
            "tools.py",
            [
                f"one: Tools: {KYOTO}\n",
                f"several: Tools: {KYOTO} | 69.8 °F\n",
                f"stream: Tools: {KYOTO}\n",
                f"hidden: Tools: {KYOTO}\n",
                f"notes: [weather: ''] [more: '{{\"city\": \"Kyoto\"}}'] Tools: {KYOTO}\n",
                "sales.csv",
            ],
        ),
        (
            "configuration.py",
            [
                "file: 0.2 500 3\n",
                "captured: ",
                "/chat/completions: 200 in ",
                "saved: POST 200 [{'role': 'user', 'content': 'What is a workflow?'}]",
                "requests: 2, of which answered: 100%\ntokens: 14 + 10\n",
                "callback: 8 pieces, Echo: What is a workflow?\n",
                "mixed: 1.0 500\n",
            ],
        ),
    ],
)
def test_the_examples_of_models_run(
    clone: Path, environment: Dict[str, str], service: Any, script: str, shown: List[str]
) -> None:
    service.script(*wishes_of(script))
    variables = {
        **environment,
        "OOMOL_MODELS_URL": service.url,
        "OOMOL_MODELS_API_KEY": "your-api-key",
        "OOMOL_MODELS_MODEL": "gpt-4o-mini",
        "PYTHONIOENCODING": "utf-8",
    }
    done = run([sys.executable, f"examples/models/{script}"], clone, variables)
    assert done.returncode == 0, done.stderr
    assert [text for text in shown if text not in done.stdout] == []
    assert "your-api-key" not in done.stdout + done.stderr


def wishes_of(script: str) -> List[Any]:
    """Return the answers that have the tools of an example called."""
    from openai_server import decent

    if script == "streaming.py":
        return [decent, decent, streamed_wish("today", {})]
    if script != "tools.py":
        return []
    kyoto = {"city": "Kyoto"}
    return [
        *(wanted_tools(weather=kyoto), decent),
        *(wanted_tools(weather=kyoto, to_fahrenheit={"celsius": 21}), decent),
        *[streamed_wish("weather", kyoto), decent] * 3,
        wanted_tools(**{"sales-report__read-sales": {"folder": "examples/data/sales"}}),
    ]


def wanted_tools(**tools: Any) -> Any:
    """Answer with the wish to have tools called."""
    from openai_server import completion, respond

    return respond(completion(None, tools=list(tools.items())))


def streamed_wish(name: str, arguments: Any) -> Any:
    """Answer with the same wish, in pieces."""
    from openai_server import chunk, stream, tool_call, usage_chunk

    pieces = [tool_call(0, name, ""), tool_call(0, None, arguments, None)]
    return stream(
        *[chunk(tools=[piece]) for piece in pieces], chunk(finish="tool_calls"), usage_chunk()
    )


PROMISES = {"T": 13, "Z": 7, "C": 11, "D": 11}


def test_every_promise_about_models_has_its_row() -> None:
    rows = re.findall(r"^\| ([TZCD]\d+) \|", MODELS, re.MULTILINE)
    assert rows == [f"{kind}{number + 1}" for kind in PROMISES for number in range(PROMISES[kind])]


def test_every_promise_about_models_names_tests_that_are_there() -> None:
    rows = re.findall(r"^\| [TZCD]\d+ \| .* \|$", MODELS, re.MULTILINE)
    named = [re.findall(r"`(test_\w+\.py)::(test_\w+)`", row) for row in rows]
    assert [row for row, tests in zip(rows, named) if not tests] == []
    for file, test in {pair for tests in named for pair in tests}:
        code = (ROOT / "tests" / "models" / file).read_text(encoding="utf-8")
        assert re.search(rf"^ *(async )?def {test}\(", code, re.MULTILINE), f"{file}::{test}"


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
