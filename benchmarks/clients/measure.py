"""What every measured client does around its own work: run it, count, print one line of JSON."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
import urllib.request
from typing import Any, Awaitable, Callable, List

#: Runs one task and returns its last record.
RunOne = Callable[[], Awaitable[Any]]


#: Tells how many requests there have been.
Requests = Callable[[], int]


async def measured(run_one: RunOne, count: int, requests: Requests) -> None:
    """Run ``count`` tasks at once and print what it took, after one that warms everything up."""
    lags: List[float] = []
    errors: List[str] = []

    async def one() -> None:
        try:
            task = await run_one()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
            return
        ended: float | None = task.get("ended_monotonic")
        if ended is not None:
            lags.append(time.monotonic() - ended)
        else:
            lags.append(time.time() - task["updated_at"] / 1000)

    await one()
    lags.clear()
    before = requests()
    cpu, wall = time.process_time(), time.monotonic()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await asyncio.gather(*[one() for _ in range(count)])
    lags.sort()
    report = {
        "finished": count - len(errors),
        "cpu_ms_per_task": 1000 * (time.process_time() - cpu) / count,
        "wall_s": time.monotonic() - wall,
        "lag_p50_s": lags[len(lags) // 2] if lags else None,
        "lag_p99_s": lags[int(len(lags) * 0.99)] if lags else None,
        "memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024,
        "requests_per_task": (requests() - before) / count,
        "error": errors[0][:200] if errors else None,
    }
    json.dump(report, sys.stdout)


def counted_by(stats_url: str) -> Requests:
    """Ask the server, at the address where it tells."""

    def requests() -> int:
        with urllib.request.urlopen(stats_url) as answer:
            return sum(json.loads(answer.read()).values())

    return requests
