from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from engine_runs import Run, open_catalog, open_session, task_files

from oomol_connect_sdk.server.engine.actions import Action, Emit, Record, StartJob
from oomol_connect_sdk.server.engine.catalog import Catalog
from oomol_connect_sdk.server.engine.session import Session

FILES = {
    **task_files(split="n -> part", work="part -> small large", join="a b -> r"),
    "subflows/wrap/subflow.oo.yaml": """
inputs_def: [{handle: part}]
outputs_def: [{handle: small}, {handle: large}]
outputs_from:
  - {handle: small, from_node: [{node_id: work, output_handle: small}]}
  - {handle: large, from_node: [{node_id: work, output_handle: large}]}
nodes:
  - node_id: work
    task: self::work
    inputs_from: [{handle: part, from_flow: [{input_handle: part}]}]
""",
    "flows/main/flow.oo.yaml": """
inputs_def: [{handle: n}]
outputs_def: [{handle: r}]
outputs_from: [{handle: r, from_node: [{node_id: join, output_handle: r}]}]
nodes:
  - node_id: split
    task: self::split
    inputs_from: [{handle: n, from_flow: [{input_handle: n}]}]
  - node_id: which
    inputs_def: [{handle: part}]
    conditions:
      cases: [{handle: odd, expressions: [{input_handle: part, operator: in, value: [1, 3]}]}]
      default: {handle: even}
    inputs_from: [{handle: part, from_node: [{node_id: split, output_handle: part}]}]
  - node_id: left
    subflow: self::wrap
    concurrency: 2
    inputs_from: [{handle: part, from_node: [{node_id: which, output_handle: odd}]}]
  - node_id: right
    task: self::work
    inputs_from: [{handle: part, from_node: [{node_id: which, output_handle: even}]}]
  - node_id: join
    task: self::join
    inputs_from:
      - {handle: a, from_node: [{node_id: left, output_handle: small}]}
      - {handle: b, from_node: [{node_id: right, output_handle: large}]}
  - {node_id: idle, task: self::join}
""",
}


def a_run(catalog: Catalog, seed: int, failing: bool) -> Run:
    """Run the flow; which of the running jobs sends the next message is left to chance."""
    chance = random.Random(seed)
    run = Run(open_session(catalog, "main", {"n": 4}))
    for part in range(4):
        run.send(run.job("split"), "BlockOutput", handle="part", output=part)
    while not run.session.finished:
        job = chance.choice(run.session.running)
        run.send(job, "BlockProgress", progress=chance.randrange(100))
        if chance.random() < 0.2:
            block, job_id = (
                chance.choice(["self::work", "self::wrap"]),
                f"child {len(run.messages)}",
            )
            asked = {"action": "RunBlock", "block": block, "block_job_id": job_id}
            run.send(job, "BlockRequest", **asked, payload={"inputs": {"part": 1}})
        elif chance.random() < 0.1:
            run.send(job, "BlockRestarted")
        if chance.random() < 0.5:
            continue
        if failing and job.node_id == "join":
            run.send(job, "BlockFinished", error="cannot join")
        else:
            run.finish_job(job, small=1, large=2, r=dict(job.inputs))
    return run


def said(actions: list[Action]) -> list[str]:
    """Write down everything that a session asked for."""
    return [_plain(action) for action in actions]


def _plain(action: Action) -> str:
    if isinstance(action, Emit):
        return json.dumps(action.event)
    return f"start {action.job.job_id}" if isinstance(action, StartJob) else repr(action)


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_same_messages_lead_to_the_same_actions_from_every_prefix(
    tmp_path: Path, seed: int, failing: bool
) -> None:
    catalog = open_catalog(tmp_path, FILES)
    first = a_run(catalog, seed, failing)
    assert (first.finish.failure is not None) == failing
    for length in range(len(first.messages) + 1):
        again = open_session(Catalog([tmp_path]), "main", {"n": 4})
        actions = again.start() + _feed(again, first, 0, length)
        assert said(actions) == said(first.actions)[: len(actions)]
        actions += _feed(again, first, length, len(first.messages))
        assert said(actions) == said(first.actions)


def test_the_events_of_a_journal_can_be_fed_back_as_messages(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path, FILES)
    first = a_run(catalog, 1, failing=False)
    again = open_session(catalog, "main", {"n": 4})
    actions = again.start()
    for message in journalled(first):
        actions += again.handle(json.loads(json.dumps(message)))
    assert said(actions) == said(first.actions)


def journalled(run: Run) -> Iterator[Mapping[str, Any]]:
    """Give what the journal of a run holds of its jobs' messages."""
    job_ids = {job.job_id for job in run.started}
    for action in run.actions:
        if isinstance(action, Record):
            yield action.message
        elif isinstance(action, Emit):
            event = action.event
            if event.get("job_id") in job_ids and event["type"] != "BlockStarted":
                yield event


def _feed(session: Session, run: Run, start: int, end: int) -> list[Action]:
    return [action for message in run.messages[start:end] for action in session.handle(message)]
