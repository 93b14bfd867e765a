"""Who may talk to the server: host and token are checked before anything else is done."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._version import __version__
from .answers import failure

if TYPE_CHECKING:
    from .model_endpoint import ModelEndpoint

#: Where blocks ask language models, below the address of the server.
MODELS = "/llm"

_READING = ("GET", "HEAD")
#: What tells nothing about this server but that it is one: the page asks for the token itself.
_OPEN = frozenset(("/ui", "/doc", "/api/ui", "/api/doc"))

#: What this server offers beyond the common wire; clients learn it from any answer.
FEATURES = "events, wait, logs-after, idempotency, pages, files"


class Guard:
    """ASGI middleware that refuses strangers and signs every answer.

    The page and the API's document are for everybody. Without a token everybody is let in, except
    pages of other origins that want to change something: browsers let them send forms. ``hosts``
    are the names a request may call the server by (in lower case, without the port), so that no
    web page reaches it by rebinding a name of its own; None lets all names through. ``models``
    has an entrance of its own, with a key of its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: Iterable[str] | None,
        models: ModelEndpoint | None = None,
    ) -> None:
        self._app = app
        self._models = models
        self._token = token.encode() if token else None
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        headers = Headers(scope=scope)
        if not self._knows_host(headers):
            app: ASGIApp = failure(400, "The Host header names a server this one is not.")
        elif self._models is not None and scope["path"].startswith(f"{MODELS}/"):
            known = self._models.admits(headers.get("authorization", ""))
            app = self._models.app if known else _unauthorized()
        elif scope["path"] not in _OPEN and not self._knows_token(headers):
            app = _unauthorized()
        elif self._token is None and scope["method"] not in _READING and _is_foreign(headers):
            app = failure(403, "Pages of other origins can't use a server that has no token.")
        else:
            app = self._app
        await app(scope, receive, _signed(send))

    def _knows_host(self, headers: Headers) -> bool:
        return self._hosts is None or _name(headers.get("host", "")) in self._hosts

    def _knows_token(self, headers: Headers) -> bool:
        if self._token is None:
            return True
        # Every candidate is compared, each in constant time.
        matches = [hmac.compare_digest(given, self._token) for given in _tokens(headers)]
        return any(matches)


def _is_foreign(headers: Headers) -> bool:
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _name(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def _tokens(headers: Headers) -> list[bytes]:
    """Return what may be the token: the raw header, what follows ``Bearer``, an API key."""
    authorization = headers.get("authorization", "")
    scheme, _, rest = authorization.partition(" ")
    candidates = [authorization, headers.get("x-api-key", "")]
    if scheme.lower() == "bearer":
        candidates.append(rest.strip())
    return [candidate.encode("latin-1") for candidate in candidates]


def _unauthorized() -> ASGIApp:
    message = "The API token is missing or wrong. Send it as the Authorization header."
    return failure(401, message, {"WWW-Authenticate": 'Bearer realm="oomol-connect"'})


def _signed(send: Send) -> Send:
    async def signed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            headers["Oomol-Connect-Local"] = __version__
            headers["Oomol-Connect-Features"] = FEATURES
            headers["X-Request-Id"] = uuid.uuid4().hex
            # No other page may embed what it can't read.
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
        await send(message)

    return signed
