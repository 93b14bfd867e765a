from __future__ import annotations

from pathlib import Path

from engine_runs import Run, open_catalog, open_session, task_files
from packages import write_package

from oomol_connect_sdk.server.engine.catalog import Catalog

#: A subflow that gives three values to its slot and hands on what comes back.
WITH_SLOT = """
inputs_def: [{handle: start}]
outputs_def: [{handle: out}]
outputs_from: [{handle: out, from_node: [{node_id: hole, output_handle: done}]}]
nodes:
  - {node_id: source, task: self::source,
     inputs_from: [{handle: n, from_flow: [{input_handle: start}]}]}
  - node_id: hole
    slot: {inputs_def: [{handle: item}], outputs_def: [{handle: done}]}
    inputs_from: [{handle: item, from_node: [{node_id: source, output_handle: item}]}]
"""
LIBRARY = {**task_files(source="n -> item"), "subflows/each/subflow.oo.yaml": WITH_SLOT}


def caller(slots: str, more: str = "") -> str:
    """Write a flow that fills the slot of ``library::each``."""
    return f"""
outputs_def: [{{handle: result}}]
outputs_from: [{{handle: result, from_node: [{{node_id: each, output_handle: out}}]}}]
nodes:
  - node_id: each
    subflow: library::each
    inputs_from: [{{handle: start, value: 3}}]
    slots: [{slots}]
{more}"""


def start(directory: Path, flow: str, files: dict[str, str] | None = None) -> Run:
    library = write_package(directory / "library", "library", files=LIBRARY)
    own = {"flows/main/flow.oo.yaml": flow, **(files or {})}
    package = write_package(directory / "pkg", "pkg", files=own)
    return Run(open_session(Catalog([library, package]), "main"))


def feed(session: Run, *values: object) -> None:
    """Let the subflow's source give these values and end."""
    source = session.job("source")
    for value in values:
        session.send(source, "BlockOutput", handle="item", output=value)
    session.finish_job(source)


def test_a_task_runs_in_the_place_of_a_slot_in_the_package_that_provides_it(
    tmp_path: Path,
) -> None:
    files = {
        "tasks/double/task.oo.yaml": """
executor: {name: python}
inputs_def: [{handle: item, json_schema: {type: number}}]
outputs_def: [{handle: done, json_schema: {contentMediaType: oomol/var}}]
"""
    }
    session = start(tmp_path, caller("{slot_node_id: hole, task: self::double}"), files)
    feed(session, 2)
    job = session.job("hole")
    assert job.inputs == {"item": 2}
    assert job.block_path == tmp_path / "pkg/tasks/double/task.oo.yaml"
    assert (job.package_name, job.directory) == ("pkg", tmp_path / "pkg/tasks/double")
    assert [level["node_id"] for level in job.stacks] == ["each", "hole"]
    assert job.inputs_def["item"]["json_schema"] == {"type": "number"}
    assert job.outputs_def["done"]["json_schema"] == {"contentMediaType": "oomol/var"}
    session.finish_job(job, done=4)
    assert session.finish.result == {"result": 4}


def test_a_subflow_runs_in_the_place_of_a_slot(tmp_path: Path) -> None:
    files = {
        **task_files(double="x -> y"),
        "subflows/inner/subflow.oo.yaml": """
inputs_def: [{handle: item}]
outputs_def: [{handle: done}]
outputs_from: [{handle: done, from_node: [{node_id: work, output_handle: y}]}]
nodes: [{node_id: work, task: self::double,
         inputs_from: [{handle: x, from_flow: [{input_handle: item}]}]}]
""",
    }
    session = start(tmp_path, caller("{slot_node_id: hole, subflow: self::inner}"), files)
    feed(session, 5)
    session.finish_job(session.job("work"), y=10)
    assert session.finish.result == {"result": 10}
    assert [len(e["stacks"]) for e in session.events_of("SubflowBlockStarted")] == [1, 2]


SLOTFLOW = {
    **task_files(scale="x factor -> y"),
    "slotflows/+slotflow#1/slotflow.oo.yaml": """
outputs_def: [{handle: done}]
outputs_from: [{handle: done, from_node: [{node_id: work, output_handle: y}]}]
nodes:
  - node_id: work
    task: self::scale
    inputs_from:
      - {handle: x, from_flow: [{input_handle: item}]}
      - {handle: factor, from_flow: [{input_handle: factor}]}
""",
}
SLOTFLOW_PROVIDER = """{
      slot_node_id: hole, slotflow: 'self::+slotflow#1',
      inputs_def: [{handle: factor}, {handle: item}],
      inputs_from: [{handle: factor, %s}, {handle: item, value: unused}]}"""


def test_the_inputs_of_a_slotflow_are_those_of_the_slot_and_of_its_provider(
    tmp_path: Path,
) -> None:
    flow = caller(SLOTFLOW_PROVIDER % "value: 7")
    session = start(tmp_path, flow, SLOTFLOW)
    feed(session, 1, 2)
    session.finish_job(session.job("work"), y=7)
    session.finish_job(session.job("work"), y=14)
    assert session.inputs_of("work") == [{"x": 1, "factor": 7}, {"x": 2, "factor": 7}]
    assert session.finish.result == {"result": 14}
    (subflow,) = session.events_of("SubflowBlockStarted")
    assert subflow["inputs"] == {"start": 3, "runtime::hole-factor": 7}
    started = session.events_of("SlotflowStarted")
    assert [event["inputs"] for event in started] == [
        {"item": 1, "factor": 7},
        {"item": 2, "factor": 7},
    ]
    path = f"{tmp_path}/pkg/slotflows/+slotflow#1/slotflow.oo.yaml"
    assert started[0]["block_path"] == path
    assert [e["output"] for e in session.events_of("SlotflowOutput")] == [7, 14]
    assert [e["error"] for e in session.events_of("SlotflowFinished")] == [None, None]


def test_a_providers_value_may_come_from_a_node_of_the_flow_around_it(tmp_path: Path) -> None:
    flow = caller(
        SLOTFLOW_PROVIDER % "from_node: [{node_id: settings, output_handle: f}]",
        "  - {node_id: settings, task: self::settings}\n",
    )
    session = start(tmp_path, flow, {**SLOTFLOW, **task_files(settings="-> f")})
    assert session.started_nodes == ["settings"]
    session.finish_job(session.job("settings"), f=9)
    feed(session, 1, 2, 3)
    for _ in range(3):
        session.finish_job(session.job("work"), y=0)
    assert [inputs["factor"] for inputs in session.inputs_of("work")] == [9, 9, 9]
    assert session.finish.failure is None


def test_a_value_that_is_remembered_and_comes_late_serves_all_that_waited(tmp_path: Path) -> None:
    # The subflow's own values are delivered before the hidden one.
    files = {
        **SLOTFLOW,
        "subflows/direct/subflow.oo.yaml": """
inputs_def: [{handle: a}, {handle: b}]
nodes:
  - node_id: hole
    slot: {inputs_def: [{handle: item}]}
    inputs_from: [{handle: item, from_flow: [{input_handle: a}, {input_handle: b}]}]
""",
    }
    flow = caller(SLOTFLOW_PROVIDER % "value: 7").replace(
        "subflow: library::each\n    inputs_from: [{handle: start, value: 3}]",
        "subflow: self::direct\n    inputs_from: [{handle: a, value: 1}, {handle: b, value: 2}]",
    )
    session = start(tmp_path, flow, files)
    session.finish_job(session.job("work"))
    session.finish_job(session.job("work"))
    assert session.inputs_of("work") == [{"x": 1, "factor": 7}, {"x": 2, "factor": 7}]
    assert session.session.finished


def test_two_callers_may_fill_the_slot_of_one_subflow_differently(tmp_path: Path) -> None:
    second = """
  - node_id: other
    subflow: library::each
    inputs_from: [{handle: start, value: 4}]
    slots: [{slot_node_id: hole, task: self::double}]
"""
    files = {**SLOTFLOW, **task_files(double="item -> done")}
    session = start(tmp_path, caller(SLOTFLOW_PROVIDER % "value: 7", second), files)
    for source in [job for job in session.session.running if job.node_id == "source"]:
        session.send(source, "BlockOutput", handle="item", output=source.inputs["n"])
        session.finish_job(source)
    assert session.inputs_of("work") == [{"x": 3, "factor": 7}]
    assert session.inputs_of("hole") == [{"item": 4}]


def test_a_slot_that_nobody_fills_fails(tmp_path: Path) -> None:
    session = start(tmp_path, caller(""))
    feed(session, 1)
    (finished,) = (e for e in session.events_of("BlockFinished") if "error" in e)
    assert finished["error"] == "Cannot run Slot Block directly"
    assert session.finish.failure is not None
    assert session.finish.failure.node_path == ("each", "hole")


def test_a_subflow_with_a_slot_can_be_run_by_itself_up_to_the_slot(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path, LIBRARY)
    session = Run(open_session(catalog, "pkg::each", {"start": 1}))
    session.finish_job(session.job("source"))
    assert session.finish.failure is None


def test_a_provider_of_a_slot_that_is_not_there_is_warned_of(tmp_path: Path) -> None:
    files = task_files(double="item -> done")
    session = start(tmp_path, caller("{slot_node_id: gone, task: self::double}"), files)
    (warning,) = session.events_of("BlockWarning")
    assert warning["warning"] == "node 'each': the subflow has no slot 'gone'"
    assert warning["stacks"][-1]["node_id"] == "each"


def test_a_providers_input_that_nothing_fills_keeps_the_subflow_from_running(
    tmp_path: Path,
) -> None:
    provider = "{slot_node_id: hole, slotflow: 'self::+slotflow#1', inputs_def: [{handle: factor}]}"
    session = start(tmp_path, caller(provider), SLOTFLOW)
    (warning,) = session.events_of("BlockWarning")
    assert warning["warning"] == "node 'each' will not run: no value for 'runtime::hole-factor'"
    assert session.started == []
