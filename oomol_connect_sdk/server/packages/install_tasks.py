"""Install tasks, and the files that keep them."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data_directory import sync_directory
from ..store import now_ms
from .threads import finished

logger = logging.getLogger(__name__)

#: The most install tasks that are kept.
_KEPT = 1_000


@dataclass(frozen=True)
class InstalledDependency:
    """One package that another needs, and where it is."""

    name: str
    version: str
    package_path: str

    @property
    def row(self) -> dict[str, str]:
        """The dependency in the wire's shape."""
        return {"name": self.name, "version": self.version, "packagePath": self.package_path}


@dataclass(frozen=True)
class InstallTask:
    """One install; times are Unix milliseconds.

    ``name`` and ``version`` are what was asked for, and after success those of the package;
    ``source`` is then the path or address it came from, if it was one.
    """

    id: str
    name: str
    version: str | None
    created_at: int
    updated_at: int
    #: pending, running, success or failed.
    status: str = "pending"
    package_path: str | None = None
    #: All packages it needs, and those they need.
    dependencies: Sequence[InstalledDependency] | None = None
    error: str | None = None
    source: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ("success", "failed")

    @property
    def row(self) -> dict[str, Any]:
        """The task in the wire's shape; absent is what is not known. ``source`` is our own."""
        dependencies = self.dependencies
        row = {
            "id": self.id,
            "name": self.name,
            "version": self.version,
            "status": self.status,
            "packagePath": self.package_path,
            "dependencies": None if dependencies is None else [item.row for item in dependencies],
            "error": self.error,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
            "source": self.source,
        }
        return {name: value for name, value in row.items() if value is not None}


class InstallTasks:
    """The install tasks of a server: one small file each, replaced as a whole.

    The oldest that have ended are forgotten when there are more than 1,000. To be used on one
    event loop.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        found = [_read(path) for path in directory.glob("*.json")]
        tasks = sorted((task for task in found if task), key=lambda task: task.created_at)
        self._tasks = {task.id: task for task in tasks}
        self._newest = tasks[-1].created_at if tasks else 0

    def all(self) -> list[InstallTask]:
        """Return all tasks, the newest first."""
        return list(reversed(self._tasks.values()))

    def get(self, task_id: str) -> InstallTask | None:
        """Return one task; None when there is none of this id."""
        return self._tasks.get(task_id)

    def new(self, name: str, version: str | None) -> InstallTask:
        """Return a task that is newer than all others; it is kept once it is saved."""
        # The times tell the order of the tasks after a restart.
        self._newest = max(now_ms(), self._newest + 1)
        return InstallTask(str(uuid.uuid4()), name, version, self._newest, self._newest)

    async def save(self, task: InstallTask) -> None:
        """Keep a new or changed task; when this returns it is on disk."""
        await finished(self._write, task)
        self._tasks[task.id] = task
        excess = max(0, len(self._tasks) - _KEPT)
        ended = [old for old in self._tasks.values() if old.ended]
        for old in ended[:excess]:
            self._path(old.id).unlink(missing_ok=True)
            del self._tasks[old.id]

    def _write(self, task: InstallTask) -> None:
        path = self._path(task.id)
        unfinished = path.with_suffix(".new")
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(task.row, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_directory(self._directory)

    def _path(self, task_id: str) -> Path:
        return self._directory / f"{task_id}.json"


def _read(path: Path) -> InstallTask | None:
    try:
        return _task(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        # No reason to keep the server from starting: what was installed does not depend on it.
        logger.warning("The install task in %s can't be read: %s", path, error)
        return None


def _task(row: Mapping[str, Any]) -> InstallTask:
    dependencies = row.get("dependencies")
    return InstallTask(
        id=row["id"],
        name=row["name"],
        version=row.get("version"),
        created_at=row["createdAt"],
        updated_at=row["updatedAt"],
        status=row["status"],
        package_path=row.get("packagePath"),
        dependencies=None if dependencies is None else [_dependency(d) for d in dependencies],
        error=row.get("error"),
        source=row.get("source"),
    )


def _dependency(row: Mapping[str, Any]) -> InstalledDependency:
    return InstalledDependency(row["name"], row["version"], row["packagePath"])
