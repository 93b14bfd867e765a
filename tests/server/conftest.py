"""Fixtures for the server's tests: the package, servers in this process and child processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Connection, ServerProcess
from shop import write_shop

from oomol_connect_sdk.server import LocalServer


@pytest.fixture(scope="session", autouse=True)
def _environments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OOMOL_CONNECT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the test package."""
    directory = tmp_path_factory.mktemp("packages") / "shop-1.2.0"
    write_shop(directory)
    return directory


@pytest.fixture(scope="module")
def server(shop: Path) -> Iterator[LocalServer]:
    """A server with a token and a temporary data directory."""
    with LocalServer([shop], token="secret-token") as server:
        yield server


@pytest.fixture(scope="module")
def connection(server: LocalServer) -> Iterator[Connection]:
    """A client of that server."""
    connection = Connection(server.base_url, server.token)
    yield connection
    connection.http.close()


@pytest.fixture
def start_process(shop: Path, tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start server processes on one data directory, one after the other."""
    with contextlib.ExitStack() as stack:

        def start(max_tasks: int = 8) -> ServerProcess:
            process = ServerProcess(shop, tmp_path / "data", max_tasks)
            stack.callback(process.kill)
            return process

        yield start
