"""What holds for all inputs, ids and logs."""

from __future__ import annotations

import json
from typing import Any, List
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomol_connect_sdk.answers import endpoint
from oomol_connect_sdk.inputs import normalize_input_values
from oomol_connect_sdk.logs import LogReader, reason_of, result_of
from oomol_connect_sdk.polling import Wait

NUMBERS = st.integers(min_value=1, max_value=2**70)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
HANDLES = st.text(min_size=1).filter(lambda text: text.strip() == text)


def rows_of(ids: List[Any]) -> List[Any]:
    return [{"id": number, "type": "BlockLog", "event": {"log": str(number)}} for number in ids]


@given(st.sets(NUMBERS, min_size=1), st.data())
def test_every_row_is_read_once_whatever_the_order(ids: Any, data: st.DataObject) -> None:
    reader = LogReader()
    told: List[Any] = []
    answers = data.draw(st.lists(st.lists(st.sampled_from(sorted(ids))), max_size=5))
    for answer in [*answers, data.draw(st.permutations(sorted(ids)))]:
        fresh = reader.take(rows_of(answer))
        assert [row["id"] for row in fresh] == sorted({row["id"] for row in fresh})
        told += [row["id"] for row in fresh]
        assert reader.last_id == max([0, *told])
    assert sorted(told) == sorted(ids) == [row["id"] for row in reader.rows]


@given(st.sets(NUMBERS, min_size=1), st.integers(min_value=1, max_value=5))
def test_a_cursor_reads_each_row_once(ids: Any, page: int) -> None:
    reader = LogReader()
    told: List[Any] = []
    while True:
        rest = [number for number in sorted(ids) if number > reader.last_id][:page]
        if not rest:
            break
        told += [row["id"] for row in reader.take(rows_of(rest))]
    assert told == sorted(ids)


@given(st.lists(st.lists(JSON)))
def test_rows_with_any_id_are_read_once_in_each_answer(answers: List[List[Any]]) -> None:
    reader = LogReader()
    for answer in answers:
        rows = rows_of(answer)
        reader.take(rows)
        assert reader.take(rows) == []
    assert type(reader.last_id) is int
    distinct = {json.dumps(row, sort_keys=True) for answer in answers for row in rows_of(answer)}
    assert {json.dumps(row, sort_keys=True) for row in reader.rows} == distinct


def test_what_is_no_row_is_passed_over() -> None:
    reader = LogReader()
    rows: List[Any] = [None, 5, "row", [], *rows_of([2, 1])]
    assert [row["id"] for row in reader.take(rows)] == [1, 2]


@given(st.dictionaries(st.sampled_from(["id", "type", "event", "error"]), JSON))
def test_rows_of_any_form_give_a_result_and_a_reason(row: Any) -> None:
    for kind in ("BlockFinished", "BlockOutput", "BlockOutputs", "SessionFinished"):
        event = {"type": kind, "job_id": row.get("id"), "stacks": row.get("event"), **row}
        rows: List[Any] = [row, {**row, "type": kind}, {"type": kind, "event": event}]
        result_of({}, rows)
        reason_of({"error": row.get("error")}, rows)


@given(st.text())
def test_an_id_is_one_segment_or_none(task_id: str) -> None:
    try:
        path = endpoint("v1", "tasks", task_id)
    except ValueError:
        assert task_id in ("", ".", "..") or not task_id.isprintable()
        return
    assert path.count("/") == 3
    assert not {"?", "#", "\\", "@", ":", " ", "\n"} & set(path)
    assert unquote(path.rpartition("/")[2]) == task_id


@given(st.dictionaries(HANDLES, JSON))
def test_the_three_input_formats_say_the_same(values: Any) -> None:
    inputs = [{"handle": handle, "value": value} for handle, value in values.items()]
    (node,) = normalize_input_values(values) or [{"nodeId": "_", "inputs": []}]
    assert node == {"nodeId": "_", "inputs": inputs}
    if inputs:
        assert normalize_input_values(inputs) == [node]
        assert normalize_input_values([node]) == [node]
    assert json.loads(json.dumps(node)) == node


@given(JSON | st.tuples(JSON, JSON) | st.sets(st.integers()))
def test_inputs_of_any_form_are_taken_or_refused(values: Any) -> None:
    try:
        nodes = normalize_input_values(values)
    except (TypeError, ValueError) as error:
        assert str(error)  # noqa: PT017 - whether it is refused depends on the value
        return
    json.dumps(nodes, allow_nan=False)


@given(
    st.floats(min_value=0, max_value=1e9),
    st.floats(min_value=0, max_value=1e9),
    st.floats(min_value=1, max_value=1e9),
    st.integers(min_value=0, max_value=10**9),
    st.sampled_from(["fixed", "exponential"]),
)
def test_no_pause_overflows(
    interval: float, longest: float, factor: float, attempt: int, strategy: str
) -> None:
    options = {
        "interval_ms": interval,
        "max_interval_ms": longest,
        "backoff_factor": factor,
        "backoff_strategy": strategy,
    }
    pause = Wait.of(options, ending="stop").pause
    assert 0 <= pause(attempt, float(attempt)) <= max(interval, longest) / 1000 * 1.000001
    assert 0 <= Wait.of({}, ending="stop").pause(attempt, float(attempt)) <= 10


@pytest.mark.parametrize("number", [float("inf"), 1e300])
def test_endless_times_are_taken(number: float) -> None:
    wait = Wait.of({"interval_ms": number, "timeout_ms": number}, ending="stop")
    assert wait.timeout is not None
    assert wait.timeout > 1e200
