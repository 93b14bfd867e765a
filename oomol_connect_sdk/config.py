"""Where a client connects and who it says it is: keywords, options dict, environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Dict
from urllib.parse import urlsplit

from typing_extensions import Literal, TypedDict

AuthScheme = Literal["raw", "bearer"]

DEFAULT_BASE_URL = "/api"
DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_RETRIES = 3


class ClientOptions(TypedDict, total=False):
    """The options of a client; every key is also a keyword of its constructor.

    ``base_url``: where the server's API is, default ``$OOMOL_CONNECT_BASE_URL``.
    ``api_token``: default ``$OOMOL_CONNECT_API_TOKEN``.
    ``auth_scheme``: ``raw`` sends the bare token, ``bearer`` puts ``Bearer`` before it.
    ``default_headers``: sent with every request; an ``Authorization`` here wins over the token.
    ``timeout``: seconds to wait for the server to accept or send the next bytes, default
    ``$OOMOL_CONNECT_TIMEOUT`` or 30.
    ``max_retries``: how often a request that is safe to repeat is sent again, default 3.
    """

    base_url: str
    api_token: str
    auth_scheme: AuthScheme
    default_headers: Mapping[str, str]
    timeout: float
    max_retries: int


@dataclass(frozen=True)
class Config:
    """The checked options of a client. Its repr shows no secret."""

    base_url: str
    api_token: str | None = field(default=None, repr=False)
    auth_scheme: AuthScheme = "raw"
    default_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = DEFAULT_TIMEOUT
    max_retries: int = DEFAULT_MAX_RETRIES

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
            api_token=_token(merged.get("api_token")),
            auth_scheme=_auth_scheme(merged.get("auth_scheme")),
            default_headers=dict(merged.get("default_headers") or {}),
            timeout=_timeout(merged.get("timeout")),
            max_retries=_max_retries(merged.get("max_retries")),
        )

    def headers(self) -> Dict[str, str]:
        """Return the headers of every request."""
        headers = dict(self.default_headers)
        named = {name.lower() for name in headers}
        if self.api_token and "authorization" not in named:
            prefix = "Bearer " if self.auth_scheme == "bearer" else ""
            headers["Authorization"] = prefix + self.api_token
        return headers


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
    url = value or os.environ.get("OOMOL_CONNECT_BASE_URL") or DEFAULT_BASE_URL
    if not isinstance(url, str):
        raise TypeError(f"base_url must be text, not {type(url).__name__}")
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url must hold no user name or password: use default_headers")
    if parts.scheme not in ("", "http", "https") or (parts.scheme and not parts.hostname):
        raise ValueError(f"base_url must be an http:// or https:// address, not {url!r}")
    if parts.query or parts.fragment:
        raise ValueError(f"base_url must have no query and no fragment: {url!r}")
    return url.rstrip("/")


def _token(value: Any) -> str | None:
    token = value or os.environ.get("OOMOL_CONNECT_API_TOKEN") or None
    if token is None:
        return None
    if not isinstance(token, str):
        raise TypeError(f"api_token must be text, not {type(token).__name__}")
    if not token.isascii() or not token.isprintable() or token != token.strip():
        raise ValueError("api_token must be printable ASCII without surrounding blanks")
    return token


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
