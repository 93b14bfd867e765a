"""Who waits for changes of which tasks, and is told after the commit that holds one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from types import TracebackType


class Hub:
    """Wakes those who watch a task, or all tasks of a client, when something new is on disk.

    A watch holds one flag, whatever happens meanwhile: what is new is read from the store.
    """

    def __init__(self) -> None:
        self._by_task: dict[str, set[Watch]] = {}
        self._by_client: dict[str, set[Watch]] = {}
        self.closed = False

    def watch(self, task_ids: Iterable[str] = (), client: str | None = None) -> Watch:
        """Return a watch over these tasks and those of this client, to be entered."""
        return Watch(self, tuple(task_ids), client)

    def notify(self, task_id: str, client: str | None) -> None:
        """Tell that events or changes of a task of this client were committed."""
        for watch in self._by_task.get(task_id, ()):
            watch.wake()
        for watch in self._by_client.get(client or "", ()):
            watch.wake()

    def close(self) -> None:
        """End all waits, now and from now on."""
        self.closed = True
        for index in (self._by_task, self._by_client):
            for watches in index.values():
                for watch in watches:
                    watch.wake()

    def add(self, watch: Watch) -> None:
        """Begin to wake this watch."""
        for index, key in self._places(watch):
            index.setdefault(key, set()).add(watch)

    def remove(self, watch: Watch) -> None:
        """Forget this watch."""
        for index, key in self._places(watch):
            index[key].discard(watch)
            if not index[key]:
                del index[key]

    def _places(self, watch: Watch) -> list[tuple[dict[str, set[Watch]], str]]:
        places = [(self._by_task, task_id) for task_id in dict.fromkeys(watch.task_ids)]
        if watch.client is not None:
            places.append((self._by_client, watch.client))
        return places


class Watch:
    """A context in which nothing new of some tasks goes unnoticed.

    ```python
    with hub.watch(["task-1"]) as watch:
        while not satisfied_by(await read()):
            await watch.changed(timeout=10)
    ```
    """

    def __init__(self, hub: Hub, task_ids: tuple[str, ...], client: str | None) -> None:
        self.task_ids = task_ids
        self.client = client
        self._hub = hub
        self._flag = asyncio.Event()

    async def changed(self, timeout: float) -> bool:
        """Wait until something is new since the last call, or since the watch was entered.

        ``timeout`` is in seconds; False when they are over, or the server is about to end.
        """
        if not self.over:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._flag.wait(), timeout)
        changed = self._flag.is_set() and not self.over
        self._flag.clear()
        return changed

    @property
    def over(self) -> bool:
        """Whether the server is about to end, so that there is no point in waiting."""
        return self._hub.closed

    def wake(self) -> None:
        """End the current or the next wait."""
        self._flag.set()

    def __enter__(self) -> Watch:
        self._hub.add(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hub.remove(self)
