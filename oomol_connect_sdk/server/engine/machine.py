"""What all runs of a session share: job ids, started jobs, and the actions they lead to."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .actions import AbortJob, Action, Emit, Job, Notify, Record, StartJob, StartTimer
from .events import Events, JobInfo, Trouble
from .manifests import InputDef, OutputDef, Package, TaskBlock
from .wiring import Edge

if TYPE_CHECKING:
    from .requested import Host

#: For session ids that are no UUIDs.
_NAMESPACE = uuid.UUID("5f1c3a52-52c1-5e0b-9d55-0a3a4d7f2c11")
#: What a job is shown of the blocks it runs itself.
_SHOWN = frozenset(
    {"BlockOutput", "BlockOutputs", "BlockFinished", "BlockProgress"}
    | {"SubflowBlockOutput", "SubflowBlockFinished"}
)


class Parent(Protocol):
    """Who waits for a job or a flow: the flow it is a node of, or the session."""

    def deliver(
        self, job_id: str, handle: str, value: Any, only: frozenset[Edge] | None = None
    ) -> None:
        """Take one output value; ``only`` names the edges it may take, None means all."""

    def progressed(self, job_id: str, progress: float) -> None:
        """Take the job's progress, 0 to 100."""

    def previewed(self, job_id: str, payload: Any) -> None:
        """Take a preview of the job."""

    def ended(self, job_id: str, result: Mapping[str, Any], trouble: Trouble | None) -> None:
        """Take the job's end: its last output values, or why it failed."""


class Owner(Parent, Protocol):
    """Who waits for the job of an executor, and knows what such a job may ask about."""

    @property
    def host(self) -> Host:
        """The flow or root task that the job's requests are about."""


@dataclass(frozen=True)
class StartedJob:
    """A job an executor runs, and who waits for it."""

    job: Job
    info: JobInfo
    owner: Owner


@dataclass(frozen=True)
class Timer:
    """The time a subflow may take, and what happens after it."""

    info: JobInfo
    seconds: float
    fire: Callable[[], None]


class Machine:
    """Collects actions and keeps the steps that are still to be taken, in order.

    A run that acts on another one does so in a step of its own, so that no run is entered
    again while it is in the middle of something.
    """

    def __init__(self, session_id: str, clock: Callable[[], int]) -> None:
        self.session_id = session_id
        self.events = Events(session_id, clock, self._emit)
        #: By job id, in the order they were started.
        self.jobs: dict[str, StartedJob] = {}
        #: By the job id of the subflow they are for.
        self.timers: dict[str, Timer] = {}
        #: Job id of a block that a job runs itself → the id of that job.
        self.requesters: dict[str, str] = {}
        self._namespace = _namespace(session_id)
        self._job_count = 0
        self._actions: list[Action] = []
        self._steps: deque[Callable[[], None]] = deque()

    def new_job_id(self) -> str:
        """Give the next job id; the same session always gives the same ones."""
        self._job_count += 1
        return str(uuid.uuid5(self._namespace, str(self._job_count)))

    def act(self, action: Action) -> None:
        """Add an action to those that the session returns next."""
        self._actions.append(action)

    def take_actions(self) -> list[Action]:
        """Give the actions since the last call."""
        actions, self._actions = self._actions, []
        return actions

    def start(
        self,
        info: JobInfo,
        block: TaskBlock,
        package: Package,
        owner: Owner,
        *,
        inputs: Mapping[str, Any],
        inputs_def: Iterable[InputDef],
        outputs_def: Iterable[OutputDef],
        timeout: float | None = None,
        beside: str | None = None,
        scripts: tuple[str, ...] = (),
    ) -> None:
        """Have an executor run a task block."""
        job = Job(
            job_id=info.job_id,
            session_id=self.session_id,
            stacks=info.stacks,
            block_path=block.path,
            directory=block.directory,
            package_dir=package.directory,
            package_name=package.name,
            executor=block.executor.name,
            options=block.executor.options,
            inputs=inputs,
            inputs_def={item.handle: item.definition for item in inputs_def},
            outputs_def={item.handle: item.definition for item in outputs_def},
            timeout=timeout,
            service=block.service,
            beside=beside,
            scripts=scripts,
        )
        self.jobs[info.job_id] = StartedJob(job, info, owner)
        self.events.block_started(info, inputs)
        self.act(StartJob(job))

    def abort(self, job_id: str) -> None:
        """Stop a job if an executor runs it."""
        if self.jobs.pop(job_id, None) is not None:
            self.act(AbortJob(job_id))

    def record(self, message: Mapping[str, Any], info: JobInfo) -> None:
        """Keep a message that is no event."""
        self.act(Record({**message, **info.fields(), "session_id": self.session_id}))

    def start_timer(self, timer: Timer) -> None:
        """Fire once the timer's seconds have passed, unless it is dropped before."""
        self.timers[timer.info.job_id] = timer
        self.act(StartTimer(timer.info.job_id, timer.seconds))

    def later(self, step: Callable[[], None]) -> None:
        """Take a step once those that were added before it are done."""
        self._steps.append(step)

    def settle(self, limit: int) -> bool:
        """Take all steps, also those that steps add; False when that needs more than ``limit``."""
        for _ in range(limit):
            if not self._steps:
                return True
            self._steps.popleft()()
        restless = bool(self._steps)
        self._steps.clear()
        return not restless

    def _emit(self, event: dict[str, Any]) -> None:
        self.act(Emit(event))
        requester = self.requesters.get(event.get("job_id", ""))
        if requester in self.jobs and event["type"] in _SHOWN:
            self.act(Notify(requester, event))


def _namespace(session_id: str) -> uuid.UUID:
    try:
        return uuid.UUID(session_id)
    except ValueError:
        return uuid.uuid5(_NAMESPACE, session_id)
