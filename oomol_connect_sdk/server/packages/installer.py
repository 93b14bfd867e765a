"""The install tasks of a server: accepted, carried out one after the other, and remembered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from ..engine.errors import EngineError
from ..engine.manifests import Package
from ..executors import EnvironmentFailed, Environments
from ..store import now_ms
from .errors import InstallError, NotInstalled, PackageInUse, SourceNotAllowed, UnknownInstall
from .install_tasks import InstalledDependency, InstallTask, InstallTasks
from .installation import Installation, Installed, InstallParts
from .names import checked_name, checked_version, package_id
from .places import Place, place_of
from .threads import finished

logger = logging.getLogger(__name__)


class Installer:
    """Installs and uninstalls packages, one at a time, and keeps a task of each install.

    An install that was accepted is carried out even when the server is killed meanwhile.
    ``environments`` builds the Python environment of each new package at the end of its
    install; without it the first run does. To be used on one event loop, between ``start`` and
    ``close``.
    """

    def __init__(
        self,
        tasks: InstallTasks,
        parts: InstallParts,
        *,
        environments: Environments | None = None,
    ) -> None:
        self._tasks = tasks
        self._parts = parts
        self._environments = environments
        self._runs: set[asyncio.Task[None]] = set()
        #: Held by whoever changes the store: two installs never do the same work at once.
        self._turn = asyncio.Lock()

    def start(self) -> None:
        """Take up the installs that had not ended when the last server did."""
        for task in reversed(self._tasks.all()):
            if not task.ended:
                self._run(task)

    async def install(self, name: str, version: str | None = None) -> InstallTask:
        """Accept an install: when this returns it is on disk, and will be carried out.

        ``name`` is a package's name, or a path or address where the server allows these;
        without a version (or with "latest") it is the registry's latest. Raises InvalidInstall
        and SourceNotAllowed.
        """
        if version == "latest":
            version = None
        if version is not None:
            checked_version(version)
        if self._place_of(name) is None:
            checked_name(name)
        task = self._tasks.new(name, version)
        await self._save(task)
        self._run(task)
        return task

    def all(self) -> Sequence[InstallTask]:
        """Return all install tasks, the newest first."""
        return self._tasks.all()

    def get(self, task_id: str) -> InstallTask:
        """Return one install task; raises UnknownInstall."""
        task = self._tasks.get(task_id)
        if task is None:
            raise UnknownInstall(f"There is no install task {task_id!r}.")
        return task

    async def uninstall(self, name: str, version: str) -> None:
        """Remove one version of an installed package.

        Raises InvalidInstall, NotInstalled, and PackageInUse while a task works with it.
        """
        wanted = package_id(name, version)
        catalog = self._parts.catalog
        store = catalog.store
        async with self._turn:
            package = catalog.find(wanted)
            if package is not None and not store.holds(package.directory):
                raise NotInstalled(
                    f"{wanted} was not installed: the server was started with it, from "
                    f"{package.directory}."
                )
            if package is not None and await self._parts.in_use(package):
                raise PackageInUse(f"A task that has not ended works with {wanted}.")
            await finished(store.remove, wanted)
            await catalog.reload()

    async def close(self) -> None:
        """End what is under way, so that the next start takes it up again."""
        runs = list(self._runs)
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    def _run(self, task: InstallTask) -> None:
        run = asyncio.create_task(self._carry_out(task), name=f"install {task.id}")
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)

    async def _carry_out(self, task: InstallTask) -> None:
        try:
            async with self._turn:
                task = replace(task, status="running")
                await self._save(task)
                installed = await self._install(task)
                await self._parts.catalog.reload()
            task = _succeeded(task, installed)
            await self._build_environments(installed.new)
            task = replace(task, status="success")
        except (InstallError, OSError) as error:
            task = replace(task, status="failed", error=str(error))
        except EngineError as error:
            message = f"the server's packages can't be read again: {error}"
            task = replace(task, status="failed", error=message)
        except Exception:
            logger.exception("Install task %s failed inside the server.", task.id)
            message = "The server failed at this install; its log says why."
            task = replace(task, status="failed", error=message)
        await self._save(task)

    async def _install(self, task: InstallTask) -> Installed:
        # Imported here: httpx would take a third of a server's start.
        from .downloads import Downloads

        store, options = self._parts.catalog.store, self._parts.options
        work = await asyncio.to_thread(store.new_work)
        try:
            async with Downloads(options.registry_address, options.token) as downloads:
                installation = Installation(work, self._parts, downloads)
                place = self._place_of(task.name)
                if place is None:
                    return await installation.by_name(task.name, task.version)
                return await installation.from_place(place, task.version)
        finally:
            await finished(store.discard, work)

    def _place_of(self, name: str) -> Place | None:
        place = place_of(name)
        if place is not None and not self._parts.options.allow_local_sources:
            raise SourceNotAllowed(
                "This server installs packages from its registry only: give a package's name. Its "
                "owner may allow paths and addresses (allow_local_sources)."
            )
        return place

    async def _build_environments(self, packages: Sequence[Package]) -> None:
        if self._environments is None:
            return
        for package in packages:
            try:
                await self._environments.interpreter(package.directory, logger.debug)
                await self._environments.bootstrap(package.directory, logger.debug)
            except EnvironmentFailed as error:
                raise InstallError(f"{package.label} is installed, but {error}") from error

    async def _save(self, task: InstallTask) -> None:
        await self._tasks.save(replace(task, updated_at=now_ms()))


def _succeeded(task: InstallTask, installed: Installed) -> InstallTask:
    package = installed.package
    return replace(
        task,
        name=package.name,
        version=package.version,
        package_path=str(package.directory),
        dependencies=[_dependency(package) for package in installed.dependencies],
        source=None if task.name == package.name else task.name,
    )


def _dependency(package: Package) -> InstalledDependency:
    return InstalledDependency(package.name, package.version or "", str(package.directory))
