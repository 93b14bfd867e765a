"""A question, a conversation that is remembered, an image, and callbacks.

The service is any that `Models` speaks to. Run it from the root of the repository:

    export OOMOL_MODELS_URL=https://api.openai.com/v1 OOMOL_MODELS_MODEL=gpt-4o-mini
    export OOMOL_MODELS_API_KEY=your-api-key
    python examples/models/basics.py
"""

from __future__ import annotations

import asyncio
import os
import struct
import zlib

from oomol_connect_sdk.models import ChatAgent, ModelConfig, Reply, RuntimeConfig

CONFIG = ModelConfig(
    api_base_url=os.environ["OOMOL_MODELS_URL"],
    model=os.environ["OOMOL_MODELS_MODEL"],
    temperature=0,
)


class Collector:
    """Keeps the replies it is called with, and what they took."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []

    def __call__(self, reply: Reply) -> None:
        self.replies.append(reply)

    def tokens(self) -> int:
        usages = [reply.usage for reply in self.replies if reply.usage]
        return sum(usage.total_tokens or 0 for usage in usages)


async def one_question() -> None:
    def show(reply: Reply) -> None:
        print("callback:", reply.finish, reply.usage)

    async with ChatAgent(CONFIG, RuntimeConfig(response_callback=show)) as agent:
        print("answer:", await agent.chat("What is the capital of Japan?"))


async def a_conversation(collector: Collector) -> None:
    async with ChatAgent(CONFIG, RuntimeConfig(response_callback=collector)) as agent:
        agent.set_system_prompt("You are a polite assistant. Answer in one sentence.")
        print("first:", await agent.chat("My name is Ada."))
        print("second:", await agent.chat("What is my name?"))
        print("remembered:", [message["role"] for message in agent.history])
        agent.clear_history()
        print("forgotten:", agent.history)


async def an_image() -> None:
    async with ChatAgent(CONFIG) as agent:
        image = ("red.png", red_png(64), "image/png")
        print("image:", await agent.chat("Which colour is this?", image_paths=[image]))


def red_png(size: int) -> bytes:
    """Draw a red square; a path to any image does as well."""

    def part(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">2I5B", size, size, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\xff\0\0" * size) * size
    parts = part(b"IHDR", head), part(b"IDAT", zlib.compress(rows)), part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


async def main() -> None:
    await one_question()
    collector = Collector()
    await a_conversation(collector)
    await an_image()
    print(f"collected: {len(collector.replies)} replies, {collector.tokens()} tokens")


if __name__ == "__main__":
    asyncio.run(main())
