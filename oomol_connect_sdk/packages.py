"""The packages a server has, and their installation."""

from __future__ import annotations

import logging
from typing import Any, Mapping

from .answers import endpoint, expect
from .errors import ApiError, BadAnswerError, InstallFailedError, TimeoutError
from .polling import PollingOptions, Wait
from .transport import Transport
from .types import (
    InstallTaskResponse,
    ListInstallTasksResponse,
    ListPackagesResponse,
)
from .waiting import ErrorBudget
from .watching import Deadline, OutOfTimeError, Pace

_KNOWN_STATUSES = ("pending", "running", "success", "failed")

_logger = logging.getLogger("oomol_connect_sdk")


class PackagesClient:
    """The packages of a server.

    ::

        installed = await client.packages.install_and_wait("audio-lab", "1.0.0")
        print(installed["packagePath"])
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> ListPackagesResponse:
        """Return ``{"packages": […]}``: name and version of every installed package."""
        answer: Any = await self._transport.request("GET", endpoint("packages"))
        expect(answer, "packages", list, "the package list")
        response: ListPackagesResponse = answer
        return response

    async def install(self, name: str, version: str | None = None) -> InstallTaskResponse:
        """Begin to install a package, by default its latest version, and return the install task.

        Its id is there as ``id`` and ``taskId``. Raises InstallFailedError when the server
        refuses the package.
        """
        body = {"name": _text(name, "name")}
        if version is not None:
            body["version"] = _text(version, "version")
        path = endpoint("packages", "install")
        try:
            answer = await self._transport.request("POST", path, body=body)
        except ApiError as error:
            if _is_refusal(error):
                raise InstallFailedError(f"{_label(body)} is not installed: {error}") from error
            raise
        return _install_task(answer, f"the installation of {_label(body)}")

    async def list_install_tasks(self) -> ListInstallTasksResponse:
        """Return ``{"tasks": […]}``: all installations the server knows."""
        answer: Any = await self._transport.request("GET", endpoint("packages", "install"))
        expect(answer, "tasks", list, "the list of install tasks")
        response: ListInstallTasksResponse = answer
        return response

    async def get_install_task(self, task_id: str) -> InstallTaskResponse:
        """Return an install task as it is now."""
        return await _look(self._transport, task_id)

    async def wait_for_install_completion(
        self, task_id: str, options: PollingOptions | None = None
    ) -> InstallTaskResponse:
        """Wait until an installation is over and return its install task.

        The options are those of a wait for a task; ``on_progress`` gets the install task. An
        installation has no log and can't be stopped, so it goes on when the wait ends early.
        Raises InstallFailedError with the server's reason, or TimeoutError; a server that is
        away for less than two minutes does not end the wait.
        """
        return await _InstallWait(
            self._transport, task_id, Wait.of(options, ending="detach")
        ).completed()

    async def install_and_wait(
        self,
        name: str,
        version: str | None = None,
        polling_options: PollingOptions | None = None,
    ) -> InstallTaskResponse:
        """Install a package, wait until that is over and return its install task.

        Raises what `install` and `wait_for_install_completion` raise.
        """
        options = Wait.of(polling_options, ending="detach")
        begun = await self.install(name, version)
        return await _InstallWait(self._transport, begun["id"], options).completed()

    async def uninstall(self, name: str, version: str) -> None:
        """Remove one installed version of a package.

        For servers that offer it, such as the local one. ApiError with status 404 when it is not
        installed, and 409 while a task uses it.
        """
        await self._transport.request("DELETE", endpoint("packages", name, version))


class _InstallWait:
    """One wait for one installation."""

    def __init__(self, transport: Transport, task_id: str, options: Wait) -> None:
        self._transport = transport
        self._io = transport.io
        self._task_id = task_id
        self._options = options
        self._deadline = Deadline(self._io.now, options.timeout)
        self._pace = Pace(self._io.now, options, self._deadline, at_once=True)
        self._budget = ErrorBudget(self._io.now)
        self._task: InstallTaskResponse | None = None
        self._warned = False

    async def completed(self) -> InstallTaskResponse:
        """Wait until the installation is over and return its task."""
        while True:
            try:
                task = await self._next()
            except OutOfTimeError as late:
                raise self._timed_out() from late.__cause__
            if self._options.on_progress is not None:
                await self._io.call(self._options.on_progress, task)
            if task["status"] == "success":
                return task
            if task["status"] == "failed":
                reason = task.get("error") or "the server gave no reason"
                raise InstallFailedError(
                    f"{_label(task)} is not installed: {reason}", self._task_id, task
                )
            self._warn_of_unknown_status(task)

    async def _next(self) -> InstallTaskResponse:
        """Look when it is time, and again until an answer comes."""
        moment = self._pace.next_look()
        trouble: ApiError | None = None
        while True:
            await self._io.sleep(max(0.0, moment - self._io.now()))
            if self._deadline.remaining <= 0:
                raise OutOfTimeError from trouble
            try:
                self._task = await _look(
                    self._transport, self._task_id, total=self._deadline.check(), attempts=1
                )
            except ApiError as error:
                trouble = error
                moment = self._deadline.clamp(self._io.now() + self._budget.spend(error))
            else:
                self._budget.reset()
                return self._task

    def _warn_of_unknown_status(self, task: InstallTaskResponse) -> None:
        if task["status"] not in _KNOWN_STATUSES and not self._warned:
            self._warned = True
            _logger.warning(
                "install task %s has the unknown status %r", self._task_id, task["status"]
            )

    def _timed_out(self) -> TimeoutError:
        last = f"last seen {self._task['status']}" if self._task else "never seen"
        return TimeoutError(
            f"install task {self._task_id} was not over after {self._options.timeout:g} s "
            f"({last}); the installation goes on",
            self._task_id,
            self._task,
        )


async def _look(
    transport: Transport, task_id: str, *, total: float | None = None, attempts: int | None = None
) -> InstallTaskResponse:
    path = endpoint("packages", "install", task_id)
    where = f"install task {task_id}"
    try:
        answer = await transport.request("GET", path, total=total, attempts=attempts)
    except ApiError as error:
        # A failed installation may be told as a failed request; the task says more.
        if not (_says_no_success(error) and "task" in error.response):
            raise
        answer = error.response
    task = _install_task(answer, where)
    expect(task, "status", str, where)
    return task


def _install_task(answer: Any, where: str) -> InstallTaskResponse:
    """Bring the answers of all servers to one shape: a task in ``task``, or bare, or its id."""
    body: Mapping[str, Any] = answer if isinstance(answer, Mapping) else {}
    nested = body.get("task")
    task = {**(nested if isinstance(nested, Mapping) else body)}
    task.setdefault("id", body.get("taskId"))
    if not isinstance(task["id"], str) or not task["id"]:
        raise BadAnswerError(
            f"{where} was answered without an id: {str(answer)[:200]}", 200, answer
        )
    whole: Any = {**body, **task, "taskId": task["id"], "task": task}
    response: InstallTaskResponse = whole
    return response


def _says_no_success(error: ApiError) -> bool:
    return isinstance(error.response, Mapping) and error.response.get("success") is False


def _is_refusal(error: ApiError) -> bool:
    """Tell a package that was refused from a request that was, or that went wrong."""
    return _says_no_success(error) and not error.transient and error.status not in (401, 403)


def _label(package: Mapping[str, Any]) -> str:
    name, version = package.get("name"), package.get("version")
    return f"package {name}{f' {version}' if version else ''}" if name else "the package"


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"the {what} of a package must be non-empty text, not {value!r}")
    return value
