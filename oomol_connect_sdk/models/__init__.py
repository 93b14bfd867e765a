"""Language models of four kinds of service through one interface.

OpenAI-compatible services, DIAL, TensorZero (over HTTP and inside this process) and Tamar Model
Manager. `Models` and `SyncModels` ask; each protocol has a module of its own, found by the scheme
of the address. Nothing here knows of the local server. Needs Python 3.10.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent import ChatAgent as ChatAgent
    from .agent_config import ModelConfig as ModelConfig
    from .agent_config import RuntimeConfig as RuntimeConfig
    from .agent_sync import SyncChatAgent as SyncChatAgent
    from .block_tools import block_tool as block_tool
    from .client import Models as Models
    from .exchanges import Exchange as Exchange
    from .files import ModelFiles as ModelFiles
    from .options import ModelOptions as ModelOptions
    from .pool import ModelPool as ModelPool
    from .pool import SyncModelPool as SyncModelPool
    from .stats import UsageStats as UsageStats
    from .sync import SyncModels as SyncModels
    from .tools import Tool as Tool
    from .values import Piece as Piece
    from .values import PieceJoiner as PieceJoiner
    from .values import Reply as Reply
    from .values import ToolCall as ToolCall
    from .values import ToolCallPiece as ToolCallPiece
    from .values import Usage as Usage

_HOME_OF = {
    "ChatAgent": "agent",
    "ModelConfig": "agent_config",
    "RuntimeConfig": "agent_config",
    "SyncChatAgent": "agent_sync",
    "Exchange": "exchanges",
    "ModelFiles": "files",
    "ModelOptions": "options",
    "ModelPool": "pool",
    "Models": "client",
    "Piece": "values",
    "PieceJoiner": "values",
    "Reply": "values",
    "SyncModelPool": "pool",
    "SyncModels": "sync",
    "Tool": "tools",
    "ToolCall": "values",
    "ToolCallPiece": "values",
    "Usage": "values",
    "UsageStats": "stats",
    "block_tool": "block_tools",
}

__all__ = sorted(_HOME_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first asked for."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
