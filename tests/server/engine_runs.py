"""Running sessions with a scripted executor: functions that say what each block answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from packages import task_text, write_package

from oomol_connect_sdk.server.engine.actions import AbortJob, Action, Emit, Finish, Job, StartJob
from oomol_connect_sdk.server.engine.catalog import Catalog
from oomol_connect_sdk.server.engine.session import Session

SESSION_ID = "0b9e3c6e-7a0f-4f58-9a39-6d5f0f3a2c11"

Message = Mapping[str, Any]
Answer = Callable[[Job], Iterable[Message]]


def task_files(**tasks: str) -> dict[str, str]:
    """Write tasks whose handles are given as ``inputs -> outputs``."""
    return {
        f"tasks/{name}/task.oo.yaml": task_text(*text.split("->")) for name, text in tasks.items()
    }


def open_catalog(directory: Path, files: Mapping[str, str]) -> Catalog:
    """Write one package and open a catalogue of it."""
    return Catalog([write_package(directory / "pkg", "pkg", files=files)])


def open_session(
    catalog: Catalog,
    target: str,
    inputs: Mapping[str, Any] | None = None,
    nodes_inputs: Mapping[str, Mapping[str, Any]] | None = None,
    session_id: str = SESSION_ID,
    nodes: Iterable[str] = (),
) -> Session:
    found = catalog.resolve(target)
    return Session(
        session_id=session_id,
        target=found.manifest,
        package=found.package,
        references=catalog.references,
        inputs=inputs or {},
        nodes_inputs=nodes_inputs or {},
        nodes=tuple(nodes),
        clock=lambda: 1_000,
    )


class Run:
    """A session and all it has asked for so far."""

    def __init__(self, session: Session, answer: Answer | None = None) -> None:
        self.session = session
        self.actions: list[Action] = []
        self.messages: list[Message] = []
        self._answer = answer
        self.take(session.start())

    def take(self, actions: list[Action]) -> list[Action]:
        self.actions += actions
        return actions

    def send(self, job: Job | str, kind: str, **fields: Any) -> list[Action]:
        """Give the session a message of a job."""
        job_id = job if isinstance(job, str) else job.job_id
        message = {"type": kind, "job_id": job_id, **fields}
        self.messages.append(message)
        return self.take(self.session.handle(message))

    def finish_job(self, job: Job, **result: Any) -> list[Action]:
        return self.send(job, "BlockFinished", result=result)

    def job(self, node_id: str) -> Job:
        """Give the node's only job that is running."""
        (job,) = (job for job in self.session.running if job.node_id == node_id)
        return job

    def to_the_end(self) -> Run:
        """Answer every job, the oldest first, until the session is over."""
        assert self._answer is not None
        while not self.session.finished:
            job = self.session.running[0]
            for message in self._answer(job):
                fields = {key: value for key, value in message.items() if key != "type"}
                self.send(job, message["type"], **fields)
        return self

    @property
    def events(self) -> list[dict[str, Any]]:
        return [dict(action.event) for action in self.actions if isinstance(action, Emit)]

    @property
    def event_types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def events_of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def started(self) -> list[Job]:
        return [action.job for action in self.actions if isinstance(action, StartJob)]

    @property
    def started_nodes(self) -> list[str]:
        return [job.node_id for job in self.started]

    def inputs_of(self, node_id: str) -> list[dict[str, Any]]:
        """Give the inputs of every run of a node, in order."""
        return [dict(job.inputs) for job in self.started if job.node_id == node_id]

    @property
    def aborted(self) -> list[str]:
        return [action.job_id for action in self.actions if isinstance(action, AbortJob)]

    @property
    def finish(self) -> Finish:
        (finish,) = (action for action in self.actions if isinstance(action, Finish))
        assert self.actions[-1] is finish
        return finish


def answers(**by_node: Callable[..., Any]) -> Answer:
    """Answer the jobs of each node with what a function of the job's inputs returns."""

    def answer(job: Job) -> Iterable[Message]:
        yield {"type": "BlockFinished", "result": by_node[job.node_id](**job.inputs)}

    return answer
