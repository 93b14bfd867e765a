"""Asks a language model; what it says is logged as it comes."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from oocana import Context

from oomol_connect_sdk.models import Models, PieceJoiner

#: Seconds between two rows of the log.
PAUSE = 0.2


async def main(inputs: dict[str, Any], context: Context) -> dict[str, Any]:
    """Ask once and give the answer."""
    messages = [*(inputs["messages"] or [])]
    if inputs["system"]:
        messages = [{"role": "system", "content": inputs["system"]}, *messages]
    messages.append({"role": "user", "content": inputs["prompt"]})
    parameters = {
        name: inputs[name] for name in ("temperature", "max_tokens") if inputs[name] is not None
    }
    joiner, log = PieceJoiner(), _TextLog(context)
    async with Models.from_context(context) as models:
        pieces = models.stream(
            messages, model=inputs["model"] or None, files=inputs["files"] or (), **parameters
        )
        async for piece in pieces:
            joiner.add(piece)
            log.add(piece.text)
    log.flush()
    reply = joiner.reply()
    return {
        "text": reply.text,
        "messages": [*messages, reply.message()],
        "usage": None if reply.usage is None else dataclasses.asdict(reply.usage),
    }


class _TextLog:
    """Logs text that comes in small pieces a few times a second."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting = ""
        self._last = time.monotonic()

    def add(self, text: str) -> None:
        self._waiting += text
        if time.monotonic() - self._last >= PAUSE:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._context.report_log(self._waiting)
        self._waiting = ""
        self._last = time.monotonic()
