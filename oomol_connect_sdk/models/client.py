"""The client of a model service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, List

from typing_extensions import Self, Unpack

from .._io import closing
from ..batch import limit_of
from ..errors import OomolConnectError
from ..inputs import to_json_value
from .config import resolved, yaml_options
from .face import Face, async_face
from .messages import Messages, ModelFile, checked_messages, with_files
from .options import ModelOptions, Settings
from .service import ChatCall, Service, service_for
from .stats import UsageStats
from .tools import tool_definitions
from .values import Piece, Reply

if TYPE_CHECKING:
    import os

    from .files import ModelFiles

#: Requests of a batch that are under way at once, unless told otherwise.
BATCH_LIMIT = 8

_OF_THE_REQUEST = ("messages", "model", "files", "tools", "custom_id", "priority")


class Models:
    """The models of one service, whichever of the four protocols it speaks.

    ::

        async with Models("https://api.openai.com/v1", api_key="…", model="gpt-4o") as models:
            reply = await models.chat("What is the capital of Japan?")
            print(reply.text)

    The scheme of the address picks the protocol (see `ModelOptions`). What is not given is taken
    from the environment, then from ``.env``. Nothing is sent before the first call.
    """

    def __init__(self, url: str | None = None, /, **options: Unpack[ModelOptions]) -> None:
        given = resolved({"url": url, **options} if url is None else {**options, "url": url})
        self._connect(Settings.of(given), async_face(given.get("http_client")), owner=True)

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], **options: Unpack[ModelOptions]) -> Self:
        """Take the options from a YAML file; those given here win over it."""
        return cls(**yaml_options(path, options))

    @classmethod
    def from_context(cls, context: Any, **options: Unpack[ModelOptions]) -> Self:
        """Take the service that a block's context names (``context.oomol_llm_env``)."""
        from .config import context_options

        return cls(**{**context_options(context), **options})

    def _connect(self, settings: Settings, face: Face, *, owner: bool) -> None:
        self._settings = settings
        self._face = face
        self._owner = owner
        self._service: Service = service_for(settings, face)
        self.stats = UsageStats()

    async def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        files: Iterable[ModelFile] = (),
        tools: Any = (),
        **params: Any,
    ) -> Reply:
        """Ask a model and return its whole answer.

        ``files`` go with the last user message. ``tools`` are `Tool` values, functions, pydantic
        models, OpenAI's mappings, or a module of functions by its name; whether the model wants
        one called is in the reply's ``tool_calls`` (`ChatAgent` calls them). Further keywords go
        to the service as they are.

        Raises TypeError or ValueError for what can't be sent, and ApiError.
        """
        return await self._answer(await self._call(messages, model, files, tools, params))

    async def stream(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        files: Iterable[ModelFile] = (),
        tools: Any = (),
        **params: Any,
    ) -> AsyncGenerator[Piece, None]:
        """Ask a model like `chat` and give its answer piece by piece.

        `PieceJoiner` puts pieces together. A stream is sent again only before its first piece.
        Who stops early should close it (``aclose``), so that its connection is given back.
        """
        call = await self._call(messages, model, files, tools, params)
        begun = self._face.io.now()
        usage = None
        try:
            async with closing(self._service.stream(call)) as pieces:
                async for piece in pieces:
                    usage = piece.usage or usage
                    yield piece
        except OomolConnectError:
            self.stats.count(None, self._face.io.now() - begun, failed=True)
            raise
        except GeneratorExit:
            self.stats.count(usage, self._face.io.now() - begun)
            raise
        self.stats.count(usage, self._face.io.now() - begun)

    async def batch(
        self, requests: Iterable[Mapping[str, Any]], *, limit: int = BATCH_LIMIT
    ) -> List[Reply]:
        """Ask many times and return the replies in the order of the requests.

        A request has the keywords of `chat`, a ``custom_id`` of the caller's own, and a
        ``priority``: where requests are sent one by one, at most ``limit`` at once, a higher one
        is sent first; Tamar Model Manager gets it with all of them at once. What goes wrong
        with one is the ``error`` of its reply. A request that can't be sent raises, and nothing
        is sent.
        """
        import asyncio

        limit_of(limit, BATCH_LIMIT)
        calls = await self._calls(requests)
        replies = await self._batch_of_its_own(calls)
        if replies is not None:
            return replies
        turns = asyncio.Semaphore(limit)

        async def in_turn(call: ChatCall) -> Reply:
            async with turns:
                return await self._answer_or_error(call)

        order = by_priority(calls)
        tasks = [asyncio.ensure_future(in_turn(calls[index])) for index in order]
        try:
            return in_given_order(order, await asyncio.gather(*tasks))
        finally:
            # What is no error of one request, such as a key that can't be had, ends them all.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def feedback(self, reply: Reply | str, metric: str, value: Any, **options: Any) -> Any:
        """Say how good an answer was; ``reply`` is it, or its id.

        TensorZero takes its metrics, DIAL a ``thumbs_up`` of True or False; the others raise
        NotSupported. Further keywords go to the service as they are.
        """
        if not isinstance(metric, str) or not metric:
            raise TypeError(f"metric must be non-empty text, not {metric!r}")
        return await self._service.feedback(reply, metric, value, options)

    async def list(self) -> List[dict[str, Any]]:
        """Return the models (deployments) of the service: each at least with ``id``.

        What they can do stands there as far as the service tells, such as DIAL's ``features``.
        """
        return await self._service.list()

    async def applications(self) -> List[dict[str, Any]]:
        """Return the applications of a DIAL service; the others raise NotSupported."""
        return await self._service.applications()

    async def application(self, id: str) -> dict[str, Any]:
        """Return one application of a DIAL service; the others raise NotSupported."""
        return await self._service.application(id)

    @property
    def files(self) -> ModelFiles:
        """The files of a DIAL service; the others raise NotSupported."""
        return self._service.files

    @property
    def model(self) -> str | None:
        """The model that is asked when a call names none."""
        return self._settings.model

    async def close(self) -> None:
        """Close the connections."""
        await self._service.close()
        if self._owner:
            await self._face.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.base_url!r})"

    async def _call(
        self,
        messages: Any,
        model: str | None,
        files: Any,
        tools: Any,
        params: Mapping[str, Any],
        **batch: Any,
    ) -> ChatCall:
        needed = self._service.needs_model(params)
        model = model or (self._settings.model if needed else None)
        if model is None and needed:
            raise ValueError("no model is named: pass model='…' here or to Models")
        if "stream" in params:
            raise TypeError("'stream' is no parameter: chat gives whole answers, stream pieces")
        if not isinstance(model, (str, type(None))):
            raise TypeError(f"model must be text, not {model!r:.120}")
        return ChatCall(
            model or "",
            await self._with_files(checked_messages(messages), files),
            tool_definitions(tools),
            {name: to_json_value(value, name) for name, value in params.items()},
            **batch,
        )

    async def _with_files(
        self, messages: List[dict[str, Any]], files: Any, kind: str | None = None
    ) -> List[dict[str, Any]]:
        io, max_size = self._face.io, self._settings.max_file_size
        return await with_files(messages, files, io, max_size, kind)

    async def _calls(self, requests: Iterable[Mapping[str, Any]]) -> Sequence[ChatCall]:
        calls = []
        for index, request in enumerate(requests):
            if not isinstance(request, Mapping) or "messages" not in request:
                raise TypeError(
                    f"request {index} of the batch must be a mapping with 'messages', "
                    f"not {request!r:.120}"
                )
            own = {name: request.get(name) for name in _OF_THE_REQUEST}
            params = {name: request[name] for name in request if name not in own}
            priority = own.pop("priority")
            if priority is not None and (
                isinstance(priority, bool) or not isinstance(priority, int)
            ):
                raise TypeError(f"the priority of request {index} must be a whole number")
            custom_id = own.pop("custom_id")
            try:
                call = await self._call(
                    own["messages"],
                    own["model"],
                    own["files"],
                    own["tools"] or (),
                    params,
                    priority=priority,
                    custom_id=None if custom_id is None else str(custom_id),
                )
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"request {index} of the batch: {error}") from error
            calls.append(call)
        return calls

    async def _batch_of_its_own(self, calls: Sequence[ChatCall]) -> List[Reply] | None:
        begun = self._face.io.now()
        replies = await self._service.batch(calls)
        for reply in replies or ():
            seconds = self._face.io.now() - begun
            self.stats.count(reply.usage, seconds, failed=reply.error is not None)
        return replies

    async def _answer(self, call: ChatCall) -> Reply:
        begun = self._face.io.now()
        try:
            reply = await self._service.chat(call)
        except OomolConnectError:
            self.stats.count(None, self._face.io.now() - begun, failed=True)
            raise
        self.stats.count(reply.usage, self._face.io.now() - begun)
        return reply

    async def _answer_or_error(self, call: ChatCall) -> Reply:
        from dataclasses import replace

        try:
            return replace(await self._answer(call), custom_id=call.custom_id)
        except OomolConnectError as error:
            return Reply(custom_id=call.custom_id, error=error)


def by_priority(calls: Sequence[ChatCall]) -> list[int]:
    """Return the places of the calls, those with the highest priority first."""
    return sorted(range(len(calls)), key=lambda index: -(calls[index].priority or 0))


def in_given_order(order: Sequence[int], replies: Sequence[Reply]) -> List[Reply]:
    """Return the replies to calls that were sent in ``order`` at their calls' places."""
    return [
        reply for _, reply in sorted(zip(order, replies, strict=True), key=lambda pair: pair[0])
    ]
