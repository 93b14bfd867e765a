"""A local server that is killed while many tasks are under way, and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from oomol_connect_sdk import OomolConnectClient, SyncOomolConnectClient

pytest.importorskip("uvicorn", reason="part of the server extra")
pytest.importorskip("click", reason="part of the cli extra")

RUNS = 200

#: The server is killed when so many runs are over.
KILL_AT = RUNS // 4

#: While the server is away a task can't be created: that is tried again for longer than by default.
RETRIES = 12

FILES = {
    "package.oo.yaml": "name: numbers\nversion: 1.0.0\n",
    "tasks/square/task.oo.yaml": (
        "executor: {name: python, options: {entry: main.py}}\n"
        "inputs_def: [{handle: n}]\noutputs_def: [{handle: square}]\n"
    ),
    "tasks/square/main.py": "def main(params, context):\n    return {'square': params['n'] ** 2}\n",
}


class RestartedServer:
    """`oomol-connect serve` on one port and one data directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: Any = None
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/api"
        self.restarts = 0
        for name, text in FILES.items():
            path = directory / "numbers" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def start(self) -> None:
        words = ["-m", "oomol_connect_sdk", "serve", "--port", str(self._port)]
        words += ["--package", str(self._directory / "numbers")]
        words += ["--data", str(self._directory / "data")]
        environment = {**os.environ, "OOMOL_CONNECT_CACHE": str(self._directory / "cache")}
        self._process = subprocess.Popen([sys.executable, *words], env=environment)

    def await_answers(self) -> None:
        deadline = time.monotonic() + 30
        while not self._listens():
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def restart_after(self, done: int) -> None:
        """Kill it when so many runs are over, and start it again at once."""
        if done == KILL_AT:
            self.kill()
            self.start()
            self.restarts += 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestartedServer]:
    server = RestartedServer(tmp_path)
    server.start()
    server.await_answers()
    yield server
    server.kill()


def requests() -> List[Any]:
    return [{"blockId": "numbers::square", "inputValues": {"n": n}} for n in range(RUNS)]


def check_that_each_ran_once(server: RestartedServer) -> None:
    assert server.restarts == 1
    with SyncOomolConnectClient(base_url=server.url) as client:
        tasks = list(client.tasks.iterate())
    assert {record["status"] for record in tasks} == {"completed"}
    inputs = Counter(record["inputValues"][0]["inputs"][0]["value"] for record in tasks)
    assert inputs == dict.fromkeys(range(RUNS), 1)


async def test_runs_at_once_outlive_a_server_that_is_killed(server: RestartedServer) -> None:
    done = 0

    async def run(client: OomolConnectClient, request: Any) -> Any:
        nonlocal done
        result = await client.tasks.run(request)
        done += 1
        server.restart_after(done)
        return result["result"]

    async with OomolConnectClient(base_url=server.url, max_retries=RETRIES) as client:
        results = await asyncio.gather(*[run(client, request) for request in requests()])
    assert results == [{"square": n * n} for n in range(RUNS)]
    await asyncio.get_running_loop().run_in_executor(None, check_that_each_ran_once, server)


def test_a_blocking_map_outlives_a_server_that_is_killed(server: RestartedServer) -> None:
    def on_item(item: Any, done: int, total: int) -> None:
        server.restart_after(done)

    with SyncOomolConnectClient(base_url=server.url, max_retries=RETRIES) as client:
        items = client.tasks.map(requests(), on_item=on_item)
    assert [item.error for item in items] == [None] * RUNS
    assert [item.value() for item in items] == [{"square": n * n} for n in range(RUNS)]
    check_that_each_ran_once(server)
