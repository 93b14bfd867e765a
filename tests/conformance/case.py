"""One case of the conformance suite: a small package, what its blocks do, what must come of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

import yaml
from engine_runs import Run
from packages import task_text, write_package

from oomol_connect_sdk.server.engine.actions import Job, Respond
from oomol_connect_sdk.server.engine.catalog import Catalog
from oomol_connect_sdk.server.engine.session import Session

CASES = Path(__file__).parent / "cases"
SESSION_ID = "0b9e3c6e-7a0f-4f58-9a39-6d5f0f3a2c11"


@dataclass(frozen=True)
class Case:
    """A rule and the flow that shows it.

    ``files`` belong to the package ``pkg``, ``tasks`` are written ``inputs -> outputs``, and
    ``flow`` is the flow ``main``. ``steps`` are what running blocks do, one after the other:
    ``[node, what, ...]``.
    """

    id: str
    rule: str
    target: str = "main"
    flow: str = ""
    tasks: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    nodes_inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    nodes: Sequence[str] = ()
    cache: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: Sequence[Sequence[Any]] = ()
    #: Left value, operator, right value, whether the comparison holds.
    comparisons: Sequence[Sequence[Any]] = ()
    #: The events of the session, one a line; after a line of dots only the last ones are given.
    events: str = ""
    result: Any = None
    #: The message of the failure.
    error: str = ""
    #: Part of what is said instead of starting at all.
    refused: str = ""
    #: What requests were answered.
    answers: Sequence[Any] = ()
    #: Node → the manifest that ran there.
    ran: Mapping[str, str] = field(default_factory=dict)
    #: Node → the seconds its job may take.
    timeouts: Mapping[str, Any] = field(default_factory=dict)
    #: Where a rule is tested that no flow alone can show: ``file::function``.
    test: str = ""


@dataclass(frozen=True)
class Area:
    """The cases of one file."""

    title: str
    about: str
    cases: Sequence[Case]


def read_areas() -> Iterator[Area]:
    """Read all case files, in the order of their names."""
    for path in sorted(CASES.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        cases = [Case(**case) for case in content["cases"]]
        yield Area(content["title"], content["about"].strip(), cases)


def open_case(case: Case, directory: Path) -> Session:
    """Write the case's packages and open its session."""
    found = (catalog := _catalog(case, directory)).resolve(case.target)
    cache: Dict[str, Any] = {"cache": case.cache} if case.cache else {}
    return Session(
        session_id=SESSION_ID,
        target=found.manifest,
        package=found.package,
        references=catalog.references,
        inputs=case.inputs,
        nodes_inputs=case.nodes_inputs,
        nodes=case.nodes,
        clock=lambda: 0,
        **cache,
    )


def play(case: Case, session: Session) -> Run:
    """Run the session by the case's script."""
    run = Run(session)
    for node, what, *details in case.steps:
        _SEND[what](run, _job(run, node), *details)
    return run


def answers_of(run: Run, directory: Path) -> List[Any]:
    """Give what requests were answered: the result, or the error as a text."""
    answers = [action for action in run.actions if isinstance(action, Respond)]
    return [
        answer.result if answer.error is None else answer.error.replace(f"{directory}/", "")
        for answer in answers
    ]


def told(run: Run, directory: Path) -> str:
    """Write the events of a run as lines."""
    lines = "\n".join(_line(event) for event in run.events)
    return lines.replace(f"{directory}/", "")


def _catalog(case: Case, directory: Path) -> Catalog:
    tasks = {f"tasks/{n}/task.oo.yaml": task_text(*t.split("->")) for n, t in case.tasks.items()}
    files = {**tasks, **case.files}
    if case.flow:
        files["flows/main/flow.oo.yaml"] = case.flow
    paths = [write_package(directory / "pkg", "pkg", files=files)]
    for name, package in case.packages.items():
        written = {"version": "1.0.0", **package}
        path = directory / f"{name}-{written['version']}"
        base = name.partition("#")[0]
        paths.append(write_package(path, base, written["version"], written["files"]))
    return Catalog(paths)


def _job(run: Run, name: str) -> Job:
    """Give the oldest running job of a node or id, or else one that is over; ``-`` is the root."""
    jobs = [*run.session.running, *reversed(run.started)]
    return next(job for job in jobs if name in (job.job_id, job.node_id, "" if job.stacks else "-"))


def _request(run: Run, job: Job, action: str, **fields: Any) -> None:
    run.send(job, "BlockRequest", action=action, request_id="q", **fields)


def _run_block(run: Run, job: Job, block: str, job_id: str, payload: Any, **more: Any) -> None:
    _request(run, job, "RunBlock", block=block, block_job_id=job_id, payload=payload, **more)


_SEND = {
    "output": lambda run, job, handle, value, target=None: run.send(
        job,
        "BlockOutput",
        handle=handle,
        output=value,
        **({} if target is None else {"options": {"target": target}}),
    ),
    "outputs": lambda run, job, outputs: run.send(job, "BlockOutputs", outputs=outputs),
    "finish": lambda run, job, result=None: run.send(
        job, "BlockFinished", **({} if result is None else {"result": result})
    ),
    "fail": lambda run, job, error, result=None: run.send(
        job, "BlockFinished", error=error, **({} if result is None else {"result": result})
    ),
    "error": lambda run, job, error: run.send(job, "BlockError", error=error),
    "time out": lambda run, job, seconds: run.send(
        job, "BlockError", error=f"{job.job_id} timeout after {seconds}s", timeout=seconds
    ),
    "subflow's time is over": lambda run, job: run.send(
        job.stacks[-1]["flow_job_id"], "TimerFired"
    ),
    "progress": lambda run, job, progress: run.send(job, "BlockProgress", progress=progress),
    "preview": lambda run, job, payload: run.send(job, "BlockPreview", payload=payload),
    "log": lambda run, job, text: run.send(job, "BlockLog", log=text, stdio="stdout"),
    "run_block": lambda run, job, block, job_id, payload, strict=False: _run_block(
        run, job, block, job_id, payload, strict=strict
    ),
    "start anew": lambda run, job: run.send(job, "BlockRestarted"),
    "ask": lambda run, job, action, fields: _request(run, job, action, **fields),
}


def _line(event: Mapping[str, Any]) -> str:
    """Write an event: its type, its node, and what it says."""
    node = "/".join(level["node_id"] for level in event.get("stacks", ()))
    words = [event["type"], node, *_details(event)]
    return " ".join(word for word in words if word)


def _details(event: Mapping[str, Any]) -> Iterator[str]:
    if event["type"] == "FlowNodesWillRun":
        groups = ("start_nodes", "mid_nodes", "end_nodes")
        yield " | ".join(" ".join(event[group]) or "-" for group in groups)
    if event["type"] == "SessionStarted" and event["partial"]:
        yield "partial, with cache" if event["cache"] else "partial"
    if "handle" in event:
        yield f"{event['handle']} ="
    if event.get("node_id"):
        yield f"of {event['node_id']}"
    for key in ("inputs", "output", "outputs", "result", "payload", "progress"):
        if event.get(key) is not None:
            yield json.dumps(event[key])
    for key in ("log", "warning"):
        if key in event:
            yield event[key]
    if event.get("error") is not None:
        # The id of the job that took too long is the same in every run of a case.
        job_id = event.get("job_id", "")
        yield f"error: {event['error'].replace(job_id, 'job') if job_id else event['error']}"
    if "message" in event.get("_error", {}):
        yield f"({event['_error']['message']})"
