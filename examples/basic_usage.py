"""Run one block and one flow, and show what comes back.

Needs no server: the client brings one along. Run it from the root of the repository:

    python examples/basic_usage.py
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from oomol_connect_sdk import OomolConnectClient

EXAMPLES = Path(__file__).parent


async def main() -> None:
    async with OomolConnectClient.local(packages=[EXAMPLES / "packages"]) as client:
        blocks = await client.blocks.list()
        print("blocks:", ", ".join(block["blockId"] for block in blocks["blocks"]))

        read = await client.tasks.run(
            {
                "blockId": "sales-report::read-sales",
                "inputValues": {"folder": EXAMPLES / "data" / "sales"},
            }
        )
        print("one block gave:", read["result"])

        report = await client.tasks.run(
            {
                "blockId": "sales-report::monthly-report",
                "inputValues": {
                    "folder": EXAMPLES / "data" / "sales",
                    "output_dir": "report",
                    "resamples": 2000,
                },
            },
            {"on_progress": lambda task: print("status:", task["status"])},
        )
        print("the flow gave:", report["result"]["summary"])


if __name__ == "__main__":
    asyncio.run(main())
