"""The official client 1.0.3, from the package registry, against the local server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="the local server needs Python 3.10 or newer"
)

SCRIPT = """
import asyncio, json, sys
from oomol_connect_sdk import OomolConnectClient, ApiError, TaskFailedError, __version__

async def main(base_url, token, folder):
    async with OomolConnectClient({"base_url": base_url, "api_token": token}) as client:
        blocks = await client.blocks.list()
        statuses, lines = [], []
        result = await client.tasks.run(
            {"blockId": "sales-report::read-sales", "inputValues": {"folder": folder}},
            {"interval_ms": 50, "on_progress": lambda task: statuses.append(task["status"]),
             "on_log": lambda log: lines.append(log["type"])},
        )
        listed = await client.tasks.list()
        try:
            await client.tasks.run(
                {"blockId": "sales-report::read-sales", "inputValues": {"folder": "nowhere"}},
                {"interval_ms": 50})
        except TaskFailedError as error:
            failed = error.task_id
        try:
            await client.tasks.create({"blockId": "sales-report::nothing"})
        except ApiError as error:
            refused = [error.status, error.message]
        print(json.dumps({
            "version": __version__, "blocks": [b["blockId"] for b in blocks["blocks"]],
            "result": result["result"], "task": result["task"], "last": statuses[-1],
            "lines": lines, "listed": [t["id"] for t in listed["tasks"]],
            "failed": failed, "refused": refused}))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def official_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the official client."""
    directory = tmp_path_factory.mktemp("official") / "environment"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(directory)], check=True)
    python = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    client = "oomol-connect-sdk==1.0.3"
    subprocess.run([*uv, "pip", "install", "--python", str(python), client], check=True)
    return python


def test_the_official_client_works_with_the_local_server(
    official_python: Path, tmp_path: Path
) -> None:
    from oomol_connect_sdk.server import LocalServer

    examples = Path(__file__).parents[2] / "examples"
    with LocalServer([examples / "packages"], environments_dir=tmp_path) as server:
        arguments = [server.base_url + "/api", server.token, str(examples / "data" / "sales")]
        done = subprocess.run(
            [str(official_python), "-c", SCRIPT, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["version"] == "1.0.3"
    assert "sales-report::read-sales" in seen["blocks"]
    assert Path(seen["result"]["folder"]) == examples / "data" / "sales"
    assert seen["task"]["status"] == seen["last"] == "completed"
    assert seen["task"]["id"] in seen["listed"]
    assert {"SessionStarted", "BlockStarted", "BlockLog", "BlockFinished"} <= set(seen["lines"])
    assert seen["failed"]
    assert seen["refused"][0] == 404
    assert "nothing" in seen["refused"][1]
