from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from servers import ended, is_running, wait_until

from oomol_connect_sdk.server.backend import open_service
from oomol_connect_sdk.server.service import TaskService

OpenService = Callable[..., AbstractAsyncContextManager[TaskService]]


@pytest.fixture
def opened(shop: Path, tmp_path: Path) -> OpenService:
    """Open services on one data directory, one after the other."""

    @asynccontextmanager
    async def open_one(max_tasks: int = 2) -> AsyncIterator[TaskService]:
        data_dir = tmp_path / "data"
        async with open_service([shop], data_dir=data_dir, max_tasks=max_tasks) as service:
            yield service

    return open_one


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, condition)


def gated(directory: Path, name: str) -> dict[str, str]:
    return {"file": str(directory / name), "gate": str(directory / "gate")}


async def test_no_more_tasks_run_at_once_than_allowed_and_the_rest_wait_in_order(
    opened: OpenService, tmp_path: Path
) -> None:
    async with opened(max_tasks=1) as service:
        first = await service.create("shop::gated", gated(tmp_path, "runs"))
        noted = {"file": str(tmp_path / "notes")}
        rest = [
            await service.create("shop::note", {**noted, "text": str(number)})
            for number in range(3)
        ]
        await until((tmp_path / "runs").exists)
        statuses = {task.id: task.status for task in await service.list()}
        assert statuses[first.id] == "running"
        assert [statuses[task.id] for task in rest] == ["pending"] * 3
        (tmp_path / "gate").touch()
        for task in (first, *rest):
            assert (await ended(service, task.id)).status == "completed"
        assert (tmp_path / "notes").read_text().split() == ["0", "1", "2"]


async def test_a_running_task_is_stopped_with_all_its_processes(
    opened: OpenService, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    async with opened() as service:
        task = await service.create("shop::forever", {"file": str(pids)})
        await until(lambda: pids.exists() and pids.read_text().endswith("\n"))
        block, child = map(int, pids.read_text().split())
        assert is_running(block)
        assert is_running(child)
        stopped = await service.stop(task.id)
        assert stopped.status == "stopped"
        assert stopped.error is None
        await until(lambda: not is_running(block) and not is_running(child))
        _, events = await service.logs(task.id)
        assert events[-1].type == "SessionFinished"
        assert events[-1].event["error"] == "stopped"


async def test_a_stopped_task_makes_room_for_the_next(opened: OpenService, tmp_path: Path) -> None:
    async with opened(max_tasks=1) as service:
        stuck = await service.create("shop::forever", {"file": str(tmp_path / "pids")})
        follows = await service.create("shop::add", {"a": 1})
        await service.stop(stuck.id)
        assert (await ended(service, follows.id)).result == {"sum": 11}


async def test_a_pending_task_that_is_stopped_never_starts(
    opened: OpenService, tmp_path: Path
) -> None:
    async with opened(max_tasks=1) as service:
        first = await service.create("shop::gated", gated(tmp_path, "runs"))
        pending = await service.create("shop::gated", gated(tmp_path, "never"))
        assert (await service.stop(pending.id)).status == "stopped"
        (tmp_path / "gate").touch()
        assert (await ended(service, first.id)).status == "completed"
        assert (await service.logs(pending.id))[1] == []
    async with opened() as service:
        assert (await service.get(pending.id)).status == "stopped"
    assert not (tmp_path / "never").exists()


async def test_a_task_that_has_ended_is_left_alone_by_a_stop(opened: OpenService) -> None:
    async with opened() as service:
        task = await ended(service, (await service.create("shop::add", {"a": 1})).id)
        assert await service.stop(task.id) == task


async def test_two_stops_at_once_agree(opened: OpenService, tmp_path: Path) -> None:
    async with opened() as service:
        task = await service.create("shop::forever", {"file": str(tmp_path / "pids")})
        await until((tmp_path / "pids").exists)
        one, two = await asyncio.gather(service.stop(task.id), service.stop(task.id))
        assert one == two
        _, events = await service.logs(task.id)
        assert [event.type for event in events].count("SessionFinished") == 1


async def test_what_runs_when_the_server_closes_goes_on_at_the_next_start(
    opened: OpenService, tmp_path: Path
) -> None:
    async with opened(max_tasks=1) as service:
        running = await service.create("shop::gated", gated(tmp_path, "runs"))
        pending = await service.create("shop::add", {"a": 1})
        await until((tmp_path / "runs").exists)
    worker = int((tmp_path / "runs").read_text())
    assert not is_running(worker)
    (tmp_path / "gate").touch()
    async with opened() as service:
        assert (await ended(service, running.id)).result == {"number": 3, "text": "nothing!"}
        assert (await ended(service, pending.id)).result == {"sum": 11}


async def test_unfinished_tasks_are_taken_up_in_the_order_of_their_creation(
    opened: OpenService, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    async with opened(max_tasks=1) as service:
        stuck = await service.create("shop::forever", {"file": str(tmp_path / "pids")})
        tasks = [
            await service.create("shop::note", {"file": str(notes), "text": str(number)})
            for number in range(5)
        ]
    async with opened(max_tasks=1) as service:
        await service.stop(stuck.id)
        for task in tasks:
            await ended(service, task.id)
    assert notes.read_text().split() == ["0", "1", "2", "3", "4"]
