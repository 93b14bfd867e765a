"""Running the server: beside a client in its process, or in the foreground."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import ipaddress
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Union

import uvicorn

from .app import create_app
from .backend import open_service
from .limits import TaskLimits
from .packages import InstallOptions
from .retention import KEPT_TASKS
from .service import TaskService

PathLike = Union[str, "os.PathLike[str]"]

#: Seconds that requests under way may take to end when the server stops.
_GRACE = 1


class LocalServer:
    """A Connect server in a thread of this process, with an event loop of its own.

    ```python
    with LocalServer(["path/to/package"]) as server:
        client = OomolConnectClient(base_url=server.base_url, api_token=server.token)
    ```

    Args:
        packages: directories of OOMOL packages.
        data_dir: where tasks and files are kept; a temporary directory when not given.
        host: address to listen on; any but a loopback one requires a token.
        port: 0 for a free one.
        token: what clients must send; random when None, and "" lets everybody in.
        environments_dir: where the packages' environments are kept; the user's cache by default.
        max_tasks: how many tasks run at once; four a CPU and at least eight by default.
        keep_tasks: how many ended tasks are kept, those that ended last; older ones are removed
            with their logs and files, but none within an hour of its end.
        installing: where packages may be installed from; by default also from local paths.
        limits: what one task may use of the disk, of memory and of the journal.
        allow_bootstrap: whether the scripts with which packages set themselves up, and those that
            flows inject into packages, are run.
        models: the options of the language models that blocks may ask (those of
            `oomol_connect_sdk.models.Models`); by default what ``OOMOL_MODELS_URL`` names.
    """

    def __init__(
        self,
        packages: Iterable[PathLike],
        *,
        data_dir: PathLike | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        environments_dir: PathLike | None = None,
        max_tasks: int | None = None,
        keep_tasks: int = KEPT_TASKS,
        installing: InstallOptions | None = None,
        limits: TaskLimits | None = None,
        allow_bootstrap: bool = False,
        models: Mapping[str, Any] | None = None,
    ) -> None:
        self.token = secrets.token_urlsafe(32) if token is None else token
        if not self.token and not _is_loopback(host):
            raise ValueError(
                f"A token is required to listen on {host}: everybody who reaches that address "
                "could run blocks. Give a token, or listen on 127.0.0.1."
            )
        self._packages = [Path(package) for package in packages]
        self._data_dir = None if data_dir is None else Path(data_dir)
        self._host = host
        self._port = port
        self._environments_dir = None if environments_dir is None else Path(environments_dir)
        self._max_tasks = max_tasks
        self._keep_tasks = keep_tasks
        self._installing = installing or InstallOptions(allow_local_sources=True)
        self._limits = limits
        self._allow_bootstrap = allow_bootstrap
        if models is None and os.environ.get("OOMOL_MODELS_URL"):
            models = {}
        self._models = models
        self._thread: threading.Thread | None = None
        self._server: _Server | None = None
        self._base_url: str | None = None
        self._ending = False

    @property
    def base_url(self) -> str:
        """The address clients use; known once the server was started."""
        if self._base_url is None:
            raise RuntimeError("The server was not started: call start() first.")
        return self._base_url

    def start(self) -> None:
        """Start the server; it answers when this returns.

        Raises OSError when the address can't be had, DataDirectoryInUse and StoreError for the
        data directory, and ManifestError for a package that is absent or broken.
        """
        if self._thread is not None:
            raise RuntimeError("The server was already started.")
        self._ending = False
        ready: Future[None] = Future()
        listener = _listen(self._host, self._port)
        self._base_url = _url(self._host, listener)
        self._thread = threading.Thread(
            target=_run,
            args=[self._main(listener, ready)],
            name="oomol-connect-server",
            daemon=True,
        )
        self._thread.start()
        # Workers and temporary data must not outlive a user who forgets to stop the server.
        atexit.register(self.stop)
        try:
            ready.result()
        except BaseException:  # Also Ctrl-C, when the server is about to start all the same.
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and its workers; tasks that run are taken up again at the next start."""
        if self._thread is None:
            return
        atexit.unregister(self.stop)
        self._ending = True
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join()
        self._thread = self._server = self._base_url = None

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def _main(self, listener: socket.socket, ready: Future[None]) -> None:
        try:
            with listener:
                await self._serve(listener, ready)
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, listener: socket.socket, ready: Future[None]) -> None:
        async with contextlib.AsyncExitStack() as stack:
            models, packages, variables = None, self._packages, {}
            if self._models is not None:
                from .model_endpoint import BLOCKS, ModelEndpoint

                models = ModelEndpoint(self._models)
                stack.push_async_callback(models.close)
                packages = [*packages, BLOCKS]
                variables = models.environment(self.base_url)
            service = self._service(packages, variables)
            opened = await stack.enter_async_context(service)
            hosts = _host_names(self._host)
            app = create_app(opened, token=self.token, hosts=hosts, models=models)
            self._server = _Server(app, ready, on_shutdown=opened.end_waits)
            self._server.should_exit = self._ending
            await self._server.serve([listener])

    def _service(
        self, packages: Sequence[Path], variables: Mapping[str, str]
    ) -> contextlib.AbstractAsyncContextManager[TaskService]:
        return open_service(
            packages,
            data_dir=self._data_dir,
            environments_dir=self._environments_dir,
            max_tasks=self._max_tasks,
            keep_tasks=self._keep_tasks,
            installing=self._installing,
            limits=self._limits,
            allow_bootstrap=self._allow_bootstrap,
            variables=variables,
        )


def serve(
    packages: Iterable[PathLike],
    *,
    data_dir: PathLike | None = None,
    host: str = "127.0.0.1",
    port: int = 3000,
    token: str | None = None,
    environments_dir: PathLike | None = None,
    max_tasks: int | None = None,
    keep_tasks: int = KEPT_TASKS,
    installing: InstallOptions | None = None,
    limits: TaskLimits | None = None,
    allow_bootstrap: bool = False,
    models: Mapping[str, Any] | None = None,
    on_ready: Callable[[LocalServer], None] | None = None,
) -> None:
    """Run a server until SIGINT or SIGTERM; to be called in the main thread.

    The arguments are those of LocalServer, but without a token everybody is let in (which only
    a loopback address allows), and packages are installed by name only. ``on_ready`` is called
    once the server answers.
    """
    server = LocalServer(
        packages,
        data_dir=data_dir,
        host=host,
        port=port,
        token=token or "",
        environments_dir=environments_dir,
        max_tasks=max_tasks,
        keep_tasks=keep_tasks,
        installing=installing or InstallOptions(),
        limits=limits,
        allow_bootstrap=allow_bootstrap,
        models=models,
    )
    with _end_signals() as ended, server:
        if on_ready is not None:
            on_ready(server)
        # On Windows a wait without end would not notice Ctrl-C.
        while not ended.wait(1):
            pass


@contextlib.contextmanager
def _end_signals() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set."""
    ended = threading.Event()

    def end(_: int, __: FrameType | None) -> None:
        ended.set()

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """uvicorn on a socket that already listens, without its own signal handlers and logs."""

    def __init__(self, app: Any, ready: Future[None], on_shutdown: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_http_protocol(),
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE,
            )
        )
        self._ready = ready
        self._on_shutdown = on_shutdown

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell the starting thread once connections are taken."""
        await super().startup(sockets)
        self._ready.set_result(None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the requests that are held end before the others are waited for."""
        self._on_shutdown()
        await super().shutdown(sockets)


def _http_protocol() -> Any:
    try:
        from .http_protocol import LimitedHttpProtocol
    except ImportError:  # Without httptools; what uvicorn then uses limits headers by itself.
        return "h11"
    return LimitedHttpProtocol


def _run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return _listener(host, port)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be had: {error}"
        raise OSError(error.errno, f"Port {port} of {host} {reason}.") from error


def _listener(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _url(host: str, listener: socket.socket) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    port = listener.getsockname()[1]
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _host_names(host: str) -> set[str] | None:
    if not _is_loopback(host):
        return None
    bound = f"[{host}]" if ":" in host else host
    return {"localhost", "127.0.0.1", "[::1]", bound.lower()}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
