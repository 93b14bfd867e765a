"""The official client 1.0.3: `run` on the default settings."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from measure import counted_by, measured

from oomol_connect_sdk import OomolConnectClient


async def main(base_url: str, token: str, block: str, count: int, stats_url: str) -> None:
    options = {"base_url": base_url, "api_token": token} if token else {"base_url": base_url}
    async with OomolConnectClient(options) as client:

        async def run_one() -> Any:
            return (await client.tasks.run({"blockId": block, "inputValues": {}}))["task"]

        await measured(run_one, count, counted_by(stats_url))


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))
