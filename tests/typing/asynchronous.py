"""What a type checker makes of the asynchronous client."""

from __future__ import annotations

from pathlib import Path
from typing import Any, AsyncGenerator, BinaryIO, List, TextIO

from typing_extensions import assert_type

from oomol_connect_sdk import (
    Applet,
    AppletsClient,
    BackoffStrategy,
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
    assert_type(await tasks.list(), ListTasksResponse)
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
