"""The server without its HTTP face: its parts, opened in order and closed in reverse."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from .data_directory import DataDirectory
from .dispatcher import LocalDispatcher
from .executors import Environments, WorkerPool
from .packages import InstallOptions, LiveCatalog, PackageStore, open_installer
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
    installing: InstallOptions | None = None,
) -> AsyncIterator[TaskService]:
    """Give a service over these package directories whose unfinished tasks already run.

    Without ``data_dir`` a temporary directory is used and removed. Raises ManifestError for a
    package that is absent or broken, DataDirectoryInUse and StoreError.
    """
    async with contextlib.AsyncExitStack() as stack:
        directory = DataDirectory(data_dir)
        stack.callback(directory.close)
        catalogs = LiveCatalog(packages, PackageStore(directory.root / "packages"))
        store = Store(directory.database)
        stack.callback(store.close)
        pool = WorkerPool(Environments(environments_dir or environments_cache()))
        stack.push_async_callback(pool.close)

        def new_runner(task_id: str) -> TaskRunner:
            return TaskRunner(task_id, RunnerParts(store, catalogs.current, pool, directory))

        dispatcher = LocalDispatcher(store, new_runner, max_tasks=max_tasks)
        stack.push_async_callback(dispatcher.close)
        installer = open_installer(
            installing or InstallOptions(), directory, catalogs, store, pool.environments
        )
        stack.push_async_callback(installer.close)
        service = TaskService(catalogs, store, dispatcher, directory, installer)
        await service.uploads.recover(store)
        await dispatcher.start()
        installer.start()
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
