"""The blocking face of `ChatAgent`: the same code, for programs without an event loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from typing_extensions import Self

from .._io import drive, iterate
from ..sync_tasks import documented_by
from .agent import ChatAgent, connection_options
from .agent_config import ModelConfig, RuntimeConfig
from .client import Models
from .messages import ModelFile
from .stats import UsageStats
from .sync import SyncModels


class _Agent(ChatAgent):
    def _models_of(self, config: ModelConfig) -> Models:
        return SyncModels(**connection_options(config, self.runtime))._models


class SyncChatAgent:
    """A conversation with one model, blocking. See `ChatAgent`.

    ::

        with SyncChatAgent(ModelConfig(model="gpt-4o", api_key="…")) as agent:
            print(agent.chat("Hello!"))
    """

    def __init__(
        self, models: SyncModels | ModelConfig | None = None, runtime: RuntimeConfig | None = None
    ) -> None:
        if isinstance(models, Models):
            raise TypeError(f"models must be SyncModels or a ModelConfig, not {models!r:.120}")
        core = models._models if isinstance(models, SyncModels) else models
        self._agent = _Agent(core, runtime)

    @documented_by(ChatAgent.chat)
    def chat(
        self,
        text: str,
        image_paths: Sequence[ModelFile] | None = None,
        video_paths: Sequence[ModelFile] | None = None,
        *,
        files: Sequence[ModelFile] = (),
        **params: Any,
    ) -> str:
        return drive(self._agent.chat(text, image_paths, video_paths, files=files, **params))

    @documented_by(ChatAgent.chat_stream)
    def chat_stream(
        self,
        text: str,
        image_paths: Sequence[ModelFile] | None = None,
        video_paths: Sequence[ModelFile] | None = None,
        *,
        files: Sequence[ModelFile] = (),
        **params: Any,
    ) -> Iterator[str]:
        return iterate(
            self._agent.chat_stream(text, image_paths, video_paths, files=files, **params)
        )

    @documented_by(ChatAgent.register_tool)
    def register_tool(self, tool: Any, handler: Any = None) -> None:
        self._agent.register_tool(tool, handler)

    @documented_by(ChatAgent.clear_tools)
    def clear_tools(self) -> None:
        self._agent.clear_tools()

    @documented_by(ChatAgent.set_system_prompt)
    def set_system_prompt(self, prompt: str | None) -> None:
        self._agent.set_system_prompt(prompt)

    @documented_by(ChatAgent.add_message)
    def add_message(self, role: str, content: Any) -> None:
        self._agent.add_message(role, content)

    @documented_by(ChatAgent.clear_history)
    def clear_history(self) -> None:
        self._agent.clear_history()

    @property
    def history(self) -> list[dict[str, Any]]:
        """The messages so far, without the system prompt."""
        return self._agent.history

    @property
    def stats(self) -> UsageStats:
        """What was asked and what it took."""
        return self._agent.stats

    @documented_by(ChatAgent.get_stats)
    def get_stats(self) -> dict[str, Any]:
        return self._agent.get_stats()

    @documented_by(ChatAgent.close)
    def close(self) -> None:
        drive(self._agent.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
