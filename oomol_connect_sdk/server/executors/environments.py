"""What packages run in: an interpreter with what each requires, built once and kept."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from .build_cache import BuildCache, EnvironmentFailed, Report
from .building import BuildFailed, build_environment, find_interpreter
from .node_environments import NodeEnvironments
from .project_file import RequirementsUnreadable
from .requirements import Requirements, environment_key, read_requirements, unsuitable


class Environments:
    """Python interpreters for packages, each with what its package requires and oocana.

    ``cache_dir`` may be shared by servers that run at the same time.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._cache = BuildCache(cache_dir)
        #: The interpreters that were found for versions the server's own isn't.
        self._others: dict[str, Path] = {}
        #: The same for JavaScript and TypeScript.
        self.node = NodeEnvironments(self._cache)

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
        base = await self._base(requirements)
        if not requirements.lines and base == Path(sys.executable):
            return base
        key = environment_key(requirements, base)
        python = _python_of(self._cache.path(key))
        # The interpreter is a link to one that may have been removed since.
        if not python.exists():
            self._cache.discard(key)
        if not self._cache.holds(key):
            await self._build(key, base, requirements, report)
        return python

    async def close(self) -> None:
        """End what is being built and cancel who waits for it; the next server starts afresh."""
        await self._cache.close()

    async def _base(self, requirements: Requirements) -> Path:
        """The Python to build on: the server's, or another one of this machine that suits."""
        if requirements.suits_server:
            return Path(sys.executable)
        found = self._others.get(requirements.python)
        if found is None:
            found = await find_interpreter(requirements.python)
            if found is None:
                raise EnvironmentFailed(unsuitable(requirements))
            self._others[requirements.python] = found
        return found

    async def _build(
        self, key: str, base: Path, requirements: Requirements, report: Report
    ) -> None:
        async def make(directory: Path, report: Report) -> None:
            await build_environment(directory, base, _python_of(directory), requirements, report)

        try:
            await self._cache.make(key, make, report)
        except (BuildFailed, OSError) as error:
            name = requirements.package_dir.name
            raise EnvironmentFailed(f"the environment of {name} can't be built: {error}") from error


def _python_of(directory: Path) -> Path:
    if sys.platform == "win32":
        return directory / "Scripts" / "python.exe"
    return directory / "bin" / "python"
