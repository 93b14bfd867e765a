"""The packages of a server: listing, installing, uninstalling."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Tuple

import click

from ..sync import SyncOomolConnectClient
from .reporting import reported_errors

#: A package's name and version; no path or address looks like it.
_VERSIONED = re.compile(r"(@?[^@:]+)@([^@:/]+)")
_PATH = re.compile(r"\.{1,2}$|\.{0,2}[/\\]|~[/\\]|[A-Za-z]:[/\\]")


def _server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which server is meant."""
    token = click.option("--token", envvar="OOMOL_CONNECT_API_TOKEN", help="The server's token.")
    base_url = click.option(
        "--base-url",
        envvar="OOMOL_CONNECT_BASE_URL",
        required=True,
        help="The server, such as http://localhost:3000.",
    )
    return base_url(token(command))


@click.group()
def packages() -> None:
    """List, install and uninstall the packages of a server."""


@packages.command("list")
@_server_options
def list_packages(base_url: str, token: str | None) -> None:
    """List all versions of all packages, one a line: name, version, path."""
    with reported_errors(), _client(base_url, token) as client:
        for package in client.packages.list()["packages"]:
            _show(package, "path")


@packages.command()
@click.argument("what", metavar="NAME[@VERSION]|PATH|URL")
@_server_options
@click.option("--timeout", type=click.FloatRange(min=0), help="Wait this many seconds at most.")
def install(what: str, base_url: str, token: str | None, timeout: float | None) -> None:
    """Install a package and what it needs, and list these.

    NAME is looked up in the server's registry. A PATH starts with / or ./ and is one of the
    server's machine; a URL names an archive or a git repository, with #REF for a branch, tag or
    commit. The server may refuse both.

    The installation goes on when the wait ends early.
    """
    name, version = _wanted(what)
    options: Dict[str, Any] = {} if timeout is None else {"timeout_ms": timeout * 1000}
    with reported_errors(), _client(base_url, token) as client:
        task: Any = client.packages.install_and_wait(name, version, options)  # type: ignore[arg-type]
        for package in (task, *task.get("dependencies", ())):
            _show(package, "packagePath")


@packages.command()
@click.argument("what", metavar="NAME@VERSION")
@_server_options
def uninstall(what: str, base_url: str, token: str | None) -> None:
    """Remove one installed version of a package."""
    name, version = _wanted(what)
    if version is None:
        raise click.BadParameter(f"{what!r} names no version: NAME@VERSION", param_hint="WHAT")
    with reported_errors(), _client(base_url, token) as client:
        client.packages.uninstall(name, version)


def _wanted(what: str) -> Tuple[str, str | None]:
    if _PATH.match(what):
        return str(Path(what).expanduser().absolute()), None
    found = _VERSIONED.fullmatch(what)
    return (found[1], found[2]) if found else (what, None)


def _client(base_url: str, token: str | None) -> ContextManager[SyncOomolConnectClient]:
    options: Dict[str, Any] = {"base_url": base_url, "api_token": token}
    return contextlib.closing(SyncOomolConnectClient(**options))


def _show(package: Any, path: str) -> None:
    click.echo("\t".join(str(package.get(key, "")) for key in ("name", "version", path)))
