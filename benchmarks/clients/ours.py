"""Our client: `run` on the default settings."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx
from measure import Requests, counted_by, measured

from oomol_connect_sdk import OomolConnectClient


async def main(base_url: str, token: str, block: str, count: int, stats_url: str) -> None:
    requests = counted_by(stats_url) if stats_url else counted_here()
    async with OomolConnectClient(base_url=base_url, api_token=token or None) as client:

        async def run_one() -> Any:
            return (await client.tasks.run({"blockId": block, "inputValues": {}}))["task"]

        await measured(run_one, count, requests)


def counted_here() -> Requests:
    """Count where the requests go out: the local server keeps no such count."""
    send = httpx.AsyncHTTPTransport.handle_async_request
    sent = 0

    async def counting(*arguments: Any) -> httpx.Response:
        nonlocal sent
        sent += 1
        return await send(*arguments)

    httpx.AsyncHTTPTransport.handle_async_request = counting
    return lambda: sent


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))
