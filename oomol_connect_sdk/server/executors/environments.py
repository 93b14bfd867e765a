"""What packages run in: an interpreter with what each requires, built once and kept."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from .bootstrap import Bootstrap, BootstrapScripts
from .build_cache import BuildCache, EnvironmentFailed, Report
from .building import BuildFailed, build_environment, find_interpreter
from .node_environments import NodeEnvironments
from .project_file import RequirementsUnreadable
from .requirements import Requirements, environment_key, read_requirements, unsuitable
from .setup_scripts import is_routine


class Environments:
    """Python interpreters for packages, each with what its package requires and oocana.

    ``cache_dir`` may be shared by servers that run at the same time. With ``allow_bootstrap``
    the scripts with which packages set themselves up are run.
    """

    def __init__(self, cache_dir: Path, *, allow_bootstrap: bool = False) -> None:
        self._cache = BuildCache(cache_dir)
        self._allow_bootstrap = allow_bootstrap
        self._scripts = BootstrapScripts()
        #: The packages whose scripts were said not to be run.
        self._not_bootstrapped: set[Path] = set()
        #: The interpreters that were found for versions the server's own isn't.
        self._others: dict[str, Path] = {}
        #: The same for JavaScript and TypeScript.
        self.node = NodeEnvironments(self._cache)

    async def interpreter(self, package_dir: Path, report: Report) -> Path:
        """The Python executable for this package's blocks.

        That of the server when the package requires nothing. Otherwise that of an environment
        which is built when needed: this takes a while, and ``report`` gets a line for each
        step. A bootstrap script that may run does so at the end. Raises EnvironmentFailed.
        """
        try:
            requirements = await asyncio.to_thread(read_requirements, package_dir)
        except RequirementsUnreadable as error:
            raise EnvironmentFailed(str(error)) from error
        bootstrap = self._script(package_dir) if self._allow_bootstrap else None
        base = await self._base(requirements)
        if not requirements.lines and bootstrap is None and base == Path(sys.executable):
            return base
        key = environment_key(requirements, base)
        if bootstrap is not None:
            key = bootstrap.key(key)
        python = _python_of(self._cache.path(key))
        # The interpreter is a link to one that may have been removed since.
        if not python.exists():
            self._cache.discard(key)
        if not self._cache.holds(key):
            await self._build(key, base, requirements, bootstrap, report)
        return python

    async def bootstrap(self, package_dir: Path, report: Report) -> None:
        """See to it that the script of a package has run, whatever its blocks are written in.

        Where that is not allowed ``report`` is told so once. Raises EnvironmentFailed.
        """
        bootstrap = self._script(package_dir)
        if bootstrap is None:
            return
        if self._allow_bootstrap:
            await self.interpreter(package_dir, report)
        elif package_dir not in self._not_bootstrapped and not is_routine(bootstrap.script):
            self._not_bootstrapped.add(package_dir)
            report(
                f"the package {package_dir.name} has a bootstrap script, which this server may "
                "not run (allow_bootstrap); its blocks may miss what it installs"
            )

    async def close(self) -> None:
        """End what is being built and cancel who waits for it; the next server starts afresh."""
        await self._cache.close()

    def _script(self, package_dir: Path) -> Bootstrap | None:
        # Not in a thread, which would cost each job more than a look at a small file's stamp.
        try:
            return self._scripts.of(package_dir)
        except RequirementsUnreadable as error:
            raise EnvironmentFailed(str(error)) from error

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
        bootstrap: Bootstrap | None,
        report: Report,
    ) -> None:
        async def make(directory: Path, report: Report) -> None:
            python = _python_of(directory)
            with_pip = bootstrap is not None
            await build_environment(
                directory, base, python, requirements, report, with_pip=with_pip
            )
            if bootstrap is not None:
                await bootstrap.run(python, report)

        try:
            await self._cache.make(key, make, report)
        except (BuildFailed, OSError) as error:
            name = requirements.package_dir.name
            raise EnvironmentFailed(f"the environment of {name} can't be built: {error}") from error


def _python_of(directory: Path) -> Path:
    if sys.platform == "win32":
        return directory / "Scripts" / "python.exe"
    return directory / "bin" / "python"
