"""Where a client connects and who it says it is: keywords, options dict, environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable, Dict, Union
from urllib.parse import SplitResult, urlsplit

from typing_extensions import Literal, TypedDict

from .errors import OomolConnectError

AuthScheme = Literal["raw", "bearer"]

DEFAULT_BASE_URL = "/api"
DEFAULT_APPLETS_URL = "https://chat-data.oomol.com"
DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_RETRIES = 3


#: A token, or what gives one: a function, on the async client also a coroutine function. It is
#: asked when a token is first needed, and again when the server answers 401.
Token = Union[str, Callable[[], Union[str, Awaitable[str]]]]

#: The key that names what to run in a request: that one alone, or ``all`` that known servers read.
TargetKey = Literal["all", "blockId", "manifest", "flowName"]


class ClientOptions(TypedDict, total=False):
    """The options of a client; every key is also a keyword of its constructor.

    ``base_url``: where the server's API is, default ``$OOMOL_CONNECT_BASE_URL``.
    ``api_token``: a token or a function that gives one, default ``$OOMOL_CONNECT_API_TOKEN``.
    ``auth_scheme``: ``raw`` sends the bare token, ``bearer`` puts ``Bearer`` before it.
    ``default_headers``: sent with every request; an ``Authorization`` here wins over the token.
    ``timeout``: seconds to wait for the server to accept or send the next bytes, default
    ``$OOMOL_CONNECT_TIMEOUT`` or 30.
    ``max_retries``: how often a request that is safe to repeat is sent again, default 3.
    ``target_key``: the key that names what to run on the wire, default ``all``.
    ``applets_url``, ``applets_token``: where applets are listed, and a token for there. Nothing
    that is meant for ``base_url`` is sent to it.
    ``http_client``: an `httpx.AsyncClient` (for the blocking client an `httpx.Client`) to send
    with, for proxies, certificates and the like; it is not closed.
    ``models``: the options of the model service behind ``client.models`` (`ModelOptions`),
    default what the environment names.
    """

    base_url: str
    api_token: Token
    auth_scheme: AuthScheme
    default_headers: Mapping[str, str]
    timeout: float
    max_retries: int
    target_key: TargetKey
    applets_url: str
    applets_token: Token
    http_client: Any
    models: Mapping[str, Any]


@dataclass(frozen=True)
class Config:
    """The checked options of a client. Its repr shows no secret."""

    base_url: str
    api_token: Token | None = field(default=None, repr=False)
    auth_scheme: AuthScheme = "raw"
    default_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = DEFAULT_TIMEOUT
    max_retries: int = DEFAULT_MAX_RETRIES
    target_key: TargetKey = "all"
    applets_url: str = DEFAULT_APPLETS_URL
    applets_token: Token | None = field(default=None, repr=False)
    http_client: Any = field(default=None, repr=False)
    models: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, options: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> Config:
        """Merge the options dict and the keywords (which win), fill the rest from the environment.

        Raises TypeError for an unknown option and ValueError for an unusable value.
        """
        merged: Dict[str, Any] = dict(_options_mapping(options))
        merged.update({key: value for key, value in keywords.items() if value is not None})
        unknown = sorted(set(merged) - set(ClientOptions.__annotations__))
        if unknown:
            known = ", ".join(ClientOptions.__annotations__)
            raise TypeError(f"unknown client option {unknown[0]!r}; the options are {known}")
        return cls(
            base_url=_base_url(merged.get("base_url")),
            api_token=_token(merged.get("api_token") or os.environ.get("OOMOL_CONNECT_API_TOKEN")),
            auth_scheme=_auth_scheme(merged.get("auth_scheme")),
            default_headers=dict(merged.get("default_headers") or {}),
            timeout=_timeout(merged.get("timeout")),
            max_retries=_max_retries(merged.get("max_retries")),
            target_key=_target_key(merged.get("target_key")),
            applets_url=_url(merged.get("applets_url") or DEFAULT_APPLETS_URL, "applets_url"),
            applets_token=_token(merged.get("applets_token")),
            http_client=merged.get("http_client"),
            models=_models(merged.get("models")),
        )

    def changed(self, options: Mapping[str, Any]) -> Config:
        """Return a copy with some options changed."""
        mine = {name: getattr(self, name) for name in ClientOptions.__annotations__}
        return Config.of({**mine, **options}, {})

    def authorization(self, token: str) -> str:
        """Return the Authorization header for a token."""
        return f"Bearer {token}" if self.auth_scheme == "bearer" else token


def applets_config(config: Config) -> Config:
    """Return how to reach the server that lists applets."""
    return stranger(config, config.applets_url, config.applets_token)


def stranger(config: Config, base_url: str, token: Token | None = None) -> Config:
    """Return how to reach another server: with nothing of the client's own identity."""
    return Config(
        base_url=_url(base_url, "the server's address"),
        api_token=token,
        timeout=config.timeout,
        max_retries=config.max_retries,
    )


def models_module() -> Any:
    """Return the package of model services; OomolConnectError where Python is too old for it."""
    if sys.version_info < (3, 10):
        raise OomolConnectError("model services need Python 3.10 or newer")
    from . import models

    return models


def refuse_http_client(options: Mapping[str, Any]) -> None:
    """Raise TypeError when the options of a derived client name another httpx client."""
    if "http_client" in options:
        raise TypeError("http_client can't be changed: make a new client for it")


def check_token(token: Any) -> str:
    """Return the token; ValueError or TypeError when it can't stand in a header."""
    if not isinstance(token, str):
        raise TypeError(f"api_token must be text or give text, not {type(token).__name__}")
    if not token.isascii() or not token.isprintable() or token != token.strip():
        raise ValueError("api_token must be printable ASCII without surrounding blanks")
    return token


def _options_mapping(options: Any) -> Mapping[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(
            f"client options must be a mapping such as {{'base_url': …}}, "
            f"not {type(options).__name__}"
        )
    return options


def _base_url(value: Any) -> str:
    return _url(value or os.environ.get("OOMOL_CONNECT_BASE_URL") or DEFAULT_BASE_URL, "base_url")


def _url(url: Any, option: str) -> str:
    if not isinstance(url, str):
        raise TypeError(f"{option} must be text, not {type(url).__name__}")
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{option} must hold no user name or password: use default_headers")
    if parts.scheme not in ("", "http", "https") or (parts.scheme and not parts.hostname):
        raise ValueError(f"{option} must be an http:// or https:// address, not {url!r}")
    if not _has_usable_port(parts):
        raise ValueError(f"{option} has a port that is none: {url!r}")
    if parts.query or parts.fragment:
        raise ValueError(f"{option} must have no query and no fragment: {url!r}")
    return url.rstrip("/")


def _has_usable_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _token(value: Any) -> Token | None:
    if not value:
        return None
    token: Token = value if callable(value) else check_token(value)
    return token


def _models(value: Any) -> Dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(
            f"models must be a mapping such as {{'url': …}}, not {type(value).__name__}"
        )
    return dict(value or {})


def _target_key(value: Any) -> TargetKey:
    if value is None:
        return "all"
    if value not in ("all", "blockId", "manifest", "flowName"):
        raise ValueError(
            f"target_key must be 'all', 'blockId', 'manifest' or 'flowName', not {value!r}"
        )
    key: TargetKey = value
    return key


def _auth_scheme(value: Any) -> AuthScheme:
    if value in (None, "raw"):
        return "raw"
    if value == "bearer":
        return "bearer"
    raise ValueError(f"auth_scheme must be 'raw' or 'bearer', not {value!r}")


def _timeout(value: Any) -> float:
    if value is None:
        value = os.environ.get("OOMOL_CONNECT_TIMEOUT") or DEFAULT_TIMEOUT
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"timeout must be a number of seconds, not {value!r}") from None
    if not 0 < seconds < float("inf"):
        raise ValueError(f"timeout must be a positive number of seconds, not {value!r}")
    return seconds


def _max_retries(value: Any) -> int:
    if value is None:
        return DEFAULT_MAX_RETRIES
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"max_retries must be a number of times, 0 or more, not {value!r}")
    return value
