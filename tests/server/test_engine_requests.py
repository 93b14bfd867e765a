from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_runs import SESSION_ID, Run, open_catalog, open_session, task_files

from oomol_connect_sdk.server.engine.actions import Action, Job, Notify, Record, Respond

FILES = {
    **task_files(boss="-> r", helper="a b=10 -> c", after="x ->", bare="->"),
    "tasks/picky/task.oo.yaml": """
executor: {name: python}
description: checks
inputs_def:
  - {handle: n, json_schema: {type: integer, minimum: 1}}
  - {handle: maybe, nullable: true, json_schema: {type: string}}
  - {handle: object, value: null, json_schema: {contentMediaType: oomol/var, type: object}}
  - {handle: broken, value: 1, json_schema: {type: nonsense}}
outputs_def: [{handle: o}]
additional_inputs: true
""",
    "subflows/sub/subflow.oo.yaml": """
description: a subflow
inputs_def: [{handle: x}]
outputs_def: [{handle: y}]
outputs_from: [{handle: y, from_node: [{node_id: inner, output_handle: c}]}]
nodes:
  - {node_id: inner, task: self::helper,
     inputs_from: [{handle: a, from_flow: [{input_handle: x}]}, {handle: b, value: 1}]}
  - {node_id: hole, slot: {inputs_def: [{handle: never}]}}
""",
    "flows/main/flow.oo.yaml": """
outputs_def: [{handle: out, description: the result}]
outputs_from: [{handle: out, from_node: [{node_id: boss, output_handle: r}]}]
nodes:
  - {node_id: boss, task: self::boss}
  - {node_id: beside, task: self::boss}
  - node_id: after
    description: what follows
    task: self::after
    inputs_from: [{handle: x, from_node: [{node_id: boss, output_handle: r}]}]
""",
}


@pytest.fixture
def session(tmp_path: Path) -> Run:
    return Run(open_session(open_catalog(tmp_path, FILES), "main"))


def ask(session: Run, job: Job, action: str, **fields: Any) -> list[Action]:
    return session.send(job, "BlockRequest", action=action, request_id="q1", **fields)


def answer(actions: list[Action]) -> Respond:
    (respond,) = (action for action in actions if isinstance(action, Respond))
    return respond


def run_block(
    session: Run, job: Job, block: str, job_id: str = "child", **fields: Any
) -> list[Action]:
    names = ("inputs", "additional_inputs_def", "additional_outputs_def")
    payload = {name: fields.pop(name) for name in names if name in fields}
    return ask(
        session, job, "RunBlock", block=block, block_job_id=job_id, payload=payload, **fields
    )


def child(session: Run, job_id: str = "child") -> Job:
    (job,) = (job for job in session.session.running if job.job_id == job_id)
    return job


def shown(session: Run) -> list[tuple[str, str]]:
    """Give the events that jobs were shown: who, and what."""
    notes = [action for action in session.actions if isinstance(action, Notify)]
    return [(note.job_id, note.event["type"]) for note in notes]


def test_a_job_runs_a_block_of_its_flows_package_with_defaults_filled_in(
    session: Run, tmp_path: Path
) -> None:
    boss = session.job("boss")
    actions = run_block(session, boss, "self::helper", inputs={"a": 1, "extra": 2})
    job = child(session)
    assert job.inputs == {"a": 1, "b": 10, "extra": 2}
    assert job.block_path == tmp_path / "pkg/tasks/helper/task.oo.yaml"
    assert [level["node_id"] for level in job.stacks] == ["boss", "run_block::self::helper"]
    assert job.stacks[1]["flow_job_id"] == boss.stacks[0]["flow_job_id"]
    record, *rest = actions
    assert isinstance(record, Record)
    assert record.message["session_id"] == SESSION_ID
    assert record.message["stacks"] == list(boss.stacks)
    assert not any(isinstance(action, Respond) for action in rest)
    assert "BlockRequest" not in session.event_types


def test_what_the_block_gives_is_written_and_shown_to_who_asked(session: Run) -> None:
    boss = session.job("boss")
    run_block(session, boss, "self::helper", inputs={"a": 1})
    session.send("child", "BlockProgress", progress=50)
    session.send("child", "BlockLog", log="x", stdio="stdout")
    session.send("child", "BlockOutput", handle="c", output=1)
    session.send("child", "BlockOutputs", outputs={"c": 2})
    session.send("child", "BlockFinished", result={"c": 3})
    kinds = ["BlockProgress", "BlockOutput", "BlockOutputs", "BlockFinished"]
    assert shown(session) == [(boss.job_id, kind) for kind in kinds]
    events = [event["type"] for event in session.events if event.get("job_id") == "child"]
    assert events == ["BlockStarted", "BlockProgress", "BlockLog", *kinds[1:]]
    session.finish_job(boss, r=5)
    session.finish_job(session.job("beside"))
    session.finish_job(session.job("after"))
    assert session.finish.node_results == {"boss": {"r": 5}}


def test_a_subflow_runs_too_and_its_events_are_shown(session: Run) -> None:
    boss = session.job("boss")
    run_block(session, boss, "self::sub", inputs={"x": 1})
    inner = session.job("inner")
    assert inner.inputs == {"a": 1, "b": 1}
    assert [level["node_id"] for level in inner.stacks] == [
        "boss",
        "run_block::self::sub",
        "inner",
    ]
    session.finish_job(inner, c=4)
    assert [kind for _, kind in shown(session)] == [
        "BlockProgress",
        "SubflowBlockOutput",
        "SubflowBlockFinished",
    ]
    assert session.events_of("SubflowBlockStarted")[0]["job_id"] == "child"


def test_the_failure_of_a_block_that_a_job_runs_is_only_that_jobs_affair(session: Run) -> None:
    boss = session.job("boss")
    run_block(session, boss, "self::helper", inputs={"a": 1})
    run_block(session, boss, "self::sub", "child2", inputs={"x": 1})
    session.send("child", "BlockFinished", error="no luck")
    session.send(session.job("inner"), "BlockFinished", error="none either")
    (finished,) = session.events_of("SubflowBlockFinished")
    assert finished["error"] == "[node id: inner] failed"
    assert shown(session)[-1] == (boss.job_id, "SubflowBlockFinished")
    assert not session.session.finished
    for job in session.session.running:
        session.finish_job(job)
    assert session.finish.failure is None


def test_a_flow_ends_after_the_blocks_its_jobs_run(session: Run) -> None:
    run_block(session, session.job("boss"), "self::helper", inputs={"a": 1})
    for node_id in ("boss", "beside"):
        session.finish_job(session.job(node_id))
    assert not session.session.finished
    session.finish_job(child(session), c=1)
    assert session.finish.failure is None
    assert shown(session) == []


def test_a_root_task_ends_after_the_blocks_it_runs(tmp_path: Path) -> None:
    session = Run(open_session(open_catalog(tmp_path, FILES), "pkg::boss"))
    (boss,) = session.session.running
    run_block(session, boss, "self::helper", inputs={"a": 1})
    run_block(session, boss, "self::sub", "child2", inputs={"x": 1})
    path = str(tmp_path / "pkg/tasks/boss/task.oo.yaml")
    assert child(session).stacks == (
        {"flow_job_id": boss.job_id, "flow": path, "node_id": "run_block::self::helper"},
    )
    session.finish_job(boss, r=1)
    assert not session.session.finished
    session.send("child", "BlockFinished", error="too bad")
    session.finish_job(session.job("inner"))
    assert session.finish.failure is None
    assert session.finish.result == {"r": 1}
    assert session.session.progress == 100


def test_a_root_task_that_fails_takes_the_blocks_it_runs_with_it(tmp_path: Path) -> None:
    session = Run(open_session(open_catalog(tmp_path, FILES), "pkg::boss"))
    (boss,) = session.session.running
    run_block(session, boss, "self::helper", inputs={"a": 1})
    session.send(boss, "BlockFinished", error="over")
    assert session.aborted == ["child"]
    assert session.finish.failure is not None


def test_a_flow_that_fails_takes_the_blocks_its_jobs_run_with_it(session: Run) -> None:
    run_block(session, session.job("boss"), "self::helper", inputs={"a": 1})
    run_block(session, session.job("boss"), "self::sub", "child2", inputs={"x": 1})
    inner = session.job("inner")
    session.send(session.job("beside"), "BlockFinished", error="x")
    assert set(session.aborted) == {session.started[0].job_id, "child", inner.job_id}


def test_a_block_may_run_blocks_that_run_blocks(session: Run) -> None:
    run_block(session, session.job("boss"), "self::boss", "child")
    run_block(session, child(session), "self::bare", "grandchild")
    grandchild = child(session, "grandchild")
    assert [level["node_id"] for level in grandchild.stacks] == [
        "boss",
        "run_block::self::boss",
        "run_block::self::bare",
    ]
    session.finish_job(grandchild)
    assert shown(session) == [("child", "BlockFinished")]


def test_additional_handles_reach_the_job_also_of_a_block_without_inputs(session: Run) -> None:
    run_block(
        session,
        session.job("boss"),
        "self::bare",
        inputs={"x": 1},
        additional_inputs_def=[{"handle": "x"}, {"handle": "y", "value": 5}],
        additional_outputs_def=[{"handle": "z", "json_schema": {}}],
    )
    job = child(session)
    assert job.inputs == {"x": 1, "y": 5}
    assert job.inputs_def["x"] == {"handle": "x", "is_additional": True}
    assert job.outputs_def == {"z": {"handle": "z", "json_schema": {}, "is_additional": True}}


@pytest.mark.parametrize(
    ("block", "fields", "fault"),
    [
        ("self::gone", {}, "block 'self::gone' of node 'boss'"),
        ("other::x", {}, "needs the package other"),
        ("./flow.oo.yaml", {}, "flows/main/flow.oo.yaml is neither a task nor a subflow"),
        ("self::helper", {}, "no value for 'a'"),
        ("self::sub", {"inputs": {}}, "no value for 'x'"),
        ("self::picky", {"inputs": {"n": 0}, "strict": True}, "'n': 0 is less than the minimum"),
        ("self::picky", {"inputs": {"n": 1}, "strict": True}, "the schema of 'broken' can't be"),
        ("self::helper", {"inputs": [1]}, "'inputs' of the request has to be an object"),
        ("self::helper", {"additional_inputs_def": [{}]}, "has to be a list of handles"),
        ("", {}, "'block' of the request has to be a text"),
    ],
)
def test_a_block_that_cannot_be_started_is_answered_with_the_reason(
    session: Run, block: str, fields: dict[str, Any], fault: str
) -> None:
    boss = session.job("boss")
    responded = answer(run_block(session, boss, block, **fields))
    assert (responded.job_id, responded.request_id) == (boss.job_id, "q1")
    assert responded.result is None
    assert fault in str(responded.error)
    assert [job.node_id for job in session.session.running] == ["boss", "beside"]


def test_inputs_are_compared_with_their_schemas_only_when_that_is_asked_for(session: Run) -> None:
    boss = session.job("boss")
    run_block(session, boss, "self::picky", "loose", inputs={"n": "text"})
    child(session, "loose")
    inputs = {"n": 1, "maybe": None, "broken": None, "object": {"__OOMOL_TYPE__": "oomol/var"}}
    refused = answer(run_block(session, boss, "self::picky", "s", inputs=inputs, strict=True))
    assert "'broken'" in str(refused.error)
    assert "'n'" not in str(refused.error)


def test_two_blocks_can_not_have_one_job_id(session: Run) -> None:
    boss = session.job("boss")
    run_block(session, boss, "self::bare", "same")
    assert "taken" in str(answer(run_block(session, boss, "self::bare", "same")).error)
    assert "taken" in str(
        answer(run_block(session, boss, "self::sub", boss.job_id, inputs={"x": 1})).error
    )


def test_blocks_that_run_themselves_end_at_the_depth_limit(session: Run) -> None:
    job = session.job("boss")
    for depth in range(2, 51):
        run_block(session, job, "self::boss", f"child{depth}")
        job = child(session, f"child{depth}")
    responded = answer(run_block(session, job, "self::boss", "child51"))
    assert responded.error == "Maximum recursion depth exceeded: 51 (limit: 50)"


def test_a_flow_in_a_root_task_that_never_comes_to_a_block_ends_in_an_error(tmp_path: Path) -> None:
    condition = "inputs_def: [{handle: i}], conditions: {default: {handle: o}}"
    loop = f"""
inputs_def: [{{handle: x}}]
nodes:
  - {{node_id: a, {condition}, inputs_from: [{{handle: i, from_flow: [{{input_handle: x}}],
     from_node: [{{node_id: a, output_handle: o}}]}}]}}
"""
    catalog = open_catalog(tmp_path, {**FILES, "subflows/loop/subflow.oo.yaml": loop})
    session = Run(open_session(catalog, "pkg::boss"))
    (boss,) = session.session.running
    run_block(session, boss, "self::loop", inputs={"x": 1})
    assert session.aborted == [boss.job_id]
    failure = session.finish.failure
    assert failure is not None
    assert "endless loop" in failure.message


def test_a_block_that_starts_anew_drops_what_it_had_started(session: Run) -> None:
    boss = session.job("boss")
    run_block(session, boss, "self::boss", "child")
    run_block(session, child(session), "self::sub", "grandchild", inputs={"x": 1})
    inner = session.job("inner")
    run_block(session, session.job("beside"), "self::bare", "kept")
    (record, *_) = session.send(boss, "BlockRestarted")
    assert isinstance(record, Record)
    assert set(session.aborted) == {"child", inner.job_id}
    assert [job.job_id for job in session.session.running][2:] == ["kept"]
    run_block(session, boss, "self::boss", "child")
    assert child(session).job_id == "child"


def test_a_block_is_described(session: Run) -> None:
    boss = session.job("boss")
    described = answer(ask(session, boss, "QueryBlock", block="self::picky")).result
    assert described["type"] == "task"
    assert described["description"] == "checks"
    assert list(described["inputs_def"]) == ["n", "maybe", "object", "broken"]
    assert described["outputs_def"] == {"o": {"handle": "o"}}
    assert (described["additional_inputs"], described["additional_outputs"]) == (True, False)
    assert answer(ask(session, boss, "QueryBlock", block="self::sub")).result == {
        "type": "subflow",
        "description": "a subflow",
        "inputs_def": {"x": {"handle": "x"}},
        "outputs_def": {"y": {"handle": "y"}},
        "has_slot": True,
    }
    bare = answer(ask(session, boss, "QueryBlock", block="self::bare")).result
    assert (bare["inputs_def"], bare["outputs_def"], bare["description"]) == (None, None, None)
    assert "'self::gone'" in str(answer(ask(session, boss, "QueryBlock", block="self::gone")).error)


@pytest.mark.parametrize(
    ("fields", "handles"),
    [
        ({}, ["r"]),
        ({"handles": None}, ["r"]),
        ({"handles": ["r", "q"]}, ["r"]),
        ({"handles": ["q"]}, []),
        ({"outputs": ["q"]}, []),
    ],
)
def test_what_follows_a_node_can_be_asked_for_some_outputs(
    session: Run, fields: dict[str, Any], handles: list[str]
) -> None:
    asked = answer(ask(session, session.job("boss"), "QueryDownstream", **fields))
    downstream = {
        "to_flow": [
            {
                "output_handle": "out",
                "output_handle_def": {"handle": "out", "description": "the result"},
            }
        ],
        "to_node": [
            {
                "node_id": "after",
                "description": "what follows",
                "input_handle": "x",
                "input_handle_def": {"handle": "x"},
            }
        ],
    }
    assert asked.result == dict.fromkeys(handles, downstream)


def test_nothing_follows_a_root_task_or_a_block_that_a_job_runs(
    session: Run, tmp_path: Path
) -> None:
    run_block(session, session.job("boss"), "self::boss")
    assert answer(ask(session, child(session), "QueryDownstream")).result == {}
    root = Run(open_session(open_catalog(tmp_path, FILES), "pkg::boss"))
    (boss,) = root.session.running
    assert answer(ask(root, boss, "QueryDownstream")).result == {}


def test_the_weight_of_a_node_can_be_changed_and_that_is_answered(session: Run) -> None:
    boss = session.job("boss")
    asked = answer(ask(session, boss, "UpdateNodeWeight", node_id="beside", weight=8))
    assert asked.result == {"node_id": "beside", "weight": 8}
    session.send(session.job("beside"), "BlockProgress", progress=50)
    assert session.session.progress == 40


@pytest.mark.parametrize(
    ("node_id", "weight", "fault"),
    [
        ("gone", 1, "has no node 'gone'"),
        ("after", -1, "a number of at least 0, not -1"),
        ("after", True, "a number of at least 0, not True"),
        (None, 1, "'node_id' of the request has to be a text"),
    ],
)
def test_a_weight_that_makes_no_sense_is_refused(
    session: Run, node_id: Any, weight: Any, fault: str
) -> None:
    asked = ask(session, session.job("boss"), "UpdateNodeWeight", node_id=node_id, weight=weight)
    assert fault in str(answer(asked).error)


def test_credentials_and_unknown_requests_are_refused_clearly(session: Run) -> None:
    boss = session.job("boss")
    asked = answer(ask(session, boss, "QueryAuth", payload="github"))
    assert asked.error == "the credential 'github' is not known: this server keeps no credentials"
    assert answer(ask(session, boss, "Sing")).error == "there is no request 'Sing'"


def test_requests_of_a_job_that_is_over_are_ignored(session: Run) -> None:
    boss = session.job("boss")
    session.finish_job(boss)
    assert ask(session, boss, "QueryDownstream") == []
