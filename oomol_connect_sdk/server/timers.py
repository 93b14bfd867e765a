"""The timers of one task's run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any


class Timers:
    """Delivers ``{"type": "TimerFired", "job_id": …}`` when the time of a job is over.

    A context manager: once it is left nothing is delivered any more.
    """

    def __init__(self, deliver: Callable[[Mapping[str, Any]], None]) -> None:
        self._deliver = deliver
        self._handles: list[asyncio.TimerHandle] = []

    def start(self, job_id: str, seconds: float) -> None:
        """Deliver the message of this job in so many seconds; the engine drops one too late."""
        message = {"type": "TimerFired", "job_id": job_id}
        loop = asyncio.get_running_loop()
        self._handles.append(loop.call_later(seconds, self._deliver, message))

    def __enter__(self) -> Timers:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.cancel()
