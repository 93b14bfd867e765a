"""Real servers and plain HTTP clients for the tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from oomol_connect_sdk.server.service import TaskService
from oomol_connect_sdk.server.store import TaskRecord

#: Seconds within which anything a test waits for must happen.
PATIENCE = 30

ENDED = ("completed", "failed", "stopped")


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


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    id: int
    name: str
    data: Any

    @property
    def task(self) -> dict[str, Any] | None:
        """The task, when that is what the event is about."""
        task: dict[str, Any] | None = self.data["task"] if self.name == "task" else None
        return task

    def ends(self, task_id: str) -> bool:
        """Whether it says that this task has ended."""
        task = self.task
        return task is not None and task["id"] == task_id and task["status"] in ENDED


def _events(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    silence = 0
    for line in lines:
        if line.startswith(":"):
            silence += 1
            assert silence < 3, "nothing has happened for three heartbeats"
        elif line:
            silence = 0
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}
        else:
            assert fields in ({}, {"retry": "1000"}), fields
            fields = {}


class Connection:
    """A plain HTTP client of one server."""

    def __init__(self, base_url: str, token: str) -> None:
        self.http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": token} if token else {},
            timeout=PATIENCE,
            trust_env=False,
        )

    def create(
        self,
        target: str,
        inputs: Any = None,
        key: str = "manifest",
        *,
        client: str | None = None,
        **options: Any,
    ) -> str:
        """Create a task and return its id."""
        headers = {"Oomol-Connect-Client": client} if client else {}
        body = {key: target, "inputValues": inputs, **options}
        answer = self.http.post("/v1/tasks", json=body, headers=headers)
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
            return task if task["status"] in ENDED else None

        task: dict[str, Any] = wait_until(ended, f"the end of task {task_id}")
        return task

    @contextlib.contextmanager
    def events(self, last_event_id: int = 0, **query: Any) -> Iterator[Iterator[Event]]:
        """Open an event stream and give its events, one after the other."""
        headers = {"Last-Event-ID": str(last_event_id)} if last_event_id else {}
        with self.http.stream("GET", "/v1/events", params=query, headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            yield _events(answer.iter_lines())

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

    @property
    def memory(self) -> int:
        """Bytes of memory it has in use."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def kill_only(self) -> None:
        """End it as a power cut would, and leave its connections to whoever reads from them."""
        os.kill(self.pid, signal.SIGKILL)

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
