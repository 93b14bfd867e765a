"""What comes back from a model service, in one form for all of them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from ..errors import BadAnswerError, OomolConnectError


@dataclass(frozen=True)
class ToolCall:
    """A model's wish to have a tool called. ``arguments`` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str

    def parsed(self) -> dict[str, Any]:
        """Return the arguments as a dict; BadAnswerError when the model wrote no JSON object."""
        try:
            value = json.loads(self.arguments or "{}")
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise BadAnswerError(
                f"the model called the tool {self.name!r} with arguments that are no JSON object: "
                f"{self.arguments[:200]!r}",
                200,
                self.arguments,
            )
        return value

    def message(self) -> dict[str, Any]:
        """Return it as it stands in an assistant message."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(frozen=True)
class ToolCallPiece:
    """A part of a tool call in a stream.

    The parts of one call have the same ``index``, or, where a service has none, the same ``id``.
    """

    index: int | None = None
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True)
class Usage:
    """Tokens as the service counted them, and its price; None for what it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cost: float | None = None

    @classmethod
    def of(cls, value: Any) -> Usage | None:
        """Read a usage object in OpenAI's or TensorZero's words; None when it says nothing."""
        if not isinstance(value, dict):
            return None
        prompt = _count(value, "prompt_tokens", "input_tokens")
        completion = _count(value, "completion_tokens", "output_tokens")
        total = _count(value, "total_tokens")
        if total is None and prompt is not None and completion is not None:
            total = prompt + completion
        usage = cls(prompt, completion, total, _number(value, "cost", "tensorzero_cost"))
        return None if usage == cls() else usage


@dataclass(frozen=True)
class Reply:
    """One whole answer of a model.

    ``finish`` says why it ended, in the service's words (``stop``, ``length``, ``tool_calls``,
    …). ``id`` is what `Models.feedback` takes, ``request_id`` what the service's operators ask
    for. In a batch ``custom_id`` is the caller's own name of the request, and ``error`` what
    went wrong with it. ``raw`` is the service's own answer; a reply put together from a stream
    has the list of its pieces' there.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: str | None = None
    usage: Usage | None = None
    id: str | None = None
    model: str | None = None
    request_id: str | None = None
    custom_id: str | None = None
    error: OomolConnectError | None = None
    raw: Any = field(default=None, repr=False)

    def message(self) -> dict[str, Any]:
        """Return it as the assistant message that goes before the next turn of a conversation."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.tool_calls:
            message["tool_calls"] = [call.message() for call in self.tool_calls]
        elif not self.text:
            message["content"] = ""
        return message


@dataclass(frozen=True)
class Piece:
    """A part of an answer as it comes. What the part does not tell is empty or None."""

    text: str = ""
    tool_calls: tuple[ToolCallPiece, ...] = ()
    finish: str | None = None
    usage: Usage | None = None
    id: str | None = None
    model: str | None = None
    request_id: str | None = None
    raw: Any = field(default=None, repr=False)


class PieceJoiner:
    """Puts the pieces of one answer together."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._calls: list[_GrowingCall] = []

    def add(self, piece: Piece) -> None:
        """Take the next piece."""
        self._pieces.append(piece)
        for part in piece.tool_calls:
            self._call_of(part).add(part)

    def reply(self) -> Reply:
        """Return what has come so far as one reply."""
        return Reply(
            text="".join(piece.text for piece in self._pieces),
            tool_calls=tuple(
                call.whole(number) for number, call in enumerate(self._in_order()) if call.name
            ),
            finish=self._last("finish"),
            usage=self._last("usage"),
            id=self._last("id"),
            model=self._last("model"),
            request_id=self._last("request_id"),
            raw=[piece.raw for piece in self._pieces],
        )

    def _last(self, name: str) -> Any:
        values = (getattr(piece, name) for piece in reversed(self._pieces))
        return next((value for value in values if value is not None), None)

    def _call_of(self, part: ToolCallPiece) -> _GrowingCall:
        for call in reversed(self._calls):
            if call.is_place_of(part):
                if call.takes(part):
                    return call
                break
        self._calls.append(_GrowingCall(part.index, part.id))
        return self._calls[-1]

    def _in_order(self) -> list[_GrowingCall]:
        return sorted(self._calls, key=lambda call: 0 if call.index is None else call.index)


class _GrowingCall:
    def __init__(self, index: int | None, id: str) -> None:
        self.index = index
        self.id = id
        self.name = ""
        self._arguments: list[str] = []

    def is_place_of(self, part: ToolCallPiece) -> bool:
        """Whether the part has the same index or id; one with neither goes on with any call."""
        if part.index is not None:
            return self.index == part.index
        return self.id == part.id or not part.id

    def takes(self, part: ToolCallPiece) -> bool:
        """Whether the part goes on with this call.

        Some services give every call the same index, or none, and each its own id or name.
        """
        if part.id and self.id:
            return part.id == self.id or not part.name
        return not (part.index is None and part.name and self.name)

    def add(self, part: ToolCallPiece) -> None:
        self.id = self.id or part.id
        self.name = self.name or part.name
        self._arguments.append(part.arguments)

    def whole(self, number: int) -> ToolCall:
        return ToolCall(self.id or f"call_{number}", self.name, "".join(self._arguments))


def _count(value: dict[str, Any], *names: str) -> int | None:
    number = _number(value, *names)
    return None if number is None else int(number)


def _number(value: dict[str, Any], *names: str) -> float | None:
    for name in names:
        number = value.get(name)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            # JSON as Python reads it may also say Infinity and NaN.
            return number if math.isfinite(number) and number >= 0 else None
    return None
