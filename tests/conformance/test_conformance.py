from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from case import Case, answers_of, open_case, play, read_areas, told
from document import DOCUMENT, written

from oomol_connect_sdk.server.engine.errors import EngineError

ALL = [case for area in read_areas() for case in area.cases]
PLAYED = [case for case in ALL if not case.test]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("case", PLAYED, ids=lambda case: case.id)
def test_the_engine_follows_the_rule(case: Case, tmp_path: Path) -> None:
    if case.refused:
        with pytest.raises(EngineError) as refused:
            open_case(case, tmp_path)
        assert case.refused in str(refused.value).replace(f"{tmp_path}/", "")
        return
    if case.comparisons:
        for left, operator, right, holds in case.comparisons:
            assert compare(tmp_path, left, operator, right) is holds, (left, operator, right)
        return
    run = play(case, open_case(case, tmp_path))
    events, expected = told(run, tmp_path).splitlines(), case.events.strip().splitlines()
    if expected[0] == "...":
        events, expected = events[1 - len(expected) :], expected[1:]
    assert events == expected
    assert run.finish.result == (case.result or {})
    assert (run.finish.failure.message if run.finish.failure else "") == case.error
    assert answers_of(run, tmp_path) == list(case.answers)
    for node, path in case.ran.items():
        (ran,) = {job.block_path for job in run.started if job.node_id == node}
        assert ran == tmp_path / path
    for node, seconds in case.timeouts.items():
        assert {job.timeout for job in run.started if job.node_id == node} == {seconds}


def compare(directory: Path, left: Any, operator: str, right: Any) -> bool:
    """Tell whether a condition leads to its case; a right side ``~`` is none."""
    given = "" if right == "~" else f", value: {json.dumps(right)}"
    flow = f"""
inputs_def: [{{handle: x}}]
outputs_def: [{{handle: o}}]
outputs_from: [{{handle: o, from_node: [{{node_id: c, output_handle: 'yes'}}]}}]
nodes:
  - node_id: c
    inputs_def: [{{handle: x}}]
    conditions:
      cases: [{{handle: 'yes', expressions: [{{input_handle: x, operator: '{operator}'{given}}}]}}]
    inputs_from: [{{handle: x, from_flow: [{{input_handle: x}}]}}]
"""
    case = Case("", "", flow=flow, inputs={"x": left})
    return "o" in play(case, open_case(case, directory)).finish.result


@pytest.mark.parametrize("test", sorted({case.test for case in ALL if case.test}))
def test_what_a_rule_names_as_its_test_is_one(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = [node.name for node in tree.body if isinstance(node, functions)]
    assert name.startswith("test_")
    assert name in names


def test_every_case_has_an_id_of_its_own() -> None:
    ids = [case.id for case in ALL]
    assert sorted(set(ids)) == sorted(ids)


def test_the_document_is_what_the_cases_say() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == written(), (
        "docs/conformance.md is out of date: run `python tests/conformance/document.py`"
    )
