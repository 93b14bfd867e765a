"""What every client does around moving a file: time it, watch its memory and its event loop."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Awaitable, Callable

#: Seconds between two looks at the event loop.
TICK = 0.002


async def measured_transfer(move: Callable[[], Awaitable[str]]) -> None:
    """Move a file and print what it took, and what ``move`` returned."""
    ticker = Ticker()
    ticking = asyncio.ensure_future(ticker.run())
    await asyncio.sleep(10 * TICK)
    ticker.worst = 0.0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.monotonic()
    moved = await move()
    report = {
        "wall_s": time.monotonic() - wall,
        "cpu_s": time.process_time() - cpu,
        "memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024,
        "stall_ms": 1000 * ticker.worst,
        "moved": moved,
    }
    ticking.cancel()
    json.dump(report, sys.stdout)


class Ticker:
    """A task that wants to run every few milliseconds and notes how late it ever was."""

    def __init__(self) -> None:
        #: Seconds.
        self.worst = 0.0

    async def run(self) -> None:
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self.worst = max(self.worst, time.monotonic() - due)
