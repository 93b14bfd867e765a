"""The server without its HTTP face: its parts, opened in order and closed in reverse."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from .data_directory import DataDirectory
from .dispatcher import LocalDispatcher
from .engine.catalog import Catalog
from .executors import Environments, WorkerPool
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
) -> AsyncIterator[TaskService]:
    """Give a service over these package directories whose unfinished tasks already run.

    Without ``data_dir`` a temporary directory is used and removed. Raises ManifestError for a
    package that is absent or broken, DataDirectoryInUse and StoreError.
    """
    async with contextlib.AsyncExitStack() as stack:
        catalog = Catalog(packages)
        directory = DataDirectory(data_dir)
        stack.callback(directory.close)
        store = Store(directory.database)
        stack.callback(store.close)
        pool = WorkerPool(Environments(environments_dir or environments_cache()))
        stack.push_async_callback(pool.close)
        parts = RunnerParts(store, catalog, pool, directory)
        dispatcher = LocalDispatcher(
            store, lambda task_id: TaskRunner(task_id, parts), max_tasks=max_tasks
        )
        stack.push_async_callback(dispatcher.close)
        await dispatcher.start()
        yield TaskService(catalog, store, dispatcher)


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
