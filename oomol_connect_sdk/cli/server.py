"""The options that name a server, and the client of it that a command works with."""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Callable, Dict

import click

from ..sync import SyncOomolConnectClient
from .reporting import reported_errors

Command = Callable[..., None]


def base_url_option(*, required: bool = True) -> Callable[[Command], Command]:
    """Return the option that says which server is meant."""
    return click.option(
        "--server",
        "--base-url",
        "base_url",
        envvar="OOMOL_CONNECT_BASE_URL",
        show_envvar=True,
        required=required,
        metavar="URL",
        help="The server, such as http://localhost:3000.",
    )


token_option: Callable[[Command], Command] = click.option(
    "--token",
    envvar="OOMOL_CONNECT_API_TOKEN",
    show_envvar=True,
    help="The server's token.",
)


def on_server(command: Command) -> Command:
    """Add the options, and call the command with a client of that server; report its errors."""

    @functools.wraps(command)
    def call(base_url: str, token: str | None, **values: Any) -> None:
        with reported_errors(), contextlib.closing(connected(base_url, token)) as client:
            command(client, **values)

    return base_url_option()(token_option(call))


def connected(base_url: str | None, token: str | None) -> SyncOomolConnectClient:
    """Return a client of a server."""
    options: Dict[str, Any] = {"base_url": base_url, "api_token": token}
    return SyncOomolConnectClient(**options)
