"""Real servers and plain HTTP clients for the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from oomol_connect_sdk.server.service import TaskService
from oomol_connect_sdk.server.store import TaskRecord

#: Seconds within which anything a test waits for must happen.
PATIENCE = 30


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Return the first true value of `condition`."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true in {PATIENCE} s"
        time.sleep(0.01)
    return value


async def ended(service: TaskService, task_id: str) -> TaskRecord:
    """Return the task once it has ended."""
    deadline = time.monotonic() + PATIENCE
    while not (task := await service.get(task_id)).ended:
        assert time.monotonic() < deadline, f"task {task_id} did not end in {PATIENCE} s"
    return task


def is_running(process_id: int) -> bool:
    """Whether a process of this id exists and is more than an entry of the process table."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class Connection:
    """A plain HTTP client of one server."""

    def __init__(self, base_url: str, token: str) -> None:
        self.http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": token} if token else {},
            timeout=PATIENCE,
            trust_env=False,
        )

    def create(self, target: str, inputs: Any = None, key: str = "manifest") -> str:
        """Create a task and return its id."""
        answer = self.http.post("/v1/tasks", json={key: target, "inputValues": inputs})
        assert answer.status_code == 200, answer.text
        task_id: str = answer.json()["task"]["id"]
        return task_id

    def task(self, task_id: str) -> dict[str, Any]:
        task: dict[str, Any] = self.http.get(f"/v1/tasks/{task_id}").json()["task"]
        return task

    def logs(self, task_id: str, after: int = 0) -> list[dict[str, Any]]:
        answer = self.http.get(f"/v1/tasks/{task_id}/logs", params={"after": after})
        logs: list[dict[str, Any]] = answer.json()["logs"]
        return logs

    def stop(self, task_id: str) -> dict[str, Any]:
        task: dict[str, Any] = self.http.post(f"/v1/tasks/{task_id}/stop").json()["task"]
        return task

    def wait(self, task_id: str) -> dict[str, Any]:
        """Return the task once it has ended."""

        def ended() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in ("completed", "failed", "stopped") else None

        task: dict[str, Any] = wait_until(ended, f"the end of task {task_id}")
        return task

    def run(self, target: str, inputs: Any = None) -> dict[str, Any]:
        """Create a task and return it once it has ended."""
        return self.wait(self.create(target, inputs))


class ServerProcess:
    """A server as a child process, which can be killed."""

    def __init__(self, package: Path, data_dir: Path, max_tasks: int = 8) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(package), str(data_dir), str(max_tasks)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.connection = Connection(self._process.stdout.readline().strip(), "")
        self.pid = self._process.pid

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, and return its exit status."""
        return self._end(number)

    def _end(self, number: signal.Signals) -> int:
        if self._process.poll() is None:
            os.kill(self.pid, number)
        self.connection.http.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._process.wait(PATIENCE)


_SERVE = """
import sys
from oomol_connect_sdk.server import serve
serve([sys.argv[1]], data_dir=sys.argv[2], port=0, max_tasks=int(sys.argv[3]),
      on_ready=lambda server: print(server.base_url, flush=True))
"""
