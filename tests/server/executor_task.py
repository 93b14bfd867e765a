"""A task for the tests of the executors: one package, its jobs and all they delivered."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import textwrap
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from oomol_connect_sdk.server.engine.actions import Job
from oomol_connect_sdk.server.executors import SessionDirectories, SessionExecutors, WorkerPool

#: Seconds until a test gives up waiting.
PATIENCE = 30.0


class ExecutorTask:
    """One running task over the package in ``package_dir``.

    With ``unread_limit`` its messages count as unread until the test says that they are taken.
    """

    def __init__(
        self,
        pool: WorkerPool,
        package_dir: Path,
        root: Path,
        session_id: str,
        unread_limit: int | None = None,
    ) -> None:
        self.package_dir = package_dir
        self.session_id = session_id
        self.directories = SessionDirectories(
            session_dir=root / session_id, temporary_root=root / "tmp", package_data_root=root / "d"
        )
        for directory in vars(self.directories).values():
            directory.mkdir(parents=True, exist_ok=True)
        self.messages: list[dict[str, Any]] = []
        self.executors = SessionExecutors(
            pool, session_id, self.directories, self._take, unread_limit=unread_limit
        )
        self._by_kind: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self._arrived = asyncio.Event()
        self._numbers = itertools.count(1)

    def block(self, name: str, source: str) -> str:
        """Write a block's entry file; gives the block's name."""
        directory = self.package_dir / "tasks" / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "index.py").write_text(textwrap.dedent(source), "utf-8")
        return name

    def start(self, block: str, **inputs: Any) -> str:
        """Start a job of that block; gives the job's id."""
        return self.start_job(self.job(block, inputs))

    def start_job(self, job: Job) -> str:
        self.executors.start(job)
        return job.job_id

    def job(
        self,
        block: str,
        inputs: dict[str, Any],
        *,
        inputs_def: dict[str, Any] | None = None,
        outputs: tuple[str, ...] = ("out", "other"),
        outputs_def: dict[str, Any] | None = None,
        timeout: float | None = None,
        executor: str = "python",
        **options: Any,
    ) -> Job:
        directory = self.package_dir / "tasks" / block
        return Job(
            job_id=f"{block}-{next(self._numbers)}",
            session_id=self.session_id,
            stacks=(),
            block_path=directory / "task.oo.yaml",
            directory=directory,
            package_dir=self.package_dir,
            package_name=self.package_dir.name,
            executor=executor,
            options=options,
            inputs=inputs,
            inputs_def=inputs_def or {},
            outputs_def=outputs_def or {handle: {"handle": handle} for handle in outputs},
            timeout=timeout,
        )

    async def run(self, source: str, **inputs: Any) -> dict[str, Any]:
        """Run a block with this source to its end; gives its BlockFinished."""
        return await self.finished(self.start(self.block("block", source), **inputs))

    async def finished(self, job_id: str) -> dict[str, Any]:
        return await self.message(job_id, "BlockFinished")

    async def message(self, job_id: str, kind: str) -> dict[str, Any]:
        """The first message of that kind, once it is there."""
        await self.until(lambda: self.has(job_id, kind))
        return self.of(job_id, kind)[0]

    async def until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until a message makes the condition true."""
        deadline = time.monotonic() + patience
        while not condition():
            self._arrived.clear()
            await asyncio.wait_for(self._arrived.wait(), timeout=deadline - time.monotonic())

    def of(self, job_id: str, kind: str) -> list[dict[str, Any]]:
        """The messages of that kind so far, without the keys that all have."""
        return [
            {key: value for key, value in message.items() if key not in ("type", "job_id")}
            for message in self._by_kind[job_id, kind]
        ]

    def has(self, job_id: str, kind: str, count: int = 1) -> bool:
        """Whether there are so many messages of that kind."""
        return len(self._by_kind[job_id, kind]) >= count

    def all_of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    def logs(self, job_id: str) -> list[str]:
        return [message["log"] for message in self.of(job_id, "BlockLog")]

    def _take(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self._by_kind[message["job_id"], message["type"]].append(message)
        self._arrived.set()


@asynccontextmanager
async def running_task(
    pool: WorkerPool,
    root: Path,
    *,
    package: str = "demo",
    session_id: str = "session",
    unread_limit: int | None = None,
) -> AsyncIterator[ExecutorTask]:
    """A task that is closed at the end, its workers given back."""
    package_dir = root / package
    package_dir.mkdir(parents=True, exist_ok=True)
    task = ExecutorTask(pool, package_dir, root, session_id, unread_limit)
    try:
        yield task
    finally:
        await task.executors.close(kill=False)


def is_running(process_id: int) -> bool:
    """Whether that process is there and does more than wait for its burial."""
    command = ["ps", "-o", "stat=", "-p", str(process_id)]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return bool(state) and not state.startswith("Z")


async def until_gone(*process_ids: int) -> None:
    """Wait until these processes have ended."""
    deadline = time.monotonic() + PATIENCE
    while any(map(is_running, process_ids)):
        assert time.monotonic() < deadline, f"one of {process_ids} is still running"
        await asyncio.sleep(0.02)
