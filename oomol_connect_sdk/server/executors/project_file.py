"""What ``pyproject.toml`` requires: the tables of PEP 621, and those of Poetry."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]


class RequirementsUnreadable(Exception):
    """A package's requirements can't be read."""


@dataclass(frozen=True)
class Project:
    """What a project file says about its needs."""

    #: Requirements as PEP 508 writes them.
    dependencies: tuple[str, ...] = ()
    #: A specifier of Python versions; empty for any.
    python: str = ""


def read_project(file: Path) -> Project:
    """The needs in this file; a file that is not there has none.

    The tables of Poetry count where ``[project]`` says nothing. Raises RequirementsUnreadable.
    """
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return Project()
    except (OSError, ValueError) as error:
        raise RequirementsUnreadable(f"{file}: {error}") from error
    try:
        return _project(document)
    except (InvalidSpecifier, InvalidVersion, _Fault) as error:
        raise RequirementsUnreadable(f"{file}: {error}") from error


class _Fault(Exception):
    """Something is not as it should be; says what."""


def _project(document: Mapping[str, Any]) -> Project:
    project = document.get("project", {})
    poetry = document.get("tool", {}).get("poetry", {}).get("dependencies", {})
    dependencies = project.get("dependencies")
    if dependencies is None:
        dependencies = [text for name in poetry for text in _poetry_dependency(name, poetry[name])]
    if not isinstance(dependencies, list) or not all(isinstance(d, str) for d in dependencies):
        raise _Fault("project.dependencies is not a list of strings")
    python = project.get("requires-python")
    if python is None:
        python = _specifier("python", str(poetry.get("python", "*")))
    SpecifierSet(str(python))
    return Project(tuple(dependencies), str(python))


def _poetry_dependency(name: str, wanted: Any) -> Iterator[str]:
    """One dependency of Poetry as PEP 508 writes it; several when it depends on the platform."""
    if name == "python":
        return
    for option in wanted if isinstance(wanted, list) else [wanted]:
        table = option if isinstance(option, dict) else {"version": option}
        if not table.get("optional"):
            extras = ",".join(table.get("extras", ()))
            text = f"{name}[{extras}]" if extras else name
            marker = _marker(name, table)
            yield f"{text}{_place(name, table)}{f' ; {marker}' if marker else ''}"


def _place(name: str, table: Mapping[str, Any]) -> str:
    """Which version, or from where."""
    if "git" in table:
        revision = table.get("rev") or table.get("tag") or table.get("branch")
        subdirectory = table.get("subdirectory")
        fragment = f"#subdirectory={subdirectory}" if subdirectory else ""
        return f" @ git+{table['git']}{f'@{revision}' if revision else ''}{fragment}"
    for key in ("url", "path", "file"):
        if key in table:
            return f" @ {table[key]}" if key == "url" else f" @ file:{table[key]}"
    return _specifier(name, str(table.get("version", "*")))


def _marker(name: str, table: Mapping[str, Any]) -> str:
    markers = [f"({table['markers']})"] if "markers" in table else []
    python = _specifier(name, str(table.get("python", "*")))
    for specifier in filter(None, python.split(",")):
        operator = specifier.rstrip("0123456789.*")
        markers.append(f"python_version {operator} '{specifier[len(operator) :]}'")
    return " and ".join(markers)


def _specifier(name: str, constraint: str) -> str:
    """A constraint of Poetry (``^1.2``, ``~1.2``, ``1.*``, ``>=1,<2``) as PEP 440 writes it."""
    if "|" in constraint:
        raise _Fault(f"the alternatives {constraint!r} for {name} can't be installed as they are")
    parts = constraint.replace(" ", "").split(",")
    specifier = ",".join(filter(None, map(_one_specifier, parts)))
    SpecifierSet(specifier)
    return specifier


def _one_specifier(constraint: str) -> str:
    if constraint in ("*", ""):
        return ""
    if constraint[0] == "^":
        return _below(constraint[1:], _caret_place)
    if constraint[0] == "~" and constraint[1:2] != "=":
        return _below(constraint[1:], lambda release: min(1, len(release) - 1))
    return constraint if constraint[0] in "<>=!~" else f"=={constraint}"


def _below(text: str, place: Any) -> str:
    """From this version to below the one whose number at ``place`` is the next."""
    release = Version(text).release
    at = place(release)
    following = ".".join(map(str, (*release[:at], release[at] + 1)))
    return f">={text},<{following}"


def _caret_place(release: tuple[int, ...]) -> int:
    """The first number that is not 0, or the last one."""
    return next((at for at, number in enumerate(release) if number), len(release) - 1)
