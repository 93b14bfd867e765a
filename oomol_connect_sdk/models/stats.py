"""Counts of what was asked and what it took."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from .values import Usage


@dataclass
class UsageStats:
    """What was asked of a service, and what it took.

    One call of `Models.chat`, one stream and one item of a batch each count once, however often
    they were sent. ``seconds`` is the sum of the times to the end of the answers. Tokens are
    those the services counted; answers that did not say are in ``uncounted``.
    """

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def successes(self) -> int:
        """Requests that were answered."""
        return self.requests - self.errors

    @property
    def success_rate(self) -> float:
        """Answered requests among all, 0 to 1; 1 before the first."""
        return self.successes / self.requests if self.requests else 1.0

    @property
    def total_tokens(self) -> int:
        """Tokens of prompts and completions."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def average_seconds(self) -> float:
        """The mean time of a request; 0 before the first."""
        return self.seconds / self.requests if self.requests else 0.0

    def count(self, usage: Usage | None, seconds: float, *, failed: bool = False) -> None:
        """Add one request."""
        with self._lock:
            self.requests += 1
            self.errors += failed
            self.seconds += seconds
            if usage is not None:
                self.prompt_tokens += usage.prompt_tokens or 0
                self.completion_tokens += usage.completion_tokens or 0
            elif not failed:
                self.uncounted += 1

    def reset(self) -> None:
        """Begin again at nothing."""
        with self._lock:
            self.requests = self.errors = self.uncounted = 0
            self.prompt_tokens = self.completion_tokens = 0
            self.seconds = 0.0

    def summary(self) -> dict[str, Any]:
        """Return all figures as a dict."""
        return {
            "requests": self.requests,
            "successes": self.successes,
            "errors": self.errors,
            "success_rate": self.success_rate,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "uncounted": self.uncounted,
            "seconds": self.seconds,
            "average_seconds": self.average_seconds,
        }
