"""Every error this package raises on purpose. All of them are an :class:`OomolConnectError`."""

from __future__ import annotations

import builtins
from typing import Any, Mapping, Sequence


class OomolConnectError(Exception):
    """The root of all errors of this package.

    ``message`` says what went wrong and, where the caller can do something, what.
    """

    def __init__(self, message: str, *args: Any) -> None:
        super().__init__(message, *args)
        self.message = message

    def __str__(self) -> str:
        return self.message


class ApiError(OomolConnectError):
    """The server refused a request, or answered something that is not an answer.

    ``status`` is the HTTP status, ``response`` the decoded body (or its beginning as text),
    ``request_id`` the server's own id of the request. ``idempotency_key`` is the key a create
    was sent with. ``retry_after`` is the pause in seconds the server asked for.
    """

    def __init__(
        self,
        message: str,
        status: int = 0,
        response: Any = None,
        *,
        request_id: str | None = None,
        idempotency_key: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, status, response)
        self.status = status
        self.response = response
        self.request_id = request_id
        self.idempotency_key = idempotency_key
        self.retry_after = retry_after

    @property
    def transient(self) -> bool:
        """Whether the same request may well succeed a little later."""
        return self.status in (408, 425, 429) or 500 <= self.status < 600


class BadAnswerError(ApiError):
    """What came back is no answer: not JSON, cut short, or without the part that was asked for.

    A proxy's error page is the usual cause. ``response`` shows what came.
    """

    @property
    def transient(self) -> bool:
        """Whether the same request may well succeed a little later: always, for this error."""
        return True


class ConnectionFailedError(ApiError):
    """No answer came: the server could not be reached, or the connection broke. Status is 0.

    ``outcome_unknown`` is true when the request may have been carried out all the same. A
    create is then not sent again; list the tasks to see whether it arrived.
    """

    def __init__(
        self,
        message: str,
        status: int = 0,
        response: Any = None,
        *,
        outcome_unknown: bool = True,
        idempotency_key: str | None = None,
    ) -> None:
        super().__init__(message, status, response, idempotency_key=idempotency_key)
        self.outcome_unknown = outcome_unknown

    @property
    def transient(self) -> bool:
        """Whether the same request may well succeed a little later: always, for this error."""
        return True


class NotSupported(OomolConnectError):
    """The model service has no such thing; the message names both."""


class ToolError(OomolConnectError):
    """A tool that a model called can't go on, or a model did not stop calling tools."""


class TaskFailedError(OomolConnectError):
    """The task ran and failed.

    ``reason`` is the failing block's own error text, ``node_id`` the failing node of a flow,
    ``logs`` the task's log rows as far as they were read.
    """

    def __init__(
        self,
        message: str,
        task_id: str = "",
        task: Mapping[str, Any] | None = None,
        *,
        reason: str | None = None,
        node_id: str | None = None,
        logs: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message, task_id, task)
        self.task_id = task_id
        self.task = task
        self.reason = reason
        self.node_id = node_id
        self.logs = logs


class TaskStoppedError(OomolConnectError):
    """The task was stopped before it was done, by this program or by another."""

    def __init__(
        self, message: str, task_id: str = "", task: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, task_id, task)
        self.task_id = task_id
        self.task = task


class InstallFailedError(OomolConnectError):
    """The server could not install a package."""

    def __init__(
        self, message: str, task_id: str = "", task: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, task_id, task)
        self.task_id = task_id
        self.task = task


class TimeoutError(OomolConnectError, builtins.TimeoutError):
    """A wait ran out of time. Also a builtin ``TimeoutError``.

    ``task`` is the task as it was last seen, ``stopped`` whether the server was asked to stop
    it and agreed.
    """

    def __init__(
        self,
        message: str,
        task_id: str = "",
        task: Mapping[str, Any] | None = None,
        *,
        stopped: bool = False,
    ) -> None:
        super().__init__(message, task_id, task)
        self.task_id = task_id
        self.task = task
        self.stopped = stopped
