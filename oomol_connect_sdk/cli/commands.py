"""The commands and their options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Tuple

import click

from .._version import __version__
from .catalog import blocks, flows
from .inputs import parse_inputs
from .output import show_json
from .packages import packages
from .reporting import reported_errors
from .server import base_url_option, token_option
from .target import Target
from .tasks import tasks

_PACKAGE = click.option(
    "--package",
    "-p",
    "packages",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="A package directory, or a directory of packages. May be given several times.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="oomol-connect-sdk")
def commands() -> None:
    """Run OOMOL blocks and flows, and serve them."""


@commands.command()
@click.argument("target")
@click.option(
    "--input",
    "-i",
    "inputs",
    multiple=True,
    metavar="HANDLE=VALUE",
    help="""\
One input. VALUE is read as JSON where it is JSON, else as text. NODE.HANDLE=VALUE is an input of
one node of a flow.""",
)
@click.option(
    "--inputs-file",
    type=click.File("rb"),
    help="A JSON file with the inputs, in any of the three input formats; - is standard input.",
)
@_PACKAGE
@click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False),
    help="Keep the local server's tasks here.",
)
@click.option(
    "--file",
    "-f",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Upload this file as an input; may be given several times.",
)
@base_url_option(required=False)
@token_option
@click.option(
    "--timeout", type=click.FloatRange(min=0), help="Stop the task after this many seconds."
)
@click.option("--quiet", "-q", is_flag=True, help="Show neither progress nor logs.")
def run(
    target: str,
    inputs: Tuple[str, ...],
    inputs_file: Any,
    packages: Tuple[str, ...],
    data_dir: str | None,
    files: Tuple[Path, ...],
    base_url: str | None,
    token: str | None,
    timeout: float | None,
    quiet: bool,
) -> None:
    """Run a block or a flow and print its result as JSON.

    TARGET is PATH::NAME for a block or flow of the package in the directory PATH: a server is
    started for it and ends with it. PACKAGE::NAME runs on the server that --server names, or among
    the packages that --package names.

    Exit status: 0 when the task completed, 1 when it did not, 2 when the call was wrong, 130
    after Ctrl-C, which stops the task.
    """
    from .display import display

    values = parse_inputs(inputs, inputs_file)
    where = Target.of(target, packages, base_url)
    options: Dict[str, Any] = {} if timeout is None else {"timeout_ms": timeout * 1000}
    with reported_errors(), where.client(token, data_dir) as client, display(quiet) as shown:
        options.update(on_progress=shown.progress, on_log=shown.log)
        result = _run(client.tasks, where.block_id, values, files, options)
    show_json(result["result"])


@commands.command()
@_PACKAGE
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=3000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="0 takes a free one.",
)
@click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False),
    help="Keep tasks, logs and installed packages here; without it they are gone at the end.",
)
@click.option(
    "--token",
    envvar="OOMOL_CONNECT_API_TOKEN",
    help="Ask every client for this token; required unless the address is loopback.",
)
@click.option(
    "--keep-tasks",
    type=click.IntRange(min=0),
    default=10_000,
    show_default=True,
    help="Keep so many tasks that are over, those that ended last; older ones are removed with "
    "their logs and files, but none within an hour of its end.",
)
@click.option(
    "--registry",
    envvar="OOMOL_REGISTRY",
    help="The npm-compatible registry that packages are installed from; its token is read from "
    "OOMOL_REGISTRY_TOKEN.",
)
@click.option(
    "--allow-local-sources",
    is_flag=True,
    help="Let clients install from paths on this machine and from addresses of their choice.",
)
@click.option(
    "--build-environments",
    is_flag=True,
    help="Build a package's Python environment at its install instead of at its first run.",
)
@click.option(
    "--allow-bootstrap",
    is_flag=True,
    help="Run the scripts with which packages set themselves up, once for each version.",
)
@click.option(
    "--max-disk",
    type=click.FloatRange(min=0),
    default=20,
    show_default=True,
    metavar="GIB",
    help="A task whose files take more disk space fails; 0 for no limit.",
)
@click.option(
    "--max-memory",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    metavar="GIB",
    help="A process of blocks that uses more memory is ended (Linux only); 0 for no limit.",
)
@click.option(
    "--max-log",
    type=click.FloatRange(min=0),
    default=1,
    show_default=True,
    metavar="GIB",
    help="A task whose log becomes larger fails; 0 for no limit.",
)
@click.option(
    "--models-url",
    envvar="OOMOL_MODELS_URL",
    help="The language model service that blocks may ask; its key is read from "
    "OOMOL_MODELS_API_KEY.",
)
@click.option(
    "--models-model",
    envvar="OOMOL_MODELS_MODEL",
    help="The model that is asked when a block names none.",
)
def serve(
    packages: Tuple[str, ...],
    host: str,
    port: int,
    data_dir: str | None,
    token: str | None,
    keep_tasks: int,
    registry: str | None,
    allow_local_sources: bool,
    build_environments: bool,
    allow_bootstrap: bool,
    max_disk: float,
    max_memory: float,
    max_log: float,
    models_url: str | None,
    models_model: str | None,
) -> None:
    """Serve packages over the Connect API until Ctrl-C.

    Packages that clients install are kept in the data directory and served as well.
    """
    if not packages and data_dir is None:
        raise click.UsageError(
            "name at least one package with --package, or the place of installed ones with --data"
        )
    from ..server import InstallOptions, TaskLimits
    from ..server import serve as serve_packages

    with reported_errors():
        serve_packages(
            [Path(package) for package in packages],
            data_dir=data_dir,
            host=host,
            port=port,
            token=token,
            keep_tasks=keep_tasks,
            installing=InstallOptions(
                registry=registry,
                allow_local_sources=allow_local_sources,
                build_environments=build_environments,
            ),
            limits=TaskLimits(_bytes(max_disk), _bytes(max_memory), _bytes(max_log)),
            allow_bootstrap=allow_bootstrap,
            models=_models(models_url, models_model),
            on_ready=lambda server: click.echo(f"serving at {server.base_url}", err=True),
        )


for command in (tasks, blocks, flows, packages):
    commands.add_command(command)


def _models(url: str | None, model: str | None) -> Dict[str, Any] | None:
    """Return the options of the model service; the key is never on the command line."""
    if url is None:
        return None
    return {"url": url, "model": model, "api_key": os.environ.get("OOMOL_MODELS_API_KEY")}


def _bytes(gib: float) -> int | None:
    """Return a limit in bytes; None when there is none."""
    return int(gib * 1024**3) if gib else None


def _run(
    client: Any, block_id: str, values: Any, files: Tuple[Path, ...], options: Dict[str, Any]
) -> Any:
    if files:
        return client.run_with_files(block_id, values, list(files), options)
    return client.run({"blockId": block_id, "inputValues": values}, options)
