"""What a type checker makes of the blocking client."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List

from typing_extensions import assert_type

from oomol_connect_sdk import (
    ApiError,
    Applet,
    BatchItem,
    CreateTaskRequest,
    InstallFailedError,
    InstallTaskResponse,
    ListBlocksResponse,
    ListFilesResponse,
    ListFlowsResponse,
    ListInstallTasksResponse,
    ListPackagesResponse,
    ListTasksResponse,
    RunResult,
    SyncOomolConnectClient,
    SyncTaskHandle,
    Task,
    TaskFailedError,
    TaskLog,
    TaskResponse,
    TimeoutError,
)


def make_a_client() -> None:
    SyncOomolConnectClient(base_url="http://localhost:3000/api", max_retries=0)
    SyncOomolConnectClient(base_uri="http://localhost")  # type: ignore[call-arg]
    with SyncOomolConnectClient({"base_url": "http://localhost:3000/api"}) as client:
        assert_type(client, SyncOomolConnectClient)
    with SyncOomolConnectClient.local(packages=Path("package")) as local:
        assert_type(local, SyncOomolConnectClient)


def use_tasks(client: SyncOomolConnectClient) -> None:
    request: CreateTaskRequest = {"blockId": "p::b", "inputValues": {"n": 1}}
    tasks = client.tasks
    assert_type(tasks.list(status="failed", limit=10), ListTasksResponse)
    assert_type(tasks.iterate(labels={"a": "b"}), Iterator[Task])
    assert_type(tasks.rerun("t1"), SyncTaskHandle)
    assert_type(tasks.submit(request).logs(), Iterator[TaskLog])
    assert_type(tasks.map([request], on_item=lambda item, done, total: None), List[BatchItem])
    assert_type(tasks.as_completed([request]), Iterator[BatchItem])
    assert_type(tasks.create(request), TaskResponse)
    assert_type(tasks.get("t1"), Task)
    assert_type(tasks.stop("t1"), TaskResponse)
    assert_type(tasks.get_logs("t1"), List[TaskLog])
    assert_type(tasks.wait_for_completion("t1", {"interval_ms": 1000}), Task)
    assert_type(tasks.create_and_wait(request), Task)
    assert_type(tasks.run(request, {"on_log": lambda log: print(log["type"])}), RunResult)


def use_files(client: SyncOomolConnectClient) -> None:
    tasks = client.tasks
    with open("a.txt", "rb") as file:
        assert_type(tasks.run_with_files("p::b", {"n": 1}, [file, Path("b.txt")]), RunResult)
    assert_type(tasks.create_with_files("p::b", {}, ("a.txt", "text")), TaskResponse)
    assert_type(tasks.list_files("t1"), ListFilesResponse)
    assert_type(tasks.download("t1", "a.txt", Path()), Path)
    assert_type(tasks.read_file("t1", "a.txt"), Iterator[bytes])


def use_the_rest(client: SyncOomolConnectClient) -> None:
    assert_type(client.flows.list(), ListFlowsResponse)
    assert_type(client.blocks.list(), ListBlocksResponse)
    assert_type(client.packages.list(), ListPackagesResponse)
    assert_type(client.packages.install("p"), InstallTaskResponse)
    assert_type(client.packages.list_install_tasks(), ListInstallTasksResponse)
    assert_type(client.packages.install_and_wait("p"), InstallTaskResponse)
    assert_type(client.applets.list(), List[Applet])
    assert_type(client.applets.run("a1"), RunResult)


def handle_errors(client: SyncOomolConnectClient) -> None:
    try:
        client.tasks.run({"blockId": "p::b"})
    except TaskFailedError as error:
        assert_type(error.task_id, str)
        print(error.reason, error.node_id, error.message)
    except TimeoutError as error:
        assert_type(error.stopped, bool)
    except ApiError as error:
        assert_type(error.status, int)
    except InstallFailedError as error:
        assert_type(error.task_id, str)
