"""Tools: one, several at once, in a stream, and a block of a Connect server as a tool.

Run it from the root of the repository:

    export OOMOL_MODELS_URL=https://api.openai.com/v1 OOMOL_MODELS_MODEL=gpt-4o-mini
    export OOMOL_MODELS_API_KEY=your-api-key
    python examples/models/tools.py
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

from oomol_connect_sdk import OomolConnectClient
from oomol_connect_sdk.models import ChatAgent, ModelConfig, Piece, RuntimeConfig, Tool, block_tool

EXAMPLES = Path(__file__).parents[1]
CONFIG = ModelConfig(
    api_base_url=os.environ["OOMOL_MODELS_URL"], model=os.environ["OOMOL_MODELS_MODEL"]
)
QUIET = RuntimeConfig(display_stream_output=False)

TEMPERATURES = {"Kyoto": 21, "Oslo": 4}


def weather(city: Annotated[str, "a city of the world"], unit: str = "celsius") -> dict[str, Any]:
    """Tell the weather in a city."""
    return {"city": city, "temperature": TEMPERATURES[city], "unit": unit}


async def convert(celsius: float) -> str:
    return f"{celsius * 9 / 5 + 32:g} °F"


CONVERT = Tool(
    name="to_fahrenheit",
    description="Converts degrees from Celsius to Fahrenheit.",
    parameters={
        "type": "object",
        "properties": {"celsius": {"type": "number"}},
        "required": ["celsius"],
    },
)


async def one_tool() -> None:
    async with ChatAgent(CONFIG, QUIET) as agent:
        agent.register_tool(weather)
        print("one:", await agent.chat("How warm is it in Kyoto?"))


async def several_tools() -> None:
    async with ChatAgent(CONFIG, QUIET) as agent:
        agent.register_tool(weather)
        agent.register_tool(CONVERT, convert)
        print("several:", await agent.chat("How warm is it in Kyoto and in Oslo, in Fahrenheit?"))


async def in_a_stream() -> None:
    print("stream:", end=" ")
    async with ChatAgent(CONFIG) as agent:
        agent.register_tool(weather)
        async for _ in agent.chat_stream("And in Oslo?"):
            pass


async def in_a_stream_that_is_not_shown() -> None:
    async with ChatAgent(CONFIG, QUIET) as agent:
        agent.register_tool(weather)
        texts = [text async for text in agent.chat_stream("And in Oslo?")]
        print("hidden:", "".join(texts))


async def with_notes_of_the_calls() -> None:
    def note(piece: Piece) -> None:
        for call in piece.tool_calls:
            print(f"[{call.name or 'more'}: {call.arguments!r}]", end=" ")

    print("notes:", end=" ")
    runtime = RuntimeConfig(display_stream_output=True, stream_chunk_callback=note)
    async with ChatAgent(CONFIG, runtime) as agent:
        agent.register_tool(weather)
        async for _ in agent.chat_stream("And in Oslo?"):
            pass


async def a_block() -> None:
    packages = [EXAMPLES / "packages"]
    async with OomolConnectClient.local(packages=packages) as client, ChatAgent(CONFIG) as agent:
        agent.register_tool(await block_tool(client, "sales-report::read-sales"))
        folder = EXAMPLES / "data" / "sales"
        print("block:", await agent.chat(f"Which months of sales are in {folder}?"))


async def main() -> None:
    await one_tool()
    await several_tools()
    await in_a_stream()
    await in_a_stream_that_is_not_shown()
    await with_notes_of_the_calls()
    await a_block()


if __name__ == "__main__":
    asyncio.run(main())
