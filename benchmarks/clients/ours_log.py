"""Our client listening to a task that prints many lines, on the local server."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any, List

from oomol_connect_sdk import OomolConnectClient


async def main(base_url: str, token: str, lines: int) -> None:
    heard: List[int] = []
    async with OomolConnectClient(base_url=base_url, api_token=token) as client:
        request: Any = {"blockId": "bench::chatter", "inputValues": {"lines": lines}}

        def hear(row: Any) -> None:
            if row["type"] == "BlockLog":
                heard.append(int(row["event"]["log"].split()[1]))

        cpu, wall = time.process_time(), time.monotonic()
        result = await client.tasks.run(request, {"on_log": hear})
        size = sum(len(json.dumps(row, separators=(",", ":"))) for row in result["logs"])
    report = {
        "lines_heard": len(heard),
        "each_once_and_in_order": heard == list(range(lines)),
        "log_bytes": size,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.monotonic() - wall,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    json.dump(report, sys.stdout)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
