"""Fetching one commit of a git repository."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from pathlib import Path

from .errors import InstallError

#: Seconds for one git command.
_LONGEST = 600
#: Characters of git's own words in an error.
_TAIL = 2_000

#: A branch, a tag or a commit id; never an option, and never more than one ref.
REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+@-]{0,254}")

#: Nothing of the server's surroundings may redirect git to another repository.
_REPOSITORY_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
)
_SAFE = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "advice.detachedHead": "false",
}


async def fetch_commit(url: str, ref: str | None, directory: Path) -> None:
    """Check out a branch, tag or commit (else the default branch) into a new directory.

    Only that commit is fetched. Hooks are not run, submodules not fetched, and nobody is asked
    for a password. Raises InstallError.
    """
    if shutil.which("git") is None:
        raise InstallError("git is not installed where the server runs")
    # Not "clone": its --branch knows no commit ids.
    await _git("init", "--quiet", "--template=", "--", str(directory))
    shallow = ("--depth=1", "--no-tags", "--quiet")
    await _git("-C", str(directory), "fetch", *shallow, "--", url, ref or "HEAD")
    await _git("-C", str(directory), "checkout", "--quiet", "--detach", "FETCH_HEAD")


async def _git(*arguments: str) -> None:
    settings = (part for key, value in _SAFE.items() for part in ("-c", f"{key}={value}"))
    process = await asyncio.create_subprocess_exec(
        "git",
        *settings,
        *arguments,
        env=_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # A session without a terminal: ssh has nobody to ask either.
        start_new_session=True,
    )
    try:
        _, words = await asyncio.wait_for(process.communicate(), _LONGEST)
    except asyncio.TimeoutError as error:
        raise InstallError(f"git took longer than {_LONGEST} s") from error
    finally:
        await _end(process)
    if process.returncode != 0:
        raise InstallError(f"git failed: {words.decode(errors='replace').strip()[-_TAIL:]}")


def _environment() -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if k not in _REPOSITORY_VARIABLES}
    return {
        **inherited,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:ssh:file",
        "LC_ALL": "C.UTF-8",
    }


async def _end(process: asyncio.subprocess.Process) -> None:
    """End git and its helpers, if they still run."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    await process.wait()
