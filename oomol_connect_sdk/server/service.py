"""What the server can do, without HTTP."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from .dispatcher import LocalDispatcher
from .engine.catalog import Catalog
from .engine.manifests import Package
from .inputs import normalized
from .sessions import open_session
from .store import Store, StoredEvent, TaskRecord, now_ms


class UnknownTask(Exception):
    """There is no task of this id."""


class TaskService:
    """Tasks, blocks, flows and packages of one server."""

    def __init__(self, catalog: Catalog, store: Store, dispatcher: LocalDispatcher) -> None:
        self._catalog = catalog
        self._store = store
        self._dispatcher = dispatcher

    @property
    def commits(self) -> int:
        """How many transactions the store has committed since it was opened."""
        return self._store.commits

    async def create(self, target: str, input_values: Any = None) -> TaskRecord:
        """Accept a task: when this returns it is on disk, and will run.

        Raises UnknownTarget, ManifestError, InvalidInputs for values of no known form, and
        InputError for inputs that don't fit; then no task was made.
        """
        task = self._new_task(target, input_values)
        await self._store.create_task(task)
        await self._dispatcher.submit(task.id)
        return task

    async def list(self) -> Sequence[TaskRecord]:
        """Return all tasks, the newest first."""
        return await self._store.tasks()

    async def get(self, task_id: str) -> TaskRecord:
        """Return one task; raises UnknownTask."""
        task = await self._store.task(task_id)
        if task is None:
            raise UnknownTask(f"There is no task {task_id!r}.")
        return task

    async def stop(self, task_id: str) -> TaskRecord:
        """Stop a task now, and return it as it then is; one that has ended is left alone."""
        await self.get(task_id)
        await self._dispatcher.stop(task_id)
        return await self.get(task_id)

    async def logs(
        self, task_id: str, after_id: int = 0
    ) -> tuple[TaskRecord, Sequence[StoredEvent]]:
        """Return a task and its events with ids above ``after_id``; raises UnknownTask."""
        task = await self.get(task_id)
        return task, await self._store.logs(task_id, after_id)

    def blocks(self) -> Sequence[Mapping[str, Any]]:
        """Return the wire's rows of all blocks."""
        return self._catalog.blocks()

    def flows(self) -> Sequence[Mapping[str, Any]]:
        """Return the wire's rows of all flows."""
        return self._catalog.flows()

    def packages(self) -> Sequence[Mapping[str, Any]]:
        """Return the wire's rows of all packages."""
        rows = [
            {
                "name": package.name,
                "version": package.version,
                "path": str(package.directory),
                "description": package.description,
            }
            for package in self._catalog.packages
        ]
        return [{name: value for name, value in row.items() if value is not None} for row in rows]

    def _new_task(self, name: str, input_values: Any) -> TaskRecord:
        values = normalized(input_values)
        session_id = str(uuid.uuid4())
        target = self._catalog.resolve(name)
        # Made to be thrown away: it checks the inputs, and the manifests of all nodes.
        open_session(self._catalog, target, session_id, values)
        now = now_ms()
        return TaskRecord(
            id=str(uuid.uuid4()),
            session_id=session_id,
            project_id=_project_id(target.package),
            project_name=target.package.name,
            manifest_path=str(target.path),
            input_values=values,
            created_at=now,
            updated_at=now,
        )


def _project_id(package: Package) -> str:
    digest = hashlib.sha256(str(package.directory).encode()).hexdigest()
    return f"{package.name}_{digest[:12]}"
