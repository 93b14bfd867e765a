"""Whether one list of all tasks is cheaper than a look at each."""

from __future__ import annotations

import math

#: From so many waits on, one list of all tasks answers them together, where that is cheaper.
LIST_FROM = 8

#: Bytes of a task list that cost about as much as one look at one task.
LIST_BYTES_PER_LOOK = 100_000

#: Lists take at most this share of the time.
LIST_SHARE = 0.1

#: Seconds without lists after one that failed, since the looks may fare better.
LIST_REST = 10.0


class TaskLists:
    """Whether a list of all tasks is worth its cost, learned from the lists so far."""

    def __init__(self) -> None:
        self._usable_from = 0.0
        self._bytes = 0
        self._next = 0.0

    def pay(self, waits: int, now: float) -> bool:
        """Whether one list is cheaper than a look for each of so many waits."""
        cheap = waits >= LIST_FROM and self._bytes <= waits * LIST_BYTES_PER_LOOK
        return cheap and now >= self._usable_from

    def pause(self, now: float) -> float:
        """Seconds until the next list may begin."""
        return max(0.0, self._next - now)

    def took(self, started: float, ended: float, size: int) -> None:
        """Learn the cost of a list."""
        self._bytes = size
        self._next = ended + (ended - started) / LIST_SHARE

    def failed(self, now: float, *, for_good: bool) -> None:
        """Do without lists for a while, or from now on."""
        self._usable_from = math.inf if for_good else now + LIST_REST
