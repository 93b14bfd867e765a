"""What every model service is: one class a protocol, found by the scheme of its address."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, List

from ..errors import NotSupported
from .values import Piece, Reply

if TYPE_CHECKING:
    from .face import Face
    from .files import ModelFiles
    from .options import Settings


@dataclass(frozen=True)
class ChatCall:
    """One request to a model, checked, in OpenAI's shape.

    ``messages`` and ``tools`` are OpenAI's. ``model`` is empty when the service needs none.
    ``params`` are the caller's further parameters, which go to the service as they are.
    ``priority`` and ``custom_id`` are those of a batch.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    custom_id: str | None = None


class Service:
    """One model service. What a protocol lacks raises NotSupported.

    ``name`` is how errors call it. A service is made by `service_for` and does nothing before
    its first request.
    """

    name = "this model service"

    def __init__(self, settings: Settings, face: Face) -> None:
        self.settings = settings
        self.face = face

    def needs_model(self, params: Mapping[str, Any]) -> bool:
        """Return whether a call with these parameters must name a model."""
        return True

    async def chat(self, call: ChatCall) -> Reply:
        """Send a request and return the whole answer; raises ApiError."""
        raise self._lacks("chat")

    def stream(self, call: ChatCall) -> AsyncGenerator[Piece, None]:
        """Send a request and give the answer piece by piece; raises ApiError.

        Sent again only before the first piece.
        """
        raise self._lacks("streams")

    async def batch(self, calls: Sequence[ChatCall]) -> List[Reply] | None:
        """Send many requests in one, where the protocol can; else None: they are sent one by one.

        One request's failure is the ``error`` of its reply.
        """
        return None

    async def feedback(
        self, reply: Reply | str, metric: str, value: Any, options: Mapping[str, Any]
    ) -> Any:
        """Say how good an answer was and return what the service answers."""
        raise self._lacks("feedback")

    async def list(self) -> List[dict[str, Any]]:
        """Return the models that can be asked: each at least with ``id``."""
        raise self._lacks("list of models")

    async def applications(self) -> List[dict[str, Any]]:
        """Return the applications of the service."""
        raise self._lacks("applications")

    async def application(self, id: str) -> dict[str, Any]:
        """Return one application."""
        raise self._lacks("applications")

    @property
    def files(self) -> ModelFiles:
        """The files the service keeps for the caller."""
        raise self._lacks("files")

    async def close(self) -> None:
        """Close what the service opened for itself. The face's connections are not its own."""

    def _lacks(self, what: str) -> NotSupported:
        return NotSupported(f"{self.name} has no {what}")


def service_for(settings: Settings, face: Face) -> Service:
    """Return the service that the scheme of the address names."""
    protocol = settings.protocol
    if protocol == "openai":
        from .openai import OpenAIService

        return OpenAIService(settings, face)
    if protocol == "dial":
        from .dial import DialService

        return DialService(settings, face)
    if protocol == "tamar":
        from .tamar import TamarService

        return TamarService(settings, face)
    if settings.base_url.startswith("file:"):
        from .tensorzero_embedded import EmbeddedTensorZeroService

        return EmbeddedTensorZeroService(settings, face)
    from .tensorzero import TensorZeroService

    return TensorZeroService(settings, face)
