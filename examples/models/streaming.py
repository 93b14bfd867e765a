"""Four ways to take an answer as it comes.

Run it from the root of the repository:

    export OOMOL_MODELS_URL=https://api.openai.com/v1 OOMOL_MODELS_MODEL=gpt-4o-mini
    export OOMOL_MODELS_API_KEY=your-api-key
    python examples/models/streaming.py
"""

from __future__ import annotations

import asyncio
import os

from oomol_connect_sdk.models import ChatAgent, ModelConfig, Piece, RuntimeConfig

CONFIG = ModelConfig(
    api_base_url=os.environ["OOMOL_MODELS_URL"], model=os.environ["OOMOL_MODELS_MODEL"]
)
QUESTION = "Tell a joke about a workflow."


def today() -> str:
    """Tell today's day of the week."""
    return "Friday"


async def shown_by_itself() -> None:
    print("1.", end=" ")
    async with ChatAgent(CONFIG, RuntimeConfig(display_stream_output=True)) as agent:
        async for _ in agent.chat_stream(QUESTION):
            pass


async def piece_by_piece() -> None:
    async with ChatAgent(CONFIG, RuntimeConfig(display_stream_output=False)) as agent:
        pieces = [text async for text in agent.chat_stream(QUESTION)]
        print(f"2. {len(pieces)} pieces: {'|'.join(pieces)}")


async def by_a_callback() -> None:
    def on_piece(piece: Piece) -> None:
        for call in piece.tool_calls:
            print(f"(the model calls {call.name})" if call.name else "", end="")
        print(piece.text, end="", flush=True)

    print("3.", end=" ")
    runtime = RuntimeConfig(display_stream_output=False, stream_chunk_callback=on_piece)
    async with ChatAgent(CONFIG, runtime) as agent:
        agent.register_tool(today)
        async for _ in agent.chat_stream("Which day is it today?"):
            pass
    print()


async def shown_in_the_end() -> None:
    async with ChatAgent(CONFIG, RuntimeConfig(display_stream_output=False)) as agent:
        async for _ in agent.chat_stream(QUESTION):
            pass
        print("4.", agent.history[-1]["content"])


async def main() -> None:
    await shown_by_itself()
    await piece_by_piece()
    await by_a_callback()
    await shown_in_the_end()


if __name__ == "__main__":
    asyncio.run(main())
