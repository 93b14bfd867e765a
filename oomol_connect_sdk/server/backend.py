"""The server without its HTTP face: its parts, opened in order and closed in reverse."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from .data_directory import DataDirectory
from .dispatcher import LocalDispatcher
from .executors import AppServices, Environments, ProcessGuard, WorkerPool
from .input_caches import InputCaches
from .limits import TaskLimits
from .packages import InstallOptions, LiveCatalog, PackageStore, open_installer
from .retention import KEPT_TASKS, Retention
from .runner import RunnerParts, TaskRunner
from .service import TaskService
from .store import Store


@contextlib.asynccontextmanager
async def open_service(
    packages: Sequence[Path],
    *,
    data_dir: Path | None = None,
    environments_dir: Path | None = None,
    max_tasks: int | None = None,
    keep_tasks: int = KEPT_TASKS,
    installing: InstallOptions | None = None,
    limits: TaskLimits | None = None,
    allow_bootstrap: bool = False,
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[TaskService]:
    """Give a service over these package directories whose unfinished tasks already run.

    Without ``data_dir`` a temporary directory is used and removed. ``variables`` are added to the
    environment of all processes of blocks. Raises ManifestError for a
    package that is absent or broken, DataDirectoryInUse and StoreError.
    """
    async with contextlib.AsyncExitStack() as stack:
        directory = DataDirectory(data_dir)
        stack.callback(directory.close)
        catalogs = LiveCatalog(packages, PackageStore(directory.root / "packages"))
        store = Store(directory.database)
        stack.callback(store.close)
        caches = InputCaches(directory.root / "input-caches")
        limits = limits or TaskLimits()
        guard = ProcessGuard(file_size=limits.disk, memory=limits.memory, variables=variables)
        environments = Environments(
            environments_dir or environments_cache(), allow_bootstrap=allow_bootstrap
        )
        pool = WorkerPool(environments, guard=guard)
        stack.push_async_callback(pool.close)
        services = AppServices(pool, directory.root / "services", directory.package_data)
        stack.push_async_callback(services.close)

        def new_runner(task_id: str) -> TaskRunner:
            parts = RunnerParts(store, catalogs.current, pool, directory, caches, limits)
            return TaskRunner(task_id, parts)

        dispatcher = LocalDispatcher(store, new_runner, max_tasks=max_tasks)
        stack.push_async_callback(dispatcher.close)
        installer = open_installer(
            installing or InstallOptions(), directory, catalogs, store, pool.environments
        )
        stack.push_async_callback(installer.close)
        retention = Retention(store, directory, keep=keep_tasks)
        stack.push_async_callback(retention.close)
        service = TaskService(catalogs, store, dispatcher, directory, installer, caches, retention)
        await service.uploads.recover(store)
        services.start(catalogs.current.app_services())
        await dispatcher.start()
        installer.start()
        retention.start()
        yield service


def environments_cache() -> Path:
    """Return where the packages' environments are kept from run to run.

    That is ``$OOMOL_CONNECT_CACHE``, or a directory in the user's cache.
    """
    given = os.environ.get("OOMOL_CONNECT_CACHE")
    cache = Path(given) if given else _user_cache() / "oomol-connect"
    return cache / "environments"


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
