"""What manifests say to run, and what it takes to run it: a worker, a file and a function."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..engine.actions import Job, ServiceStart
from .worker import JobRefused, WorkerSpec

Report = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """The code of a task or of a service, as its manifest names it."""

    executor: str
    options: Mapping[str, Any]
    #: What the entry is relative to.
    directory: Path
    package_dir: Path
    package_name: str
    #: What is to be run once in the package's environment before.
    scripts: tuple[str, ...] = ()

    @classmethod
    def of_job(cls, job: Job) -> Program:
        """The program that runs this job: its own, or its service's."""
        if job.service is not None:
            start = ServiceStart(job.service, job.package_dir, job.package_name)
            return cls.of_service(start)
        return cls(
            job.executor,
            job.options,
            job.directory,
            job.package_dir,
            job.package_name,
            job.scripts,
        )

    @classmethod
    def of_service(cls, start: ServiceStart) -> Program:
        """The program of a service."""
        service = start.service
        directory = service.path.parent
        names = start.package_dir, start.package_name
        return cls(service.executor, service.options, directory, *names)

    def package_data(self, root: Path) -> Path:
        """The directory below ``root`` that its package keeps for ever; it is made.

        A scope is a directory of its own. Raises JobRefused for a name that leads elsewhere.
        """
        name = PurePosixPath(self.package_name or os.path.basename(self.package_dir))
        if name.is_absolute() or ".." in name.parts:
            raise JobRefused(f"{str(name)!r} is not a package name")
        directory = root / name
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
        return directory


@dataclass(frozen=True)
class Plan:
    """How a program is run."""

    spec: WorkerSpec
    entry: Path
    #: None for the one the language's executor takes by itself.
    function: str | None
    #: Where the entry finds what it imports from beside it.
    import_dir: Path

    @property
    def order(self) -> dict[str, Any]:
        """What a worker is told of it."""
        return {
            "entry": str(self.entry),
            "function": self.function,
            "import_dir": str(self.import_dir),
        }


class GeneratedFiles:
    """Files that are made for a task, or for the server, and removed with it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, name: str) -> Path:
        """Where the file with this name goes."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory / name

    def entry(self, program: Program, default: str) -> Path:
        """The file to run: the one the manifest names, or one made of the source in it."""
        options = program.options
        source = options.get("source")
        if isinstance(source, str) and not options.get("entry"):
            return self._write_source(source, Path(default).suffix)
        return Path(os.path.abspath(program.directory / (options.get("entry") or default)))

    def import_dir(self, program: Program, entry: Path) -> Path:
        """What a generated file imports is next to the manifest it came from."""
        return program.directory if entry.parent == self._directory else entry.parent

    def _write_source(self, source: str, suffix: str) -> Path:
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        file = self.path(f"source_{digest}{suffix}")
        file.write_text(source, "utf-8")
        return file
