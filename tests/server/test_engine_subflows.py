from __future__ import annotations

from pathlib import Path

from engine_runs import SESSION_ID, Run, answers, open_catalog, open_session, task_files

INNER = """
inputs_def: [{handle: x}]
outputs_def: [{handle: y}]
outputs_from: [{handle: y, from_node: [{node_id: work, output_handle: r}]}]
forward_previews: [work]
nodes:
  - {node_id: work, task: self::t, inputs_from: [{handle: a, from_flow: [{input_handle: x}]}]}
"""
OUTER = """
outputs_def: [{handle: z}]
outputs_from: [{handle: z, from_node: [{node_id: sub, output_handle: y}]}]
nodes:
  - {node_id: sub, subflow: self::inner, inputs_from: [{handle: x, value: 1}]}
  - {node_id: beside, task: self::u}
"""
FILES = {
    **task_files(t="a -> r", u="-> r"),
    "subflows/inner/subflow.oo.yaml": INNER,
    "flows/main/flow.oo.yaml": OUTER,
}


def start(directory: Path, files: dict[str, str] = FILES, target: str = "main") -> Run:
    inputs = {"x": 1} if target != "main" else {}
    return Run(open_session(open_catalog(directory, files), target, inputs))


def test_a_subflow_passes_inputs_in_and_outputs_out_as_they_come(tmp_path: Path) -> None:
    session = start(tmp_path)
    work = session.job("work")
    assert work.inputs == {"a": 1}
    assert [level["node_id"] for level in work.stacks] == ["sub", "work"]
    session.send(work, "BlockOutput", handle="r", output=5)
    session.finish_job(work, r=6)
    session.finish_job(session.job("beside"), r=0)
    assert session.finish.result == {"z": 6}
    assert session.finish.node_results == {"sub": {"y": 6}, "beside": {"r": 0}}
    outputs = session.events_of("SubflowBlockOutput")
    assert [(event["handle"], event["output"]) for event in outputs] == [("y", 5), ("y", 6)]


def test_the_events_of_a_subflow_are_those_of_the_engine(tmp_path: Path) -> None:
    session = start(tmp_path)
    session.send(session.job("work"), "BlockProgress", progress=50)
    session.finish_job(session.job("work"), r=6)
    path = f"{tmp_path}/pkg/subflows/inner/subflow.oo.yaml"
    (started,) = session.events_of("SubflowBlockStarted")
    common = {
        "session_id": SESSION_ID,
        "job_id": started["job_id"],
        "block_path": path,
        "stacks": started["stacks"],
    }
    assert [level["node_id"] for level in started["stacks"]] == ["sub"]
    assert started == {
        "type": "SubflowBlockStarted",
        "inputs": {"x": 1},
        "create_at": 1000,
        **common,
    }
    assert session.events_of("SubflowBlockFinished") == [
        {"type": "SubflowBlockFinished", "error": None, "finish_at": 1000, **common}
    ]
    progress = [e for e in session.events_of("BlockProgress") if e["job_id"] == started["job_id"]]
    assert progress == [
        {"type": "BlockProgress", "progress": 50, "rate": 50, **common},
        {"type": "BlockProgress", "progress": 95, "rate": 95, **common},
    ]
    assert len(session.events_of("FlowNodesWillRun")) == 1


def test_the_progress_of_a_subflow_counts_in_the_flow_around_it(tmp_path: Path) -> None:
    session = start(tmp_path)
    session.send(session.job("work"), "BlockProgress", progress=50)
    assert session.session.progress == 25
    session.finish_job(session.job("work"))
    assert session.session.progress == 50


def test_a_subflow_that_is_run_by_itself_has_its_own_events(tmp_path: Path) -> None:
    session = start(tmp_path, target="pkg::inner")
    session.finish_job(session.job("work"), r=2)
    assert session.event_types == [
        "SessionStarted",
        "SubflowBlockStarted",
        "BlockStarted",
        "BlockFinished",
        "BlockProgress",
        "SubflowBlockOutput",
        "SubflowBlockFinished",
        "SessionFinished",
    ]
    assert session.events[1]["stacks"] == []
    assert session.finish.result == {"y": 2}


def test_a_failure_in_a_subflow_reaches_the_root_with_its_path_and_aborts_all(
    tmp_path: Path,
) -> None:
    session = start(tmp_path)
    work, beside = session.job("work"), session.job("beside")
    session.send(work, "BlockFinished", error="deep trouble")
    assert session.aborted == [beside.job_id]
    (subflow,) = session.events_of("SubflowBlockFinished")
    (flow,) = session.events_of("FlowFinished")
    stack = [dict(level) for level in work.stacks]
    assert (subflow["error"], flow["error"]) == ("[node id: work] failed", "[node id: sub] failed")
    assert subflow["_error"] == flow["_error"] == {"stack": stack}
    assert session.events[-1]["_error"] == {"message": "deep trouble", "stack": stack}
    failure = session.finish.failure
    assert failure is not None
    assert (failure.message, failure.node_path) == ("deep trouble", ("sub", "work"))
    assert failure.block_path == f"{tmp_path}/pkg/tasks/t/task.oo.yaml"


def test_a_failure_beside_a_subflow_aborts_the_jobs_in_it(tmp_path: Path) -> None:
    session = start(tmp_path)
    work, beside = session.job("work"), session.job("beside")
    session.send(beside, "BlockFinished", error="x")
    assert session.aborted == [work.job_id]
    assert session.events_of("SubflowBlockFinished") == []
    assert session.finish_job(work, r=1) == []


def test_a_subflow_in_which_nothing_runs_still_ends(tmp_path: Path) -> None:
    inner = """
inputs_def: [{handle: x}]
outputs_def: [{handle: y}]
outputs_from: [{handle: y, from_flow: [{input_handle: x}]}]
"""
    after = (
        "  - node_id: after\n    task: self::t\n    inputs_from:\n"
        "      - {handle: a, from_node: [{node_id: sub, output_handle: y}]}\n"
    )
    files = {
        **FILES,
        "subflows/inner/subflow.oo.yaml": inner,
        "flows/main/flow.oo.yaml": OUTER + after,
    }
    session = start(tmp_path, files)
    assert session.job("after").inputs == {"a": 1}
    assert len(session.events_of("SubflowBlockFinished")) == 1


def test_a_preview_is_shown_as_one_of_the_subflow_that_forwards_it(tmp_path: Path) -> None:
    session = start(tmp_path)
    session.send(session.job("work"), "BlockPreview", payload={"type": "text", "data": "x"})
    own, forwarded = session.events_of("BlockPreview")
    (started,) = session.events_of("SubflowBlockStarted")
    assert forwarded["job_id"] == started["job_id"]
    assert forwarded["node_id"] == "work"
    assert forwarded["payload"] == own["payload"]
    assert [level["node_id"] for level in forwarded["stacks"]] == ["sub"]


def test_a_subflow_runs_again_for_every_input(tmp_path: Path) -> None:
    files = {
        **FILES,
        "flows/main/flow.oo.yaml": """
nodes:
  - {node_id: s, task: self::u}
  - {node_id: sub, subflow: self::inner,
     inputs_from: [{handle: x, from_node: [{node_id: s, output_handle: r}]}]}
""",
    }
    session = start(tmp_path, files)
    source = session.job("s")
    session.send(source, "BlockOutput", handle="r", output=1)
    session.finish_job(source, r=2)
    assert len(session.events_of("SubflowBlockStarted")) == 1
    session.finish_job(session.job("work"))
    session.finish_job(session.job("work"))
    assert session.inputs_of("work") == [{"a": 1}, {"a": 2}]
    assert session.session.finished


def test_flows_that_contain_themselves_end_at_the_depth_limit(tmp_path: Path) -> None:
    files = {"subflows/loop/subflow.oo.yaml": "nodes: [{node_id: again, subflow: self::loop}]\n"}
    session = Run(open_session(open_catalog(tmp_path, files), "pkg::loop"))
    (finished,) = session.events_of("BlockFinished")
    assert finished["error"] == "Maximum recursion depth exceeded: 51 (limit: 50)"
    failure = session.finish.failure
    assert failure is not None
    assert failure.node_path == ("again",) * 51


def test_flows_that_contain_themselves_twice_end_in_bounded_time(tmp_path: Path) -> None:
    nodes = "nodes: [{node_id: a, subflow: self::loop}, {node_id: b, subflow: self::loop}]\n"
    files = {"subflows/loop/subflow.oo.yaml": nodes}
    session = Run(open_session(open_catalog(tmp_path, files), "pkg::loop"))
    failure = session.finish.failure
    assert failure is not None
    assert "endless loop" in failure.message


def test_conditions_that_feed_each_other_end_in_an_error(tmp_path: Path) -> None:
    files = {
        "flows/main/flow.oo.yaml": """
inputs_def: [{handle: x}]
nodes:
  - node_id: a
    inputs_def: [{handle: i}]
    conditions: {default: {handle: o}}
    inputs_from: [{handle: i, from_flow: [{input_handle: x}],
          from_node: [{node_id: a, output_handle: o}]}]
"""
    }
    session = Run(open_session(open_catalog(tmp_path, files), "main", {"x": 1}))
    failure = session.finish.failure
    assert failure is not None
    assert "endless loop" in failure.message
    assert "endless loop" in session.events_of("FlowFinished")[0]["error"]


def test_a_loop_through_a_condition_runs_a_block_until_it_holds(tmp_path: Path) -> None:
    files = {
        **task_files(inc="n -> m"),
        "flows/main/flow.oo.yaml": """
inputs_def: [{handle: start}]
outputs_def: [{handle: result}]
outputs_from: [{handle: result, from_node: [{node_id: check, output_handle: done}]}]
nodes:
  - node_id: inc
    task: self::inc
    inputs_from: [{handle: n, from_flow: [{input_handle: start}],
          from_node: [{node_id: check, output_handle: again}]}]
  - node_id: check
    inputs_def: [{handle: value}]
    conditions:
      cases: [{handle: done, expressions: [{input_handle: value, operator: '>=', value: 3}]}]
      default: {handle: again}
    inputs_from: [{handle: value, from_node: [{node_id: inc, output_handle: m}]}]
""",
    }
    script = answers(inc=lambda n: {"m": n + 1})
    session = Run(open_session(open_catalog(tmp_path, files), "main", {"start": 0}), script)
    session.to_the_end()
    assert session.started_nodes == ["inc"] * 3
    assert session.finish.result == {"result": 3}
