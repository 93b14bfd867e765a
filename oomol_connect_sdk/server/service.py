"""What the server can do, without HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from .data_directory import DataDirectory
from .dispatcher import LocalDispatcher
from .engine.catalog import Catalog
from .engine.manifests import Package
from .feed import FeedPage, Selection, read_feed, read_unfinished
from .file_inputs import bind_files
from .hub import Watch
from .input_caches import InputCaches
from .inputs import NodeInputs, normalized
from .packages import Installer, LiveCatalog
from .retention import Retention
from .sessions import open_session
from .store import FilesRemoved, Store, StoredEvent, TaskFilter, TaskPage, TaskRecord, now_ms
from .task_files import TaskFiles
from .task_requests import TaskOptions, TaskRequest, request_hash
from .uploads import FOLDER as UPLOADS
from .uploads import Uploads

T = TypeVar("T")


class UnknownTask(Exception):
    """There is no task of this id."""


class TaskNotEnded(Exception):
    """What was asked for can only be done to a task that has ended."""


class KeyConflict(Exception):
    """An idempotency key was used before, for another request."""


@dataclass(frozen=True)
class Accepted:
    """The task a request led to."""

    task: TaskRecord
    #: Whether an earlier request with the same idempotency key made it.
    replayed: bool


class TaskService:
    """Tasks, blocks, flows and packages of one server."""

    def __init__(
        self,
        catalogs: LiveCatalog,
        store: Store,
        dispatcher: LocalDispatcher,
        directory: DataDirectory,
        installer: Installer,
        caches: InputCaches,
        retention: Retention,
    ) -> None:
        self._catalogs = catalogs
        self._store = store
        self._dispatcher = dispatcher
        self._directory = directory
        self._caches = caches
        self._retention = retention
        #: Where files that come with a request are received.
        self.uploads = Uploads(directory)
        #: What installs and uninstalls packages.
        self.installer = installer

    @property
    def _catalog(self) -> Catalog:
        return self._catalogs.current

    @property
    def commits(self) -> int:
        """How many transactions the store has committed since it was opened."""
        return self._store.commits

    async def create(self, target: str, input_values: Any = None) -> TaskRecord:
        """Accept a task of these inputs, as ``accept`` does, and return it."""
        return (await self.accept(TaskRequest(target, input_values))).task

    async def accept(self, request: TaskRequest) -> Accepted:
        """Accept a task: when this returns it is on disk with its files, and will run.

        A request whose idempotency key was used before leads to the task of that time. Raises
        UnknownTarget, ManifestError, InvalidInputs for values of no known form and files that
        fit no input, InputError for inputs that don't fit, and KeyConflict; then no task was
        made.
        """
        values = normalized(request.input_values)
        digest = request_hash(request, values) if request.idempotency_key else None
        if request.idempotency_key is not None:
            # Asked before anything is checked: the packages may have changed since.
            earlier = await self._store.task_of_key(request.idempotency_key)
            if earlier is not None:
                return _replayed(earlier, digest)
        task = replace(await self._new_task(request, values), request_hash=digest)
        try:
            stored = await self._store.create_task(task)
        except FilesRemoved as error:
            raise UnknownTask(f"The task can't be repeated: {error}") from error
        if stored.id != task.id:
            return _replayed(stored, digest)
        if request.uploads:
            await asyncio.to_thread(self.uploads.keep, task.session_id)
        await self._dispatcher.submit(stored)
        return Accepted(stored, replayed=False)

    async def rerun(
        self, task_id: str, *, client: str | None = None, idempotency_key: str | None = None
    ) -> Accepted:
        """Accept a new task of the same target, inputs and labels; raises what ``accept`` does."""
        task = await self.get(task_id)
        return await self.accept(
            TaskRequest(
                target=task.manifest_path,
                input_values=task.input_values,
                options=TaskOptions(
                    labels=task.labels or {},
                    nodes=tuple(task.nodes or ()),
                    use_cache=task.cache is not None,
                ),
                client=client,
                idempotency_key=idempotency_key,
                rerun_of=task_id,
                uploads_session_id=task.uploads_session_id,
            )
        )

    async def list(self) -> Sequence[TaskRecord]:
        """Return all tasks, the newest first."""
        return await self._store.tasks()

    async def page(
        self, wanted: TaskFilter, *, cursor: int | None = None, limit: int | None = None
    ) -> TaskPage:
        """Return the newest tasks, at most ``limit``, or go on where ``cursor`` points."""
        return await self._store.page(wanted, cursor=cursor, limit=limit)

    async def get(self, task_id: str) -> TaskRecord:
        """Return one task; raises UnknownTask."""
        task = await self._store.task(task_id)
        if task is None:
            raise _unknown(task_id)
        return task

    async def get_changed(
        self, task_id: str, known: Callable[[TaskRecord], bool], patience: float
    ) -> TaskRecord:
        """Return one task as soon as it is not ``known``, after ``patience`` seconds in any case.

        One that has ended is returned at once. Raises UnknownTask.
        """
        return await self._when(
            task_id,
            lambda: self.get(task_id),
            lambda task: task.ended or not known(task),
            patience,
        )

    async def stop(self, task_id: str) -> TaskRecord:
        """Stop a task now, and return it as it then is; one that has ended is left alone."""
        await self.get(task_id)
        await self._dispatcher.stop(task_id)
        return await self.get(task_id)

    async def remove(self, task_id: str) -> TaskRecord:
        """Remove a task that has ended, with its log, its files and its key, and return it.

        Raises UnknownTask, and TaskNotEnded.
        """
        task = await self.get(task_id)
        if not task.ended:
            raise TaskNotEnded(f"Task {task_id} is {task.status}: stop it before you remove it.")
        await self._dispatcher.settled(task_id)
        if not await self._retention.remove(task_id):
            raise _unknown(task_id)
        return task

    async def logs(
        self, task_id: str, after_id: int = 0, *, limit: int | None = None, patience: float = 0
    ) -> tuple[TaskRecord, Sequence[StoredEvent]]:
        """Return a task and its events with ids above ``after_id``, the first ``limit`` of them.

        Large ones are fewer, and then ``more_logs`` has the others. Waits up to ``patience``
        seconds while there is none and the task has not ended. Raises UnknownTask.
        """

        async def read() -> tuple[TaskRecord, Sequence[StoredEvent]]:
            task = await self.get(task_id)
            return task, await self._store.logs(task_id, after_id, limit)

        return await self._when(
            task_id, read, lambda found: found[0].ended or bool(found[1]), patience
        )

    async def more_logs(
        self, task: TaskRecord, after_id: int, limit: int | None
    ) -> Sequence[StoredEvent]:
        """Return events of a task as ``logs`` does, at once."""
        return await self._store.logs(task.id, after_id, limit)

    async def files(self, task_id: str) -> TaskFiles:
        """Return the files of a task; raises UnknownTask."""
        task = await self.get(task_id)
        folders = {"": self._directory.session_path(task.session_id)}
        if task.uploads_session_id not in (None, task.session_id):
            # The task started over in a new directory; what it was given is in its first one.
            first = self._directory.session_path(str(task.uploads_session_id))
            folders = {f"{UPLOADS}/": first / UPLOADS, **folders}
        return TaskFiles(folders)

    async def selection(
        self, client: str | None, task_ids: Sequence[str], *, logs: bool = True
    ) -> Selection:
        """Return a choice of tasks whose feed is wanted; raises UnknownTask."""
        for task_id in task_ids:
            await self.get(task_id)
        return Selection(client, tuple(task_ids), logs)

    def watch(self, selection: Selection) -> Watch:
        """Return a watch that notices all that is new in the feed of these tasks."""
        return self._store.hub.watch(selection.task_ids, selection.client)

    async def feed(self, selection: Selection, after: int) -> FeedPage:
        """Return what happened to these tasks after a position, as much as a page holds."""
        return await self._store.read(lambda db: read_feed(db, selection, after))

    async def unfinished(self, selection: Selection, changed_upto: int, cursor: int) -> FeedPage:
        """Return those of these tasks that have not ended nor changed after a position."""
        return await self._store.read(
            lambda db: read_unfinished(db, selection, changed_upto, cursor)
        )

    def end_waits(self) -> None:
        """Let all that waits for something new go on at once, because the server is to end."""
        self._store.hub.close()

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

    async def _when(
        self,
        task_id: str,
        read: Callable[[], Awaitable[T]],
        enough: Callable[[T], bool],
        patience: float,
    ) -> T:
        """Read again after each change of a task, until that is enough or patience is over."""
        if not patience:
            return await read()
        now = asyncio.get_running_loop().time
        end = now() + patience
        with self._store.hub.watch([task_id]) as watch:
            found = await read()
            while not enough(found) and await watch.changed(end - now()):
                found = await read()
            return found

    async def _new_task(self, request: TaskRequest, values: NodeInputs | None) -> TaskRecord:
        catalog = self._catalog
        target = catalog.resolve(request.target)
        session_id = request.session_id or str(uuid.uuid4())
        if request.uploads:
            places = [self.uploads.place(session_id, upload) for upload in request.uploads]
            named = [(u.name, str(place)) for u, place in zip(request.uploads, places, strict=True)]
            values = bind_files(named, values, target.manifest.inputs_def)
        options, path = request.options, target.address
        cache = await asyncio.to_thread(self._caches.load, path) if options.use_cache else None
        now = now_ms()
        task = TaskRecord(
            id=str(uuid.uuid4()),
            session_id=session_id,
            project_id=_project_id(target.package),
            project_name=target.package.name,
            manifest_path=path,
            input_values=values,
            created_at=now,
            updated_at=now,
            client=request.client,
            idempotency_key=request.idempotency_key,
            priority=options.priority,
            labels=options.labels or None,
            deadline=options.deadline,
            rerun_of=request.rerun_of,
            uploads_session_id=session_id if request.uploads else request.uploads_session_id,
            nodes=options.nodes or None,
            cache=cache,
        )
        # Made to be thrown away: it checks the inputs, and the manifests of all nodes.
        open_session(catalog, target, task)
        return task


def _unknown(task_id: str) -> UnknownTask:
    return UnknownTask(f"There is no task {task_id!r}.")


def _replayed(task: TaskRecord, digest: str | None) -> Accepted:
    if task.request_hash != digest:
        raise KeyConflict(
            "The Idempotency-Key was used before, for a request with another target, other "
            "inputs, options or files. Use a new key for a new task."
        )
    return Accepted(task, replayed=True)


def _project_id(package: Package) -> str:
    digest = hashlib.sha256(str(package.directory).encode()).hexdigest()
    return f"{package.name}_{digest[:12]}"
