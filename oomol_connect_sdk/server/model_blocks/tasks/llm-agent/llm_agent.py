"""Lets a language model run other blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oocana import Context

from oomol_connect_sdk.models import ChatAgent, Models, RuntimeConfig, Tool
from oomol_connect_sdk.models.block_tools import tool_of_row


async def main(inputs: dict[str, Any], context: Context) -> dict[str, Any]:
    """Give the model its task and run the blocks it calls."""
    calls: list[dict[str, Any]] = []
    runtime = RuntimeConfig(display_stream_output=False, max_tool_iterations=inputs["max_rounds"])
    async with Models.from_context(context) as models:
        agent = ChatAgent(models, runtime)
        agent.set_system_prompt(inputs["system"])
        for reference in inputs["tools"]:
            tool = await _tool(context, reference)
            agent.register_tool(tool, _handler(context, reference, calls))
        options = {"model": inputs["model"]} if inputs["model"] else {}
        text = await agent.chat(inputs["prompt"], **options)
    context.report_log(text)
    return {"text": text, "calls": calls, "usage": agent.get_stats()}


async def _tool(context: Context, reference: str) -> Tool:
    found = await context.query_block(reference)
    handles = [
        {**definition, "handle": handle}
        for handle, definition in (found.get("inputs_def") or {}).items()
    ]
    row = {"description": found.get("description"), "inputs": handles}
    return tool_of_row(row, reference)


def _handler(context: Context, reference: str, calls: list[dict[str, Any]]) -> Callable[..., Any]:
    async def run(**arguments: Any) -> dict[str, Any]:
        call: dict[str, Any] = {"block": reference, "inputs": arguments}
        calls.append(call)
        context.report_log(f"{reference} {arguments}")
        outputs: dict[str, Any] = {}
        job = context.run_block(reference, inputs=arguments, strict=True)
        job.add_output_callback(outputs.update)
        try:
            await job.finish()
        except Exception as error:
            call["error"] = str(error)
            raise
        call["outputs"] = outputs
        return outputs

    return run
