"""The packages of a server: listing, installing, uninstalling."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Tuple

import click

from ..sync import SyncOomolConnectClient
from .output import json_option, show_json, show_table
from .server import on_server

#: A package's name and version; no path or address looks like it.
_VERSIONED = re.compile(r"(@?[^@:]+)@([^@:/]+)")
_PATH = re.compile(r"\.{1,2}$|\.{0,2}[/\\]|~[/\\]|[A-Za-z]:[/\\]")


@click.group()
def packages() -> None:
    """List, install and uninstall the packages of a server."""


@packages.command("list")
@json_option
@on_server
def list_packages(client: SyncOomolConnectClient, as_json: bool) -> None:
    """List all versions of all packages, one a line: name, version, path."""
    rows: Any = client.packages.list()["packages"]
    _show(rows, "path", as_json)


@packages.command()
@click.argument("what", metavar="NAME[@VERSION]|PATH|URL")
@click.option("--timeout", type=click.FloatRange(min=0), help="Wait this many seconds at most.")
@json_option
@on_server
def install(
    client: SyncOomolConnectClient, what: str, timeout: float | None, as_json: bool
) -> None:
    """Install a package and what it needs, and list these.

    NAME is looked up in the server's registry. A PATH starts with / or ./ and is one of the
    server's machine; a URL names an archive or a git repository, with #REF for a branch, tag or
    commit. The server may refuse both.

    The installation goes on when the wait ends early.
    """
    name, version = _wanted(what)
    options: Dict[str, Any] = {} if timeout is None else {"timeout_ms": timeout * 1000}
    task: Any = client.packages.install_and_wait(name, version, options)  # type: ignore[arg-type]
    installed = [task["task"], *task["task"].get("dependencies", ())]
    _show(installed, "packagePath", as_json)


@packages.command()
@click.argument("what", metavar="NAME@VERSION")
@on_server
def uninstall(client: SyncOomolConnectClient, what: str) -> None:
    """Remove one installed version of a package."""
    name, version = _wanted(what)
    if version is None:
        raise click.BadParameter(f"{what!r} names no version: NAME@VERSION", param_hint="WHAT")
    client.packages.uninstall(name, version)


def _wanted(what: str) -> Tuple[str, str | None]:
    if _PATH.match(what):
        return str(Path(what).expanduser().absolute()), None
    found = _VERSIONED.fullmatch(what)
    return (found[1], found[2]) if found else (what, None)


def _show(rows: List[Any], path: str, as_json: bool) -> None:
    if as_json:
        return show_json(rows)
    cells = [(row.get("name"), row.get("version"), row.get(path)) for row in rows]
    return show_table(("PACKAGE", "VERSION", "PATH"), cells)
