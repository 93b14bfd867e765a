"""Tokens for Tamar Model Manager: given, asked for, or made from a key."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

from .._io import IO
from .options import Settings, check_secret

#: Seconds that a made token is good for, and how long before its end a new one is made.
LIFE = 3600
MARGIN = 60


class Tokens:
    """The tokens of one client: one, or one for each user of an organisation."""

    def __init__(self, settings: Settings, io: IO) -> None:
        self._source = settings.api_key or settings.bearer_token
        self._key: str | None = settings.special.get("jwt_secret_key")
        if self._source is not None and self._key is not None:
            raise ValueError("Tamar Model Manager gets a ready token or a jwt_secret_key, not both")
        self._io = io
        self._asked: str | None = None
        self._made: dict[tuple[str, str], tuple[str, float]] = {}

    @property
    def of_users(self) -> bool:
        """Whether each user has a token of its own."""
        return self._key is not None

    async def token(self, org_id: str, user_id: str) -> str | None:
        """Return a token that is still good; None when there is nothing to make one of."""
        if self._source is None:
            return None if self._key is None else self._made_token(org_id, user_id, self._key)
        if isinstance(self._source, str):
            return self._source
        token = self._asked
        if token is None:
            token = self._asked = check_secret(await self._io.call(self._source), "api_key")
        return token

    def forget(self, token: str | None) -> bool:
        """Forget a token that was refused; False when there can be no other one."""
        # Another call may have got a new one meanwhile.
        if self._asked == token:
            self._asked = None
        self._made = {user: made for user, made in self._made.items() if made[0] != token}
        return self._key is not None or callable(self._source)

    def _made_token(self, org_id: str, user_id: str, key: str) -> str:
        now = time.time()
        token, end = self._made.get((org_id, user_id), ("", 0.0))
        if end - MARGIN <= now:
            end = now + LIFE
            token = signed({"org_id": org_id, "user_id": user_id, "exp": int(end)}, key)
            living = {user: made for user, made in self._made.items() if made[1] > now}
            self._made = {**living, (org_id, user_id): (token, end)}
        return token


def signed(claims: dict[str, Any], key: str) -> str:
    """Return a JSON Web Token with these claims (RFC 7519), signed with HS256."""
    content = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(claims)}"
    signature = hmac.digest(key.encode(), content.encode(), "sha256")
    return f"{content}.{_base64url(signature)}"


def _encoded(part: dict[str, Any]) -> str:
    return _base64url(json.dumps(part, separators=(",", ":")).encode())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
