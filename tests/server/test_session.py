from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from engine_runs import SESSION_ID, Run, answers, open_catalog, open_session, task_files

from oomol_connect_sdk.server.engine.graph import UnsupportedNode
from oomol_connect_sdk.server.engine.manifests import ManifestError
from oomol_connect_sdk.server.engine.references import BlockNotFound
from oomol_connect_sdk.server.engine.session import InputError

ADD = task_files(add="a b=10 -> sum")
CHAIN = {
    **task_files(add="a b -> sum", half="x -> y"),
    "flows/main/flow.oo.yaml": """
inputs_def: [{handle: start}, {handle: more, value: 5}]
outputs_def: [{handle: answer}]
outputs_from: [{handle: answer, from_node: [{node_id: second, output_handle: y}]}]
nodes:
  - node_id: first
    task: self::add
    inputs_from:
      - {handle: a, from_flow: [{input_handle: start}]}
      - {handle: b, from_flow: [{input_handle: more}]}
  - node_id: second
    task: self::half
    timeout: 7
    inputs_from: [{handle: x, from_node: [{node_id: first, output_handle: sum}]}]
""",
}


def run(directory: Path, files: Mapping[str, str], target: str = "main", **inputs: Any) -> Run:
    return Run(open_session(open_catalog(directory, files), target, inputs))


def flow(nodes: str, **tasks: str) -> dict[str, str]:
    """Write a flow of these nodes, with tasks given as ``inputs -> outputs``."""
    return {**task_files(**tasks), "flows/main/flow.oo.yaml": f"nodes:\n{nodes}"}


def test_a_block_that_is_run_by_itself_gets_defaults_and_gives_its_last_values(
    tmp_path: Path,
) -> None:
    session = run(tmp_path, ADD, "pkg::add", a=1)
    (job,) = session.session.running
    assert job.inputs == {"a": 1, "b": 10}
    assert (job.stacks, job.node_id, job.timeout) == ((), "none", None)
    assert (job.executor, job.options) == ("python", {"entry": "main.py"})
    assert job.directory == tmp_path / "pkg/tasks/add"
    assert (job.package_dir, job.package_name) == (tmp_path / "pkg", "pkg")
    assert job.inputs_def == {"a": {"handle": "a"}, "b": {"handle": "b", "value": 10}}
    assert job.outputs_def == {"sum": {"handle": "sum"}}
    session.send(job, "BlockOutput", handle="sum", output=1)
    session.send(job, "BlockOutputs", outputs={"sum": 2, "other": 3})
    session.finish_job(job, sum=11)
    assert session.finish.result == {"sum": 11, "other": 3}
    assert session.finish.node_results == {}
    assert session.finish.failure is None


def test_the_events_of_a_block_are_those_of_the_engine(tmp_path: Path) -> None:
    session = run(tmp_path, ADD, "pkg::add", a=1)
    (job,) = session.started
    session.send(job, "BlockLog", log="hello", stdio="stdout")
    session.finish_job(job, sum=11)
    path = f"{tmp_path}/pkg/tasks/add/task.oo.yaml"
    common = {"session_id": SESSION_ID, "job_id": job.job_id, "stacks": [], "block_path": path}
    whole = {"session_id": SESSION_ID, "path": path, "partial": False, "cache": False}
    assert session.events == [
        {"type": "SessionStarted", "create_at": 1000, **whole},
        {"type": "BlockStarted", "inputs": {"a": 1, "b": 10}, "create_at": 1000, **common},
        {"type": "BlockLog", "log": "hello", "stdio": "stdout", **common},
        {"type": "BlockFinished", "result": {"sum": 11}, "finish_at": 1000, **common},
        {"type": "SessionFinished", "finish_at": 1000, **whole},
    ]


def test_a_failing_block_gives_its_own_error_as_the_sessions(tmp_path: Path) -> None:
    session = run(tmp_path, ADD, "pkg::add", a=1)
    (job,) = session.started
    session.send(job, "BlockFinished", error="Traceback: boom")
    assert session.events[-1]["error"] == "Traceback: boom"
    failure = session.finish.failure
    assert failure is not None
    assert (failure.message, failure.node_path) == ("Traceback: boom", ())
    assert failure.block_path == f"{tmp_path}/pkg/tasks/add/task.oo.yaml"


def test_a_flow_runs_its_nodes_in_order_and_gives_its_outputs(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path, CHAIN)
    script = answers(first=lambda a, b: {"sum": a + b}, second=lambda x: {"y": x / 2})
    session = Run(open_session(catalog, "main", {"start": 1}), script).to_the_end()
    assert session.started_nodes == ["first", "second"]
    assert session.started[1].timeout == 7
    assert session.finish.result == {"answer": 3}
    assert session.finish.node_results == {"first": {"sum": 6}, "second": {"y": 3}}
    assert session.session.progress == 100


def test_the_events_of_a_flow_are_those_of_the_engine(tmp_path: Path) -> None:
    session = run(tmp_path, CHAIN, start=1)
    session.finish_job(session.job("first"), sum=6)
    session.finish_job(session.job("second"), y=3)
    path = f"{tmp_path}/pkg/flows/main/flow.oo.yaml"
    started, will_run, finished = (session.events[1], session.events[2], session.events[-2])
    flow_job = started["job_id"]
    common = {"session_id": SESSION_ID, "job_id": flow_job, "stacks": [], "flow_path": path}
    assert started == {"type": "FlowStarted", "create_at": 1000, **common}
    assert will_run == {
        "type": "FlowNodesWillRun",
        "start_nodes": [],
        "mid_nodes": ["first", "second"],
        "end_nodes": [],
        **common,
    }
    assert finished == {"type": "FlowFinished", "error": None, "finish_at": 1000, **common}
    (first, second) = session.events_of("BlockStarted")
    assert first["stacks"] == [{"flow_job_id": flow_job, "flow": path, "node_id": "first"}]
    assert second["inputs"] == {"x": 6}
    assert session.event_types == [
        "SessionStarted",
        "FlowStarted",
        "FlowNodesWillRun",
        "BlockStarted",
        "BlockFinished",
        "BlockStarted",
        "BlockFinished",
        "FlowFinished",
        "SessionFinished",
    ]


def test_the_first_action_is_the_event_of_the_message_with_all_its_keys(tmp_path: Path) -> None:
    session = run(tmp_path, CHAIN, start=1)
    job = session.job("first")
    options = {"target": {"to_node": []}}
    for fields in (
        {"kind": "BlockOutput", "handle": "sum", "output": 1, "options": options},
        {"kind": "BlockPreview", "payload": {"type": "text"}},
        {"kind": "BlockLogJSON", "json": {"a": 1}},
        {"kind": "BlockWarning", "warning": "careful"},
        {"kind": "BlockMessage", "payload": 1},
        {"kind": "BlockError", "error": "soft"},
        {"kind": "BlockFinished", "result": {"sum": 1}},
    ):
        kind = fields.pop("kind")
        session.send(job, str(kind), **fields)
    events = [event for event in session.events if event.get("job_id") == job.job_id]
    assert [event["type"] for event in events[1:]] == [m["type"] for m in session.messages]
    for event, message in zip(events[1:], session.messages, strict=True):
        assert {key: event[key] for key in message} == message


def test_a_flow_without_outputs_gives_the_result_of_the_node_that_finished_last(
    tmp_path: Path,
) -> None:
    nodes = "  - {node_id: a, task: self::t}\n  - {node_id: b, task: self::t}\n"
    session = run(tmp_path, flow(nodes, t="-> r"))
    first, second = session.session.running
    session.finish_job(second, r=2)
    session.finish_job(first, r=1)
    assert session.finish.result == {"r": 1}
    assert session.finish.node_results == {"a": {"r": 1}, "b": {"r": 2}}


def test_nodes_that_need_no_value_run_at_once_and_once(tmp_path: Path) -> None:
    nodes = """
  - {node_id: free, task: self::t}
  - {node_id: fixed, task: self::u, inputs_from: [{handle: a, value: null}]}
  - node_id: constant
    task: self::u
    inputs_from: [{handle: a, value: 1, from_node: [{node_id: v, output_handle: v}]}]
  - {node_id: v, values: [{handle: v, value: [7]}]}
"""
    session = run(tmp_path, flow(nodes, t="-> r", u="a ->"))
    assert session.events_of("FlowNodesWillRun")[0]["start_nodes"] == ["free", "fixed", "constant"]
    assert [dict(job.inputs) for job in session.started] == [{}, {"a": None}, {"a": [7]}]
    assert session.events_of("BlockStarted")[0]["inputs"] is None


def test_nothing_goes_into_a_values_node(tmp_path: Path) -> None:
    nodes = """
  - {node_id: s, task: self::s}
  - node_id: v
    values: [{handle: v, value: 1}]
    inputs_from: [{handle: v, from_node: [{node_id: s, output_handle: r}]}]
"""
    session = run(tmp_path, flow(nodes, s="-> r"))
    session.finish_job(session.job("s"), r=2)
    assert session.finish.failure is None


def test_two_constants_for_one_input_are_none(tmp_path: Path) -> None:
    nodes = """
  - node_id: n
    task: self::t
    inputs_from:
      - handle: a
        value: own
        from_node: [{node_id: v, output_handle: x}, {node_id: v, output_handle: y}]
  - {node_id: v, values: [{handle: x, value: 1}, {handle: y, value: 2}]}
"""
    assert run(tmp_path, flow(nodes, t="a ->")).inputs_of("n") == [{"a": "own"}]


def test_a_constant_is_not_used_where_a_node_gives_values(tmp_path: Path) -> None:
    nodes = """
  - {node_id: s, task: self::s}
  - node_id: n
    task: self::t
    inputs_from:
      - handle: a
        value: 1
        from_node: [{node_id: s, output_handle: r}, {node_id: v, output_handle: v}]
  - {node_id: v, values: [{handle: v, value: 2}]}
"""
    session = run(tmp_path, flow(nodes, s="-> r", t="a ->"))
    assert session.started_nodes == ["s"]
    session.finish_job(session.job("s"), r=3)
    assert session.inputs_of("n") == [{"a": 3}]


@pytest.mark.parametrize(
    "source", ["{node_id: off, output_handle: r}", "{node_id: x, output_handle: r}"]
)
def test_an_edge_from_an_ignored_or_missing_node_does_not_exist(
    tmp_path: Path, source: str
) -> None:
    nodes = f"""
  - {{node_id: off, task: self::gone, ignore: true}}
  - node_id: n
    task: self::t
    inputs_from: [{{handle: a, value: 1, from_node: [{source}], from_flow: [{{input_handle: q}}]}}]
"""
    session = run(tmp_path, flow(nodes, t="a ->"))
    assert session.started_nodes == ["n"]
    assert session.inputs_of("n") == [{"a": 1}]


def test_every_output_fires_the_nodes_behind_it_as_it_comes(tmp_path: Path) -> None:
    nodes = """
  - {node_id: s, task: self::s}
  - node_id: n
    task: self::t
    concurrency: 9
    inputs_from: [{handle: a, from_node: [{node_id: s, output_handle: r}]}]
"""
    session = run(tmp_path, flow(nodes, s="-> r q", t="a ->"))
    source = session.job("s")
    session.send(source, "BlockOutput", handle="r", output=1)
    assert session.inputs_of("n") == [{"a": 1}]
    session.send(source, "BlockOutputs", outputs={"q": 0, "r": 2})
    session.finish_job(source, r=3)
    assert session.inputs_of("n") == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_node_runs_as_often_at_a_time_as_its_concurrency_and_then_what_waits(
    tmp_path: Path,
) -> None:
    nodes = """
  - {node_id: s, task: self::s}
  - node_id: n
    task: self::t
    concurrency: 2
    inputs_from: [{handle: a, from_node: [{node_id: s, output_handle: r}]}]
"""
    session = run(tmp_path, flow(nodes, s="-> r", t="a -> b"))
    for value in range(4):
        session.send(session.job("s"), "BlockOutput", handle="r", output=value)
    session.finish_job(session.job("s"))
    assert session.inputs_of("n") == [{"a": 0}, {"a": 1}]
    first, second = session.session.running
    session.finish_job(second)
    assert session.inputs_of("n") == [{"a": 0}, {"a": 1}, {"a": 2}]
    session.finish_job(first)
    assert session.inputs_of("n")[-1] == {"a": 3}
    for job in session.session.running:
        assert not session.session.finished
        session.finish_job(job)
    assert session.session.finished


def test_inputs_are_matched_in_the_order_they_come(tmp_path: Path) -> None:
    nodes = """
  - {node_id: s, task: self::s}
  - node_id: n
    task: self::t
    inputs_from:
      - {handle: a, from_node: [{node_id: s, output_handle: x}]}
      - {handle: b, from_node: [{node_id: s, output_handle: y}]}
      - {handle: c, value: same}
"""
    session = run(tmp_path, flow(nodes, s="-> x y", t="a b c ->"))
    source = session.job("s")
    for handle, value in [("x", 1), ("x", 2), ("y", 3), ("x", 4), ("y", 5)]:
        session.send(source, "BlockOutput", handle=handle, output=value)
    session.finish_job(session.job("n"))
    session.finish_job(source, y=6)
    session.finish_job(session.job("n"))
    assert session.inputs_of("n") == [
        {"a": 1, "b": 3, "c": "same"},
        {"a": 2, "b": 5, "c": "same"},
        {"a": 4, "b": 6, "c": "same"},
    ]


def test_a_value_for_an_undeclared_input_is_passed_on_and_runs_a_node_again(
    tmp_path: Path,
) -> None:
    nodes = """
  - {node_id: s, task: self::s}
  - node_id: n
    task: self::t
    inputs_from:
      - {handle: a, value: 1}
      - {handle: extra, from_node: [{node_id: s, output_handle: r}]}
"""
    session = run(tmp_path, flow(nodes, s="-> r", t="a ->"))
    session.finish_job(session.job("s"), r=2)
    session.finish_job(session.job("n"))
    assert session.inputs_of("n") == [{"a": 1}, {"a": 1, "extra": 2}]


def test_an_output_goes_only_where_its_target_says(tmp_path: Path) -> None:
    nodes = """
  - {node_id: s, task: self::s}
  - {node_id: a, task: self::t,
     inputs_from: [{handle: i, from_node: [{node_id: s, output_handle: r}]}]}
  - {node_id: b, task: self::t,
     inputs_from: [{handle: i, from_node: [{node_id: s, output_handle: r}]}]}
outputs_def: [{handle: o}]
outputs_from: [{handle: o, from_node: [{node_id: s, output_handle: r}]}]
"""
    session = run(tmp_path, flow(nodes, s="-> r", t="i ->"))

    def send(value: int, target: Any) -> None:
        options = {"target": target}
        session.send(session.job("s"), "BlockOutput", handle="r", output=value, options=options)

    send(1, {"to_node": [{"node_id": "a", "input_handle": "i"}]})
    assert session.started_nodes == ["s", "a"]
    send(2, {"to_flow": [{"output_handle": "o"}]})
    send(3, {"to_node": [{"node_id": "b"}, "b"], "to_flow": None})
    assert session.started_nodes == ["s", "a"]
    session.finish_job(session.job("s"))
    session.finish_job(session.job("a"))
    assert session.finish.result == {"o": 2}
    assert session.finish.node_results == {"s": {"r": 3}}


def test_a_flow_input_and_a_constant_may_go_straight_to_an_output(tmp_path: Path) -> None:
    files = {
        "flows/main/flow.oo.yaml": """
inputs_def: [{handle: i, nullable: true}]
nodes: [{node_id: v, values: [{handle: c, value: 1}]}]
outputs_from:
  - {handle: through, from_flow: [{input_handle: i}]}
  - {handle: constant, from_node: [{node_id: v, output_handle: c}]}
outputs_def: [{handle: through}, {handle: constant}]
"""
    }
    assert run(tmp_path, files).finish.result == {"through": None, "constant": 1}


def test_a_node_whose_input_has_no_source_is_warned_of_and_the_flow_succeeds(
    tmp_path: Path,
) -> None:
    nodes = """
  - {node_id: idle, task: self::t, inputs_from: [{handle: b, value: 1}]}
  - {node_id: after, task: self::u,
     inputs_from: [{handle: x, from_node: [{node_id: idle, output_handle: r}]}]}
"""
    session = run(tmp_path, flow(nodes, t="a=5 b c -> r", u="x ->"))
    assert session.started == []
    (warning,) = session.events_of("BlockWarning")
    assert warning["stacks"][-1]["node_id"] == "idle"
    assert warning["warning"] == "node 'idle' will not run: no value for 'a', 'c'"
    assert session.finish.failure is None
    assert session.events_of("FlowFinished")[0]["error"] is None


def test_additional_handles_of_a_node_count_only_when_the_block_takes_them(tmp_path: Path) -> None:
    nodes = """
  - {node_id: open, task: self::open, inputs_def: [{handle: x}],
     outputs_def: [{handle: o}],
     inputs_from: [{handle: x, value: 1}]}
  - {node_id: shut, task: self::shut, inputs_def: [{handle: x}],
     outputs_def: [{handle: o}],
     inputs_from: [{handle: x, value: 1}]}
"""
    files = flow(nodes, open="->", shut="->")
    files["tasks/open/task.oo.yaml"] += "additional_inputs: true\nadditional_outputs: true\n"
    open_job, shut_job = run(tmp_path, files).started
    assert (list(open_job.inputs_def), list(open_job.outputs_def)) == (["x"], ["o"])
    assert (dict(shut_job.inputs), list(shut_job.outputs_def)) == ({}, [])


def test_an_inline_task_runs_in_the_directory_of_its_flow(tmp_path: Path) -> None:
    nodes = """
  - node_id: n
    task:
      executor: {name: python, options: {entry: scriptlets/n.py}}
      inputs_def: [{handle: a}]
    inputs_from: [{handle: a, value: 1}]
"""
    session = run(tmp_path, flow(nodes))
    (job,) = session.started
    assert (job.block_path, job.directory) == (None, tmp_path / "pkg/flows/main")
    assert job.package_name == "pkg"
    assert "block_path" not in session.events_of("BlockStarted")[0]


def test_the_first_failure_aborts_what_runs_and_ends_the_flow(tmp_path: Path) -> None:
    nodes = "".join(f"  - {{node_id: {name}, task: self::t}}\n" for name in "abc")
    session = run(tmp_path, flow(nodes, t="-> r"))
    a, b, c = session.started
    session.finish_job(a)
    session.send(b, "BlockFinished", error="no luck")
    assert session.aborted == [c.job_id]
    path = f"{tmp_path}/pkg/flows/main/flow.oo.yaml"
    flow_finished, session_finished = session.events[-2:]
    stack = [dict(b.stacks[0])]
    assert flow_finished["error"] == "[node id: b] failed"
    assert flow_finished["_error"] == {"stack": stack}
    assert session_finished["error"] == f"flow {path} failed."
    assert session_finished["_error"] == {"message": "no luck", "stack": stack}
    failure = session.finish.failure
    assert failure is not None
    assert (failure.message, failure.node_path) == ("no luck", ("b",))
    assert session.session.running == ()


def test_a_failing_job_neither_runs_what_waits_nor_delivers(tmp_path: Path) -> None:
    nodes = """
  - {node_id: s, task: self::s}
  - {node_id: n, task: self::t,
     inputs_from: [{handle: a, from_node: [{node_id: s, output_handle: r}]}]}
"""
    session = run(tmp_path, flow(nodes, s="-> r", t="a -> b"))
    for value in (1, 2):
        session.send(session.job("s"), "BlockOutput", handle="r", output=value)
    session.send(session.job("n"), "BlockFinished", error="bad", result={"b": 1})
    assert session.inputs_of("n") == [{"a": 1}]
    assert "n" not in session.finish.node_results


def test_a_soft_error_ends_nothing_and_a_timeout_does(tmp_path: Path) -> None:
    session = run(tmp_path, CHAIN, start=1)
    job = session.job("first")
    session.send(job, "BlockError", error="soft")
    assert session.session.running == (job,)
    session.send(job, "BlockError", error=f"{job.job_id} timeout after 5s", timeout=5)
    assert session.events_of("BlockError")[-1]["timeout"] == 5
    assert session.events_of("FlowFinished")[0]["error"] == "[node id: first] failed"
    assert session.events[-1]["_error"]["message"] == "Timeout"
    assert session.events_of("BlockFinished") == []


def test_messages_of_jobs_that_are_over_aborted_or_unknown_are_ignored(tmp_path: Path) -> None:
    nodes = "".join(f"  - {{node_id: {name}, task: self::t}}\n" for name in "abc")
    session = run(tmp_path, flow(nodes, t="-> r"))
    a, b, c = session.started
    session.finish_job(a, r=1)
    assert session.finish_job(a, r=2) == []
    assert session.send("unknown", "BlockLog", log="x", stdio="stdout") == []
    assert session.session.handle({"type": "BlockLog"}) == []
    session.send(b, "BlockFinished", error="no")
    assert session.finish_job(c, r=1) == []
    assert session.finish.node_results == {"a": {"r": 1}}


def test_progress_is_the_weighted_mean_and_at_most_95_until_the_end(tmp_path: Path) -> None:
    nodes = """
  - {node_id: a, task: self::t, progress_weight: 3}
  - {node_id: b, task: self::t}
  - {node_id: c, task: self::t, progress_weight: 0}
"""
    session = run(tmp_path, flow(nodes, t="-> r"))
    a, b, c = session.started
    seen = []
    for job, progress in [(a, 40), (a, 20), (b, 200), (c, 50), (b, float("nan")), (b, "50")]:
        session.send(job, "BlockProgress", progress=progress)
        seen.append(session.session.progress)
    assert seen == [30, 30, 55, 55, 55, 55]
    session.finish_job(a)
    assert session.session.progress == 95
    session.finish_job(b)
    session.finish_job(c)
    assert session.session.progress == 100
    assert all(event["progress"] != 30 for event in session.events_of("BlockProgress"))


def test_the_progress_of_a_block_by_itself_is_what_it_reports(tmp_path: Path) -> None:
    session = run(tmp_path, ADD, "pkg::add", a=1)
    (job,) = session.started
    for progress in (30, 10, 130):
        session.send(job, "BlockProgress", progress=progress)
    assert session.session.progress == 100
    session.send(job, "BlockFinished", error="x")
    assert session.finish.failure is not None


def test_a_session_without_a_uuid_has_stable_job_ids_too(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path, CHAIN)
    runs = [
        Run(open_session(catalog, "main", {"start": 1}, session_id=session_id))
        for session_id in ("night run", "night run", "other", SESSION_ID)
    ]
    first, same, other, real = (run.started[0].job_id for run in runs)
    assert first == same
    assert len({first, other, real}) == 3
    assert uuid.UUID(real).version == 5


@pytest.mark.parametrize(
    ("target", "inputs", "fault"),
    [
        ("pkg::add", {}, r"add \(.*/task\.oo\.yaml\): no value for 'a', 'b'"),
        ("pkg::add", {"a": 1, "c": 2, "d": 3}, r"no value for 'b'; no such input: 'c', 'd' "),
        ("pkg::add", {"a": 1, "b": 2, "c": 3}, r"no such input: 'c' \(declared: 'a', 'b'\)"),
        ("main", {"x": 1}, r"main \(.*\): no value for 'start'; no such input: 'x' "),
    ],
)
def test_inputs_that_are_missing_or_unknown_are_all_named(
    tmp_path: Path, target: str, inputs: dict[str, Any], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        open_session(open_catalog(tmp_path, CHAIN), target, inputs)


def test_a_block_with_additional_inputs_takes_any(tmp_path: Path) -> None:
    files = dict(ADD)
    files["tasks/add/task.oo.yaml"] += "additional_inputs: true\n"
    (job,) = run(tmp_path, files, "pkg::add", a=1, c=3).started
    assert job.inputs == {"a": 1, "b": 10, "c": 3}


NODE_INPUTS = flow(
    """
  - {node_id: n, task: self::t,
     inputs_from: [{handle: a, value: 1}, {handle: b, from_node: [{node_id: v, output_handle: v}]}]}
  - {node_id: m, task: self::t,
     inputs_from: [{handle: a, from_node: [{node_id: n, output_handle: r}]}]}
  - {node_id: v, values: [{handle: v, value: 2}, {handle: w}]}
""",
    t="a b -> r",
)


def test_inputs_for_nodes_replace_constants_and_fill_what_is_open(tmp_path: Path) -> None:
    given = {"n": {"a": 10}, "v": {"v": 20}, "m": {"b": 30}}
    session = Run(
        open_session(open_catalog(tmp_path, NODE_INPUTS), "main", {}, given),
        answers(n=lambda a, b: {"r": a + b}, m=lambda a, b: {"r": a + b}),
    ).to_the_end()
    assert session.finish.node_results == {"n": {"r": 30}, "m": {"r": 60}}
    assert session.events_of("BlockWarning") == []


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"x": {"a": 1}}, r"no node 'x' \(there are 'n', 'm', 'v'\)"),
        ({"n": {"z": 1, "y": 2}}, r"node 'n' has no input 'z', 'y' \(declared: 'a', 'b'\)"),
        ({"v": {"z": 1}}, r"node 'v' has no input 'z' \(declared: 'v', 'w'\)"),
        ({"m": {"a": 1}}, r"node 'm' gets its 'a' from the flow"),
    ],
)
def test_inputs_that_no_node_can_take_are_refused(
    tmp_path: Path, given: dict[str, Any], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        open_session(open_catalog(tmp_path, NODE_INPUTS), "main", {}, given)


def test_inputs_for_nodes_of_a_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a task has no nodes, but there is something for 'n'"):
        open_session(open_catalog(tmp_path, ADD), "pkg::add", {"a": 1}, {"n": {"a": 1}})


def test_a_flow_whose_block_is_missing_or_broken_does_not_start(tmp_path: Path) -> None:
    files = flow("  - {node_id: n, task: self::gone}\n")
    with pytest.raises(BlockNotFound, match="task 'self::gone' of node 'n'"):
        open_session(open_catalog(tmp_path / "a", files), "main")
    files = flow("  - {node_id: n, task: self::bad}\n")
    files["tasks/bad/task.oo.yaml"] = "title: x\n"
    with pytest.raises(ManifestError, match="'executor' is missing"):
        open_session(open_catalog(tmp_path / "b", files), "main")


def test_a_node_of_a_kind_that_is_not_run_is_named(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path, flow("  - {node_id: n, slotflow: x}\n"))
    with pytest.raises(UnsupportedNode, match="node 'n' is a slotflow node"):
        open_session(catalog, "main")
