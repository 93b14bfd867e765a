"""Our client: a file up with a task, or down from it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from transfer import measured_transfer

from oomol_connect_sdk import OomolConnectClient


async def main(base_url: str, token: str, direction: str, path: str, task_id: str) -> None:
    async with OomolConnectClient(base_url=base_url, api_token=token) as client:

        async def upload() -> str:
            return (await client.tasks.create_with_files("bench::keep", files=[Path(path)]))["id"]

        async def download() -> str:
            return str(await client.tasks.download(task_id, "uploads/0/file", path))

        # One call first, so that the imports are not taken for stalls of the loop.
        await client.tasks.create_with_files("bench::keep", files=[("small", b"small")])
        await measured_transfer(upload if direction == "up" else download)


asyncio.run(main(*sys.argv[1:6]))
