"""What a package says it needs from PyPI, and from which Python."""

from __future__ import annotations

import functools
import hashlib
import platform
import re
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from packaging.specifiers import SpecifierSet

from .project_file import RequirementsUnreadable, read_project
from .setup_scripts import goes_by_project, manifest_files, read_setup_script


@dataclass(frozen=True)
class Requirements:
    """The requirements of one package; without lines it needs no environment."""

    package_dir: Path
    #: As pip reads them; files they name are relative to the package.
    lines: tuple[str, ...]
    #: Whether they are those of ``requirements.txt``.
    in_file: bool = False
    #: The texts of the files that the lines include.
    included: tuple[str, ...] = ()
    #: The versions of Python the package works with, as a specifier; empty for any.
    python: str = ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """How to name them to pip or uv in the package's directory."""
        return ("-r", "requirements.txt") if self.in_file else self.lines

    @property
    def included_files(self) -> tuple[Path, ...]:
        """The files that the lines include, whether they are there or not."""
        return _included_files(self.package_dir, self.lines) if self.in_file else ()

    @functools.cached_property
    def suits_server(self) -> bool:
        """Whether the package works with the Python that runs the server."""
        return SpecifierSet(self.python).contains(platform.python_version(), prereleases=True)


def requirement_files(package_dir: Path) -> list[Path]:
    """The files that what a package requires is read from, whether they are there or not."""
    names = ("requirements.txt", "pyproject.toml")
    return [*(package_dir / name for name in names), *manifest_files(package_dir)]


def read_requirements(package_dir: Path) -> Requirements:
    """What ``requirements.txt`` says; without one, the dependencies in ``pyproject.toml``.

    Of a package with both, the bootstrap script tells which one counts. Raises
    RequirementsUnreadable.
    """
    project = read_project(package_dir / "pyproject.toml")
    of_project = Requirements(package_dir, project.dependencies, python=project.python)
    try:
        text = (package_dir / "requirements.txt").read_text("utf-8-sig")
    except FileNotFoundError:
        return of_project
    except (OSError, ValueError) as error:
        raise RequirementsUnreadable(f"{package_dir}/requirements.txt: {error}") from error
    # Packages that moved to a project file often left the old list lying.
    if project.dependencies and goes_by_project(read_setup_script(package_dir)):
        return of_project
    lines = _meaningful(text)
    files = _included_files(package_dir, lines)
    # One that is missing is for the installer to report.
    included = tuple(file.read_text("utf-8-sig") for file in files if file.is_file())
    return Requirements(package_dir, lines, in_file=True, included=included, python=project.python)


def unsuitable(requirements: Requirements) -> str:
    """Say that no Python here is one the package works with."""
    return (
        f"the package {requirements.package_dir.name} needs Python {requirements.python} "
        "(requires-python in its pyproject.toml); this server runs on Python "
        f"{platform.python_version()}, and no other one on this machine suits: install one, or "
        "start the server with it"
    )


def environment_key(requirements: Requirements, base: Path) -> str:
    """The name of the environment these requirements lead to, built on this interpreter."""
    wanted = "\n".join((*requirements.lines, *requirements.included))
    parts = [
        wanted,
        platform.python_implementation(),
        platform.python_version(),
        sysconfig.get_platform(),
        oocana_requirement(),
    ]
    if base != Path(sys.executable):
        parts.append(str(base.resolve()))
    if _LOCAL.search(wanted):
        parts.append(str(requirements.package_dir))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@functools.cache
def oocana_requirement() -> str:
    """The oocana that every environment gets: the one the server itself runs with."""
    return f"oocana=={version('oocana')}"


#: A line that names a file or a directory by its path.
_LOCAL = re.compile(r"^(-e|--editable|-f|--find-links)|^\.|^/|file:|@ *\.", re.MULTILINE)
_INCLUDE = re.compile(r"^(?:-r|--requirement|-c|--constraint)[ =]*(.+)$")


def _meaningful(text: str) -> tuple[str, ...]:
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _included_files(directory: Path, lines: tuple[str, ...]) -> tuple[Path, ...]:
    matches = map(_INCLUDE.match, lines)
    return tuple(directory / match.group(1).strip() for match in matches if match)
