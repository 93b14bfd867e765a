"""Conversations with a model that remembers, sees files and calls tools."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from typing_extensions import Self

from .._io import closing
from ..errors import OomolConnectError, ToolError
from ..inputs import to_json_value
from .agent_config import ModelConfig, RuntimeConfig
from .capture import ExchangeLog, prepare_logging
from .client import Models
from .exchanges import logger
from .messages import ModelFile, checked_messages
from .stats import UsageStats
from .tools import Tool, tools_of
from .values import PieceJoiner, Reply, ToolCall


class ChatAgent:
    """A conversation with one model.

    ::

        async with ChatAgent(ModelConfig(model="gpt-4o", api_key="…")) as agent:
            agent.register_tool(weather_in)
            print(await agent.chat("Shall I take an umbrella in Kyoto?"))

    ``models`` is a `ModelConfig`, or the `Models` of a service (which stay open). A turn that
    fails leaves the conversation as it was before.
    """

    def __init__(
        self, models: Models | ModelConfig | None = None, runtime: RuntimeConfig | None = None
    ) -> None:
        config = ModelConfig() if models is None else models
        if not isinstance(config, (ModelConfig, Models)):
            raise TypeError(f"models must be Models or a ModelConfig, not {models!r:.120}")
        self.runtime = runtime or RuntimeConfig()
        prepare_logging(self.runtime)
        self._owner = isinstance(config, ModelConfig)
        if isinstance(config, ModelConfig):
            self._parameters = config.parameters()
            self._models = self._models_of(config)
        else:
            if self.runtime.capture_http_traffic or self.runtime.enable_debug:
                raise ValueError(
                    "capture_http_traffic and enable_debug need a ModelConfig: give Models of "
                    "your own an on_exchange instead"
                )
            self._parameters = {}
            self._models = config
        self._tools: dict[str, Tool] = {}
        self._system: str | None = None
        self._history: list[dict[str, Any]] = []
        self.stats = UsageStats()

    async def chat(
        self,
        text: str,
        image_paths: Sequence[ModelFile] | None = None,
        video_paths: Sequence[ModelFile] | None = None,
        *,
        files: Sequence[ModelFile] = (),
        **params: Any,
    ) -> str:
        """Say something and return the model's answer, after the tools it wanted were called.

        Images and videos are paths, addresses or what else a file may be; ``files`` takes any
        kind. Further keywords go to the service. Raises ApiError, and ToolError when the model
        still wants tools after ``max_tool_iterations`` rounds.
        """
        turn = await self._begin(text, image_paths, video_paths, files)
        for _ in range(self.runtime.max_tool_iterations + 1):
            reply = await self._answer(turn, params)
            if await self._is_over(turn, reply):
                return reply.text
        raise self._too_many_rounds()

    async def chat_stream(
        self,
        text: str,
        image_paths: Sequence[ModelFile] | None = None,
        video_paths: Sequence[ModelFile] | None = None,
        *,
        files: Sequence[ModelFile] = (),
        **params: Any,
    ) -> AsyncGenerator[str, None]:
        """Say something like `chat` and give the text of the answer as it comes.

        With ``display_stream_output`` it is printed as well.
        """
        turn = await self._begin(text, image_paths, video_paths, files)
        for _ in range(self.runtime.max_tool_iterations + 1):
            joiner = PieceJoiner()
            async with closing(self._texts(turn, params, joiner)) as texts:
                async for piece in texts:
                    yield piece
            reply = joiner.reply()
            await self._tell(self.runtime.response_callback, reply)
            if await self._is_over(turn, reply):
                return
        raise self._too_many_rounds()

    def register_tool(self, tool: Any, handler: Any = None) -> None:
        """Let the model call a tool; one of the same name is replaced.

        ``tool`` is a function, or a `Tool`, a pydantic model or OpenAI's mapping together with
        the ``handler`` that does the work. The handler gets the arguments as keywords and may
        be a coroutine function. What it raises is told to the model, so that it can do without;
        only a ToolError ends the chat.
        """
        for found in tools_of(tool):
            runnable = found if handler is None else replace(found, handler=handler)
            if runnable.handler is None:
                raise ValueError(f"the tool {runnable.name!r} needs a handler")
            self._tools[runnable.name] = runnable

    def clear_tools(self) -> None:
        """Forget all tools."""
        self._tools.clear()

    def set_system_prompt(self, prompt: str | None) -> None:
        """Say how the model shall behave from now on."""
        self._system = prompt

    def add_message(self, role: str, content: Any) -> None:
        """Add a message to the conversation, as if it had been said."""
        self._history.extend(checked_messages([{"role": role, "content": content}]))

    def clear_history(self) -> None:
        """Begin a new conversation, with the same system prompt and tools."""
        self._history.clear()

    @property
    def history(self) -> list[dict[str, Any]]:
        """The messages so far, without the system prompt."""
        return list(self._history)

    def get_stats(self) -> dict[str, Any]:
        """Return what was asked and what it took (`UsageStats.summary`)."""
        return self.stats.summary()

    async def close(self) -> None:
        """Close the connections, if they are the agent's own."""
        if self._owner:
            await self._models.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _models_of(self, config: ModelConfig) -> Models:
        return Models(**connection_options(config, self.runtime))

    async def _begin(
        self, text: str, images: Any, videos: Any, files: Sequence[ModelFile]
    ) -> list[dict[str, Any]]:
        """Return the messages of a new turn, with all its files."""
        if not isinstance(text, str) or not text:
            raise TypeError(f"text must be non-empty text, not {text!r:.120}")
        message = [{"role": "user", "content": text}]
        for kind, listed in (("image", images), ("video", videos), (None, files)):
            message = await self._models._with_files(message, listed, kind)
        return message

    def _asked(
        self, turn: Sequence[Mapping[str, Any]], params: Mapping[str, Any]
    ) -> dict[str, Any]:
        system = [] if self._system is None else [{"role": "system", "content": self._system}]
        return {
            "messages": [*system, *self._history, *turn],
            "tools": list(self._tools.values()),
            **self._parameters,
            **params,
        }

    async def _answer(self, turn: Sequence[dict[str, Any]], params: Mapping[str, Any]) -> Reply:
        begun = self._models._face.io.now()
        try:
            reply = await self._models.chat(**self._asked(turn, params))
        except OomolConnectError:
            self._count(None, begun, failed=True)
            raise
        self._count(reply, begun)
        await self._tell(self.runtime.response_callback, reply)
        return reply

    async def _texts(
        self, turn: Sequence[dict[str, Any]], params: Mapping[str, Any], joiner: PieceJoiner
    ) -> AsyncGenerator[str, None]:
        begun = self._models._face.io.now()
        try:
            async with closing(self._models.stream(**self._asked(turn, params))) as pieces:
                async for piece in pieces:
                    joiner.add(piece)
                    await self._tell(self.runtime.stream_chunk_callback, piece)
                    if piece.text:
                        self._show(piece.text)
                        yield piece.text
        except OomolConnectError:
            self._count(None, begun, failed=True)
            raise
        finally:
            if joiner.reply().text:
                self._show("\n")
        self._count(joiner.reply(), begun)

    async def _is_over(self, turn: list[dict[str, Any]], reply: Reply) -> bool:
        """Take a reply into the turn and call the tools it wants; True when it wants none."""
        turn.append(reply.message())
        # By the calls themselves: some services say "stop" beside them.
        if not reply.tool_calls:
            self._history.extend(turn)
            return True
        works = [lambda call=call: self._called(call) for call in reply.tool_calls]
        turn.extend(await self._models._face.together(works))
        return False

    async def _called(self, call: ToolCall) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": call.id, "content": await self._result_of(call)}

    async def _result_of(self, call: ToolCall) -> str:
        tool = self._tools.get(call.name)
        if tool is None or tool.handler is None:
            return f"Error: there is no tool {call.name!r}, only {', '.join(self._tools) or 'none'}"
        try:
            result = await self._models._face.run(tool.handler, **call.parsed())
            if isinstance(result, str):
                return result
            return json.dumps(to_json_value(result, call.name), ensure_ascii=False)
        except ToolError:
            raise
        except Exception as error:
            logger.warning("the tool %s failed", call.name, exc_info=True)
            return f"Error: {type(error).__name__}: {error}"

    async def _tell(self, callback: Any, news: Any) -> None:
        if callback is None:
            return
        try:
            await self._models._face.io.call(callback, news)
        except Exception:
            logger.exception("%r failed", callback)

    def _show(self, text: str) -> None:
        if self.runtime.display_stream_output:
            print(text, end="", flush=True)

    def _count(self, reply: Reply | None, begun: float, *, failed: bool = False) -> None:
        usage = reply.usage if reply is not None and self.runtime.capture_token_usage else None
        seconds = self._models._face.io.now() - begun if self.runtime.capture_latency else 0.0
        self.stats.count(usage, seconds, failed=failed)

    def _too_many_rounds(self) -> ToolError:
        return ToolError(
            f"the model still wants tools after {self.runtime.max_tool_iterations} rounds: "
            "raise max_tool_iterations, or look at what the tools tell it"
        )


def connection_options(config: ModelConfig, runtime: RuntimeConfig) -> dict[str, Any]:
    """Return the options of `Models` for an agent of its own connections."""
    captures = runtime.capture_http_traffic or runtime.enable_debug
    return {
        "url": config.api_base_url,
        "api_key": config.api_key,
        "model": config.model,
        "on_exchange": ExchangeLog(runtime) if captures else None,
        **config.options,
    }
