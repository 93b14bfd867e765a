"""What a type checker makes of the asynchronous client."""

from __future__ import annotations

from pathlib import Path
from typing import Any, AsyncGenerator, BinaryIO, List, TextIO

from typing_extensions import assert_type

from oomol_connect_sdk import (
    Applet,
    AppletsClient,
    BackoffStrategy,
    BatchItem,
    BlocksClient,
    ClientOptions,
    CreateTaskRequest,
    FlowsClient,
    InstallTaskResponse,
    ListBlocksResponse,
    ListFilesResponse,
    ListFlowsResponse,
    ListInstallTasksResponse,
    ListPackagesResponse,
    ListTasksResponse,
    OomolConnectClient,
    PackagesClient,
    PollingOptions,
    RunResult,
    Task,
    TaskHandle,
    TaskLog,
    TaskResponse,
    TasksClient,
)


async def make_a_client() -> None:
    options: ClientOptions = {"base_url": "http://localhost:3000/api", "timeout": 30}
    OomolConnectClient()
    OomolConnectClient(options)
    OomolConnectClient({"base_url": "http://localhost:3000/api"})
    OomolConnectClient(base_url="http://localhost:3000/api", api_token="t", default_headers={})
    OomolConnectClient(base_uri="http://localhost")  # type: ignore[call-arg]
    OomolConnectClient({"timeout": "soon"})  # type: ignore[arg-type]
    async with OomolConnectClient(options) as client:
        assert_type(client, OomolConnectClient)
        assert_type(client.tasks, TasksClient)
        assert_type(client.flows, FlowsClient)
        assert_type(client.blocks, BlocksClient)
        assert_type(client.packages, PackagesClient)
        assert_type(client.applets, AppletsClient)
        assert_type(client.get_base_url(), str)
    async with OomolConnectClient.local(packages=["package"]) as local:
        assert_type(local, OomolConnectClient)


async def use_tasks(tasks: TasksClient) -> None:
    request: CreateTaskRequest = {"blockId": "p::b", "inputValues": {"n": 1}}
    listed = await tasks.list(status=["running"], labels={"a": "b"}, limit=10, cursor="c")
    assert_type(listed, ListTasksResponse)
    assert_type(listed["tasks"], List[Task])
    assert_type(listed.get("nextCursor"), "str | None")
    await tasks.list(limit="10")  # type: ignore[arg-type]
    async for task in tasks.iterate(status="running", labels={"a": "b"}):
        assert_type(task, Task)
    assert_type(await tasks.rerun("t1"), TaskHandle)
    assert_type(await tasks.create(request), TaskResponse)
    assert_type(await tasks.get("t1"), Task)
    assert_type(await tasks.stop("t1"), TaskResponse)
    assert_type(await tasks.get_logs("t1"), List[TaskLog])
    assert_type(await tasks.wait_for_completion("t1", {"timeout_ms": 1000}), Task)
    assert_type(await tasks.create_and_wait(request), Task)
    result = await tasks.run(request)
    assert_type(result, RunResult)
    assert_type(result["task_id"], str)
    assert_type(result["task"]["status"], str)
    assert_type(result["logs"], List[TaskLog])
    assert_type(result["result"], Any)
    result["results"]  # type: ignore[typeddict-item]
    await tasks.run("p::b")  # type: ignore[arg-type]


async def use_a_handle(tasks: TasksClient) -> None:
    handle = await tasks.submit({"blockId": "p::b", "priority": 1, "labels": {"a": "b"}})
    assert_type(handle, TaskHandle)
    assert_type(tasks.handle("t1"), TaskHandle)
    assert_type(handle.id, str)
    assert_type(await handle.status(), str)
    assert_type(await handle.wait({"timeout_ms": 1000}), Task)
    assert_type(await handle.run_result(), RunResult)
    assert_type(await handle.stop(), TaskResponse)
    async for row in handle.logs():
        assert_type(row, TaskLog)
    async for task in handle.events():
        assert_type(task, Task)


async def run_a_batch(tasks: TasksClient) -> None:
    async def on_item(item: BatchItem, done: int, total: int) -> None: ...

    requests: List[CreateTaskRequest] = [{"blockId": "p::b", "custom_id": "c", "priority": 1}]
    items = await tasks.map(requests, {}, limit=5, fail_fast=True, on_item=on_item)
    assert_type(items, List[BatchItem])
    assert_type(items[0].result, "RunResult | None")
    assert_type(items[0].error, "Exception | None")
    async for item in tasks.as_completed(requests):
        assert_type(item.custom_id, "str | None")
    await tasks.map([{"name": "p::b"}])  # type: ignore[typeddict-unknown-key]


async def give_inputs(tasks: TasksClient) -> None:
    await tasks.run({"manifest": "flow", "inputValues": {"a": 1, "b": [2], "c": None}})
    await tasks.run({"flowName": "flow", "inputValues": [{"handle": "a", "value": 1}]})
    await tasks.run(
        {"blockId": "b", "inputValues": [{"nodeId": "n", "inputs": [{"handle": "a", "value": 1}]}]}
    )
    await tasks.run({"block": "p::b"})  # type: ignore[typeddict-unknown-key]


async def wait(tasks: TasksClient) -> None:
    async def on_progress(task: Task) -> None:
        assert_type(task["id"], str)

    options: PollingOptions = {
        "interval_ms": 1000,
        "timeout_ms": 60000.5,
        "max_interval_ms": 5000,
        "backoff_strategy": BackoffStrategy.EXPONENTIAL,
        "backoff_factor": 2.0,
        "on_progress": on_progress,
        "on_log": lambda log: print(log["type"]),
        "on_timeout": "detach",
    }
    await tasks.wait_for_completion("t1", options)
    await tasks.wait_for_completion("t1", {"on_timeout": "wait"})  # type: ignore[arg-type]


async def send_files(tasks: TasksClient, binary: BinaryIO, text: TextIO) -> None:
    def on_upload(sent: int, total: int | None) -> None: ...

    path = Path("a.txt")
    result = await tasks.run_with_files("p::b", {"n": 1}, binary, {"timeout_ms": 1000})
    assert_type(result, RunResult)
    await tasks.run_with_files("p::b", {}, [binary, text], on_upload=on_upload)
    assert_type(await tasks.create_with_files("p::b"), TaskResponse)
    for files in (path, "a.txt", b"content"):
        await tasks.create_with_files("p::b", None, files)
    await tasks.create_with_files("p::b", None, ("a.txt", "text", "text/plain"))
    await tasks.create_with_files("p::b", None, [path, b"content", ("a.txt", b"content")])
    await tasks.create_with_files("p::b", None, {"a.txt": "text", "b.txt": path})
    await tasks.create_with_files("p::b", None, 7)  # type: ignore[arg-type]


async def get_files(tasks: TasksClient) -> None:
    listed = await tasks.list_files("t1")
    assert_type(listed, ListFilesResponse)
    assert_type(listed["files"][0]["name"], str)
    assert_type(await tasks.download("t1", "a.txt", "."), Path)
    pieces = tasks.read_file("t1", "a.txt")
    assert_type(pieces, AsyncGenerator[bytes, None])


async def use_the_rest(client: OomolConnectClient) -> None:
    assert_type(await client.flows.list(), ListFlowsResponse)
    blocks = await client.blocks.list(include_all_versions=True)
    assert_type(blocks, ListBlocksResponse)
    assert_type(blocks["blocks"][0]["blockId"], str)
    assert_type(await client.packages.list(), ListPackagesResponse)
    assert_type(await client.packages.install("p", "1.0.0"), InstallTaskResponse)
    assert_type(await client.packages.list_install_tasks(), ListInstallTasksResponse)
    assert_type(await client.packages.get_install_task("i1"), InstallTaskResponse)
    installed = await client.packages.install_and_wait("p", "1.0.0", {"timeout_ms": 1000})
    assert_type(installed, InstallTaskResponse)
    assert_type(await client.packages.wait_for_install_completion("i1"), InstallTaskResponse)
    assert_type(await client.applets.list(), List[Applet])
    assert_type(await client.applets.run("a1", {"n": 1}, {"timeout_ms": 1000}), RunResult)
