"""The tasks of a server: listing, showing, following, stopping, waiting, removing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple

import click

from ..sync import SyncOomolConnectClient
from .display import display, print_log
from .output import json_option, show_fields, show_json, show_json_line, show_table
from .server import on_server

Client = SyncOomolConnectClient

_TASK = click.argument("task_id", metavar="TASK")
_TASKS = click.argument("task_ids", metavar="TASK...", nargs=-1, required=True)


@click.group()
def tasks() -> None:
    """List, follow, stop and remove the tasks of a server."""


@tasks.command("list")
@click.option("--status", multiple=True, help="Only tasks of this status; may be given again.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only tasks with this label; may be given again.",
)
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="The newest so many.",
)
@json_option
@on_server
def list_tasks(
    client: Client,
    status: Tuple[str, ...],
    labels: Tuple[str, ...],
    limit: int,
    as_json: bool,
) -> None:
    """List tasks, the newest first: id, status, time of creation, block or flow."""
    found: Any = client.tasks.list(status=status, labels=_labels(labels), limit=limit)
    rows = found["tasks"][:limit]
    if as_json:
        return show_json(rows)
    columns = ("TASK", "STATUS", "CREATED", "RUNS")
    cells = [(row["id"], row["status"], _time(row.get("created_at")), _target(row)) for row in rows]
    return show_table(columns, cells)


@tasks.command()
@_TASK
@json_option
@on_server
def show(client: Client, task_id: str, as_json: bool) -> None:
    """Show one task: its status, inputs, result, and why it failed."""
    task: Any = client.tasks.get(task_id)
    if as_json:
        return show_json(task)
    return show_fields(
        {
            "task": task["id"],
            "status": task["status"],
            "runs": _target(task),
            "progress": _percent(task),
            "created": _time(task.get("created_at")),
            "changed": _time(task.get("updated_at")),
            "labels": task.get("labels"),
            "repeats": task.get("rerunOf"),
            "inputs": _inputs(task),
            "node": "/".join((task.get("error") or {}).get("nodePath") or ()),
            "error": (task.get("error") or {}).get("message"),
            "result": task.get("result"),
        }
    )


@tasks.command()
@_TASK
@click.option("--follow", "-f", is_flag=True, help="Go on until the task is over.")
@click.option("--json", "as_json", is_flag=True, help="Print each row as one line of JSON.")
@on_server
def logs(client: Client, task_id: str, follow: bool, as_json: bool) -> None:
    """Print the log of a task. Ctrl-C ends following, not the task."""
    rows: Any = client.tasks.handle(task_id).logs() if follow else client.tasks.get_logs(task_id)
    for row in rows:
        show_json_line(row) if as_json else print_log(row)


@tasks.command()
@_TASKS
@on_server
def stop(client: Client, task_ids: Tuple[str, ...]) -> None:
    """Stop tasks; those that are over are left alone. Prints each with its status."""
    for task_id in task_ids:
        task = client.tasks.stop(task_id)["task"]
        show_table(("TASK", "STATUS"), [(task["id"], task["status"])])


@tasks.command()
@_TASK
@click.option("--timeout", type=click.FloatRange(min=0), help="Wait this many seconds at most.")
@click.option("--quiet", "-q", is_flag=True, help="Show neither progress nor logs.")
@on_server
def wait(client: Client, task_id: str, timeout: float | None, quiet: bool) -> None:
    """Wait until a task is over and print its result as JSON.

    The task goes on when the wait ends early. Exit status: 0 when the task completed, else 1.
    """
    options: Dict[str, Any] = {} if timeout is None else {"timeout_ms": timeout * 1000}
    with display(quiet) as shown:
        options.update(on_progress=shown.progress, on_log=shown.log)
        result = client.tasks.handle(task_id).result(options)  # type: ignore[arg-type]
    show_json(result)


@tasks.command()
@_TASK
@on_server
def rerun(client: Client, task_id: str) -> None:
    """Run a task again with the same inputs, and print the id of the new one."""
    click.echo(client.tasks.rerun(task_id).id)


@tasks.command()
@_TASKS
@on_server
def delete(client: Client, task_ids: Tuple[str, ...]) -> None:
    """Remove tasks that are over, with their logs and files."""
    for task_id in task_ids:
        client.tasks.delete(task_id)


@tasks.command()
@_TASK
@json_option
@on_server
def files(client: Client, task_id: str, as_json: bool) -> None:
    """List the files of a task: name, size in bytes, time of change."""
    rows: Any = client.tasks.list_files(task_id)["files"]
    if as_json:
        return show_json(rows)
    cells = [(row["name"], row.get("size"), _time(row.get("modified_at"))) for row in rows]
    return show_table(("FILE", "SIZE", "CHANGED"), cells)


@tasks.command()
@_TASK
@click.argument("name")
@click.argument("target", type=click.Path(path_type=Path), default=Path())
@on_server
def download(client: Client, task_id: str, name: str, target: Path) -> None:
    """Save a file of a task as TARGET, or in the directory TARGET, and print where it is."""
    click.echo(client.tasks.download(task_id, name, target))


def _labels(words: Tuple[str, ...]) -> Dict[str, str]:
    labels: Dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise click.BadParameter(f"{word!r} is not KEY=VALUE", param_hint="--label")
        labels[key] = value
    return labels


def _target(task: Mapping[str, Any]) -> str:
    """Return ``package::name`` as far as the server's record tells them."""
    manifest = str(task.get("manifest_path") or "")
    name = manifest.replace("\\", "/").split("/")[-2:-1] or [manifest]
    package = str(task.get("project_id") or "").rpartition("_")[0]
    return f"{package}::{name[0]}" if package else name[0]


def _inputs(task: Mapping[str, Any]) -> str:
    lines = [
        f"{'' if node.get('nodeId') == '_' else str(node.get('nodeId')) + '.'}{item['handle']} = "
        + json.dumps(item.get("value"), ensure_ascii=False)
        for node in task.get("inputValues") or ()
        for item in node["inputs"]
    ]
    return "\n".join(lines)


def _percent(task: Mapping[str, Any]) -> str:
    progress = task.get("progress")
    return "" if progress is None else f"{progress:.0f} %"


def _time(milliseconds: Any) -> str:
    if not isinstance(milliseconds, (int, float)):
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000))
