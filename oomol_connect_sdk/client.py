"""The client of a Connect server."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, AsyncContextManager, Dict, Mapping, Sequence

from typing_extensions import Unpack

from ._io import AsyncIO
from .config import (
    ClientOptions,
    Config,
    applets_config,
    models_module,
    refuse_http_client,
    stranger,
)
from .files import FileInputs, PathLike

if TYPE_CHECKING:
    from ._http import Sender
    from .applets import AppletsClient
    from .blocks import BlocksClient
    from .flows import FlowsClient
    from .models import Models
    from .packages import PackagesClient
    from .tasks import TasksClient


class OomolConnectClient:
    """The asynchronous client of a Connect server.

    ::

        async with OomolConnectClient(base_url="http://localhost:3000/api") as client:
            result = await client.tasks.run({"blockId": "audio-lab::text-to-audio"})

    Options may be given as keywords or as one mapping (see `ClientOptions`); what is not given
    is taken from the environment. `local` starts a server of its own.
    """

    def __init__(
        self, options: ClientOptions | None = None, **keywords: Unpack[ClientOptions]
    ) -> None:
        from ._http import AsyncSender

        config = Config.of(options, keywords)
        self._connect(config, AsyncSender(config.http_client), owner=True)

    def _connect(self, config: Config, sender: Sender, *, owner: bool) -> None:
        from .applets import AppletsClient
        from .blocks import BlocksClient
        from .flows import FlowsClient
        from .packages import PackagesClient
        from .shared_watch import SharedWatch
        from .task_api import TaskApi
        from .tasks import TasksClient
        from .transport import Transport

        self._config = config
        self._sender = sender
        self._owner = owner
        self._models: Models | None = None
        self._transport = Transport(config, sender, AsyncIO())
        self._watch = SharedWatch(TaskApi(self._transport))
        self.tasks: TasksClient = TasksClient(self._transport, self._watch)
        self.flows: FlowsClient = FlowsClient(self._transport)
        self.blocks: BlocksClient = BlocksClient(self._transport)
        self.packages: PackagesClient = PackagesClient(self._transport)
        self._directory = Transport(applets_config(config), sender, AsyncIO())
        self.applets: AppletsClient = AppletsClient(self._directory, self.tasks, self.blocks)

    @property
    def models(self) -> Models:
        """The language models of the service that the option ``models`` names.

        Without that option the environment and ``.env`` name it, as for `Models`. It gets
        nothing that is meant for ``base_url``. Needs Python 3.10.
        """
        if self._models is None:
            self._models = models_module().Models(**self._config.models)
        return self._models

    @classmethod
    def local(
        cls,
        packages: PathLike | Sequence[PathLike],
        *,
        data_dir: PathLike | None = None,
        **options: Any,
    ) -> AsyncContextManager[OomolConnectClient]:
        """Start a server of one's own inside this process and return a client for it.

        ``packages``: package directories, or directories of packages. ``data_dir`` keeps tasks
        and logs; without one they are gone at the end. Further keywords are client options;
        ``models`` are for the blocks as well.
        Needs the ``server`` extra. ::

            async with OomolConnectClient.local(packages=["my-package"]) as client:
                result = await client.tasks.run({"blockId": "my-package::my-block"})
        """
        from .local import local_client

        return local_client(packages, data_dir, options)

    def with_options(self, **options: Unpack[ClientOptions]) -> OomolConnectClient:
        """Return a client with some options changed, on the same connections.

        So any number of clients, each with its own token or base URL, share one connection pool.
        It lasts as long as the client that made the connections; ``http_client`` can't be changed.
        """
        refuse_http_client(options)
        twin = type(self).__new__(type(self))
        twin._connect(self._config.changed(options), self._sender, owner=False)
        return twin

    async def request(
        self,
        path: str,
        method: str = "GET",
        json_data: Any = None,
        data: Mapping[str, str] | None = None,
        files: FileInputs | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request to a path of the server and return the decoded JSON of its answer.

        For what this client has no method for. ``data`` and ``files`` make a form of fields and
        files. Raises ApiError.
        """
        from .requests import send

        return await send(self._transport, path, method, json_data, data, files, headers)

    async def request_to_server(
        self,
        server_url: str,
        path: str,
        method: str = "GET",
        json_data: Any = None,
        data: Mapping[str, str] | None = None,
        files: FileInputs | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request like `request` to another server, which gets no token and no headers."""
        from .requests import send
        from .transport import Transport

        transport = Transport(stranger(self._config, server_url), self._sender, AsyncIO())
        return await send(transport, path, method, json_data, data, files, headers)

    def get_default_headers(self) -> Dict[str, str]:
        """Return the headers that go with every request, without the token."""
        return dict(self._config.default_headers)

    async def close(self) -> None:
        """Close the connections, those of `with_options` clients too. Tasks on the server go on."""
        await self._watch.close()
        if self._models is not None:
            await self._models.close()
        self._transport.close()
        self._directory.close()
        if self._owner:
            await self._sender.close()

    async def __aenter__(self) -> OomolConnectClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._config.base_url!r})"

    def get_base_url(self) -> str:
        """Return the address of the server's API."""
        return self._config.base_url
