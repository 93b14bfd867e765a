"""aiohttp alone: a file up with a task, or down from it, streamed as its documentation shows.

It reads and writes the file on the event loop, as the simplest code does.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp
from transfer import measured_transfer

PIECE = 1 << 18


async def main(base_url: str, token: str, direction: str, path: str, task_id: str) -> None:
    headers = {"Authorization": token}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(base_url, headers=headers, timeout=timeout) as session:

        async def upload() -> str:
            with Path(path).open("rb") as file:  # noqa: ASYNC230
                form = aiohttp.FormData({"blockId": "bench::keep"})
                form.add_field("files", file, filename="file")
                async with session.post("/v1/tasks", data=form) as answer:
                    answer.raise_for_status()
                    return str((await answer.json())["task"]["id"])

        async def download() -> str:
            async with session.get(f"/v1/tasks/{task_id}/files/uploads/0/file") as answer:
                answer.raise_for_status()
                with Path(path).open("wb") as file:  # noqa: ASYNC230
                    async for piece in answer.content.iter_chunked(PIECE):
                        file.write(piece)
            return path

        async with session.get("/v1/tasks") as answer:
            await answer.json()
        await measured_transfer(upload if direction == "up" else download)


asyncio.run(main(*sys.argv[1:6]))
