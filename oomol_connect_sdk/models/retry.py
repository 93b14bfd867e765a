"""When a request to a model service is sent again, and after which pause."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import tenacity

from .._io import IO
from ..errors import ApiError
from .options import Settings

#: The longest pause a service may ask for by Retry-After, in seconds.
MAX_RETRY_AFTER = 60.0

_MAX_PAUSE = 8.0

Result = TypeVar("Result")


def passes(error: BaseException) -> bool:
    """Tell whether the same request may well succeed a little later."""
    return isinstance(error, ApiError) and (error.transient or error.status == 409)


async def retrying(
    settings: Settings,
    io: IO,
    may_again: Callable[[BaseException], bool],
    once: Callable[[], Awaitable[Result]],
) -> Result:
    """Do it, and again up to ``max_retries`` times as long as it fails with what may pass."""

    def pause(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, ApiError) else None
        longest = min(_MAX_PAUSE, settings.retry_delay * 2 ** (state.attempt_number - 1))
        return max(random.uniform(longest / 2, longest), min(asked or 0.0, MAX_RETRY_AFTER))

    attempts = tenacity.AsyncRetrying(
        sleep=io.sleep,
        retry=tenacity.retry_if_exception(may_again),
        stop=tenacity.stop_after_attempt(settings.max_retries + 1),
        wait=pause,
        reraise=True,
    )
    result: Result = await attempts(once)
    return result
