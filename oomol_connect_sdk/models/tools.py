"""Tools that a model may call: what is offered to it, and what runs when it calls."""

from __future__ import annotations

import enum
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

_KINDS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


@dataclass(frozen=True)
class Tool:
    """A function that a model may call.

    ``parameters`` is the JSON Schema of its arguments, an object. ``handler`` is called with the
    arguments as keywords; it may be a coroutine function. Without one the tool can be offered,
    but whoever asks must answer its calls. ``strict`` asks services that can for arguments that
    fit the schema exactly.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: {"type": "object", "properties": {}}
    )
    handler: Callable[..., Any] | None = None
    strict: bool | None = None

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Tool:
        """Make a tool of a function: its name, its docstring, and its annotated parameters.

        Raises TypeError for a parameter that a model can't name.
        """
        name = getattr(function, "__name__", type(function).__name__)
        properties, required = {}, []
        hints = typing.get_type_hints(function, include_extras=True)
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                shown = str(parameter).partition(":")[0]
                raise TypeError(f"{name}: {shown} can't be given by name")
            properties[parameter.name] = schema_of(hints.get(parameter.name, Any))
            if parameter.default is parameter.empty:
                required.append(parameter.name)
        parameters = {"type": "object", "properties": properties, "required": required}
        return cls(name, inspect.getdoc(function) or "", parameters, function)

    def definition(self) -> dict[str, Any]:
        """Return it as it goes to a model."""
        function: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        if self.strict is not None:
            function["strict"] = self.strict
        return {"type": "function", "function": function}


def tools_of(tools: Any) -> list[Tool]:
    """Return tools from what a caller gave: one, several, or the name of a module of functions.

    A tool is a `Tool`, a function, a pydantic model (its fields are the arguments), or OpenAI's
    ``{"type": "function", "function": {"name": …}}``. Of a module its public functions with a
    docstring are taken. Raises TypeError or ValueError that names the one at fault.
    """
    if isinstance(tools, str):
        return _tools_of_module(tools)
    listed = [tools] if isinstance(tools, (Tool, Mapping)) or callable(tools) else list(tools)
    found = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(listed)]
    names = [tool.name for tool in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"there are {names.count(name)} tools with the name {name!r}")
    return found


def tool_definitions(tools: Any) -> list[dict[str, Any]]:
    """Return tools as they go to a model."""
    return [tool.definition() for tool in tools_of(tools)]


def schema_of(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of an annotation; ``{}`` (anything) for one that has none."""
    if hint in _KINDS:
        return {"type": _KINDS[hint]}
    if hasattr(hint, "model_json_schema"):
        schema: dict[str, Any] = hint.model_json_schema()
        return schema
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    return _schema_of_generic(typing.get_origin(hint) or hint, typing.get_args(hint))


def _schema_of_generic(origin: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is typing.Annotated:
        texts = [item for item in arguments[1:] if isinstance(item, str)]
        described = {"description": texts[0]} if texts else {}
        return {**schema_of(arguments[0]), **described}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(argument) for argument in arguments]}
    if not isinstance(origin, type):
        return {}
    if issubclass(origin, Mapping):
        return {"type": "object"}
    if issubclass(origin, Iterable):
        items = schema_of(arguments[0]) if arguments else {}
        return {"type": "array", "items": items}
    return {}


def _tool(tool: Any, where: str) -> Tool:
    if isinstance(tool, Tool):
        return tool
    if isinstance(tool, type) and hasattr(tool, "model_json_schema"):
        return Tool(tool.__name__, inspect.getdoc(tool) or "", tool.model_json_schema())
    if isinstance(tool, Mapping):
        function = tool.get("function")
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            parameters = function.get("parameters") or {"type": "object", "properties": {}}
            return Tool(
                function["name"],
                function.get("description") or "",
                parameters,
                strict=function.get("strict"),
            )
    elif callable(tool):
        return Tool.of(tool)
    raise TypeError(
        f"{where} must be a Tool, a function, a pydantic model or "
        f"{{'type': 'function', 'function': {{'name': …}}}}, not {tool!r:.120}"
    )


def _tools_of_module(name: str) -> list[Tool]:
    module = import_module(name)
    functions = [
        value
        for key, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not key.startswith("_")
        and value.__doc__
    ]
    if not functions:
        raise ValueError(f"the module {name} has no public function with a docstring")
    return [Tool.of(function) for function in functions]
