"""Back-pressure: who sends faster than the receiver takes has to wait."""

from __future__ import annotations

from collections import deque
from typing import Protocol

#: Bytes that a delivered message takes besides its content, at a guess.
_OVERHEAD = 500


class Source(Protocol):
    """A process that sends messages."""

    def pause(self) -> None:
        """Stop reading from it."""

    def resume(self) -> None:
        """Read from it again."""


class Backlog:
    """The messages that were delivered and are not taken yet.

    While they take more than ``limit`` bytes nothing is read from the sources; None never stops
    them. What a source has sent in one piece may exceed the limit once.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._sizes: deque[int] = deque()
        self._total = 0
        self._sources: list[Source] = []
        self._paused = False

    def attach(self, source: Source) -> None:
        """Make this one wait when the others have to."""
        if source not in self._sources:
            self._sources.append(source)
            if self._paused:
                source.pause()

    def detach(self, source: Source) -> None:
        """Let this one go."""
        if source in self._sources:
            self._sources.remove(source)
            if self._paused:
                source.resume()

    def add(self, size: int) -> None:
        """A message with so many bytes of content was delivered."""
        if self._limit is None:
            return
        self._sizes.append(size + _OVERHEAD)
        self._total += size + _OVERHEAD
        if self._total > self._limit and not self._paused:
            self._paused = True
            for source in self._sources:
                source.pause()

    def taken(self) -> None:
        """The oldest message was taken."""
        if self._sizes:
            self._total -= self._sizes.popleft()
        if self._paused and self._limit is not None and self._total <= self._limit // 2:
            self._resume()

    def close(self) -> None:
        """Nobody takes messages any more: let all sources go."""
        self._limit = None
        if self._paused:
            self._resume()
        self._sources.clear()

    def _resume(self) -> None:
        self._paused = False
        for source in self._sources:
            source.resume()
