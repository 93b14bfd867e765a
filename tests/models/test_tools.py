"""Tools from functions, models of data, modules, and OpenAI's own form."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest

from oomol_connect_sdk.models import Tool
from oomol_connect_sdk.models.tools import schema_of, tool_definitions, tools_of


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


def order(
    dish: Annotated[str, "what to eat"],
    count: int = 1,
    *,
    size: Size = Size.SMALL,
    extras: Sequence[str] = (),
) -> None:
    """Order a dish.

    It comes at once.
    """


def order_all(*dishes: str) -> None: ...


def test_a_function_is_described_by_its_docstring_and_annotations() -> None:
    (definition,) = tool_definitions(order)
    assert definition == {
        "type": "function",
        "function": {
            "name": "order",
            "description": "Order a dish.\n\nIt comes at once.",
            "parameters": {
                "type": "object",
                "properties": {
                    "dish": {"type": "string", "description": "what to eat"},
                    "count": {"type": "integer"},
                    "size": {"enum": ["s", "l"]},
                    "extras": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["dish"],
            },
        },
    }


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (list, {"type": "array", "items": {}}),
        (dict[str, int], {"type": "object"}),
        (Optional[str], {"anyOf": [{"type": "string"}, {"type": "null"}]}),  # noqa: UP045
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Any, {}),
        (object, {}),
    ],
)
def test_annotations_become_schemas(hint: Any, schema: dict[str, Any]) -> None:
    assert schema_of(hint) == schema


def test_a_data_model_offers_its_fields() -> None:
    class Booking:
        """Book a table."""

        @staticmethod
        def model_json_schema() -> dict[str, Any]:
            return {"type": "object", "properties": {"seats": {"type": "integer"}}}

    (tool,) = tools_of([Booking])
    assert (tool.name, tool.description) == ("Booking", "Book a table.")
    assert tool.parameters["properties"] == {"seats": {"type": "integer"}}


def test_openais_own_form_is_kept() -> None:
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    definition = {"type": "function", "function": function}
    assert tool_definitions(definition) == [definition]


def test_a_module_offers_its_documented_public_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "handy_tools.py").write_text(
        "from os.path import join\n"
        "def twice(x: int) -> int:\n    'Double it.'\n    return 2 * x\n"
        "def bare(): pass\n"
        "def _hidden(): 'Hidden.'\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "handy_tools", raising=False)
    (tool,) = tools_of("handy_tools")
    assert tool.name == "twice"
    assert tool.handler is not None
    assert tool.handler(x=2) == 4
    with pytest.raises(ValueError, match="no public function with a docstring"):
        tools_of("token")


def test_what_is_no_tool_is_named() -> None:
    with pytest.raises(TypeError, match=r"tools\[1\] must be a Tool"):
        tools_of([order, 7])
    with pytest.raises(TypeError, match=r"tools\[0\] must be"):
        tools_of([{"name": "f"}])
    with pytest.raises(TypeError, match=r"order_all: \*dishes can't be given by name"):
        tools_of(order_all)
    with pytest.raises(ValueError, match="2 tools with the name 'a'"):
        tools_of([Tool("a"), Tool("a")])
