"""Blocks and flows of a Connect server as tools of a model."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

from ..errors import OomolConnectError
from ..inputs import ROOT_NODE
from .tools import Tool

if TYPE_CHECKING:
    from ..client import OomolConnectClient
    from ..sync import SyncOomolConnectClient
    from ..types import CreateTaskRequest, InputValue, NodeInputs


@overload
def block_tool(
    client: SyncOomolConnectClient,
    block_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Tool: ...
@overload
def block_tool(
    client: OomolConnectClient,
    block_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Awaitable[Tool]: ...
def block_tool(
    client: OomolConnectClient | SyncOomolConnectClient,
    block_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Tool | Awaitable[Tool]:
    """Make a tool of a block or flow, which runs as a task on the client's server.

    ::

        agent.register_tool(await block_tool(client, "weather::forecast"))

    ``block_id`` is ``package::block`` or the name of a flow. Its inputs are the arguments (those
    of a flow's node are called ``node.handle``), its description is told to the model unless
    another is given, and its outputs are the result. A task that fails is told to the model with
    the reason. With the blocking client the tool is returned at once. OomolConnectError when the
    server has no such block or flow.
    """
    from ..sync import SyncOomolConnectClient

    if not isinstance(client, SyncOomolConnectClient):
        return _async_block_tool(client, block_id, name, description)
    blocking = client
    row = _row(block_id, blocking.blocks.list()["blocks"], blocking.flows.list()["flows"])

    def run(**arguments: Any) -> Any:
        return blocking.tasks.run(_request(block_id, row, arguments))["result"]

    return replace(tool_of_row(row, name or block_id, description), handler=run)


def tool_of_row(row: Mapping[str, Any], name: str, description: str | None = None) -> Tool:
    """Make the tool, still without a handler, of a row that a server lists of a block or flow."""
    inputs = _inputs(row)
    parameters = {
        "type": "object",
        "properties": {argument: _schema(handle) for argument, (_, handle) in inputs.items()},
        "required": [name for name, (_, handle) in inputs.items() if _is_required(handle)],
    }
    return Tool(_tool_name(name), description or row.get("description") or "", parameters)


async def _async_block_tool(
    client: OomolConnectClient, block_id: str, name: str | None, description: str | None
) -> Tool:
    blocks, flows = await client.blocks.list(), await client.flows.list()
    row = _row(block_id, blocks["blocks"], flows["flows"])

    async def run(**arguments: Any) -> Any:
        return (await client.tasks.run(_request(block_id, row, arguments)))["result"]

    return replace(tool_of_row(row, name or block_id, description), handler=run)


def _row(
    block_id: str, blocks: Sequence[Mapping[str, Any]], flows: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any]:
    for block in blocks:
        if block.get("blockId") == block_id:
            return block
    for flow in flows:
        if block_id in (flow.get("name"), f"{flow.get('package')}::{flow.get('name')}"):
            return flow
    raise OomolConnectError(f"the server has no block and no flow {block_id!r}")


def _inputs(row: Mapping[str, Any]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return the node and the handle that each argument of the tool stands for."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for item in row.get("inputs") or ():
        if "handle" in item:
            found[item["handle"]] = (ROOT_NODE, item)
            continue
        node = item.get("nodeId") or item.get("id") or ROOT_NODE
        for handle in item.get("inputs") or ():
            argument = handle["handle"] if node == ROOT_NODE else f"{node}.{handle['handle']}"
            found[argument] = (node, handle)
    return found


def _request(
    block_id: str, row: Mapping[str, Any], arguments: Mapping[str, Any]
) -> CreateTaskRequest:
    inputs = _inputs(row)
    nodes: dict[str, list[InputValue]] = {}
    for argument, value in arguments.items():
        if argument not in inputs:
            raise TypeError(f"{block_id} has no input {argument!r}, only {', '.join(inputs)}")
        node, handle = inputs[argument]
        nodes.setdefault(node, []).append({"handle": handle["handle"], "value": value})
    values: list[NodeInputs] = [{"nodeId": node, "inputs": given} for node, given in nodes.items()]
    return {"blockId": block_id, "inputValues": values}


def _schema(handle: Mapping[str, Any]) -> dict[str, Any]:
    schema = handle.get("json_schema")
    # What OOMOL's editor needs of a schema (ui:…, contentMediaType) no model service knows.
    known = {
        key: value
        for key, value in (schema.items() if isinstance(schema, Mapping) else ())
        if not key.startswith("ui:") and key != "contentMediaType"
    }
    described = {"description": handle["description"]} if handle.get("description") else {}
    return {**described, **known}


def _is_required(handle: Mapping[str, Any]) -> bool:
    return "value" not in handle and not handle.get("nullable")


def _tool_name(name: str) -> str:
    # What every model service takes.
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name.replace("::", "__"))[:64]
