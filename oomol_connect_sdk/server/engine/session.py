"""One run of a block or a flow: messages in, actions out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .actions import Action, Failure, Finish, Job, ServiceStart
from .block_requests import Requests
from .events import Extent, Trouble
from .inputs import InputError, refuse_cache_of_a_task
from .machine import Machine, StartedJob
from .manifests import Flow, Package, TaskBlock
from .references import References
from .root import RootFlow, RootTask
from .wiring import Edge, ToFlow, ToNode

__all__ = ["MAX_STEPS", "InputError", "Session"]

#: Steps the engine takes by itself after one message, before it calls that an endless loop.
MAX_STEPS = 10_000


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


class Session:
    """Runs a block or a flow without doing anything itself.

    ``start`` and ``handle`` return what has to be done next. The same target, inputs and
    messages always lead to the same job ids and, apart from time stamps, the same events.

    With ``nodes`` only these nodes of the flow run, and what they need; ``cache`` holds inputs
    of an earlier run (its ``input_cache``) that then need not be made again.

    Raises InputError for inputs that can't be used, and BlockNotFound, ManifestError or
    UnsupportedNode when the flow or something below it can't be run.
    """

    def __init__(
        self,
        *,
        session_id: str,
        target: TaskBlock | Flow,
        package: Package,
        references: References,
        inputs: Mapping[str, Any],
        nodes_inputs: Mapping[str, Mapping[str, Any]],
        nodes: Collection[str] = (),
        cache: Mapping[str, Mapping[str, Any]] | None = None,
        clock: Callable[[], int] = _unix_ms,
    ) -> None:
        machine = self._machine = Machine(session_id, clock)
        self._requests = Requests(machine, references)
        self._root: RootTask | RootFlow
        if isinstance(target, Flow):
            self._root = RootFlow(
                machine, target, package, references, inputs, nodes_inputs, nodes, cache
            )
        else:
            refuse_cache_of_a_task(target, cache)
            self._root = RootTask(machine, target, package, inputs, nodes_inputs, nodes)
        self._extent = Extent(partial=bool(nodes), cache=cache is not None)
        # Only a task inside a flow can be without a file of its own.
        self._path = target.path or target.directory
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether Finish has been returned."""
        return self._finished

    @property
    def running(self) -> tuple[Job, ...]:
        """The jobs that were started and are not over, in start order."""
        return tuple(started.job for started in self._machine.jobs.values())

    @property
    def input_cache(self) -> Mapping[str, Mapping[str, Any]]:
        """Node id → handle → the last value, of those that a later run of the flow can use."""
        return self._root.last_inputs

    @property
    def services(self) -> tuple[ServiceStart, ...]:
        """The services of nodes that may run, at any depth, that start with the session."""
        return self._root.services

    @property
    def timers(self) -> Mapping[str, float]:
        """The timers that were started and not dropped: job id → seconds."""
        return {job_id: timer.seconds for job_id, timer in self._machine.timers.items()}

    @property
    def progress(self) -> float:
        """How far the block or flow has come, 0 to 100."""
        return self._root.progress

    def start(self) -> list[Action]:
        """Begin; call it once, before any ``handle``."""
        self._machine.events.session_started(self._path, self._extent)
        self._root.start()
        return self._settle()

    def handle(self, message: Mapping[str, Any]) -> list[Action]:
        """Take a message of an executor; the first action writes it as an event.

        One that asks or tells the engine something without being an event (``BlockRequest``,
        ``BlockRestarted``, ``TimerFired``) is recorded instead. A message of a job that is
        over, aborted or unknown leads to no action.
        """
        job_id, kind = message.get("job_id", ""), message.get("type")
        if kind == "TimerFired":
            return self._fire(job_id, message)
        started = self._machine.jobs.get(job_id)
        if started is None:
            return []
        if kind == "BlockRequest":
            self._machine.record(message, started.info)
            self._requests.answer(message, started)
        elif kind == "BlockRestarted":
            self._machine.record(message, started.info)
            started.owner.host.requested.drop(job_id)
        else:
            self._machine.events.message(message, started.info)
            _apply(message, started, self._machine)
        return self._settle()

    def _fire(self, job_id: str, message: Mapping[str, Any]) -> list[Action]:
        timer = self._machine.timers.pop(job_id, None)
        if timer is None:
            return []
        self._machine.record(message, timer.info)
        timer.fire()
        return self._settle()

    def _settle(self) -> list[Action]:
        if not self._machine.settle(MAX_STEPS):
            self._root.fail(
                f"the flow went on for {MAX_STEPS} steps without running a block: "
                "its conditions or subflows form an endless loop"
            )
            self._machine.settle(MAX_STEPS)
        if self._root.over:
            self._finish()
        return self._machine.take_actions()

    def _finish(self) -> None:
        root = self._root
        self._finished = True
        self._machine.events.session_finished(self._path, self._extent, root.error_fields())
        failure = None if root.trouble is None else _failure(root.trouble)
        self._machine.act(Finish(failure, root.result, root.node_results))


def _apply(message: Mapping[str, Any], started: StartedJob, machine: Machine) -> None:
    """Tell a job's owner what a message means for it."""
    job_id, owner, kind = started.job.job_id, started.owner, message.get("type")
    if kind == "BlockOutput":
        only = _destinations(message.get("options"))
        owner.deliver(job_id, message["handle"], message.get("output"), only)
    elif kind == "BlockOutputs":
        for handle, value in message["outputs"].items():
            owner.deliver(job_id, handle, value)
    elif kind == "BlockProgress":
        if _is_progress(message.get("progress")):
            owner.progressed(job_id, message["progress"])
    elif kind == "BlockPreview":
        owner.previewed(job_id, message.get("payload"))
    elif kind == "BlockError" and "timeout" in message:
        _end(started, machine, {}, "Timeout")
    elif kind == "BlockFinished":
        _end(started, machine, message.get("result") or {}, message.get("error"))


def _end(started: StartedJob, machine: Machine, result: Mapping[str, Any], error: Any) -> None:
    del machine.jobs[started.job.job_id]
    trouble = None if error is None else Trouble(str(error), started.info)
    started.owner.ended(started.job.job_id, result, trouble)


def _destinations(options: Mapping[str, Any] | None) -> frozenset[Edge] | None:
    """Give the edges that ``options.target`` names; None when it names none."""
    target = (options or {}).get("target")
    if target is None:
        return None
    # A block writes this by hand; an entry of the wrong shape names no edge.
    nodes = (
        ToNode(str(to.get("node_id")), str(to.get("input_handle")))
        for to in target.get("to_node") or ()
        if isinstance(to, Mapping)
    )
    outputs = (
        ToFlow(str(to.get("output_handle")))
        for to in target.get("to_flow") or ()
        if isinstance(to, Mapping)
    )
    return frozenset[Edge]((*nodes, *outputs))


def _is_progress(progress: Any) -> bool:
    # A block may report anything, also what is no number.
    return isinstance(progress, (int, float)) and 0 <= progress < math.inf


def _failure(trouble: Trouble) -> Failure:
    path = trouble.info.path
    return Failure(
        message=trouble.message,
        node_path=tuple(str(level["node_id"]) for level in trouble.info.stacks),
        block_path=None if path is None else str(path),
    )
