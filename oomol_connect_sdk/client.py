"""The client of a Connect server."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, AsyncContextManager, Mapping, Sequence, Union

from ._io import AsyncIO
from .config import AuthScheme, ClientOptions, Config

if TYPE_CHECKING:
    import os

    from .blocks import BlocksClient
    from .flows import FlowsClient
    from .tasks import TasksClient

PathLike = Union[str, "os.PathLike[str]"]


class OomolConnectClient:
    """The asynchronous client of a Connect server.

    ::

        async with OomolConnectClient(base_url="http://localhost:3000/api") as client:
            result = await client.tasks.run({"blockId": "audio-lab::text-to-audio"})

    Options may be given as keywords or as one mapping (see `ClientOptions`); what is not given
    is taken from the environment. `local` starts a server of its own.
    """

    def __init__(
        self,
        options: ClientOptions | None = None,
        *,
        base_url: str | None = None,
        api_token: str | None = None,
        auth_scheme: AuthScheme | None = None,
        default_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> None:
        self._config = Config.of(
            options,
            {
                "base_url": base_url,
                "api_token": api_token,
                "auth_scheme": auth_scheme,
                "default_headers": default_headers,
                "timeout": timeout,
                "max_retries": max_retries,
            },
        )
        self._connect()

    def _connect(self) -> None:
        from ._http import AsyncSender, Transport
        from .blocks import BlocksClient
        from .flows import FlowsClient
        from .tasks import TasksClient

        self._transport = Transport(self._config, AsyncSender(), AsyncIO())
        self.tasks: TasksClient = TasksClient(self._transport)
        self.flows: FlowsClient = FlowsClient(self._transport)
        self.blocks: BlocksClient = BlocksClient(self._transport)

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
        and logs; without one they are gone at the end. Further keywords are client options.
        Needs the ``server`` extra. ::

            async with OomolConnectClient.local(packages=["my-package"]) as client:
                result = await client.tasks.run({"blockId": "my-package::my-block"})
        """
        from .local import local_client

        return local_client(packages, data_dir, options)

    async def close(self) -> None:
        """Close the connections. Tasks on the server go on."""
        await self._transport.close()

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
