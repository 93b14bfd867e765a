"""What a server can run: its blocks and flows."""

from __future__ import annotations

from typing import Any

import click

from ..sync import SyncOomolConnectClient
from .output import json_option, show_json, show_table
from .server import on_server


@click.command()
@click.option("--all", "all_versions", is_flag=True, help="Also older versions of packages.")
@json_option
@on_server
def blocks(client: SyncOomolConnectClient, all_versions: bool, as_json: bool) -> None:
    """List the blocks of a server: id, version, description; with --json also their inputs."""
    rows: Any = client.blocks.list(all_versions)["blocks"]
    if as_json:
        return show_json(rows)
    cells = [(row["blockId"], row.get("version"), row.get("description")) for row in rows]
    return show_table(("BLOCK", "VERSION", "DESCRIPTION"), cells)


@click.command()
@json_option
@on_server
def flows(client: SyncOomolConnectClient, as_json: bool) -> None:
    """List the flows of a server: name, version, description; with --json also their inputs."""
    rows: Any = client.flows.list()["flows"]
    if as_json:
        return show_json(rows)
    cells = [(_name(row), row.get("version"), row.get("description")) for row in rows]
    return show_table(("FLOW", "VERSION", "DESCRIPTION"), cells)


def _name(flow: Any) -> str:
    package = flow.get("package")
    return f"{package}::{flow['name']}" if package else str(flow["name"])
