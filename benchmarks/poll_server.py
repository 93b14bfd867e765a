"""A plain poll-only Connect server for measurements; its tasks take 0.5 to 4 s and do nothing.

It speaks just enough HTTP/1.1, on asyncio alone, to cost little itself; it serves one request a
millisecond at most. ``GET /stats`` tells how many requests of each kind came.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from typing import Any, Dict, List, Tuple

#: The server answers one request in this many seconds at most.
SERVICE_TIME = 0.001


class Tasks:
    """The tasks, whose ends are decided when they are created."""

    def __init__(self, seed: int) -> None:
        self.requests: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._ends: Dict[str, float] = {}
        self._created: Dict[str, int] = {}

    def answer(self, method: str, path: str) -> Tuple[int, Any]:
        parts = path.split("?")[0].strip("/").split("/")
        if parts == ["stats"]:
            return 200, dict(self.requests)
        if parts == ["v1", "tasks"] and method == "POST":
            self.requests["create"] += 1
            return 200, {"task": self._create(), "userID": "u", "success": True}
        if parts == ["v1", "tasks"]:
            self.requests["list"] += 1
            return 200, {"tasks": [self._task(task_id) for task_id in self._ends]}
        if len(parts) < 3 or parts[2] not in self._ends:
            return 404, {"message": "not found"}
        if len(parts) == 3:
            self.requests["get"] += 1
            return 200, {"task": self._task(parts[2]), "success": True}
        self.requests[parts[3]] += 1
        return 200, {"logs": self._logs(parts[2]), "success": True}

    def _create(self) -> Any:
        task_id = f"{len(self._ends):08d}-0000-4000-8000-000000000000"
        self._ends[task_id] = time.monotonic() + self._random.uniform(0.5, 4.0)
        self._created[task_id] = int(time.time() * 1000)
        return {**self._task(task_id), "status": "created"}

    def _task(self, task_id: str) -> Any:
        end = self._ends[task_id]
        over = time.monotonic() >= end
        return {
            "id": task_id,
            "project_id": "bench_0123456789ab",
            "manifest_path": "/app/workspace/flows/bench/flow.oo.yaml",
            "status": "completed" if over else "running",
            "created_at": self._created[task_id],
            "updated_at": self._created[task_id] + (1 if over else 0),
            # Not of the API: when the task ended, so that a client can tell how late it noticed.
            "ended_monotonic": end,
        }

    def _logs(self, task_id: str) -> List[Any]:
        if time.monotonic() < self._ends[task_id]:
            return []
        event = {"type": "BlockFinished", "job_id": "j", "stacks": [], "result": {"out": 1}}
        return [{"id": 1, "type": "BlockFinished", "node_id": "none", "event": event}]


class Connection(asyncio.Protocol):
    """One connection; requests are answered in turn, at the pace of the server."""

    next_slot = 0.0

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            length = 0
            for line in lines[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            method, path, _ = lines[0].decode().split(" ")
            self._later(method, path)

    def _later(self, method: str, path: str) -> None:
        loop = asyncio.get_running_loop()
        slot = max(Connection.next_slot + SERVICE_TIME, loop.time())
        Connection.next_slot = slot
        loop.call_at(slot, self._answer, method, path)

    def _answer(self, method: str, path: str) -> None:
        assert self._transport is not None
        status, value = self._tasks.answer(method, path)
        body = json.dumps(value, separators=(",", ":")).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


async def main(seed: int) -> None:
    tasks = Tasks(seed)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(tasks), "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
