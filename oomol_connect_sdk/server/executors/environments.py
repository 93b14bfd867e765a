"""What packages run in: an interpreter with what each requires, built once and kept."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from .bootstrap import Setup, SetupScripts
from .build_cache import BuildCache, EnvironmentFailed, Report
from .building import BuildFailed, build_environment, find_interpreter
from .file_cache import FileCache, stamps
from .node_environments import NodeEnvironments
from .project_file import RequirementsUnreadable
from .requirements import (
    Requirements,
    environment_key,
    read_requirements,
    requirement_files,
    unsuitable,
)
from .setup_scripts import is_routine


class Environments:
    """Python interpreters for packages, each with what its package requires and oocana.

    ``cache_dir`` may be shared by servers that run at the same time. With ``allow_bootstrap``
    the scripts are run that set packages up, and that flows inject into them.
    """

    def __init__(self, cache_dir: Path, *, allow_bootstrap: bool = False) -> None:
        self._cache = BuildCache(cache_dir)
        self._allow_bootstrap = allow_bootstrap
        self._scripts = SetupScripts()
        self._requirements: FileCache[Requirements] = FileCache()
        #: The packages and scripts that were said not to be run.
        self._not_run: set[tuple[Path, str]] = set()
        #: The interpreters that were found for versions the server's own isn't.
        self._others: dict[str, Path] = {}
        #: The same for JavaScript and TypeScript.
        self.node = NodeEnvironments(self._cache)

    async def interpreter(
        self, package_dir: Path, report: Report, injected: tuple[str, ...] = ()
    ) -> Path:
        """The Python executable for this package's blocks, and what is injected with scripts.

        That of the server when the package requires nothing. Otherwise that of an environment
        which is built when needed: this takes a while, and ``report`` gets a line for each
        step. Scripts that may run do so at the end. Raises EnvironmentFailed.
        """
        try:
            requirements = await self._required(package_dir)
            allowed = self._allow_bootstrap
            setup = self._scripts.setup(package_dir, injected) if allowed else None
        except RequirementsUnreadable as error:
            raise EnvironmentFailed(str(error)) from error
        base = await self._base(requirements)
        if not requirements.lines and setup is None and base == Path(sys.executable):
            return base
        key = environment_key(requirements, base)
        if setup is not None:
            key = setup.key(key)
        python = _python_of(self._cache.path(key))
        # The interpreter is a link to one that may have been removed since.
        if not python.exists():
            self._cache.discard(key)
        if not self._cache.holds(key):
            await self._build(key, base, requirements, setup, report)
        return python

    async def bootstrap(
        self, package_dir: Path, report: Report, injected: tuple[str, ...] = ()
    ) -> None:
        """See to it that scripts for a package have run, whatever its blocks are written in.

        Where that is not allowed ``report`` is told so once. Raises EnvironmentFailed.
        """
        try:
            if not self._allow_bootstrap:
                self._say_what_is_not_run(package_dir, report, injected)
            elif self._scripts.setup(package_dir, injected) is not None:
                await self.interpreter(package_dir, report, injected)
        except RequirementsUnreadable as error:
            raise EnvironmentFailed(str(error)) from error

    async def close(self) -> None:
        """End what is being built and cancel who waits for it; the next server starts afresh."""
        await self._cache.close()

    def _say_what_is_not_run(
        self, package_dir: Path, report: Report, injected: tuple[str, ...]
    ) -> None:
        name = package_dir.name
        what = dict.fromkeys(injected, f"a flow injects a script into the package {name}")
        bootstrap = self._scripts.notable(package_dir)
        if bootstrap:
            what[bootstrap] = f"the package {name} has a bootstrap script"
        for script in what:
            if (package_dir, script) not in self._not_run and not is_routine(script):
                self._not_run.add((package_dir, script))
                report(
                    f"{what[script]}, which this server may not run (allow_bootstrap); its blocks "
                    "may miss what it installs"
                )

    async def _required(self, package_dir: Path) -> Requirements:
        known = self._requirements.current(package_dir)
        if known is not None:
            return known
        files = requirement_files(package_dir)
        before = stamps(files)
        read = await asyncio.to_thread(read_requirements, package_dir)
        included = read.included_files
        return self._requirements.keep(
            package_dir, read, [*files, *included], [*before, *stamps(included)]
        )

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
        self,
        key: str,
        base: Path,
        requirements: Requirements,
        setup: Setup | None,
        report: Report,
    ) -> None:
        async def make(directory: Path, report: Report) -> None:
            python = _python_of(directory)
            with_pip = setup is not None
            await build_environment(
                directory, base, python, requirements, report, with_pip=with_pip
            )
            if setup is not None:
                await setup.run(python, report)

        try:
            await self._cache.make(key, make, report)
        except (BuildFailed, OSError) as error:
            name = requirements.package_dir.name
            raise EnvironmentFailed(f"the environment of {name} can't be built: {error}") from error


def _python_of(directory: Path) -> Path:
    if sys.platform == "win32":
        return directory / "Scripts" / "python.exe"
    return directory / "bin" / "python"
