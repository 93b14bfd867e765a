"""What packages are installed from in the tests: archives, a registry, git repositories."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from servers import PATIENCE

from oomol_connect_sdk.server.engine.manifests import Package
from oomol_connect_sdk.server.packages import (
    Installer,
    InstallOptions,
    InstallParts,
    InstallTask,
    InstallTasks,
    Limits,
    LiveCatalog,
    PackageStore,
)

TASK = "executor: {name: python, options: {entry: main.py}}\noutputs_def: [{handle: version}]\n"

Handle = Callable[[BaseHTTPRequestHandler], None]


def package_files(
    name: str, version: str, dependencies: Mapping[str, str] | None = None
) -> dict[str, str]:
    """A package with a block that tells its version."""
    manifest: dict[str, Any] = {"name": name, "version": version}
    if dependencies:
        manifest["dependencies"] = dict(dependencies)
    return {
        "package.oo.yaml": json.dumps(manifest),
        "tasks/tell/task.oo.yaml": TASK,
        "tasks/tell/main.py": f"def main(inputs, context): return {{'version': '{version}'}}\n",
    }


def tgz(files: Mapping[str, str | bytes], prefix: str = "package/package/") -> bytes:
    """Pack files as ``npm pack`` does."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_files(directory: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


class WebServer:
    """A web server whose every address answers what a test says."""

    def __init__(self) -> None:
        #: Every request: its path as it was sent, and its Authorization header.
        self.requests: list[tuple[str, str | None]] = []
        self.answers: dict[str, Handle] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers.get("Authorization")))
                handle = server.answers.get(unquote(self.path), status(404))
                with contextlib.suppress(ConnectionError):
                    handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def count(self, end: str) -> int:
        """How many requests there were for paths with this end."""
        return sum(path.endswith(end) for path, _ in self.requests)


class PackageRegistry(WebServer):
    """An npm-compatible registry."""

    def __init__(self) -> None:
        super().__init__()
        self.packuments: dict[str, dict[str, Any]] = {}

    def publish(
        self,
        name: str,
        version: str,
        dependencies: Mapping[str, str] | None = None,
        files: Mapping[str, str | bytes] | None = None,
        **dist: Any,
    ) -> bytes:
        """Offer a version, as the latest; ``dist`` overrides what is said about its archive."""
        archive = tgz({**package_files(name, version, dependencies), **(files or {})})
        path = f"/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        self.answers[path] = content(archive)
        self.answers[f"/{name}"] = lambda handler: content(
            json.dumps(self.packuments[name]).encode()
        )(handler)
        packument = self.packuments.setdefault(name, {"name": name, "versions": {}})
        packument["dist-tags"] = {"latest": version}
        described = {"tarball": self.url + path, "integrity": integrity(archive), **dist}
        packument["versions"][version] = {"name": name, "version": version, "dist": described}
        return archive


def integrity(archive: bytes, algorithm: str = "sha512") -> str:
    digest = hashlib.new(algorithm, archive).digest()
    return f"{algorithm}-{base64.b64encode(digest).decode()}"


def content(body: bytes) -> Handle:
    def handle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return handle


def status(code: int, **headers: str) -> Handle:
    def handle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    return handle


def in_turn(*handles: Handle) -> Handle:
    """Answer once with each, and with the last one from then on."""
    left = list(handles)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)


def git(directory: Path, *arguments: str) -> str:
    """Run git in a directory, untouched by the settings of whoever runs the tests."""
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_NAME": "tester" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "tester@example.org" for who in ("AUTHOR", "COMMITTER")},
    }
    done = subprocess.run(
        ["git", *arguments], cwd=directory, env=environment, check=True, capture_output=True
    )
    return done.stdout.decode().strip()


def repository(directory: Path, files: Mapping[str, str]) -> Path:
    """Make a git repository with one commit of these files on the branch main."""
    write_files(directory, files)
    git(directory, "init", "--quiet", "--initial-branch=main")
    return commit(directory)


def commit(directory: Path) -> Path:
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message=change")
    return directory


async def _nobody(_: Package) -> bool:
    return False


class Installing:
    """An installer at work, and what it works with."""

    def __init__(
        self,
        root: Path,
        options: InstallOptions,
        given: Sequence[Path] = (),
        in_use: Callable[[Package], Awaitable[bool]] = _nobody,
        limits: Limits | None = None,
    ) -> None:
        self.store = PackageStore(root / "packages")
        self.catalog = LiveCatalog(given, self.store)
        parts = InstallParts(self.catalog, options, limits or Limits(), in_use)
        self.installer = Installer(InstallTasks(root / "installs"), parts)

    async def install(self, name: str | Path, version: str | None = None) -> InstallTask:
        """Install and return the task once it has ended."""
        task = await self.installer.install(str(name), version)
        return await self.ended(task.id)

    async def ended(self, task_id: str) -> InstallTask:
        deadline = time.monotonic() + PATIENCE
        while not (task := self.installer.get(task_id)).ended:
            assert time.monotonic() < deadline, f"{task} did not end in {PATIENCE} s"
            await asyncio.sleep(0.005)
        return task

    @property
    def directories(self) -> list[str]:
        """The packages in the store, as directories."""
        root = self.store.root
        manifests = root.rglob("package.oo.yaml")
        return sorted(str(path.parent.relative_to(root)) for path in manifests)


@contextlib.asynccontextmanager
async def installing(
    root: Path, registry: WebServer | None = None, *, allow: bool = True, **settings: Any
) -> AsyncIterator[Installing]:
    """Open an installer on a data directory; without a registry nothing is at its address."""
    address = registry.url if registry else "http://127.0.0.1:9"
    options = InstallOptions(address, settings.pop("token", None), allow_local_sources=allow)
    opened = Installing(root, options, **settings)
    opened.installer.start()
    try:
        yield opened
    finally:
        await opened.installer.close()


def contents(directory: Path) -> dict[str, str]:
    """All files below a directory: relative path → text."""
    files: Iterator[Path] = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_text("utf-8") for path in files}
