"""How a `ChatAgent` asks, and what it tells meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from typing_extensions import Self

from .config import yaml_mapping
from .options import Secret

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass
class ModelConfig:
    """Which model a `ChatAgent` asks, and with which parameters.

    ``api_base_url`` may be the address of any service `Models` knows. Without an ``api_key`` the
    environment names one. ``options`` are further ones of `Models`, such as ``timeout``,
    ``headers`` or ``http_client``. A parameter that is None is not sent.
    """

    api_base_url: str = "https://api.openai.com/v1"
    api_key: Secret | None = field(default=None, repr=False)
    model: str = "gpt-4o"
    temperature: float | None = 0.7
    top_p: float | None = 1.0
    frequency_penalty: float | None = 0.0
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _check_range(self, "temperature", 0, 2)
        _check_range(self, "top_p", 0, 1)
        _check_range(self, "frequency_penalty", -2, 2)
        for name in ("max_tokens", "max_completion_tokens", "n"):
            _check_range(self, name, 1, float("inf"))

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], **changes: Any) -> Self:
        """Read the part ``model`` of a YAML file; ``changes`` win over it."""
        return cls(**_section(cls, path, "model", changes))

    def parameters(self) -> dict[str, Any]:
        """Return what goes with every request."""
        own = ("api_base_url", "api_key", "model", "options")
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: value for name, value in values.items() if name not in own and value is not None
        }


@dataclass
class RuntimeConfig:
    """What a `ChatAgent` logs, counts, saves, shows and calls.

    ``enable_logging`` sets up the logger ``oomol_connect_sdk.models`` at ``log_level``, to
    standard error, and with ``save_logs_to_file`` to that file as well (True: ``chat.log``).
    ``capture_http_traffic`` logs every request and answer (``log_http_requests``,
    ``log_http_responses``) with its secrets masked. ``enable_debug`` saves them as JSON files in
    ``debug_directory``. ``capture_token_usage`` and ``capture_latency`` count in `UsageStats`.
    ``response_callback`` gets every whole `Reply`, ``stream_chunk_callback`` every `Piece`;
    either may be a coroutine function, and what it raises is logged and harms nothing.
    ``display_stream_output`` prints what ``chat_stream`` gives. ``max_tool_iterations`` is how
    often a model may have tools called before it must answer.
    """

    log_level: str = "INFO"
    enable_logging: bool = False
    save_logs_to_file: bool | str = False
    capture_http_traffic: bool = False
    log_http_requests: bool = True
    log_http_responses: bool = True
    capture_token_usage: bool = True
    capture_latency: bool = True
    enable_debug: bool = False
    debug_save_requests: bool = True
    debug_save_responses: bool = True
    debug_directory: str = "debug"
    response_callback: Callable[..., Any] | None = None
    stream_chunk_callback: Callable[..., Any] | None = None
    display_stream_output: bool = True
    max_tool_iterations: int = 5

    def __post_init__(self) -> None:
        if self.log_level not in _LEVELS:
            raise ValueError(f"log_level must be one of {', '.join(_LEVELS)}: {self.log_level!r}")
        _check_range(self, "max_tool_iterations", 1, float("inf"))
        for name in ("response_callback", "stream_chunk_callback"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise TypeError(f"{name} must be a function, not {getattr(self, name)!r}")

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], **changes: Any) -> Self:
        """Read the part ``runtime`` of a YAML file; ``changes`` win over it."""
        return cls(**_section(cls, path, "runtime", changes))


def _section(
    kind: type, path: str | os.PathLike[str], name: str, changes: Mapping[str, Any]
) -> dict[str, Any]:
    values = yaml_mapping(path).get(name) or {}
    known = [item.name for item in fields(kind)]
    if not isinstance(values, Mapping):
        raise ValueError(f"{os.fspath(path)}: {name} must be a mapping")
    for key in values:
        if key not in known:
            raise ValueError(f"{os.fspath(path)}: {name} has no {key!r}; it has {', '.join(known)}")
    return {**values, **changes}


def _check_range(config: Any, name: str, low: float, high: float) -> None:
    value = getattr(config, name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not low <= value <= high:
        upper = "" if high == float("inf") else f" and at most {high:g}"
        raise ValueError(f"{name} must be at least {low:g}{upper}, not {value!r}")
