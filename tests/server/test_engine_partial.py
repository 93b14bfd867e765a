from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_runs import SESSION_ID, Run, open_catalog, task_files

from oomol_connect_sdk.server.engine.session import InputError, Session

FILES = {
    **task_files(s="-> r", t="a b -> r"),
    "flows/main/flow.oo.yaml": """
inputs_def: [{handle: x, value: 5}]
outputs_def: [{handle: o}]
outputs_from: [{handle: o, from_node: [{node_id: one, output_handle: r}]}]
nodes:
  - {node_id: one, task: self::s}
  - {node_id: two, task: self::s, progress_weight: 3}
  - node_id: both
    task: self::t
    inputs_from:
      - {handle: a, from_node: [{node_id: one, output_handle: r}]}
      - {handle: b, from_node: [{node_id: two, output_handle: r}]}
  - node_id: after
    task: self::t
    inputs_from:
      - {handle: a, from_node: [{node_id: both, output_handle: r}]}
      - {handle: b, from_flow: [{input_handle: x}]}
  - {node_id: idle, task: self::t}
""",
}


def start(directory: Path, *nodes: str, cache: Any = None, target: str = "main") -> Run:
    catalog = open_catalog(directory, FILES)
    found = catalog.resolve(target)
    return Run(
        Session(
            session_id=SESSION_ID,
            target=found.manifest,
            package=found.package,
            references=catalog.references,
            inputs={},
            nodes_inputs={},
            nodes=nodes,
            cache=cache,
            clock=lambda: 1_000,
        )
    )


def test_only_the_nodes_upstream_of_what_is_asked_for_run(tmp_path: Path) -> None:
    session = start(tmp_path, "both")
    assert session.started_nodes == ["one", "two"]
    session.finish_job(session.job("one"), r=1)
    assert session.session.progress == 20
    session.finish_job(session.job("two"), r=2)
    session.finish_job(session.job("both"), r=3)
    assert session.finish.result == {"o": 1}
    assert session.events_of("BlockWarning") == []


def test_what_a_run_leaves_behind_lets_a_later_one_begin_in_the_middle(tmp_path: Path) -> None:
    first = start(tmp_path, "both")
    first.finish_job(first.job("one"), r=1)
    first.finish_job(first.job("two"), r=2)
    first.finish_job(first.job("both"), r=3)
    # The output for the node that did not run is kept too.
    assert first.session.input_cache == {"both": {"a": 1, "b": 2}, "after": {"a": 3, "b": 5}}
    later = start(tmp_path, "after", cache=first.session.input_cache)
    assert later.inputs_of("after") == [{"a": 3, "b": 5}]
    again = start(tmp_path, "both", "after", cache=first.session.input_cache)
    assert again.inputs_of("both") == [{"a": 1, "b": 2}]
    again.finish_job(again.job("both"), r=30)
    assert again.inputs_of("after") == [{"a": 30, "b": 5}]


def test_a_value_that_is_only_partly_there_is_made_again(tmp_path: Path) -> None:
    session = start(tmp_path, "both", cache={"both": {"a": 10}})
    assert session.started_nodes == ["two"]
    session.finish_job(session.job("two"), r=2)
    assert session.inputs_of("both") == [{"a": 10, "b": 2}]


def test_without_nodes_a_cache_is_not_used(tmp_path: Path) -> None:
    session = start(tmp_path, cache={"both": {"a": 10, "b": 11}})
    assert session.started_nodes == ["one", "two"]
    assert session.events[0]["partial"] is False


@pytest.mark.parametrize(
    ("value", "lasts"),
    [
        ({"__OOMOL_TYPE__": "oomol/var", "value": {}, "serialize_path": None}, False),
        ({"__OOMOL_TYPE__": "oomol/var", "value": {}, "serialize_path": "/a"}, True),
        ([{"x": {"__OOMOL_TYPE__": "oomol/bin", "value": "/session/b"}}], False),
        ("${{OO_SECRET:a,b,c}}", True),
        ({"x": [1]}, True),
    ],
)
def test_a_value_that_dies_with_its_run_is_not_kept(
    tmp_path: Path, value: Any, lasts: bool
) -> None:
    session = start(tmp_path)
    session.finish_job(session.job("one"), r=value)
    session.finish_job(session.job("two"), r=1)
    kept = {"a": value, "b": 1} if lasts else {"b": 1}
    assert session.session.input_cache["both"] == kept


def test_a_task_has_no_nodes_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a task has no nodes, but there is something for 'x'"):
        start(tmp_path, "x", target="pkg::s")
    assert start(tmp_path, target="pkg::s").session.input_cache == {}
