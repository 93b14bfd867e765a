"""The worker process itself: takes orders, one after the other, until the server is gone."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .capture import Capture
from .channel import Channel
from .entries import Entries, forget_modules, prefer_directory
from .jobs import Job, Workplace
from .protocol import (
    ABORT_JOB,
    NOTIFY,
    RESET,
    RESET_DONE,
    RESPOND,
    RUN_JOB,
    START_SERVICE,
    WORKER_READY,
)
from .service import ServicePlace
from .shows import ShowHooks

#: Seconds that the threads of finished jobs get to end before the worker counts as in use.
_ENDING = 0.5


def run(channel: Channel, package_dir: str) -> None:
    """Serve the blocks of a package until the server is gone."""
    # A crash in native code leaves the block's frames in the error output.
    faulthandler.enable(file=2, all_threads=False)
    worker = Worker(channel, Path(package_dir))
    channel.send(_body({"type": WORKER_READY}))
    # Only this thread reads, and it runs no block: it sees the server's end at once.
    try:
        while (body := channel.receive()) is not None:
            worker.handle(json.loads(body))
    except Exception:
        traceback.print_exc(file=sys.__stderr__)
    end_group()


def end_group() -> None:
    """End this process and all its descendants, without a last word."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


class Worker:
    """The jobs of one process and what it takes to start afresh for the next task."""

    def __init__(self, channel: Channel, package_dir: Path) -> None:
        self._channel = channel
        self._jobs: dict[str, Job] = {}
        self._lock = threading.RLock()
        capture = Capture(self._latest)
        capture.install()
        self._shows = ShowHooks(__package__, capture.preview)
        self._shows.install()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=channel.detach)
        self._place = Workplace(channel, capture, Entries(), {}, package_dir, ServicePlace())
        self._origin = _ProcessState()

    def handle(self, order: Mapping[str, Any]) -> None:
        """Carry out one order of the server."""
        kind = order["type"]
        if kind == RUN_JOB:
            self._start(order["job"])
        elif kind == START_SERVICE:
            # This thread has to stay free for what else the server says.
            threading.Thread(target=self._start_service, args=[order], daemon=True).start()
        elif kind == RESET:
            self._channel.send(_body({"type": RESET_DONE, "problem": self._reset()}))
        elif kind in (ABORT_JOB, RESPOND, NOTIFY):
            self._tell(order)
        else:
            raise ValueError(f"unknown order {kind}")

    def _start(self, order: Mapping[str, Any]) -> None:
        os.environ["OOCANA_PKG_DIR"] = order["pkg_dir"]
        job = Job(order, self._place, self._forget)
        with self._lock:
            self._jobs[job.job_id] = job
        job.start()

    def _start_service(self, order: Mapping[str, Any]) -> None:
        os.environ["OOCANA_PKG_DIR"] = order["pkg_dir"]
        place = self._place
        prefer_directory(Path(order["import_dir"]), place.package_dir)
        load = partial(place.entries.function, Path(order["entry"]), order["function"])
        try:
            place.service_place.service(load)
        except BaseException:
            # Each of its blocks loads it again, and tells what is wrong.
            traceback.print_exc(file=sys.__stderr__)

    def _tell(self, order: Mapping[str, Any]) -> None:
        job = self._jobs.get(order["job_id"])
        if job is None:
            return
        if order["type"] == ABORT_JOB:
            job.abort()
        elif order["type"] == RESPOND:
            job.mainframe.respond(order["response"])
        else:
            job.mainframe.notify(order["event"])

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._jobs.pop(job.job_id, None)

    def _latest(self) -> Job | None:
        with self._lock:
            return next((job for job in reversed(self._jobs.values()) if not job.over), None)

    def _reset(self) -> str | None:
        """Forget the task; returns why this process can't serve another one, if so."""
        with self._lock:
            jobs = list(self._jobs.values())
        if not all(job.wait(_ENDING) and job.over for job in jobs):
            return "a job is still running"
        left = _leftover_thread() or _leftover_child()
        if left is None:
            self._jobs.clear()
            self._shows.reset()
            self._place.entries.clear()
            self._place.store.clear()
            forget_modules(self._place.package_dir, self._origin.modules)
            self._origin.restore()
            self._place.capture.attach_streams()
        return left


class _ProcessState:
    """What a block may change for the whole process, as it was before the first one ran."""

    def __init__(self) -> None:
        self.modules = frozenset(sys.modules)
        self._environment = dict(os.environ)
        self._directory = os.getcwd()
        self._path = list(sys.path)
        self._arguments = list(sys.argv)

    def restore(self) -> None:
        os.environ.clear()
        os.environ.update(self._environment)
        os.chdir(self._directory)
        sys.path[:] = self._path
        sys.argv[:] = self._arguments


def _leftover_thread() -> str | None:
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            return f"thread {thread.name} is still running"
    return None


def _leftover_child() -> str | None:
    """Child processes that nobody waited for are reaped; one that runs is a problem."""
    if not hasattr(os, "WNOHANG"):
        return None
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue
    except ChildProcessError:
        return None
    return "a child process is still running"


def _body(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode()
