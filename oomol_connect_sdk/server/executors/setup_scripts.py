"""The scripts that set packages up, as far as they say what to install; nothing is run here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..engine.manifests import find_manifest
from ..engine.yaml_source import ManifestError, read_yaml
from .project_file import RequirementsUnreadable

#: Installs what the project file requires; what follows are options.
_PROJECT = re.compile(
    r"(?:poetry|pdm|uv) (?:install|sync)(?= -|$)|pip3? install (?:\S+ )*\.(?= |$)"
)
#: Commands whose work is done for every package, or that do none.
_NODE = re.compile(r"(?:npm|pnpm|yarn)(?: (?:install|i|ci))?(?: -\S+)*")
_ROUTINE = re.compile(
    rf"(?:set(?: \S+)+|echo\b[^<>|$`]*|{_NODE.pattern}"
    r"|(?:poetry|pdm|uv) (?:install|sync)(?: -\S+)*"
    r"|(?:python3? -m )?pip3? install(?: -\S+)* -r requirements\.txt(?: -\S+)*)"
)


def read_setup_script(package_dir: Path) -> str:
    """The ``scripts.bootstrap`` of the package in this directory; empty if it has none.

    Raises RequirementsUnreadable.
    """
    manifest = find_manifest(package_dir, "package")
    if manifest is None:
        return ""
    try:
        scripts = read_yaml(manifest).fields().get("scripts")
        return (scripts.fields().text("bootstrap") or "") if scripts else ""
    except ManifestError as error:
        raise RequirementsUnreadable(str(error)) from error


def manifest_files(package_dir: Path) -> list[Path]:
    """Where the manifest of a package is or may come to be, which has its script."""
    usual = package_dir / "package.oo.yaml"
    return [usual] if usual.is_file() else [usual, package_dir / "package.oo.yml"]


def goes_by_project(script: str) -> bool:
    """Whether it installs what ``pyproject.toml`` requires and not what requirements.txt lists."""
    commands = list(_commands(script))
    return any(map(_PROJECT.match, commands)) and "requirements.txt" not in " ".join(commands)


def is_routine(script: str) -> bool:
    """Whether all it does is to install the requirements that a package's files list anyway."""
    return all(map(_ROUTINE.fullmatch, _commands(script)))


def left_to_run(script: str, package_dir: Path) -> str:
    """What of a script is to be run where scripts may run; empty for nothing.

    All of it unless it is routine. Node.js modules are installed for every package, but without
    the scripts that come with them, so that their installation is left if its program is here.
    """
    if not is_routine(script):
        return script
    if not (package_dir / "package.json").is_file():
        return ""
    commands = (command for command in _commands(script) if _NODE.fullmatch(command))
    return "\n".join(command for command in commands if shutil.which(command.split()[0]))


def _commands(script: str) -> Iterator[str]:
    """Its simple commands, with single spaces; comments and ``sudo`` are left out."""
    lines = (re.sub(r"(?:^|\s)#.*", "", line) for line in script.splitlines())
    for part in re.split(r"&&|\|\||;|\n", "\n".join(lines)):
        command = " ".join(part.split()).removeprefix("sudo ")
        if command:
            yield command
