"""Running one task, from wherever its journal ends to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .data_directory import DataDirectory
from .disk_watch import watched_disk
from .engine.actions import (
    AbortJob,
    Action,
    Emit,
    Failure,
    Finish,
    Notify,
    Respond,
    StartJob,
    StartTimer,
)
from .engine.catalog import Catalog
from .engine.errors import EngineError
from .engine.session import Session
from .executors import SessionDirectories, SessionExecutors, WorkerPool
from .input_caches import InputCaches
from .journal import Journal
from .limits import TaskLimits, size_text
from .replay import (
    Redelivery,
    ReplayDiverged,
    Replayed,
    holds_references,
    replay,
    split_own_entry,
)
from .sessions import open_session
from .store import ENGINE, JOB, REQUEST, SERVER, JournalEntry, Store, TaskRecord, now_ms
from .timers import Timers
from .uploads import FOLDER as UPLOADS

logger = logging.getLogger(__name__)

#: Bytes of messages that may wait for the engine before the processes of a task have to.
_UNREAD_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class RunnerParts:
    """What every runner of a server works with."""

    store: Store
    catalog: Catalog
    pool: WorkerPool
    directory: DataDirectory
    caches: InputCaches
    limits: TaskLimits


class TaskRunner:
    """Runs one stored task; another runner can go on after a crash of the server.

    What finished stays finished, what was in flight is run again from its beginning, and an
    output that reached the journal is not delivered a second time.
    """

    def __init__(self, task_id: str, parts: RunnerParts) -> None:
        self._task_id = task_id
        self._parts = parts
        #: What executors and timers deliver, and what to call when it is dealt with; a message
        #: that is None wakes the run when it was halted.
        self._inbox: asyncio.Queue[_Delivery] = asyncio.Queue()
        self._stopped = False
        self._suspended = False
        #: What the task has used too much of, in words.
        self._excess: str | None = None

    def stop(self) -> None:
        """End the task as stopped; ``run`` returns once that is stored."""
        self._stopped = True
        self._deliver(None)

    def suspend(self) -> None:
        """End the run but leave the task unfinished, for a later run to take up."""
        self._suspended = True
        self._deliver(None)

    async def run(self) -> None:
        """Run the task until it ends, or is halted; raises only what the store raises."""
        task = await self._parts.store.task_to_run(self._task_id)
        if task is None or task.ended:
            return
        try:
            await self._resume(task)
        except EngineError as error:
            await self._fail(task, str(error))
        except Exception:
            logger.exception("Task %s failed inside the server.", task.id)
            await self._fail(task, "The server failed while it ran this task; its log says why.")

    async def _resume(self, task: TaskRecord) -> None:
        catalog = self._parts.catalog
        target = catalog.resolve(task.manifest_path)
        session = open_session(catalog, target, task)
        # Its first events are stored together with the change of its status.
        has_begun = task.status not in ("created", "pending")
        events = await self._parts.store.session_events(task.session_id) if has_begun else []
        try:
            replayed = replay(session, events)
        except ReplayDiverged:
            return await self._start_over(task, "its manifests were changed")
        if replayed.finish is None and holds_references(events):
            return await self._start_over(task, "objects of its blocks were lost with it")
        redelivery = Redelivery(events, replayed.interrupted)
        size = sum(len(event.text) for event in events)
        return await self._run(task, session, replayed, redelivery, size)

    async def _start_over(self, task: TaskRecord, why: str) -> None:
        session_id = str(uuid.uuid4())
        warning = f"The task starts over: the server was restarted, and {why}."
        event = {"type": "BlockWarning", "session_id": session_id, "stacks": [], "warning": warning}
        await self._parts.store.append_events(
            task.id,
            session_id,
            [JournalEntry(event, SERVER)],
            {"session_id": session_id, "progress": None},
        )
        await self._resume(replace(task, session_id=session_id))

    async def _run(
        self,
        task: TaskRecord,
        session: Session,
        replayed: Replayed,
        redelivery: Redelivery,
        size: int,
    ) -> None:
        directories = self._directories(task)
        async with contextlib.AsyncExitStack() as stack:
            journal = Journal(self._parts.store, task.id, task.session_id, size)
            stack.push_async_callback(journal.flush)
            executors = SessionExecutors(
                self._parts.pool,
                task.session_id,
                directories,
                lambda message: self._deliver(message, executors.taken),
                unread_limit=_UNREAD_LIMIT,
            )
            timers = stack.enter_context(Timers(self._deliver))
            run = _SessionRun(session, journal, executors, timers, redelivery)
            stack.push_async_callback(lambda: executors.close(kill=run.finish is None))
            run.begin(replayed)
            await stack.enter_async_context(self._watched_disk(directories))
            while not (run.finish or self._halted):
                delivery = await self._inbox.get()
                if delivery.message is not None:
                    run.receive(delivery.message)
                await journal.room()
                delivery.taken()
                self._check_log(journal)
            # Before the end can be seen: the next task may want them.
            await self._keep_inputs(task, session)
            run.conclude()
        if run.finish is None and self._stopped:
            await self._end(task, "stopped", {"status": "stopped"})
        elif run.finish is None and self._excess is not None:
            await self._fail(task, self._excess)
        elif run.finish is not None and run.finish.failure is None:
            await asyncio.to_thread(self._parts.directory.remove_temporary, task.session_id)

    @property
    def _halted(self) -> bool:
        return self._stopped or self._suspended or self._excess is not None

    def _watched_disk(
        self, directories: SessionDirectories
    ) -> contextlib.AbstractAsyncContextManager[None]:
        limit = self._parts.limits.disk

        def exceeded(used: int) -> None:
            self._excess = (
                f"The files of the task take {size_text(used)} on the disk; "
                f"the limit for one task is {size_text(limit or 0)}."
            )
            self._deliver(None)

        return watched_disk(
            [directories.session_dir, directories.temporary_root],
            limit,
            exceeded,
            except_for=directories.session_dir / UPLOADS,
        )

    def _check_log(self, journal: Journal) -> None:
        limit = self._parts.limits.log
        if limit is not None and journal.size > limit:
            self._excess = (
                f"The log of the task, with the inputs and outputs of its blocks, takes "
                f"{size_text(journal.size)}; the limit for one task is {size_text(limit)}. "
                "Print less, or pass large values in files."
            )

    async def _keep_inputs(self, task: TaskRecord, session: Session) -> None:
        inputs = session.input_cache
        if inputs and not self._suspended:
            await asyncio.to_thread(self._parts.caches.add, task.manifest_path, inputs)

    def _deliver(
        self, message: Mapping[str, Any] | None, taken: Callable[[], None] = lambda: None
    ) -> None:
        self._inbox.put_nowait(_Delivery(message, taken))

    def _directories(self, task: TaskRecord) -> SessionDirectories:
        directory = self._parts.directory
        return SessionDirectories(
            session_dir=directory.session(task.session_id),
            temporary_root=directory.temporary(task.session_id),
            package_data_root=directory.package_data,
        )

    async def _fail(self, task: TaskRecord, message: str) -> None:
        error = _error(Failure(message))
        await self._end(task, message, {"status": "failed", "error": error})

    async def _end(self, task: TaskRecord, message: str, changes: Mapping[str, Any]) -> None:
        """End a session for a reason that lies outside it, unless it has ended by itself."""
        current = await self._parts.store.task(task.id)
        if current is None or current.ended:
            return
        entry = JournalEntry(_session_finished(current, message), SERVER)
        await self._parts.store.append_events(task.id, current.session_id, [entry], changes)


@dataclass(frozen=True)
class _Delivery:
    message: Mapping[str, Any] | None
    taken: Callable[[], None]


class _SessionRun:
    """Carries out what one session asks for, and journals it."""

    def __init__(
        self,
        session: Session,
        journal: Journal,
        executors: SessionExecutors,
        timers: Timers,
        redelivery: Redelivery,
    ) -> None:
        self._session = session
        self._journal = journal
        self._executors = executors
        self._timers = timers
        self._redelivery = redelivery
        self._progress = 0.0
        self.finish: Finish | None = None

    def begin(self, replayed: Replayed) -> None:
        """Go on from the end of the journal."""
        self.finish = replayed.finish
        self._journal.change(status="running")
        for event in replayed.missing:
            self._journal.add(event, ENGINE)
        for job_id in replayed.interrupted:
            # It asks again for the blocks it runs itself: those that still run are dropped,
            # and then they are not told about either.
            self.receive({"type": "BlockRestarted", "job_id": job_id})
            self.receive({"type": "BlockWarning", "job_id": job_id, "warning": _RUN_AGAIN})
        if self.finish is None:
            self._executors.start_services(self._session.services)
        for job in self._session.running:
            self._executors.start(job)
        for timed_job_id, seconds in self._session.timers.items():
            self._timers.start(timed_job_id, seconds)

    def receive(self, message: Mapping[str, Any]) -> None:
        """Hand a job's message to the engine and do what it answers."""
        new = self._redelivery.filter(message)
        if new is None:
            return
        actions = self._session.handle(new)
        own, rest = split_own_entry(actions)
        if isinstance(own, Emit):
            self._journal.add(own.event, JOB)
        elif own is not None:
            self._journal.add(own.message, REQUEST)
        self._carry_out(rest)
        self._note_progress()

    def conclude(self) -> None:
        """Store how the session ended, if it has."""
        finish = self.finish
        if finish is None:
            return
        if finish.failure is None:
            self._journal.change(
                status="completed",
                progress=100,
                result=dict(finish.result),
                node_results=dict(finish.node_results),
            )
        else:
            self._journal.change(status="failed", error=_error(finish.failure))

    def _carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Emit(event):
                    self._journal.add(event, ENGINE)
                case StartJob(job):
                    self._executors.start(job)
                case AbortJob(job_id):
                    self._executors.abort(job_id)
                case StartTimer(job_id, seconds):
                    self._timers.start(job_id, seconds)
                case Respond(job_id, request_id, result, error):
                    self._executors.respond(job_id, request_id, result, error)
                case Notify(job_id, event):
                    self._executors.notify(job_id, event)
                case Finish():
                    self.finish = action

    def _note_progress(self) -> None:
        if self._session.progress != self._progress:
            self._progress = self._session.progress
            self._journal.change(progress=self._progress)


_RUN_AGAIN = "The block is run again from its beginning: the server was restarted while it ran."


def _session_finished(task: TaskRecord, error: str) -> dict[str, Any]:
    return {
        "type": "SessionFinished",
        "session_id": task.session_id,
        "finish_at": now_ms(),
        "path": task.manifest_path.partition("::")[0],
        "error": error,
        "partial": task.nodes is not None,
        "cache": task.cache is not None,
    }


def _error(failure: Failure) -> dict[str, Any]:
    error: dict[str, Any] = {"message": failure.message, "nodePath": list(failure.node_path)}
    if failure.block_path is not None:
        error["blockPath"] = failure.block_path
    return error
