"""Users who mock httpx with pytest-httpx find our requests there."""

from __future__ import annotations

from typing import Any, Callable

import httpx
import pytest
from scripted import log, task

from oomol_connect_sdk import ConnectionFailedError, OomolConnectClient, SyncOomolConnectClient

pytest.importorskip("pytest_httpx", reason="no pytest-httpx for this Python knows our httpx")

BASE = "http://connect.example.com/api"
TASKS = f"{BASE}/v1/tasks"
FAST: Any = {"interval_ms": 1, "backoff_strategy": "fixed"}


def mock_a_run(httpx_mock: Any) -> None:
    row = log(1, "BlockFinished", job_id="j", result={"x": 1})
    httpx_mock.add_response(method="POST", url=TASKS, json={"task": task("created")})
    httpx_mock.add_response(method="GET", url=f"{TASKS}/t1", json={"task": task("completed")})
    httpx_mock.add_response(method="GET", url=f"{TASKS}/t1/logs", json={"logs": [row]})


def check_the_requests(httpx_mock: Any) -> None:
    sent = httpx_mock.get_requests()
    assert [request.method for request in sent] == ["POST", "GET", "GET"]
    assert {request.headers["authorization"] for request in sent} == {"t"}


def test_a_run_of_our_own_connections_is_found(face: Callable[..., Any], httpx_mock: Any) -> None:
    mock_a_run(httpx_mock)
    client = face(base_url=BASE, api_token="t")
    assert client.tasks.run({"blockId": "p::b"}, FAST)["result"] == {"x": 1}
    check_the_requests(httpx_mock)


async def test_a_run_over_a_users_client_is_found(httpx_mock: Any) -> None:
    mock_a_run(httpx_mock)
    async with httpx.AsyncClient(headers={"X-Mine": "yes"}) as mine:
        client = OomolConnectClient(base_url=BASE, api_token="t", http_client=mine)
        result = await client.tasks.run({"blockId": "p::b"}, FAST)
    assert result["result"] == {"x": 1}
    check_the_requests(httpx_mock)
    assert {request.headers["x-mine"] for request in httpx_mock.get_requests()} == {"yes"}


def test_a_run_over_a_users_blocking_client_is_found(httpx_mock: Any) -> None:
    mock_a_run(httpx_mock)
    with httpx.Client(headers={"X-Mine": "yes"}) as mine:
        client = SyncOomolConnectClient(base_url=BASE, api_token="t", http_client=mine)
        result = client.tasks.run({"blockId": "p::b"}, FAST)
    assert result["result"] == {"x": 1}
    check_the_requests(httpx_mock)
    assert {request.headers["x-mine"] for request in httpx_mock.get_requests()} == {"yes"}


def test_a_mocked_failure_is_one_of_the_connection(
    face: Callable[..., Any], httpx_mock: Any
) -> None:
    httpx_mock.add_exception(httpx.ReadTimeout("mocked"))
    with pytest.raises(ConnectionFailedError, match="mocked"):
        face(base_url=BASE, max_retries=0).tasks.list()
