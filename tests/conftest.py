"""Fixtures for all tests: a clean environment, and both faces of the client."""

from __future__ import annotations

import asyncio
import inspect
import signal
from typing import Any, Callable, Iterator, List

import pytest

from oomol_connect_sdk import OomolConnectClient, SyncOomolConnectClient

MakeClient = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_connect_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECT_BASE_URL", "CONNECT_API_TOKEN", "CONNECT_TIMEOUT", "MODELS_URL"):
        monkeypatch.delenv(f"OOMOL_{name}", raising=False)


def pytest_configure() -> None:
    # A shell starts what it runs in the background with Ctrl-C ignored, which children inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class AsyncFace:
    """The asynchronous client, each awaitable it returns run to its end in one event loop."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return AsyncFace(value, self._loop)
        return lambda *args, **kwargs: self._finish(value(*args, **kwargs))

    def _finish(self, value: Any) -> Any:
        return self._loop.run_until_complete(value) if inspect.isawaitable(value) else value


@pytest.fixture(params=["async", "sync"])
def face(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    """Make clients of one face whose methods all return their results."""
    closers: List[Callable[[], None]] = []
    loop = asyncio.new_event_loop()

    def make(*args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            blocking = SyncOomolConnectClient(*args, **kwargs)
            closers.append(blocking.close)
            return blocking
        client = OomolConnectClient(*args, **kwargs)
        closers.append(lambda: loop.run_until_complete(client.close()))
        return AsyncFace(client, loop)

    yield make
    for close in closers:
        close()
    loop.close()
