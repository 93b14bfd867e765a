"""What a package says it needs from PyPI, and from which Python."""

from __future__ import annotations

import hashlib
import platform
import re
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]


class RequirementsUnreadable(Exception):
    """A package's requirements can't be read or met here."""


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

    @property
    def arguments(self) -> tuple[str, ...]:
        """How to name them to pip or uv in the package's directory."""
        return ("-r", "requirements.txt") if self.in_file else self.lines


def read_requirements(package_dir: Path) -> Requirements:
    """What ``requirements.txt`` says; without one, the dependencies in ``pyproject.toml``.

    Raises RequirementsUnreadable, also when this Python is not one the package works with.
    """
    project = _read_project(package_dir)
    _check_python(project, package_dir)
    try:
        text = (package_dir / "requirements.txt").read_text("utf-8-sig")
    except FileNotFoundError:
        return Requirements(package_dir, tuple(project.get("dependencies", ())))
    except (OSError, ValueError) as error:
        raise RequirementsUnreadable(f"{package_dir}/requirements.txt: {error}") from error
    included = _included(package_dir, text)
    return Requirements(package_dir, _meaningful(text), in_file=True, included=included)


def environment_key(requirements: Requirements) -> str:
    """The name of the environment these requirements lead to."""
    wanted = "\n".join((*requirements.lines, *requirements.included))
    parts = [
        wanted,
        platform.python_implementation(),
        platform.python_version(),
        sysconfig.get_platform(),
        oocana_requirement(),
    ]
    if _LOCAL.search(wanted):
        parts.append(str(requirements.package_dir))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def oocana_requirement() -> str:
    """The oocana that every environment gets: the one the server itself runs with."""
    return f"oocana=={version('oocana')}"


#: A line that names a file or a directory by its path.
_LOCAL = re.compile(r"^(-e|--editable|-f|--find-links)|^\.|^/|file:|@ *\.", re.MULTILINE)
_INCLUDE = re.compile(r"^(?:-r|--requirement|-c|--constraint)[ =]*(.+)$")


def _meaningful(text: str) -> tuple[str, ...]:
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _included(directory: Path, text: str) -> tuple[str, ...]:
    names = (match.group(1).strip() for match in map(_INCLUDE.match, _meaningful(text)) if match)
    # One that is missing is for the installer to report.
    files = (directory / name for name in names)
    return tuple(file.read_text("utf-8-sig") for file in files if file.is_file())


def _read_project(package_dir: Path) -> dict[str, Any]:
    file = package_dir / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text("utf-8")).get("project", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RequirementsUnreadable(f"{file}: {error}") from error
    dependencies = project.get("dependencies", [])
    if not isinstance(dependencies, list) or not all(isinstance(d, str) for d in dependencies):
        raise RequirementsUnreadable(f"{file}: project.dependencies is not a list of strings")
    return dict(project)


def _check_python(project: dict[str, Any], package_dir: Path) -> None:
    wanted = str(project.get("requires-python", ""))
    try:
        suitable = SpecifierSet(wanted).contains(platform.python_version(), prereleases=True)
    except InvalidSpecifier as error:
        raise RequirementsUnreadable(f"{package_dir}/pyproject.toml: {error}") from error
    if not suitable:
        raise RequirementsUnreadable(
            f"the package {package_dir.name} needs Python {wanted} (requires-python in its "
            f"pyproject.toml), and this server runs on Python {platform.python_version()}: start "
            "the server with a Python that suits"
        )
