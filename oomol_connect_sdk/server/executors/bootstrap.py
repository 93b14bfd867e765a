"""The scripts with which packages set themselves up: run once, and only where that is allowed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ..engine.manifests import find_manifest
from ..engine.yaml_source import ManifestError, read_yaml
from .building import BuildFailed, Report, run_command
from .process_group import inherited_environment
from .project_file import RequirementsUnreadable


@dataclass(frozen=True)
class Bootstrap:
    """The ``scripts.bootstrap`` of one version of a package."""

    package_dir: Path
    version: str
    script: str

    def key(self, environment: str) -> str:
        """The name of the environment in which the script was run, made of that without it.

        The script may change both the environment and the package: neither is shared.
        """
        parts = (environment, str(self.package_dir), self.version, self.script)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    async def run(self, python: Path, report: Report) -> None:
        """Run it in the package's directory, with the environment's commands at hand.

        Raises BuildFailed.
        """
        report(f"running the bootstrap script of {self.package_dir.name}")
        commands = python.parent
        given = inherited_environment(os.environ)
        environment = {
            **given,
            "PATH": os.pathsep.join([str(commands), given.get("PATH", os.defpath)]),
            "VIRTUAL_ENV": str(commands.parent),
        }
        try:
            await run_command(
                ["sh", "-e", "-c", self.script], self.package_dir, report, environment=environment
            )
        except BuildFailed as error:
            raise BuildFailed(f"its bootstrap script failed: {error}") from error


class BootstrapScripts:
    """The scripts of packages; a manifest is read again only when it has changed."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[tuple[int, ...], Bootstrap | None]] = {}

    def of(self, package_dir: Path) -> Bootstrap | None:
        """The script of the package in this directory, if it has one.

        Raises RequirementsUnreadable.
        """
        manifest = find_manifest(package_dir, "package")
        if manifest is None:
            return None
        status = manifest.stat()
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._read.get(package_dir)
        if known is None or known[0] != stamp:
            known = self._read[package_dir] = (stamp, _read_bootstrap(package_dir, manifest))
        return known[1]


def _read_bootstrap(package_dir: Path, manifest: Path) -> Bootstrap | None:
    try:
        fields = read_yaml(manifest).fields()
        scripts = fields.get("scripts")
        script = scripts.fields().text("bootstrap") if scripts else None
        version = fields.text("version") or ""
    except ManifestError as error:
        raise RequirementsUnreadable(str(error)) from error
    return Bootstrap(package_dir, version, script) if script and script.strip() else None
