"""Many clients on the same connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from faces import ModelsFace
from openai_server import OpenAIServer

from oomol_connect_sdk.models import ModelPool, SyncModelPool


def keys_of(server: OpenAIServer) -> list[str]:
    return [call.headers["authorization"] for call in server.calls]


def test_clients_of_a_pool_share_connections_and_keep_their_keys(
    models_face: ModelsFace, openai: OpenAIServer
) -> None:
    pool: Any = SyncModelPool() if models_face.blocking else ModelPool()
    first = models_face.wrap(pool.client(openai.url, api_key="one", model="m"))
    second = models_face.wrap(pool.client(openai.url, bearer_token="two", model="m"))
    assert first.chat("Hi").text == second.chat("Hi").text == "Echo: Hi"
    assert keys_of(openai) == ["Bearer one", "Bearer two"]
    assert len(openai.connections) == 1
    first.close()
    assert second.chat("Still?").text == "Echo: Still?"
    assert (first.stats.requests, second.stats.requests) == (1, 2)
    models_face.wrap(pool).close()
    openai.wait_for(lambda: not openai.connections)


@pytest.mark.parametrize("kind", [ModelPool, SyncModelPool])
def test_the_httpx_client_is_the_pools(kind: Any, openai: OpenAIServer) -> None:
    with pytest.raises(TypeError, match="an option of the pool"):
        kind().client(openai.url, http_client=object())


async def test_a_pool_closes_its_connections_in_the_end(openai: OpenAIServer) -> None:
    async with ModelPool() as pool:
        clients = [pool.client(openai.url, api_key=str(n), model="m") for n in range(3)]
        replies = await asyncio.gather(*(client.chat("Hi") for client in clients))
        assert [reply.text for reply in replies] == ["Echo: Hi"] * 3
        assert openai.connections
    openai.wait_for(lambda: not openai.connections)
