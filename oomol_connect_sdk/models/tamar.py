"""Tamar Model Manager: the models of several providers over gRPC."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, List, TypeVar
from urllib.parse import urlsplit

from .._io import closing
from ..errors import ApiError, BadAnswerError, OomolConnectError
from .exchanges import Exchange, Observer, masked
from .face import Face
from .google import google_reply, google_request, google_usage
from .openai import piece_of, reply_of
from .options import Settings
from .retry import retrying
from .service import ChatCall, Service
from .tamar_calls import Calls, Metadata, calls_for, may_pass, status_name, translated
from .tamar_tokens import Tokens
from .tamar_wire import wire
from .values import Piece, Reply, ToolCallPiece, Usage

#: Parameters that are fields of their own on the wire; the others go to the provider.
_FIELDS = ("provider", "channel", "invoke_type", "org_id", "user_id", "client_type", "region")

#: What may be the name of a header with text.
_HEADER_NAME = re.compile("[a-z0-9_.-]+(?<!-bin)")

Result = TypeVar("Result")

_Messages = AsyncGenerator[Any, None]


class TamarService(Service):
    """Speaks ``Invoke`` and ``BatchInvoke``.

    ``provider`` (``openai``, ``google``, ``azure``, …), ``channel``, ``invoke_type``, ``org_id``,
    ``user_id``, ``client_type`` and ``region`` are parameters of a call; most are options of the
    client as well. A channel and an invoke type that are left out are the usual ones. A
    ``google`` model is told the messages in Google's words. ``timeout`` bounds a whole answer.
    """

    name = "Tamar Model Manager"

    def __init__(self, settings: Settings, face: Face) -> None:
        super().__init__(settings, face)
        if urlsplit(settings.base_url).path:
            raise ValueError(f"the address of {self.name} is a host and a port only")
        self._headers = {name.lower(): value for name, value in settings.headers.items()}
        for name in self._headers:
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"gRPC has no header {name!r}")
        self._observer = Observer(settings, face)
        self._tokens = Tokens(settings, face.io)

    async def chat(self, call: ChatCall) -> Reply:
        """Ask for a whole answer."""
        request_id = str(uuid.uuid4())
        first, rest = await self._begun(call, request_id, stream=False)
        await rest.aclose()
        return _reply(first, request_id, call)

    async def stream(self, call: ChatCall) -> AsyncGenerator[Piece, None]:
        """Ask for an answer in pieces."""
        request_id = str(uuid.uuid4())
        first, rest = await self._begun(call, request_id, stream=True)
        calls = 0
        async with closing(rest):
            piece = _piece(first, request_id, calls)
            yield piece
            async for message in rest:
                calls += len(piece.tool_calls)
                piece = _piece(message, request_id, calls)
                yield piece

    async def batch(self, calls: Sequence[ChatCall]) -> List[Reply]:
        """Send all requests in one call; the service decides about their order and priority."""
        if not calls:
            return []
        request_id = str(uuid.uuid4())
        keys = _keys(calls)
        connected = self._connected()
        items = [
            self._item(replace(call, custom_id=key), stream=False)
            for key, call in zip(keys, calls, strict=True)
        ]
        if self._tokens.of_users and len({(item.org_id, item.user_id) for item in items}) > 1:
            raise ValueError("a batch is sent with one user's token: its requests must agree")
        request = wire().ModelRequest(items=items)

        async def once(metadata: Metadata) -> Any:
            async with self._recorded("BatchInvoke", request, metadata, request_id) as seen:
                answer = await connected.batch_invoke(request, metadata, self.settings.timeout)
                seen(answer)
                return answer

        try:
            answer = await self._retried(items[0], request_id, once)
        except ApiError as error:
            failed = Reply(error=error, request_id=request_id)
            return [replace(failed, custom_id=call.custom_id) for call in calls]
        return _in_order(answer, keys, calls, request_id)

    def _connected(self) -> Calls:
        return calls_for(self.settings, self.face)

    def _item(self, call: ChatCall, *, stream: bool) -> Any:
        fields: dict[str, Any] = {name: self._field(call, name) for name in _FIELDS}
        extra: dict[str, Any] = {
            name: value for name, value in call.params.items() if name not in _FIELDS
        }
        provider = fields["provider"] = fields["provider"] or "openai"
        fields["channel"] = fields["channel"] or "normal"
        if provider == "google" and fields["invoke_type"] in (None, "generation"):
            fields["invoke_type"] = "generation"
            extra = google_request(call.messages, call.tools, extra)
        else:
            fields["invoke_type"] = fields["invoke_type"] or "chat-completions"
            extra["messages"] = call.messages
            if call.tools:
                extra["tools"] = call.tools
            if stream:
                # The public client says it here as well.
                extra["stream"] = True
        fields.update(stream=stream, priority=call.priority, custom_id=call.custom_id)
        return wire().request_item(fields, {"model": call.model, **extra})

    def _field(self, call: ChatCall, name: str) -> str | None:
        value = call.params.get(name)
        if value is None:
            value = self.settings.special.get(name)
        if not isinstance(value, (str, type(None))):
            raise TypeError(f"{name} must be text, not {value!r:.120}")
        return value

    async def _begun(
        self, call: ChatCall, request_id: str, *, stream: bool
    ) -> tuple[Any, _Messages]:
        """Return the first message of an answer, and those that follow; retried until it comes."""
        connected = self._connected()
        item = self._item(call, stream=stream)

        async def begin(metadata: Metadata) -> tuple[Any, _Messages]:
            messages = self._messages(connected, item, metadata, request_id)
            try:
                return await anext(messages), messages
            except StopAsyncIteration:
                raise BadAnswerError(
                    f"{self.name} ended without an answer", 200, request_id=request_id
                ) from None

        return await self._retried(item, request_id, begin)

    async def _messages(
        self, connected: Calls, item: Any, metadata: Metadata, request_id: str
    ) -> _Messages:
        async with self._recorded("Invoke", item, metadata, request_id) as seen:
            timeout = self.settings.timeout
            async with closing(connected.invoke(item, metadata, timeout)) as messages:
                async for message in messages:
                    seen(message)
                    if message.error:
                        raise _provider_error(message, request_id)
                    yield message

    @asynccontextmanager
    async def _recorded(
        self, method: str, request: Any, metadata: Metadata, request_id: str
    ) -> AsyncGenerator[Callable[[Any], None], None]:
        """Tell who listens of a call; what gRPC raises becomes an ApiError."""
        came: list[Any] = []
        status: str | None = None
        failed: OomolConnectError | None = None
        begun = self.face.io.now()
        try:
            yield came.append if self._observer.listens else _ignored
            status = "OK"
        except OomolConnectError as error:
            failed = error
            raise
        except Exception as error:
            status = status_name(error)
            if status is None:
                raise
            failed = translated(error, f"{self.name} {method}", request_id)
            raise failed from error
        finally:
            if self._observer.listens:
                exchange = Exchange(
                    self.name,
                    method,
                    self.settings.base_url,
                    masked(dict(metadata)),
                    _as_dict(request),
                    status or ("OK" if came else None),
                    _answer(request, came),
                    None if failed is None else str(failed),
                    self.face.io.now() - begun,
                )
                await self._observer.tell(exchange)

    async def _retried(
        self, item: Any, request_id: str, once: Callable[[Metadata], Awaitable[Result]]
    ) -> Result:
        """Do it for the user of a request. A token that is refused is replaced once."""

        async def authorized() -> Result:
            token = await self._token(item)
            try:
                return await once(self._metadata(token, request_id))
            except ApiError as error:
                if error.status != 401 or not self._tokens.forget(token):
                    raise
            return await once(self._metadata(await self._token(item), request_id))

        return await retrying(self.settings, self.face.io, may_pass, authorized)

    async def _token(self, item: Any) -> str | None:
        if "authorization" in self._headers:
            return None
        return await self._tokens.token(item.org_id, item.user_id)

    def _metadata(self, token: str | None, request_id: str) -> Metadata:
        authorization = {} if token is None else {"authorization": f"Bearer {token}"}
        headers = {**self._headers, **authorization, "x-request-id": request_id}
        return list(headers.items())


def _keys(calls: Sequence[ChatCall]) -> list[str]:
    """Return a name for each call: the callers' own where each has one and no two the same."""
    names = [call.custom_id or "" for call in calls]
    if all(names) and len(set(names)) == len(names):
        return names
    return [f"{name or 'item'}#{number}" for number, name in enumerate(names)]


def _in_order(
    answer: Any, keys: Sequence[str], calls: Sequence[ChatCall], request_id: str
) -> list[Reply]:
    request_id = answer.request_id or request_id
    items = {item.custom_id: item for item in answer.items}
    # A service that names none has to keep the order.
    if set(items) == {""} and len(answer.items) == len(calls):
        items = dict(zip(keys, answer.items, strict=True))
    replies = []
    for key, call in zip(keys, calls, strict=True):
        try:
            reply = _reply_of_batch(items.get(key), request_id, call)
        except ApiError as error:
            reply = Reply(error=error, request_id=error.request_id)
        replies.append(replace(reply, custom_id=call.custom_id))
    return replies


def _reply_of_batch(item: Any, request_id: str, call: ChatCall) -> Reply:
    if item is None:
        message = "Tamar Model Manager sent no answer to this request of the batch"
        raise BadAnswerError(message, 200, request_id=request_id)
    if item.error:
        raise _provider_error(item, request_id)
    return _reply(item, request_id, call)


def _reply(message: Any, request_id: str, call: ChatCall) -> Reply:
    raw = _json(message.raw_response)
    reply = Reply()
    with _errors_of(message, request_id):
        if isinstance(raw, dict) and "choices" in raw:
            reply = reply_of(raw, None)
        elif isinstance(raw, dict):
            reply = google_reply(raw)
    return replace(
        reply,
        text=message.content,
        usage=_usage(message) or reply.usage,
        model=reply.model or call.model,
        request_id=message.request_id or request_id,
        raw=raw,
    )


def _piece(message: Any, request_id: str, calls: int) -> Piece:
    """Read one part of an answer, before which came so many tool calls."""
    raw = _json(message.raw_response)
    piece = Piece()
    with _errors_of(message, request_id):
        if isinstance(raw, dict) and "choices" in raw:
            piece = piece_of(raw, {})
        elif isinstance(raw, dict):
            piece = _google_piece(raw, calls)
    return replace(
        piece,
        text=message.content,
        usage=_usage(message) or piece.usage,
        request_id=message.request_id or request_id,
        raw=raw,
    )


def _google_piece(raw: Mapping[str, Any], calls: int) -> Piece:
    reply = google_reply(raw, calls)
    return Piece(
        tool_calls=tuple(
            ToolCallPiece(number, call.id, call.name, call.arguments)
            for number, call in enumerate(reply.tool_calls, calls)
        ),
        finish=reply.finish,
        usage=reply.usage,
        id=reply.id,
        model=reply.model,
    )


@contextmanager
def _errors_of(message: Any, request_id: str) -> Iterator[None]:
    """Let errors say to which request they belong."""
    try:
        yield
    except ApiError as error:
        error.request_id = message.request_id or request_id
        raise


def _usage(message: Any) -> Usage | None:
    usage = _json(message.usage)
    return Usage.of(usage) or google_usage(usage)


def _provider_error(message: Any, request_id: str) -> ApiError:
    # It came as a good answer, and the service itself has tried again already.
    return ApiError(
        f"the provider failed: {message.error}",
        200,
        _json(message.raw_response),
        request_id=message.request_id or request_id,
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return text


def _ignored(message: Any) -> None:
    """Keep nothing: nobody listens."""


def _answer(request: Any, came: Sequence[Any]) -> Any:
    """Return an answer as an observer sees it: a list for a stream, else what came."""
    messages = [_as_dict(message) for message in came]
    if getattr(request, "stream", False):
        return messages
    return messages[0] if messages else None


def _as_dict(message: Any) -> Mapping[str, Any]:
    from google.protobuf import json_format

    fields: Mapping[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return fields
