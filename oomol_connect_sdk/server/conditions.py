"""Conditions and preferences of requests: entity tags, and how long an answer may be held."""

from __future__ import annotations

import re

from starlette.requests import Request

#: Seconds that an answer is held at most.
LONGEST_WAIT = 60

_TAG = re.compile(r'(?:W/)?("[^"]*")')
_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])', re.IGNORECASE)


def matches(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` says that the client has what this tag stands for."""
    given = ",".join(request.headers.getlist("if-none-match"))
    return given.strip() == "*" or etag in _TAG.findall(given)


def wait_of(request: Request) -> int | None:
    """Return the seconds of ``Prefer: wait``, at most LONGEST_WAIT; None when there is none.

    A preference that can't be read is ignored, as RFC 7240 has it.
    """
    found = _WAIT.search(",".join(request.headers.getlist("prefer")))
    return min(int(found[1]), LONGEST_WAIT) if found else None


def applied(wait: int | None) -> dict[str, str]:
    """Return the header that says which wait was granted."""
    return {} if wait is None else {"Preference-Applied": f"wait={wait}"}
