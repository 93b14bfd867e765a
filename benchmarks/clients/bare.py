"""A bare aiohttp loop that sends the fewest requests that could do.

It creates each task, asks for the list of all of them every 0.3 s, and reads the log of each that
is over. It checks nothing and bears with nothing.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Dict

import aiohttp
from measure import counted_by, measured


async def main(base_url: str, token: str, block: str, count: int, stats_url: str) -> None:
    waiting: Dict[str, asyncio.Future[Any]] = {}
    headers = {"Authorization": token} if token else {}
    connector = aiohttp.TCPConnector(limit=10)
    async with aiohttp.ClientSession(base_url, connector=connector, headers=headers) as session:

        async def watch() -> None:
            while True:
                await asyncio.sleep(0.3)
                async with session.get("/v1/tasks") as answer:
                    for task in (await answer.json())["tasks"]:
                        if task["status"] == "completed" and task["id"] in waiting:
                            waiting.pop(task["id"]).set_result(task)

        async def run_one() -> Any:
            body = {"blockId": block, "inputValues": []}
            async with session.post("/v1/tasks", json=body) as answer:
                task_id = (await answer.json())["task"]["id"]
            future = asyncio.get_running_loop().create_future()
            waiting[task_id] = future
            task = await future
            async with session.get(f"/v1/tasks/{task_id}/logs") as answer:
                await answer.json()
            return task

        watcher = asyncio.ensure_future(watch())
        await measured(run_one, count, counted_by(stats_url))
        watcher.cancel()


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))
