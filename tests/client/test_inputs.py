from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import io
import pathlib
import types
import uuid
from typing import Any

import pytest

from oomol_connect_sdk.inputs import normalize_input_values

ROOT = [{"nodeId": "_", "inputs": [{"handle": "a", "value": 1}, {"handle": "b", "value": "x"}]}]
NODE = {"nodeId": "n", "inputs": [{"handle": "a", "value": 1}]}


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


@pytest.mark.parametrize(
    ("values", "normal"),
    [
        ({"a": 1, "b": "x"}, ROOT),
        (types.MappingProxyType({"a": 1, "b": "x"}), ROOT),
        ([{"handle": "a", "value": 1}, {"handle": "b", "value": "x"}], ROOT),
        (({"handle": "a", "value": 1}, {"handle": "b", "value": "x"}), ROOT),
        ([NODE], [NODE]),
        ((NODE,), [NODE]),
        (NODE, [NODE]),
        ([{"nodeId": "n", "inputs": {"a": 1}}], [NODE]),
        ({}, [{"nodeId": "_", "inputs": []}]),
        ([], []),
        (
            {"nodeId": "text", "inputs": "more text"},
            [
                {
                    "nodeId": "_",
                    "inputs": [
                        {"handle": "nodeId", "value": "text"},
                        {"handle": "inputs", "value": "more text"},
                    ],
                }
            ],
        ),
    ],
)
def test_the_three_formats_become_one(values: Any, normal: Any) -> None:
    assert normalize_input_values(values) == normal


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ("text", "must be a mapping or a sequence, not str: 'text'"),
        (7, "not int: 7"),
        (None, "not NoneType"),
        ([NODE, {"handle": "a", "value": 1}], r"mixes two formats.*element 1"),
        ([{"handle": "a", "value": 1}, NODE], r"mixes two formats.*element 0"),
        ([{"handle": "a", "value": 1}, 5], r"inputValues\[1\].*not int: 5"),
        ([{"handle": "a"}], r"inputValues\[0\] must have 'handle' and 'value'"),
        ([{"value": 1}], r"inputValues\[0\] must have"),
        ([{"nodeId": "n", "inputs": "x"}], r"'inputs' must be a list"),
        ([{"nodeId": "n"}], r"'inputs' must be a list"),
        ([{"nodeId": 3, "inputs": []}], r"'nodeId' must be non-empty text, not 3"),
        ([{"nodeId": "n", "inputs": [{"handle": "a"}]}], r"inputValues\[0\].inputs\[0\]"),
        ({3: 1}, "handle must be non-empty text, not 3"),
        ({"": 1}, "handle must be non-empty text"),
    ],
)
def test_a_malformed_input_is_shown(values: Any, fault: str) -> None:
    with pytest.raises((TypeError, ValueError), match=fault):
        normalize_input_values(values)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (
            datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc),
            "2026-01-02T03:04:00+00:00",
        ),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.time(3, 4), "03:04:00"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Point(1, datetime.date(2026, 1, 2)), {"x": 1, "when": "2026-01-02"}),
        (Colour.RED, "red"),
        (Size.LARGE, 3),
        (decimal.Decimal("1.5"), 1.5),
        (decimal.Decimal("3"), 3),
        ((1, (2,)), [1, [2]]),
        (types.MappingProxyType({"k": range(2)}), {"k": [0, 1]}),
        (True, True),
        (None, None),
    ],
)
def test_values_of_python_get_their_json_form(value: Any, sent: Any) -> None:
    (node,) = normalize_input_values({"h": value})
    assert node["inputs"] == [{"handle": "h", "value": sent}]
    assert type(node["inputs"][0]["value"]) is type(sent)


def test_values_of_numpy_are_sent_as_what_they_hold() -> None:
    """NumPy itself is not needed: its scalars and arrays are known by their module."""

    def numpy_value(held: Any) -> Any:
        return type("value", (), {"__module__": "numpy", "tolist": lambda self: held})()

    (node,) = normalize_input_values({"h": [numpy_value(7), numpy_value([1.5, 2])]})
    assert node["inputs"] == [{"handle": "h", "value": [7, [1.5, 2]]}]
    with pytest.raises(ValueError, match="handle 'h' is nan"):
        normalize_input_values({"h": numpy_value(float("nan"))})
    with pytest.raises(TypeError, match="handle 'h' can't be sent"):
        normalize_input_values({"h": numpy_value(1 + 2j)})


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (float("nan"), "handle 'h' is nan"),
        ([float("inf")], r"handle 'h'\[0\] is inf"),
        (b"bytes", "run_with_files"),
        ({1}, "a set has no order"),
        (io.BytesIO(), "run_with_files"),
        ({"k": {2: "x"}}, r"handle 'h'\['k'\] has the key 2"),
        (object(), "type object"),
        (decimal.Decimal("0.10000000000000000001"), "no JSON number holds exactly"),
        (decimal.Decimal("NaN"), "handle 'h' is nan"),
    ],
)
def test_a_value_json_cannot_hold_names_its_handle(value: Any, fault: str) -> None:
    with pytest.raises((TypeError, ValueError), match=fault):
        normalize_input_values({"h": value})
