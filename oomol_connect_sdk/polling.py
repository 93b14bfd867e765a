"""The options of a wait and the strategies that pace it."""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Union

from typing_extensions import Literal, TypedDict

from .types import LogCallback, ProgressCallback


class BackoffStrategy(str, enum.Enum):
    """How the pause between two looks at a task grows."""

    FIXED = "fixed"
    EXPONENTIAL = "exponential"


EndingPolicy = Literal["stop", "detach"]


class PollingOptions(TypedDict, total=False):
    """How to wait for a task. All keys may be left out; times are milliseconds.

    Without ``interval_ms`` and ``backoff_strategy`` the wait paces itself by the task's age:
    a task of a second is noticed within 0.3 s of its end, one of a minute within 3 s.

    ``backoff_strategy`` is a `BackoffStrategy`, one of tenacity's ``wait_…``, or a function that
    gets the number of looks so far and returns the pause in seconds.
    ``interval_ms``: the (first) pause, default 2000. ``max_interval_ms``: the longest pause of
    the exponential strategy, default 10000. ``backoff_factor``: its growth, default 1.5.
    ``timeout_ms``: give up after this long; default: wait for ever.
    ``on_progress`` gets the task at every look, ``on_log`` every log row once and in order.
    ``on_timeout``, ``on_cancel``: whether the server is told to ``stop`` the task or the wait
    just ends (``detach``). A task that the same call created is stopped by default, any
    other is left running.
    """

    interval_ms: float
    timeout_ms: float
    max_interval_ms: float
    backoff_strategy: Union[BackoffStrategy, str, Callable[[Any], float]]
    backoff_factor: float
    on_progress: ProgressCallback
    on_log: LogCallback
    on_timeout: EndingPolicy
    on_cancel: EndingPolicy


@dataclass(frozen=True)
class Wait:
    """Checked polling options. Times are seconds."""

    pause: Callable[[int, float], float]
    timeout: float | None
    on_progress: ProgressCallback | None
    on_log: LogCallback | None
    on_timeout: EndingPolicy
    on_cancel: EndingPolicy

    @classmethod
    def of(cls, options: Mapping[str, Any] | None, *, ending: EndingPolicy) -> Wait:
        """Check the options; ``ending`` is the default of ``on_timeout`` and ``on_cancel``.

        Raises TypeError for an unknown option and ValueError for an unusable value.
        """
        given = {key: value for key, value in (options or {}).items() if value is not None}
        unknown = sorted(set(given) - set(PollingOptions.__annotations__))
        if unknown:
            known = ", ".join(PollingOptions.__annotations__)
            raise TypeError(f"unknown polling option {unknown[0]!r}; the options are {known}")
        timeout = _number(given, "timeout_ms", None, least=0.0)
        return cls(
            pause=_pause(given),
            timeout=None if timeout is None else timeout / 1000,
            on_progress=_callback(given, "on_progress"),
            on_log=_callback(given, "on_log"),
            on_timeout=_ending(given, "on_timeout", ending),
            on_cancel=_ending(given, "on_cancel", ending),
        )


def self_paced(attempt: int, age: float) -> float:
    """Return a pause that grows with the age of the wait: 0.2 s at first, 3 s after a minute."""
    return min(10.0, 0.2 + 0.045 * age)


def _pause(given: Mapping[str, Any]) -> Callable[[int, float], float]:
    interval = _number(given, "interval_ms", 2000.0, least=0.0) / 1000
    longest = _number(given, "max_interval_ms", 10000.0, least=0.0) / 1000
    factor = _number(given, "backoff_factor", 1.5, least=1.0)
    strategy = given.get("backoff_strategy")
    if strategy is None and not {"interval_ms", "max_interval_ms", "backoff_factor"} & set(given):
        return self_paced
    if callable(strategy):
        return _theirs(strategy)
    if _strategy(strategy or BackoffStrategy.EXPONENTIAL) is BackoffStrategy.FIXED:
        return lambda attempt, age: interval
    return lambda attempt, age: _exponential(interval, longest, factor, attempt)


def _strategy(value: Any) -> BackoffStrategy:
    try:
        return BackoffStrategy(value)
    except ValueError:
        raise ValueError(
            f"backoff_strategy must be 'fixed', 'exponential' or a function, not {value!r}"
        ) from None


def _theirs(strategy: Callable[[Any], Any]) -> Callable[[int, float], float]:
    """Pace by a caller's function, or by one of tenacity's waits."""

    def pause(attempt: int, age: float) -> float:
        import tenacity

        if isinstance(strategy, tenacity.wait.wait_base):
            state = tenacity.RetryCallState(None, None, (), {})  # type: ignore[arg-type]
            state.attempt_number = attempt + 1
            state.start_time = time.monotonic() - age
            seconds = strategy(state)
        else:
            seconds = strategy(attempt)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
            raise ValueError(f"backoff_strategy gave {seconds!r}, which is no pause in seconds")
        return seconds

    return pause


def _exponential(interval: float, longest: float, factor: float, attempt: int) -> float:
    if interval >= longest or interval <= 0:
        return min(interval, longest)
    # As a logarithm: factor ** attempt overflows after some hours of waiting.
    pause = math.log(interval) + attempt * math.log(factor)
    return math.exp(pause) if pause < math.log(longest) else longest


def _number(given: Mapping[str, Any], key: str, default: Any, *, least: float) -> Any:
    value = given.get(key, default)
    if value is default:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value:
        raise ValueError(f"{key} must be a number, at least {least:g}, not {value!r}")
    return float(value)


def _callback(given: Mapping[str, Any], key: str) -> Any:
    callback = given.get(key)
    if callback is not None and not callable(callback):
        raise TypeError(f"{key} must be callable, not {callback!r}")
    return callback


def _ending(given: Mapping[str, Any], key: str, default: EndingPolicy) -> EndingPolicy:
    value = given.get(key, default)
    if value == "stop":
        return "stop"
    if value == "detach":
        return "detach"
    raise ValueError(f"{key} must be 'stop' or 'detach', not {value!r}")
