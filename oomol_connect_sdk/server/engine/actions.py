"""What the engine asks for: the values a session returns and a runner carries out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union


@dataclass(frozen=True)
class Service:
    """The service whose process runs a job, as its manifest describes it."""

    #: The service's manifest file.
    path: Path
    #: The name of the block within the service.
    block_name: str
    executor: str
    options: Mapping[str, Any]
    #: ``block_start``, ``session_start`` or ``app_start``.
    start_at: str
    #: ``block_end``, ``session_end``, ``app_end`` or ``never``.
    stop_at: str
    #: Seconds a ``block_end`` service is kept after its last block; None for the default of 10.
    keep_alive: float | None = None


@dataclass(frozen=True)
class ServiceStart:
    """A service that is to be started before a block of it runs."""

    service: Service
    #: The package whose environment it runs in.
    package_dir: Path
    package_name: str


@dataclass(frozen=True)
class Job:
    """One run of one task block: everything an executor needs to know about it."""

    job_id: str
    session_id: str
    #: Path of the flow, job id of the flow and id of the node, outermost flow first.
    stacks: tuple[Mapping[str, Any], ...]
    #: The block's manifest file; None for a task written inline in a flow.
    block_path: Path | None
    #: The directory that the executor's ``entry`` and ``cwd`` are relative to.
    directory: Path
    #: The directory of the package the block belongs to: its environment and its worker.
    package_dir: Path
    package_name: str
    #: ``python``, ``nodejs``, ``shell``, ... and the options of the manifest.
    executor: str
    options: Mapping[str, Any]
    inputs: Mapping[str, Any]
    #: Handle → definition, as the manifest wrote it.
    inputs_def: Mapping[str, Mapping[str, Any]]
    outputs_def: Mapping[str, Mapping[str, Any]]
    #: Seconds until the job counts as failed; None for no limit.
    timeout: float | None = None
    #: The service that runs the job; None for a task block.
    service: Service | None = None
    #: The node of its flow whose process it runs in; None for that of its package, or its own.
    beside: str | None = None
    #: Scripts that prepare the environment of the package for it, to be run once.
    scripts: tuple[str, ...] = ()

    @property
    def node_id(self) -> str:
        """The node this job runs, or ``none`` for a block that is run by itself."""
        return str(self.stacks[-1]["node_id"]) if self.stacks else "none"


@dataclass(frozen=True)
class Failure:
    """Why a session failed, in words for a person."""

    message: str
    #: Ids of the nodes from the outermost flow to the block that failed; empty for a root block.
    node_path: tuple[str, ...] = ()
    block_path: str | None = None


@dataclass(frozen=True)
class Emit:
    """Write one event (see the log events) to the journal."""

    event: Mapping[str, Any]


@dataclass(frozen=True)
class StartJob:
    """Run this job."""

    job: Job


@dataclass(frozen=True)
class AbortJob:
    """Stop this job: nobody waits for it any more."""

    job_id: str


@dataclass(frozen=True)
class Respond:
    """Answer a request (``BlockRequest``) of a running job; one of result and error is not None."""

    job_id: str
    request_id: str
    result: Any = None
    error: str | None = None


@dataclass(frozen=True)
class Notify:
    """Show a running job an event of a block that it had started itself (``run_block``)."""

    job_id: str
    event: Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """Keep a job's message that is no log event, so that a replay can feed it back."""

    message: Mapping[str, Any]


@dataclass(frozen=True)
class StartTimer:
    """Send ``{"type": "TimerFired", "job_id": …}`` once these seconds have passed."""

    job_id: str
    seconds: float


@dataclass(frozen=True)
class Finish:
    """The session is over; no action follows this one."""

    failure: Failure | None
    #: Handle → value of the block, or of the flow's outputs.
    result: Mapping[str, Any] = field(default_factory=dict)
    #: Node id → handle → last value, for every node of the root flow that gave one.
    node_results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


Action = Union[Emit, Record, StartJob, AbortJob, StartTimer, Respond, Notify, Finish]
