"""Many tasks at once, callbacks, backoff, a time limit, and errors that say what happened.

python examples/advanced_usage.py
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from oomol_connect_sdk import (
    ApiError,
    BackoffStrategy,
    OomolConnectClient,
    Task,
    TaskFailedError,
    TaskLog,
    TimeoutError,
)

EXAMPLES = Path(__file__).parent
SALES = EXAMPLES / "data" / "sales"


async def show_line(row: TaskLog) -> None:
    if row["type"] == "BlockLog":
        print(f"  {row['node_id']}: {row['event']['log'].rstrip()}")


def show_progress(task: Task) -> None:
    print(f"  {task['status']}: {task.get('progress') or 0:.0f} %")


async def with_callbacks(client: OomolConnectClient) -> None:
    print("progress, logs and backoff:")
    await client.tasks.run(
        {
            "blockId": "sales-report::monthly-report",
            "inputValues": {"folder": SALES, "output_dir": "report", "resamples": 5000},
        },
        {
            "interval_ms": 100,
            "max_interval_ms": 1000,
            "backoff_strategy": BackoffStrategy.EXPONENTIAL,
            "backoff_factor": 1.5,
            "on_progress": show_progress,
            "on_log": show_line,
        },
    )


async def many_at_once(client: OomolConnectClient) -> None:
    tasks = [
        client.tasks.run({"blockId": "sales-report::read-sales", "inputValues": {"folder": SALES}})
        for _ in range(5)
    ]
    results = await asyncio.gather(*tasks)
    print("five tasks at once:", len(results), "results")


async def errors(client: OomolConnectClient) -> None:
    try:
        await client.tasks.run(
            {"blockId": "sales-report::read-sales", "inputValues": {"folder": "no-such-folder"}}
        )
    except TaskFailedError as error:
        last_line = (error.reason or "").strip().splitlines()[-1]
        print(f"task {error.task_id} failed: {last_line}")
    try:
        await client.tasks.run({"blockId": "sales-report::read-sale"})
    except ApiError as error:
        print(f"HTTP {error.status}: {error.message}")
    try:
        await client.tasks.run(
            {
                "blockId": "sales-report::monthly-report",
                "inputValues": {"folder": SALES, "output_dir": "report"},
            },
            {"timeout_ms": 1500},
        )
    except TimeoutError as error:
        print(error)


async def main() -> None:
    async with OomolConnectClient.local(packages=[EXAMPLES / "packages"]) as client:
        await with_callbacks(client)
        await many_at_once(client)
        await errors(client)


if __name__ == "__main__":
    asyncio.run(main())
