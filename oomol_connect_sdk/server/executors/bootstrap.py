"""The scripts that set packages up: run once, and only where that is allowed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ..engine.manifests import find_manifest, read_package
from ..engine.yaml_source import ManifestError
from .building import BuildFailed, Report, run_command
from .file_cache import FileCache, stamps
from .process_group import inherited_environment
from .project_file import RequirementsUnreadable
from .setup_scripts import is_routine, left_to_run, manifest_files, read_setup_script


@dataclass(frozen=True)
class Setup:
    """What is to be run in an environment of one version of a package, once it is built."""

    package_dir: Path
    version: str
    #: ``scripts.bootstrap``, or what of it is not done for every package anyway.
    bootstrap: str
    #: What flows want to be run for the tasks that they inject into the package.
    injected: tuple[str, ...] = ()

    def key(self, environment: str) -> str:
        """The name of the environment in which this was run, made of that without it.

        The scripts may change both the environment and the package: neither is shared.
        """
        parts = (environment, str(self.package_dir), self.version, self.bootstrap, *self.injected)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    async def run(self, python: Path, report: Report) -> None:
        """Run it in the package's directory, with the environment's commands at hand.

        Raises BuildFailed.
        """
        name = self.package_dir.name
        if self.bootstrap:
            report(f"running the bootstrap script of {name}")
            # Without -e, as everywhere: a script that wants to end at a failure says so.
            await self._run(["-c", self.bootstrap], python, report, "its bootstrap script")
        for script in self.injected:
            report(f"running a script that a flow injects into {name}")
            await self._run(["-e", "-c", script], python, report, "an injected script")

    async def _run(self, arguments: list[str], python: Path, report: Report, what: str) -> None:
        commands = python.parent
        given = inherited_environment(os.environ)
        environment = {
            **given,
            "PATH": os.pathsep.join([str(commands), given.get("PATH", os.defpath)]),
            "VIRTUAL_ENV": str(commands.parent),
        }
        try:
            await run_command(["sh", *arguments], self.package_dir, report, environment=environment)
        except BuildFailed as error:
            raise BuildFailed(f"{what} failed: {error}") from error


class SetupScripts:
    """The scripts of packages; a manifest is read again only when it has changed."""

    def __init__(self) -> None:
        self._packages: FileCache[_Package] = FileCache()

    def setup(self, package_dir: Path, injected: tuple[str, ...] = ()) -> Setup | None:
        """What is to be run for the package in this directory, if anything.

        Raises RequirementsUnreadable.
        """
        package = self._package(package_dir)
        bootstrap = left_to_run(package.script, package_dir)
        scripts = tuple(filter(None, (left_to_run(script, package_dir) for script in injected)))
        if not bootstrap and not scripts:
            return None
        return Setup(package_dir, package.version, bootstrap, scripts)

    def notable(self, package_dir: Path) -> str:
        """The ``scripts.bootstrap`` of a package if it does more than is done for it anyway.

        Raises RequirementsUnreadable.
        """
        package = self._package(package_dir)
        return "" if package.is_routine else package.script

    def _package(self, package_dir: Path) -> _Package:
        known = self._packages.current(package_dir)
        if known is not None:
            return known
        files = manifest_files(package_dir)
        before = stamps(files)
        return self._packages.keep(package_dir, _read(package_dir), files, before)


@dataclass(frozen=True)
class _Package:
    version: str = ""
    script: str = ""
    is_routine: bool = True


def _read(package_dir: Path) -> _Package:
    if find_manifest(package_dir, "package") is None:
        return _Package()
    try:
        version = read_package(package_dir).version or ""
    except ManifestError as error:
        raise RequirementsUnreadable(str(error)) from error
    script = read_setup_script(package_dir)
    return _Package(version, script, is_routine(script))
