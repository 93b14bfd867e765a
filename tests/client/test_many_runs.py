"""Many runs at once on the default settings, against a server with one answer a millisecond."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any, Callable, Dict, Iterable, List

from raw_server import RawCall, RawServer, TaskTable
from scripted import log, task

from oomol_connect_sdk import OomolConnectClient

CREATE = "POST /api/v1/tasks"


class BusyServer(TaskTable):
    """A poll-only server whose tasks end by themselves, after these seconds at most."""

    def __init__(self, longest: float) -> None:
        super().__init__()
        self._ends: Dict[str, float] = {}
        self._longest = longest
        self._random = random.Random(7)
        self._next = 0.0
        self._turn = threading.Lock()

    def __call__(self, call: RawCall) -> Iterable[bytes]:
        with self._turn:
            now = time.monotonic()
            self._next = max(self._next, now) + 0.001
            pause = self._next - now
        time.sleep(pause)
        return super().__call__(call)

    def task(self, task_id: str) -> Dict[str, Any]:
        end = time.monotonic() + self._random.uniform(0, self._longest)
        over = time.monotonic() >= self._ends.setdefault(task_id, end)
        return task("completed" if over else "running", task_id)

    def rows(self, task_id: str) -> List[Any]:
        return [log(1, "BlockFinished", job_id="j", result={"of": task_id})]


def requests(count: int) -> List[Any]:
    return [{"blockId": "p::b", "inputValues": {"n": number}} for number in range(count)]


def check(results: List[Any], server: RawServer) -> None:
    assert [result["result"] for result in results] == [
        {"of": result["task_id"]} for result in results
    ]
    assert len({result["task_id"] for result in results}) == len(results)
    assert server.count(CREATE) == len(results)


async def test_a_thousand_runs_at_once_all_return_their_results() -> None:
    with RawServer(BusyServer(longest=2.0)) as server:
        async with OomolConnectClient(base_url=server.url) as client:
            work = [client.tasks.run(request) for request in requests(1000)]
            check(await asyncio.gather(*work), server)


def test_a_map_over_many_inputs_returns_every_result(face: Callable[..., Any]) -> None:
    with RawServer(BusyServer(longest=0.1)) as server:
        items = face(base_url=server.url).tasks.map(requests(300))
        assert [item.error for item in items] == [None] * 300
        assert [item.index for item in items] == list(range(300))
        check([item.result for item in items], server)
