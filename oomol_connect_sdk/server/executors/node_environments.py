"""What JavaScript and TypeScript blocks run with: Node.js, their dependencies, and esbuild."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .build_cache import BuildCache, EnvironmentFailed, Make, Report
from .building import BuildFailed, run_command

#: The versions of esbuild that bundle TypeScript here, for packages without one of their own.
ESBUILD = ">=0.25 <1"

_INSTALL = ("--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier")
_ABOUT = "[process.execPath, process.versions.node, Boolean(process.features.typescript)]"


@dataclass(frozen=True)
class Node:
    """The Node.js of this machine."""

    program: Path
    version: str
    #: Whether it runs TypeScript as it is.
    runs_typescript: bool


class NodeEnvironments:
    """Finds or installs what the Node.js blocks of packages need, into a cache."""

    def __init__(self, cache: BuildCache) -> None:
        self._cache = cache
        self._node: Node | None = None

    async def find_node(self) -> Node:
        """The Node.js on the PATH. Raises EnvironmentFailed."""
        if self._node is None:
            answer: list[str] = []
            try:
                command = [_program("node"), "-p", f"JSON.stringify({_ABOUT})"]
                await run_command(command, Path.cwd(), answer.append)
            except BuildFailed as error:
                raise EnvironmentFailed(f"Node.js doesn't work: {error}") from error
            program, version, runs_typescript = json.loads(answer[-1])
            self._node = Node(Path(program), version, runs_typescript)
        return self._node

    async def modules(self, package_dir: Path, report: Report) -> Path | None:
        """The directory whose ``node_modules`` has what the package's package.json requires.

        None when it requires nothing, or has its own ``node_modules``: nothing is ever written
        into the package. Install scripts don't run. Raises EnvironmentFailed.
        """
        package = await asyncio.to_thread(_read_package, package_dir)
        if not package.dependencies or (package_dir / "node_modules").is_dir():
            return None
        node = await self.find_node()
        name = package_dir.name
        key = _key(package.text, package.lock, node.version, str(package_dir) * package.is_local)

        async def make(directory: Path, report: Report) -> None:
            report(f"installing the Node.js modules of {name}")
            await _install(directory, package, report)

        await self._make(key, make, report, f"the Node.js modules of {name}")
        return self._cache.path(key)

    async def esbuild(self, package_dir: Path, report: Report) -> Path:
        """The program esbuild: the package's own, or one installed for all.

        Raises EnvironmentFailed.
        """
        own = package_dir / "node_modules" / ".bin" / "esbuild"
        if own.exists():
            return own
        node = await self.find_node()
        package = _Package(json.dumps({"dependencies": {"esbuild": ESBUILD}}), None)
        key = _key(package.text, None, node.version, "")

        async def make(directory: Path, report: Report) -> None:
            report("installing esbuild, which bundles TypeScript")
            await _install(directory, package, report)

        await self._make(key, make, report, "esbuild, which bundles TypeScript,")
        modules = self._cache.path(key) / "node_modules"
        # Without its install script the command itself is a script that starts this one.
        return next(modules.glob("@esbuild/*/bin/esbuild"), modules / ".bin" / "esbuild")

    async def _make(self, key: str, make: Make, report: Report, what: str) -> None:
        if not self._cache.holds(key):
            try:
                await self._cache.make(key, make, report)
            except (BuildFailed, OSError) as error:
                raise EnvironmentFailed(f"{what} can't be installed: {error}") from error


@dataclass(frozen=True)
class _Package:
    """A package.json and its lock."""

    text: str
    lock: str | None
    #: Whether it names files or directories beside it.
    is_local: bool = False

    @property
    def dependencies(self) -> Mapping[str, str]:
        dependencies: Mapping[str, str] = json.loads(self.text).get("dependencies") or {}
        return dependencies


def _read_package(package_dir: Path) -> _Package:
    file = package_dir / "package.json"
    try:
        text = file.read_text("utf-8-sig")
        manifest = json.loads(text)
        dependencies = manifest.get("dependencies") or {}
        local = {
            name: f"file:{package_dir / place[5:]}"
            for name, place in dependencies.items()
            if place.startswith("file:")
        }
    except FileNotFoundError:
        return _Package("{}", None)
    except (OSError, ValueError, AttributeError) as error:
        raise EnvironmentFailed(f"{file}: {error}") from error
    if local:
        # Their paths are relative to the package, and a lock repeats them.
        manifest["dependencies"] = {**dependencies, **local}
        return _Package(json.dumps(manifest), None, is_local=True)
    lock = package_dir / "package-lock.json"
    return _Package(text, lock.read_text("utf-8") if lock.is_file() else None)


async def _install(directory: Path, package: _Package, report: Report) -> None:
    await asyncio.to_thread(_write_package, directory, package)
    command = [_program("npm"), "install" if package.lock is None else "ci", *_INSTALL]
    await run_command(command, directory, report)


def _write_package(directory: Path, package: _Package) -> None:
    directory.mkdir(parents=True)
    (directory / "package.json").write_text(package.text, "utf-8")
    if package.lock is not None:
        (directory / "package-lock.json").write_text(package.lock, "utf-8")


def _program(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        raise EnvironmentFailed(
            f"the program {name!r} was not found: JavaScript and TypeScript blocks need Node.js. "
            "Install it and make it findable on the server's PATH."
        )
    return program


def _key(*parts: str | None) -> str:
    text = "\n".join((sysconfig.get_platform(), *(part or "" for part in parts)))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"node-{digest}"
