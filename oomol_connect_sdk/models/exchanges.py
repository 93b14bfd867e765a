"""What went over the wire, for who wants to see it: one record a request, its secrets masked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .face import Face
from .options import Settings

logger = logging.getLogger("oomol_connect_sdk.models")

MASK = "***"

_SECRET_HEADERS = frozenset(
    {"authorization", "api-key", "x-api-key", "cookie", "proxy-authorization"}
)


@dataclass(frozen=True)
class Exchange:
    """One request and what came back; every attempt is one.

    ``body`` is what was sent, ``answer`` what came: decoded, or the list of a stream's events.
    ``status`` is HTTP's, or gRPC's code by name; None when nothing came. Headers that carry
    secrets are masked, and so are ``credentials`` in the body. ``seconds`` is the time until the
    answer was over.
    """

    service: str
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    status: int | str | None = None
    answer: Any = None
    error: str | None = None
    seconds: float = 0.0


class Observer:
    """Tells the caller's ``on_exchange`` what went over the wire."""

    def __init__(self, settings: Settings, face: Face) -> None:
        self._callback = settings.on_exchange
        self._face = face

    @property
    def listens(self) -> bool:
        """Whether anybody wants to know."""
        return self._callback is not None

    async def tell(self, exchange: Exchange) -> None:
        """Hand it over. What the callback raises is logged and harms no call."""
        if self._callback is None:
            return
        shown = replace(exchange, body=_masked_body(exchange.body))
        try:
            await self._face.io.call(self._callback, shown)
        except Exception:
            logger.exception("on_exchange failed for %s %s", exchange.method, exchange.url)


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers without what is secret in them."""
    return {name: MASK if _is_secret(name) else value for name, value in headers.items()}


def _masked_body(body: Any) -> Any:
    """Return the body without the secrets that TensorZero takes in it."""
    if not isinstance(body, dict) or "credentials" not in body:
        return body
    return {**body, "credentials": MASK}


def _is_secret(name: str) -> bool:
    lower = name.lower()
    return lower in _SECRET_HEADERS or "token" in lower or "secret" in lower or "key" in lower
