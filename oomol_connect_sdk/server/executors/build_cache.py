"""Directories that take long to make: made once, shared, and kept for the next server."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from ..file_lock import FileLock

Report = Callable[[str], None]
#: Makes the content of a directory that does not exist yet.
Make = Callable[[Path, Report], Awaitable[None]]


class EnvironmentFailed(Exception):
    """What a package needs can't be had; the message says why and what to do."""


class BuildCache:
    """Directories by the key of what they are made from.

    ``directory`` may be shared by servers that run at the same time.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._builds: dict[str, _Build] = {}

    def path(self, key: str) -> Path:
        """Where the directory with this key is, made or not."""
        return self._directory / key

    def holds(self, key: str) -> bool:
        """Whether the directory is complete."""
        return _marker(self.path(key)).exists()

    async def make(self, key: str, make: Make, report: Report) -> None:
        """Make a directory; whoever else wants it waits for the same work and hears of it too.

        Raises what ``make`` raises; what it left is thrown away at the next try.
        """
        build = self._builds.get(key)
        if build is None:
            build = self._builds[key] = _Build(self.path(key), make)
            build.task.add_done_callback(lambda _: self._builds.pop(key))
        build.listeners.append(report)
        try:
            # Other jobs may wait for the same build, and the next task will need it anyway.
            await asyncio.shield(build.task)
        finally:
            build.listeners.remove(report)

    def discard(self, key: str) -> None:
        """Have the directory made again."""
        _marker(self.path(key)).unlink(missing_ok=True)

    async def close(self) -> None:
        """End what is being made and cancel who waits for it; the next server starts afresh."""
        tasks = [build.task for build in self._builds.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Build:
    """The one making of a directory in this server, and who follows it."""

    def __init__(self, directory: Path, make: Make) -> None:
        self.listeners: list[Report] = []
        self._directory = directory
        self._make = make
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        directory = self._directory
        directory.parent.mkdir(parents=True, exist_ok=True)
        async with FileLock(directory.with_suffix(".lock")):
            # Another server may have made it while this one waited for the lock.
            if _marker(directory).exists():
                return
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            # In place: the scripts of an environment that is moved no longer work.
            await self._make(directory, self._report)
            _marker(directory).touch()

    def _report(self, line: str) -> None:
        for listener in self.listeners:
            listener(line)


def _marker(directory: Path) -> Path:
    return directory / "complete"
