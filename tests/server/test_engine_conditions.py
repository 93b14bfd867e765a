from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engine_runs import Run, open_catalog, open_session

from oomol_connect_sdk.server.engine.conditions import chosen_output
from oomol_connect_sdk.server.engine.manifests import ConditionsNode, read_flow

NOTHING = object()


def conditions(directory: Path, text: dict[str, Any]) -> ConditionsNode:
    node = {"node_id": "c", "inputs_def": [{"handle": "a"}], "conditions": text}
    path = directory / "flow.oo.yaml"
    path.write_text(json.dumps({"nodes": [node]}))
    (read,) = read_flow(path).nodes
    assert isinstance(read, ConditionsNode)
    return read


def expression(operator: str, value: Any = NOTHING) -> dict[str, Any]:
    given = {} if value is NOTHING else {"value": value}
    return {"input_handle": "a", "operator": operator, **given}


def holds(directory: Path, left: Any, operator: str, value: Any = NOTHING) -> bool:
    case = {"handle": "yes", "expressions": [expression(operator, value)]}
    return chosen_output(conditions(directory, {"cases": [case]}), {"a": left}) == "yes"


@pytest.mark.parametrize(
    ("left", "operator", "value"),
    [
        (1, "==", 1.0),
        (None, "==", None),
        ({"a": [1, True]}, "==", {"a": [1.0, True]}),
        (1, "!=", True),
        ([1], "!=", [True]),
        ({"a": 1}, "!=", {"b": 1}),
        (2, ">", 1.5),
        (1, "<", 2),
        (2, ">=", 2),
        (2, "<=", 2),
        (None, "is null", NOTHING),
        (0, "is not null", NOTHING),
        (True, "is true", NOTHING),
        (False, "is false", NOTHING),
        ("abc", "contains", "bc"),
        ("abc", "not contains", "x"),
        ([1, {"x": 2}], "contains", {"x": 2}),
        ([1], "not contains", 2),
        (None, "is empty", NOTHING),
        ({}, "is empty", NOTHING),
        ("x", "is not empty", NOTHING),
        (1, "in", [1, 2]),
        (3, "not in", [1, 2]),
        ({"k": 1}, "has key", "k"),
        ({"k": 1}, "not has key", "x"),
        ({"k": 1}, "has value", 1),
        ({"k": 1}, "not has value", 2),
        ("abc", "starts with", "ab"),
        ("abc", "ends with", "bc"),
    ],
)
def test_a_comparison_holds(tmp_path: Path, left: Any, operator: str, value: Any) -> None:
    assert holds(tmp_path, left, operator, value)


@pytest.mark.parametrize(
    ("left", "operator", "value"),
    [
        (1, "==", NOTHING),
        (1, "!=", NOTHING),
        (1, "==", "1"),
        ("2", ">", 1),
        (True, ">", 0),
        (2, ">", 2),
        (1, "is true", NOTHING),
        (0, "is false", NOTHING),
        (None, "is false", NOTHING),
        (None, "is not empty", NOTHING),
        (0, "is empty", NOTHING),
        (1, "is not empty", NOTHING),
        ({"a": 1}, "contains", "a"),
        ({"a": 1}, "not contains", "x"),
        ("a1", "contains", 1),
        ("a1", "not contains", 2),
        ([1], "contains", NOTHING),
        ([True], "contains", 1),
        ("a", "in", "abc"),
        ("x", "not in", "abc"),
        ({"1": 1}, "has key", 1),
        ({"1": 1}, "not has key", 2),
        ([1], "has value", 1),
        ([1], "not has value", 2),
        (1, "starts with", "1"),
        ("abc", "ends with", NOTHING),
    ],
)
def test_a_comparison_does_not_hold(tmp_path: Path, left: Any, operator: str, value: Any) -> None:
    assert not holds(tmp_path, left, operator, value)


def test_cases_are_tried_in_order_and_then_the_default(tmp_path: Path) -> None:
    more, less = expression(">", 5), expression("<", 9)
    node = conditions(
        tmp_path,
        {
            "cases": [
                {"handle": "none", "expressions": []},
                {"handle": "both", "logical": "AND", "expressions": [more, less]},
                {"handle": "any", "expressions": [more, expression("==", 0)]},
            ],
            "default": {"handle": "other"},
        },
    )
    chosen = [chosen_output(node, {"a": value}) for value in (7, 10, 0, 3)]
    assert chosen == ["both", "any", "any", "other"]


def test_an_input_that_has_no_value_counts_as_null(tmp_path: Path) -> None:
    case = {"handle": "yes", "expressions": [expression("is null")]}
    assert chosen_output(conditions(tmp_path, {"cases": [case]}), {}) == "yes"


FLOW = """
inputs_def: [{handle: x}, {handle: y}]
nodes:
  - node_id: c
    inputs_def: [{handle: value}, {handle: flag}]
    conditions:
      cases: [{handle: big, expressions: [{input_handle: flag, operator: is true}]}]
    inputs_from:
      - {handle: value, from_flow: [{input_handle: x}]}
      - {handle: flag, from_flow: [{input_handle: y}]}
outputs_def: [{handle: o}]
outputs_from: [{handle: o, from_node: [{node_id: c, output_handle: big}]}]
"""


@pytest.mark.parametrize(("flag", "result"), [(True, {"o": 8}), (False, {})])
def test_the_chosen_output_gets_the_first_input(
    tmp_path: Path, flag: bool, result: dict[str, int]
) -> None:
    catalog = open_catalog(tmp_path, {"flows/main/flow.oo.yaml": FLOW})
    run = Run(open_session(catalog, "main", {"x": 8, "y": flag}))
    assert run.finish.result == result
    (started,) = run.events_of("BlockStarted")
    (finished,) = run.events_of("BlockFinished")
    assert started["inputs"] == {"value": 8, "flag": flag}
    assert finished.get("result") == ({"big": 8} if flag else None)
    assert run.started == []
