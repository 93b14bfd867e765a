"""A client together with a server of its own, for as long as a ``with`` block lasts."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, AsyncIterator, Dict, Iterator, List, Sequence

from .client import OomolConnectClient
from .errors import OomolConnectError
from .files import PathLike
from .sync import SyncOomolConnectClient

if TYPE_CHECKING:
    from .server import LocalServer


#: Options of models that are bound to the caller's event loop.
_OF_THE_CLIENT = ("http_client", "on_exchange")


@asynccontextmanager
async def local_client(
    packages: PathLike | Sequence[PathLike], data_dir: PathLike | None, options: Dict[str, Any]
) -> AsyncIterator[OomolConnectClient]:
    """Run a server in a thread of this process and give an asynchronous client for it."""
    import asyncio

    server = _server(packages, data_dir, options)
    await asyncio.to_thread(_start, server)
    try:
        async with OomolConnectClient(
            base_url=server.base_url, api_token=server.token, **options
        ) as client:
            yield client
    finally:
        await asyncio.to_thread(server.stop)


@contextmanager
def sync_local_client(
    packages: PathLike | Sequence[PathLike], data_dir: PathLike | None, options: Dict[str, Any]
) -> Iterator[SyncOomolConnectClient]:
    """Run a server in a thread of this process and give a blocking client for it."""
    server = _server(packages, data_dir, options)
    _start(server)
    try:
        with SyncOomolConnectClient(
            base_url=server.base_url, api_token=server.token, **options
        ) as client:
            yield client
    finally:
        server.stop()


def _server(
    packages: PathLike | Sequence[PathLike], data_dir: PathLike | None, options: Dict[str, Any]
) -> LocalServer:
    try:
        from .server import LocalServer
    except ImportError as error:
        raise OomolConnectError(
            f"the local server is not installed ({error}): it needs Python 3.10 or newer and "
            "pip install 'oomol-connect-sdk[server]'"
        ) from error
    models = options.get("models")
    if models is not None:
        # The server has an event loop of its own.
        models = {name: models[name] for name in models if name not in _OF_THE_CLIENT}
    return LocalServer(_paths(packages), data_dir=data_dir, models=models)


def _start(server: LocalServer) -> None:
    try:
        server.start()
    except (OSError, ValueError) as error:
        raise OomolConnectError(f"the local server can't start: {error}") from error


def _paths(packages: PathLike | Sequence[PathLike]) -> List[PathLike]:
    return [packages] if isinstance(packages, (str, os.PathLike)) else list(packages)
