"""One connection of the async face, against a server that the test plays itself, step by step."""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import ssl
import struct
from typing import Any, AsyncIterator, Callable, Iterator, List

import httpx
import pytest
from scripted import ScriptedServer
from test_client_options import self_signed

from oomol_connect_sdk import ConnectionFailedError, OomolConnectClient, _lane
from oomol_connect_sdk._lane import LaneTransport

#: Seconds after which something that must happen is taken for something that does not.
PATIENCE = 20.0

#: Seconds in which something that must not happen has the time to.
A_WHILE = 0.3

MEGABYTE = 1024 * 1024

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
FORGED = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\nsome of it"


class Peer:
    """The other end, on bare sockets."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            self._listener.bind((host, 0))
        except OSError:
            self._listener.close()
            raise
        self._listener.listen(10)
        self._listener.setblocking(False)
        self._connections: List[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{'[::1]' if ':' in host else host}:{self.port}/x"

    async def accept(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        connection, _ = await asyncio.wait_for(loop.sock_accept(self._listener), PATIENCE)
        self._connections.append(connection)
        return connection

    def is_asked_for_a_connection(self) -> bool:
        return bool(select.select([self._listener], [], [], 0)[0])

    def close(self) -> None:
        for each in (*self._connections, self._listener):
            each.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
async def lane() -> AsyncIterator[LaneTransport]:
    lane = LaneTransport(None)
    yield lane
    await lane.aclose()


async def ask(
    lane: LaneTransport, url: str, method: str = "GET", content: Any = None, **timeouts: float
) -> bytes:
    response = await begin(lane, url, method, content, **timeouts)
    try:
        return await response.aread()
    finally:
        await response.aclose()


async def begin(
    lane: LaneTransport, url: str, method: str = "GET", content: Any = None, **timeouts: float
) -> httpx.Response:
    patience = {"connect": PATIENCE, "read": PATIENCE, "write": PATIENCE, **timeouts}
    extensions = {"timeout": patience}
    request = httpx.Request(method, url, content=content, extensions=extensions)
    return await lane.handle_async_request(request)


async def head_of(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await receive(connection)
    return data


async def receive(connection: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    return await asyncio.wait_for(loop.sock_recv(connection, MEGABYTE), PATIENCE)


async def is_closed(connection: socket.socket) -> bool:
    try:
        while await receive(connection):
            pass
    except ConnectionResetError:
        pass
    return True


async def exchanged(lane: LaneTransport, peer: Peer, answer: bytes = OK) -> socket.socket:
    """Have one request answered; what is left is an idle connection."""
    asking = asyncio.ensure_future(ask(lane, peer.url))
    connection = await peer.accept()
    await head_of(connection)
    connection.sendall(answer)
    assert await asking == b"ok"
    return connection


async def asked_again(lane: LaneTransport, peer: Peer) -> bytes:
    """Ask once more, on a connection that must be another one."""
    asking = asyncio.ensure_future(ask(lane, peer.url))
    connection = await peer.accept()
    await head_of(connection)
    connection.sendall(OK)
    return await asking


async def look_around() -> None:
    """Let the event loop see all that has come."""
    for _ in range(10):
        await asyncio.sleep(0)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


BODILESS = {
    "HEAD": ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n"),
}


@pytest.mark.parametrize("kind", BODILESS)
async def test_an_answer_without_a_body_leaves_the_connection_for_the_next(
    lane: LaneTransport, peer: Peer, kind: str
) -> None:
    method, answer = BODILESS[kind]
    asking = asyncio.ensure_future(ask(lane, peer.url, method))
    connection = await peer.accept()
    assert (await head_of(connection)).startswith(f"{method} /x HTTP/1.1\r\n".encode())
    connection.sendall(answer)
    assert await asking == b""
    asking = asyncio.ensure_future(ask(lane, peer.url))
    await head_of(connection)
    connection.sendall(OK)
    assert await asking == b"ok"
    assert not peer.is_asked_for_a_connection()


async def test_chunks_and_trailers_end_where_they_end(lane: LaneTransport, peer: Peer) -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [chunked, b"1\r\no\r\n", b"1\r\nk\r", b"\n0\r\nx-sum: 1\r\n", b"\r\n"]
    asking = asyncio.ensure_future(ask(lane, peer.url))
    connection = await peer.accept()
    await head_of(connection)
    for piece in pieces:
        connection.sendall(piece)
        await look_around()
    assert await asking == b"ok"
    again = asyncio.ensure_future(ask(lane, peer.url))
    await head_of(connection)
    connection.sendall(OK)
    assert await again == b"ok"


async def test_what_a_server_says_before_its_answer_is_passed_over(
    lane: LaneTransport, peer: Peer
) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    await exchanged(lane, peer, early + OK)


async def test_a_change_of_protocol_that_nobody_asked_for_is_an_error(
    lane: LaneTransport, peer: Peer
) -> None:
    asking = asyncio.ensure_future(ask(lane, peer.url))
    connection = await peer.accept()
    await head_of(connection)
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nok")
    with pytest.raises(httpx.RemoteProtocolError):
        await asking


async def test_a_long_head_is_read(lane: LaneTransport, peer: Peer) -> None:
    asking = asyncio.ensure_future(ask(lane, peer.url))
    connection = await peer.accept()
    await head_of(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nx-long: " + b"a" * 60_000)
    await look_around()
    connection.sendall(b"\r\ncontent-length: 2\r\n\r\nok")
    assert await asking == b"ok"


async def test_a_head_without_end_is_an_error(lane: LaneTransport, peer: Peer) -> None:
    asking = asyncio.ensure_future(ask(lane, peer.url))
    connection = await peer.accept()
    await head_of(connection)
    loop = asyncio.get_running_loop()
    sending = asyncio.ensure_future(
        loop.sock_sendall(connection, b"HTTP/1.1 200 " + b"a" * 200_000)
    )
    with pytest.raises(httpx.RemoteProtocolError):
        await asking
    await lane.aclose()
    await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("moment", ["with the answer", "unnoticed", "noticed"])
async def test_what_came_behind_an_answer_is_not_taken_for_the_next(
    lane: LaneTransport, peer: Peer, moment: str
) -> None:
    connection = await exchanged(lane, peer, OK + FORGED if moment == "with the answer" else OK)
    if moment != "with the answer":
        connection.sendall(FORGED)
    if moment == "noticed":
        await look_around()
    assert await asked_again(lane, peer) == b"ok"
    assert await is_closed(connection)


@pytest.mark.parametrize("close", [socket.socket.close, reset])
@pytest.mark.parametrize("noticed", [True, False])
async def test_a_connection_that_the_server_has_closed_gets_no_request(
    lane: LaneTransport, peer: Peer, close: Callable[[socket.socket], None], noticed: bool
) -> None:
    connection = await exchanged(lane, peer)
    close(connection)
    if noticed:
        await look_around()
    assert await asked_again(lane, peer) == b"ok"


async def test_a_connection_that_was_idle_for_long_gets_no_request(
    lane: LaneTransport, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await exchanged(lane, peer)
    monkeypatch.setattr(_lane, "KEEP_ALIVE", 0.0)
    assert await asked_again(lane, peer) == b"ok"
    assert await is_closed(connection)


async def test_another_server_gets_a_connection_of_its_own(lane: LaneTransport, peer: Peer) -> None:
    connection = await exchanged(lane, peer)
    other = Peer()
    await exchanged(lane, other)
    assert await is_closed(connection)
    other.close()


async def test_a_server_that_closes_without_an_answer_is_said_to(
    lane: LaneTransport, peer: Peer
) -> None:
    asking = asyncio.ensure_future(ask(lane, peer.url))
    connection = await peer.accept()
    await head_of(connection)
    connection.close()
    with pytest.raises(httpx.RemoteProtocolError, match="closed without an answer"):
        await asking


@pytest.mark.parametrize("answer", [b"", OK[:20], OK[:-1], ENDLESS])
async def test_a_broken_connection_is_an_error_wherever_it_breaks(
    lane: LaneTransport, peer: Peer, answer: bytes
) -> None:
    asking = asyncio.ensure_future(ask(lane, peer.url))
    connection = await peer.accept()
    await head_of(connection)
    connection.sendall(answer)
    await look_around()
    reset(connection)
    with pytest.raises(httpx.ReadError, match="reset"):
        await asking


async def megabytes(count: int, made: List[int]) -> AsyncIterator[bytes]:
    for number in range(count):
        made.append(number)
        yield b"x" * MEGABYTE


async def test_a_reader_that_is_slow_makes_the_server_wait(lane: LaneTransport, peer: Peer) -> None:
    size = 64 * MEGABYTE
    beginning = asyncio.ensure_future(begin(lane, peer.url))
    connection = await peer.accept()
    await head_of(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
    response = await beginning
    loop = asyncio.get_running_loop()
    sending = asyncio.ensure_future(loop.sock_sendall(connection, b"x" * size))
    chunks = response.aiter_raw()
    received = len(await chunks.__anext__())
    await asyncio.wait({sending}, timeout=A_WHILE)
    assert not sending.done()
    async for chunk in chunks:
        received += len(chunk)
    assert received == size
    await sending


async def test_a_server_that_is_slow_makes_the_sender_wait(lane: LaneTransport, peer: Peer) -> None:
    made: List[int] = []
    asking = asyncio.ensure_future(ask(lane, peer.url, "POST", megabytes(64, made)))
    connection = await peer.accept()
    await asyncio.wait({asking}, timeout=A_WHILE)
    assert len(made) < 32
    received = 0
    while received < 64 * MEGABYTE:
        received += len(await receive(connection))
    connection.sendall(OK)
    assert await asking == b"ok"
    assert len(made) == 64


REFUSAL = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"


@pytest.mark.parametrize("goodbye", ["close", "half"])
async def test_a_refusal_in_the_middle_of_the_body_is_heard(
    lane: LaneTransport, peer: Peer, goodbye: str
) -> None:
    made: List[int] = []
    asking = asyncio.ensure_future(ask(lane, peer.url, "POST", megabytes(1000, made)))
    connection = await peer.accept()
    await head_of(connection)
    connection.sendall(REFUSAL)
    connection.shutdown(socket.SHUT_WR)
    if goodbye == "close":
        await look_around()
        connection.close()
    assert await asking == b"no"
    assert len(made) < 1000
    assert await asked_again(lane, peer) == b"ok"


async def test_no_more_of_a_body_is_made_for_a_connection_that_is_gone(
    lane: LaneTransport, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    made = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal made
        yield b"the first"
        connection = await peer.accept()
        await head_of(connection)
        reset(connection)
        for number in range(1000):
            made = number
            yield b"more"

    with pytest.raises(httpx.ReadError):
        await ask(lane, peer.url, "POST", body())
    assert made < 10
    assert not caplog.records


async def test_a_body_that_breaks_off_is_the_callers_error(lane: LaneTransport, peer: Peer) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise LookupError("no more")

    asking = asyncio.ensure_future(ask(lane, peer.url, "POST", broken()))
    connection = await peer.accept()
    with pytest.raises(LookupError, match="no more"):
        await asking
    assert await asked_again(lane, peer) == b"ok"
    assert await is_closed(connection)


async def test_an_answer_that_is_not_read_to_its_end_ends_its_connection(
    lane: LaneTransport, peer: Peer
) -> None:
    beginning = asyncio.ensure_future(begin(lane, peer.url))
    connection = await peer.accept()
    await head_of(connection)
    connection.sendall(OK[:-1])
    await (await beginning).aclose()
    assert await is_closed(connection)


@pytest.mark.parametrize("answer", [b"", OK[:20], OK[:-1]])
async def test_a_silent_server_is_waited_for_as_long_as_asked(
    lane: LaneTransport, peer: Peer, answer: bytes
) -> None:
    asking = asyncio.ensure_future(ask(lane, peer.url, read=0.05))
    connection = await peer.accept()
    connection.sendall(answer)
    with pytest.raises(httpx.ReadTimeout, match=r"0\.05 s"):
        await asking
    await lane.aclose()
    assert await is_closed(connection)


async def test_a_server_that_takes_nothing_is_waited_for_as_long_as_asked(
    lane: LaneTransport, peer: Peer
) -> None:
    with pytest.raises(httpx.WriteTimeout):
        await ask(lane, peer.url, "POST", megabytes(1000, []), write=0.05)
    connection = await peer.accept()
    await lane.aclose()
    assert await is_closed(connection)


MOMENTS = ["writing", "head", "body"]


async def caught(lane: LaneTransport, peer: Peer, moment: str) -> Any:
    """Begin a request and return when it waits at a moment of its course."""
    content = megabytes(1000, []) if moment == "writing" else None
    asking = asyncio.ensure_future(ask(lane, peer.url, "POST", content))
    connection = await peer.accept()
    if moment != "writing":
        await head_of(connection)
    if moment == "body":
        connection.sendall(ENDLESS)
    await look_around()
    assert not asking.done()
    return asking, connection


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_cancelled_request_leaves_nothing_behind(
    lane: LaneTransport, peer: Peer, moment: str
) -> None:
    asking, connection = await caught(lane, peer, moment)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await lane.aclose()
    assert await is_closed(connection)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert await asked_again(lane, peer) == b"ok"


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_request_whose_connection_is_closed_here_fails_at_once(
    lane: LaneTransport, peer: Peer, moment: str
) -> None:
    asking, connection = await caught(lane, peer, moment)
    await lane.aclose()
    with pytest.raises(httpx.ReadError, match="closed here"):
        await asking
    assert await is_closed(connection)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_cancelled_call_of_a_client_closes_its_connection(peer: Peer, moment: str) -> None:
    content = b"x" * 64 * MEGABYTE if moment == "writing" else b"{}"
    async with OomolConnectClient(base_url=peer.url, max_retries=0) as client:
        calling = asyncio.ensure_future(
            client.request("y", "POST", files={"file": content})
            if moment == "writing"
            else client.request("y", "POST", {"a": 1})
        )
        connection = await peer.accept()
        if moment == "body":
            connection.sendall(ENDLESS)
        await look_around()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert await is_closed(connection)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_connection_that_comes_together_with_a_cancellation_is_closed(
    lane: LaneTransport, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def cancelling(*args: Any, **kwargs: Any) -> Any:
        connection = await connect(*args, **kwargs)
        asking.cancel()
        return connection

    monkeypatch.setattr(loop, "create_connection", cancelling)
    asking = asyncio.ensure_future(ask(lane, peer.url))
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await is_closed(await peer.accept())


async def test_a_connection_that_comes_after_two_cancellations_is_closed(
    lane: LaneTransport, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.create_connection
    go_on = asyncio.Event()

    async def stubborn(*args: Any, **kwargs: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await go_on.wait()
        return await connect(*args, **kwargs)

    monkeypatch.setattr(loop, "create_connection", stubborn)
    asking = asyncio.ensure_future(ask(lane, peer.url))
    for _ in range(2):
        await look_around()
        asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go_on.set()
    assert await is_closed(await peer.accept())


async def test_an_address_of_ipv6_is_connected_to() -> None:
    try:
        peer = Peer("::1")
    except OSError:
        pytest.skip("there is no IPv6 here")
    lane = LaneTransport(None)
    asking = asyncio.ensure_future(ask(lane, peer.url))
    connection = await peer.accept()
    assert f"Host: [::1]:{peer.port}\r\n".encode() in await head_of(connection)
    connection.sendall(OK)
    assert await asking == b"ok"
    await lane.aclose()
    peer.close()


async def test_a_port_that_is_none_is_a_failed_connection(lane: LaneTransport) -> None:
    with pytest.raises(httpx.ConnectError, match="99999"):
        await lane.handle_async_request(httpx.Request("GET", "http://127.0.0.1:99999/"))


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("http://a..b/api", "label empty"),
        (f"http://{'a' * 70}.example.com/api", "label"),
        ("http://127.0.0.1:1/api", "refused|failed"),
    ],
)
async def test_an_address_that_leads_nowhere_is_a_failed_connection(
    address: str, fault: str
) -> None:
    async with OomolConnectClient(base_url=address, max_retries=0) as client:
        with pytest.raises(ConnectionFailedError, match=fault) as caught:
            await client.tasks.create({"blockId": "p::b"})
    assert not caught.value.outcome_unknown


async def test_a_lane_without_certificates_carries_no_request_for_https(
    lane: LaneTransport, peer: Peer
) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await ask(lane, peer.url.replace("http:", "https:"))
    assert not peer.is_asked_for_a_connection()


def test_a_client_runs_in_an_event_loop_of_uvloop(server: ScriptedServer) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not for this Python")
    server.on("GET /api/v1/tasks", {"tasks": []})

    async def listed() -> Any:
        async with OomolConnectClient(base_url=server.url, max_retries=0) as client:
            return [await client.tasks.list() for _ in range(3)]

    loop = uvloop.new_event_loop()
    assert loop.run_until_complete(listed()) == [{"tasks": []}] * 3
    loop.close()


class Secured:
    """A server that speaks TLS with a certificate which the client trusts."""

    def __init__(self, answers: int) -> None:
        self.protocols: List[Any] = []
        self._answers = answers
        self.url = ""

    async def start(self, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["h2", "http/1.1"])
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{port}/api"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.protocols.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        for _ in range(self._answers):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n"
                b'{"tasks":[]}'
            )
        writer.close()

    def stop(self) -> None:
        self._server.close()


@pytest.fixture
def trusted(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    context: ssl.SSLContext = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    return context


async def test_a_secure_connection_is_used_again_until_the_server_closes_it(
    trusted: ssl.SSLContext,
) -> None:
    server = Secured(answers=2)
    await server.start(trusted)
    async with OomolConnectClient(base_url=server.url, max_retries=0) as client:
        for _ in range(4):
            assert await client.tasks.list() == {"tasks": []}
            await look_around()
    # Of h2 and http/1.1 the lane can speak the latter only.
    assert server.protocols == ["http/1.1"] * 2
    server.stop()


class Stuck:
    """A server of TLS that, once it has answered, never takes another byte from its socket."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self._peer = peer
        self._context = context

    def answer(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        with self._context.wrap_socket(
            connection, server_side=True, suppress_ragged_eofs=True
        ) as secured:
            secured.recv(65536)
            secured.sendall(OK)
            self.held = secured.detach()


async def test_the_end_of_a_secure_connection_waits_for_nobody(
    peer: Peer, trusted: ssl.SSLContext
) -> None:
    lane = LaneTransport(httpx.create_ssl_context())
    loop = asyncio.get_running_loop()
    url = f"https://localhost:{peer.port}/"
    asking = asyncio.ensure_future(ask(lane, url))
    stuck = Stuck(peer, trusted)
    await loop.run_in_executor(None, stuck.answer, await peer.accept())
    assert await asking == b"ok"
    await asyncio.wait_for(lane.aclose(), A_WHILE * 10)
    socket.close(stuck.held)


@pytest.mark.parametrize("end", ["cancelled", "late"])
async def test_a_server_that_shakes_no_hands_is_given_up(
    peer: Peer, trusted: ssl.SSLContext, end: str
) -> None:
    lane = LaneTransport(httpx.create_ssl_context())
    patience = 0.1 if end == "late" else PATIENCE
    url = f"https://localhost:{peer.port}/"
    asking = asyncio.ensure_future(ask(lane, url, connect=patience))
    connection = await peer.accept()
    assert await receive(connection)
    if end == "cancelled":
        asking.cancel()
    with pytest.raises((asyncio.CancelledError, httpx.ConnectTimeout)) as caught:
        await asking
    assert caught.type is (httpx.ConnectTimeout if end == "late" else asyncio.CancelledError)
    assert await is_closed(connection)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("reply", [b"", OK])
async def test_a_server_that_speaks_no_tls_is_a_failed_connection(
    peer: Peer, trusted: ssl.SSLContext, reply: bytes
) -> None:
    url = f"https://localhost:{peer.port}/api"
    async with OomolConnectClient(base_url=url, max_retries=0) as client:
        calling = asyncio.ensure_future(client.tasks.create({"blockId": "p::b"}))
        connection = await peer.accept()
        await receive(connection)
        connection.sendall(reply)
        connection.close()
        with pytest.raises(ConnectionFailedError, match=r"\((?!ConnectError).+\)") as caught:
            await calling
    assert not caught.value.outcome_unknown
    gc.collect()


async def resolved(*found: str) -> List[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]


async def test_a_second_address_is_tried_when_the_first_one_refuses(
    lane: LaneTransport, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    # The listener takes connections at 127.0.0.1 alone.
    addresses = resolved("127.0.0.2", "127.0.0.1")
    monkeypatch.setattr(loop, "getaddrinfo", lambda *args, **kwargs: addresses)
    asking = asyncio.ensure_future(ask(lane, f"http://localhost:{peer.port}/"))
    connection = await peer.accept()
    await head_of(connection)
    connection.sendall(OK)
    assert await asking == b"ok"


async def test_of_two_addresses_the_one_that_answers_first_is_used(
    peer: Peer, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    server = Secured(answers=1)
    await server.start(trusted)
    port = httpx.URL(server.url).port
    silent = socket.socket()
    silent.bind(("127.0.0.2", port or 0))
    silent.listen(1)
    silent.setblocking(False)
    addresses = resolved("127.0.0.2", "127.0.0.1")
    monkeypatch.setattr(loop, "getaddrinfo", lambda *args, **kwargs: addresses)
    lane = LaneTransport(httpx.create_ssl_context())
    assert await ask(lane, server.url) == b'{"tasks":[]}'
    # Nothing is left of the other attempt.
    forsaken, _ = await loop.sock_accept(silent)
    assert await is_closed(forsaken)
    await lane.aclose()
    for each in (forsaken, silent):
        each.close()
    server.stop()
