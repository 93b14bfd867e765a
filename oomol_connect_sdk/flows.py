"""The flows a server can run."""

from __future__ import annotations

from .answers import endpoint, expect
from .transport import Transport
from .types import ListFlowsResponse


class FlowsClient:
    """The flows of a server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> ListFlowsResponse:
        """Return ``{"flows": […]}``: name, path and open inputs of every flow."""
        answer: ListFlowsResponse = await self._transport.request("GET", endpoint("v1", "flows"))
        expect(answer, "flows", list, "the flow list")
        return answer
