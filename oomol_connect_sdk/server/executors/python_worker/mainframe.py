"""What ``oocana.Context`` talks to: here one object per job, in front of the worker's channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

Response = Mapping[str, Any]
#: Questions a block may ask, and the method that asks it.
_UNSUPPORTED = {
    "RunBlock": "run_block",
    "QueryBlock": "query_block",
    "QueryDownstream": "query_downstream",
    "QueryAuth": "query_auth",
}


class Sender(Protocol):
    """A job, as far as its messages are concerned."""

    @property
    def job_id(self) -> str:
        """The id that its messages carry."""

    @property
    def session_id(self) -> str:
        """The task it belongs to."""

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message of this job, or drop it when the job is over."""

    def finish(self, message: Mapping[str, Any]) -> None:
        """Send the job's BlockFinished."""


class JobMainframe:
    """The surface of oocana's Mainframe that a Context uses."""

    def __init__(self, job: Sender) -> None:
        self._job = job
        self._waiting: dict[str, list[Callable[[Response], None]]] = {}
        self._unclaimed: dict[str, Response] = {}

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
        """Call back with the response to this request, which may be there already."""
        self._waiting.setdefault(request_id, []).append(callback)
        response = self._unclaimed.pop(request_id, None)
        if response is not None:
            self._respond(request_id, response)

    def remove_request_response_callback(
        self, session_id: str, request_id: str, callback: Callable[[Response], None]
    ) -> None:
        """Forget a callback."""
        callbacks = self._waiting.get(request_id, [])
        if callback in callbacks:
            callbacks.remove(callback)
        if not callbacks:
            self._waiting.pop(request_id, None)

    def add_report_callback(self, callback: Callable[[Any], None]) -> None:
        """Nothing to call back with: the events of other blocks don't come here."""

    def remove_report_callback(self, callback: Callable[[Any], None]) -> None:
        """The counterpart of add_report_callback."""

    def _request(self, request: Mapping[str, Any]) -> None:
        action = request["action"]
        if action == "Preview":
            self._job.send({"type": "BlockPreview", "payload": request["payload"]})
        elif action in _UNSUPPORTED:
            error = f"context.{_UNSUPPORTED[action]} is not supported by the local server"
            self._respond(
                request["request_id"],
                {
                    "session_id": self._job.session_id,
                    "job_id": self._job.job_id,
                    "request_id": request["request_id"],
                    "error": error,
                },
            )

    def _respond(self, request_id: str, response: Response) -> None:
        callbacks = list(self._waiting.get(request_id, ()))
        if not callbacks:
            # run_block asks first and registers its callback afterwards.
            self._unclaimed[request_id] = response
        for callback in callbacks:
            callback(response)
