"""The commands that build environments; a virtual one with uv where it exists, else with pip."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from .python_worker.lines import LineSplitter
from .requirements import Requirements, oocana_requirement

Report = Callable[[str], None]

#: Lines of output that a failure tells.
_TAIL_LINES = 20


class BuildFailed(Exception):
    """A command failed; the message has its last lines."""


async def build_environment(
    directory: Path,
    base: Path,
    python: Path,
    requirements: Requirements,
    report: Report,
    *,
    with_pip: bool = False,
) -> None:
    """Make an environment in a directory that doesn't exist yet. Raises BuildFailed.

    ``base`` is the interpreter to build on, ``python`` is where its own will be. ``with_pip`` is
    for an environment in which more is to be installed later.
    """
    report(f"preparing the environment of {requirements.package_dir.name}")
    uv = find_uv()
    if uv is None:
        create = [str(base), "-m", "venv", str(directory)]
        install = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    else:
        seed = ["--seed"] if with_pip else []
        create = [uv, "venv", *seed, "--python", str(base), str(directory)]
        # Bytecode is compiled once here instead of at the first imports of each task.
        install = [uv, "pip", "install", "--compile-bytecode", "--python", str(python)]
    await run_command(create, requirements.package_dir, report)
    wanted = [oocana_requirement(), *requirements.arguments]
    await run_command([*install, *wanted], requirements.package_dir, report)


async def find_interpreter(versions: str) -> Path | None:
    """A Python on this machine that is one of these versions; only uv finds any."""
    uv = find_uv()
    if uv is None:
        return None
    lines: list[str] = []
    # `uv python find` gives up at the first one that does not work.
    options = ("--only-installed", "--no-python-downloads", "--output-format", "json")
    try:
        await run_command([uv, "python", "list", *options, versions], Path.cwd(), lines.append)
    except BuildFailed:
        return None
    found = next((line for line in lines if line.startswith("[{")), "[]")
    return next((Path(python["path"]) for python in json.loads(found)), None)


def find_uv() -> str | None:
    """The uv program: of the Python package ``uv``, else on the PATH, else None."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


async def run_command(
    command: list[str],
    directory: Path,
    report: Report,
    *,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command in a directory and report the lines it writes.

    It has the server's environment variables unless others are given. Raises BuildFailed when
    it fails or can't be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise BuildFailed(f"{command[0]} can't be started: {error}") from error
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    try:
        await _follow(process, tail, report)
        status = await process.wait()
    except BaseException:
        await _end(process)
        raise
    if status != 0:
        name = Path(command[0]).name
        raise BuildFailed("\n".join([f"{name} failed (exit code {status})", *tail]))


async def _follow(process: asyncio.subprocess.Process, tail: deque[str], report: Report) -> None:
    assert process.stdout is not None
    decoder, splitter = codecs.getincrementaldecoder("utf-8")("replace"), LineSplitter()
    ended = False
    while not ended:
        data = await process.stdout.read(65536)
        ended = not data
        lines = splitter.feed(decoder.decode(data, final=ended))
        for line in [*lines, *(splitter.flush() if ended else ())]:
            tail.append(line)
            report(line)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    await process.wait()
