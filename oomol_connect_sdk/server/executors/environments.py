"""One virtual environment per set of requirements, built once and kept in a cache directory."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ..file_lock import FileLock
from .building import BuildFailed, build_environment
from .requirements import (
    Requirements,
    RequirementsUnreadable,
    environment_key,
    read_requirements,
)

Report = Callable[[str], None]


class EnvironmentFailed(Exception):
    """The environment of a package can't be had; the message says why and what to do."""


class Environments:
    """Python interpreters for packages, each with what its package requires and oocana.

    ``cache_dir`` may be shared by servers that run at the same time.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._builds: dict[str, _Build] = {}

    async def interpreter(self, package_dir: Path, report: Report) -> Path:
        """The Python executable for this package's blocks.

        That of the server when the package requires nothing. Otherwise that of an environment
        which is built when needed: this takes a while, and ``report`` gets a line for each
        step. Raises EnvironmentFailed.
        """
        try:
            requirements = await asyncio.to_thread(read_requirements, package_dir)
        except RequirementsUnreadable as error:
            raise EnvironmentFailed(str(error)) from error
        if not requirements.lines:
            return Path(sys.executable)
        key = environment_key(requirements)
        directory = self._cache_dir / key
        python = _python_of(directory)
        if not _is_complete(directory):
            await self._built(key, directory, requirements, report)
        return python

    async def close(self) -> None:
        """End what is being built and cancel who waits for it; the next server starts afresh."""
        tasks = [build.task for build in self._builds.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _built(
        self, key: str, directory: Path, requirements: Requirements, report: Report
    ) -> None:
        build = self._builds.get(key)
        if build is None:
            build = self._builds[key] = _Build(directory, requirements)
            build.task.add_done_callback(lambda _: self._builds.pop(key))
        build.listeners.append(report)
        try:
            # Other jobs may wait for the same build, and the next task will need it anyway.
            await asyncio.shield(build.task)
        except (BuildFailed, OSError) as error:
            name = requirements.package_dir.name
            raise EnvironmentFailed(f"the environment of {name} can't be built: {error}") from error
        finally:
            build.listeners.remove(report)


class _Build:
    """The one build of an environment in this server, and who follows it."""

    def __init__(self, directory: Path, requirements: Requirements) -> None:
        self.listeners: list[Report] = []
        self._directory = directory
        self._requirements = requirements
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        directory = self._directory
        directory.parent.mkdir(parents=True, exist_ok=True)
        async with FileLock(directory.with_suffix(".lock")):
            # Another server may have built it while this one waited for the lock.
            if _is_complete(directory):
                return
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            # In place: the scripts of an environment that is moved no longer work.
            python = _python_of(directory)
            await build_environment(directory, python, self._requirements, self._report)
            _marker(directory).touch()

    def _report(self, line: str) -> None:
        for listener in self.listeners:
            listener(line)


def _is_complete(directory: Path) -> bool:
    # The interpreter is a link to one that may have been removed since.
    return _marker(directory).exists() and _python_of(directory).exists()


def _marker(directory: Path) -> Path:
    return directory / "complete"


def _python_of(directory: Path) -> Path:
    if sys.platform == "win32":
        return directory / "Scripts" / "python.exe"
    return directory / "bin" / "python"
