"""What ``oocana.Context`` talks to: here one object per job, in front of the worker's channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Protocol

Response = Mapping[str, Any]
Event = Mapping[str, Any]

#: The events that a run_block waits for in the end.
_ENDS = frozenset({"BlockFinished", "SubflowBlockFinished"})


class Sender(Protocol):
    """A job, as far as its messages are concerned."""

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message of this job, or drop it when the job is over."""

    def finish(self, message: Mapping[str, Any]) -> None:
        """Send the job's BlockFinished."""


class JobMainframe:
    """The surface of oocana's Mainframe that a Context uses.

    Answers and events come to the event loop of the coroutine that asked, in their order, and
    not before it next awaits something: by then it has registered its callbacks, which
    ``run_block`` does only after it has asked.
    """

    def __init__(self, job: Sender) -> None:
        self._job = job
        #: The loops of those who wait, by request id and by the job id of a block they run.
        self._loops: dict[str, _Loop] = {}
        self._waiting: dict[str, list[Callable[[Response], None]]] = {}
        self._watching: list[Callable[[Event], None]] = []

    def send(self, job_info: Mapping[str, Any], message: Mapping[str, Any]) -> None:
        """Take what the block says to the flow."""
        if message["type"] == "BlockRequest":
            self._request(message)
        elif message["type"] == "BlockFinished":
            self._job.finish(message)
        else:
            self._job.send(message)

    def report(self, block_info: Mapping[str, Any], message: Mapping[str, Any]) -> None:
        """Take what the block says to whoever watches."""
        if message["type"] == "BlockLog":
            # The name of the stream comes as a key of its own.
            stdio = "stderr" if "stderr" in message else "stdout"
            message = {"type": "BlockLog", "log": str(message["log"]), "stdio": stdio}
        self._job.send(message)

    def add_request_response_callback(
        self, session_id: str, request_id: str, callback: Callable[[Response], None]
    ) -> None:
        """Call back with the response to this request."""
        self._waiting.setdefault(request_id, []).append(callback)

    def remove_request_response_callback(
        self, session_id: str, request_id: str, callback: Callable[[Response], None]
    ) -> None:
        """Forget a callback."""
        callbacks = self._waiting.get(request_id, [])
        if callback in callbacks:
            callbacks.remove(callback)
        if not callbacks:
            self._waiting.pop(request_id, None)

    def add_report_callback(self, callback: Callable[[Event], None]) -> None:
        """Call back with the events of all blocks that this job runs."""
        self._watching.append(callback)

    def remove_report_callback(self, callback: Callable[[Event], None]) -> None:
        """Forget a callback."""
        if callback in self._watching:
            self._watching.remove(callback)

    def respond(self, response: Response) -> None:
        """Hand the answer of the server to who asked; an answer nobody waits for is dropped."""
        loop = self._loops.pop(response["request_id"], None)
        if loop is not None:
            loop.call(self._call_waiting, response)

    def notify(self, event: Event) -> None:
        """Hand an event of a block that this job runs to who runs it."""
        job_id = event["job_id"]
        ended = event["type"] in _ENDS
        loop = self._loops.pop(job_id, None) if ended else self._loops.get(job_id)
        if loop is not None:
            loop.call(self._call_watching, event)

    def _request(self, request: Mapping[str, Any]) -> None:
        action = request["action"]
        if action == "Preview":
            self._job.send({"type": "BlockPreview", "payload": request["payload"]})
            return
        # Nobody waits for the answer to a new weight.
        if action != "UpdateNodeWeight":
            loop = self._loops[request["request_id"]] = _Loop()
            if action == "RunBlock":
                self._loops[request["block_job_id"]] = loop
        self._job.send(request)

    def _call_waiting(self, response: Response) -> None:
        for callback in list(self._waiting.get(response["request_id"], ())):
            callback(response)

    def _call_watching(self, event: Event) -> None:
        for callback in list(self._watching):
            callback(event)


class _Loop:
    """The event loop that runs the calling coroutine, and the coroutine's context variables."""

    def __init__(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("a block that runs another one must be `async def`") from None
        self._context = copy_context()

    def call(self, function: Callable[[Mapping[str, Any]], None], value: Mapping[str, Any]) -> None:
        # A block may return before it has heard of all that it started.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, value, context=self._context)
