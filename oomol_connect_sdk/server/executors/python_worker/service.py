"""A service: a function that is called once and registers what handles the service's blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from oocana import Context, ServiceContextAbstractClass

from .entries import EntryError, is_coroutine_function


class Service(ServiceContextAbstractClass):  # type: ignore[misc]
    """The context of a service's function, and the way to its blocks.

    The function runs in a thread of its own and may go on as long as the service lives; blocks
    are run as soon as a handler is set, or, with ``waiting_ready_notify``, when it says so.
    """

    def __init__(self, function: Callable[[Service], Any]) -> None:
        self._function = function
        self._handler: Any = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._waits_for_notice = False
        threading.Thread(target=self._run, name="service", daemon=True).start()

    def handler(self, block: str, context: Context) -> tuple[Callable[..., Any], list[Any]]:
        """Wait until the service is ready; then what handles this block and its arguments.

        Raises EntryError when there is none, and what the service's function raised.
        """
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        if callable(self._handler):
            return self._handler, [block, context.inputs, context]
        if isinstance(self._handler, dict) and callable(self._handler.get(block)):
            return self._handler[block], [context.inputs, context]
        raise EntryError(f"the service has no handler for its block {block}")

    @property
    def block_handler(self) -> Any:
        """A function of block name, inputs and context, or one of the last two by block name."""
        return self._handler

    @block_handler.setter
    def block_handler(self, value: Any) -> None:
        self._handler = value
        if not self._waits_for_notice:
            self._ready.set()

    def __setitem__(self, key: str, value: Any) -> None:
        """The other way to set ``block_handler``."""
        if key == "block_handler":
            self.block_handler = value

    @property
    def waiting_ready_notify(self) -> bool:
        """Whether blocks wait for ``notify_ready``; to be set before the handler."""
        return self._waits_for_notice

    @waiting_ready_notify.setter
    def waiting_ready_notify(self, value: bool) -> None:
        self._waits_for_notice = value

    def notify_ready(self) -> None:
        """Let the blocks run."""
        self._ready.set()

    def add_message_callback(self, callback: Callable[[Any], Any]) -> None:
        """Accepted; nothing here sends messages to a service."""

    def _run(self) -> None:
        try:
            if is_coroutine_function(self._function):
                asyncio.run(self._function(self))
            else:
                self._function(self)
        except BaseException as failure:
            if self._ready.is_set():
                raise
            self._failure = failure
        if self._failure is not None or self._handler is None:
            # Nothing better will come: let the blocks say so.
            self._ready.set()


class ServicePlace:
    """Starts the service of this process, at the latest with its first block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._service: Service | None = None

    def service(self, load: Callable[[], Callable[..., Any]]) -> Service:
        """The service, made of the loaded function when this is the first call."""
        with self._lock:
            if self._service is None:
                self._service = Service(load())
            return self._service
