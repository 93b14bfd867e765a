"""Tokens that are asked for, shared connections, the caller's own httpx client, proxies, times."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Callable, Dict, Iterable, List

import httpx
import pytest
from raw_server import CLOSE, RawCall, RawServer, TaskTable, answer, dripping
from scripted import Reply, ScriptedServer, scripted_server, task

from oomol_connect_sdk import (
    ApiError,
    ConnectionFailedError,
    OomolConnectClient,
    SyncOomolConnectClient,
    TimeoutError,
)

TASKS = "GET /api/v1/tasks"
CREATE = "POST /api/v1/tasks"
EMPTY = {"tasks": []}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def sent_tokens(server: ScriptedServer) -> List[Any]:
    return [call.headers.get("authorization") for call in server.calls]


def expiring(server: ScriptedServer, *good: str) -> None:
    def check(call: Any) -> Reply:
        if call.headers.get("authorization") in good:
            return Reply(EMPTY)
        return Reply({"message": "expired"}, status=401)

    server.on(TASKS, check)


def test_a_token_is_asked_for_once_and_again_after_a_refusal(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    expiring(server, "second")
    tokens = ["first", "second", "third"]
    client = face(base_url=server.url, api_token=lambda: tokens.pop(0))
    assert tokens == ["first", "second", "third"]
    client.tasks.list()
    client.tasks.list()
    assert sent_tokens(server) == ["first", "second", "second"]
    expiring(server, "third")
    client.tasks.list()
    assert sent_tokens(server)[3:] == ["second", "third"]


def test_a_refusal_of_a_new_token_is_final(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    expiring(server)
    client = face(base_url=server.url, api_token=lambda: "always-the-same")
    with pytest.raises(ApiError, match="expired") as caught:
        client.tasks.list()
    assert caught.value.status == 401
    assert len(server.calls) == 2


def test_a_fixed_token_is_sent_once(face: Callable[..., Any], server: ScriptedServer) -> None:
    expiring(server)
    with pytest.raises(ApiError, match="expired"):
        face(base_url=server.url, api_token="fixed").tasks.list()
    assert len(server.calls) == 1


def test_a_create_is_sent_again_with_the_new_token(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    refusal = Reply({"message": "expired"}, status=401)
    server.on(CREATE, refusal, {"task": task("created")})
    tokens = ["old", "new"]
    client = face(base_url=server.url, api_token=lambda: tokens.pop(0))
    assert client.tasks.create({"blockId": "p::b", "inputValues": {"a": 1}})["id"] == "t1"
    assert sent_tokens(server) == ["old", "new"]
    assert server.calls[0].body == server.calls[1].body


async def test_a_coroutine_function_gives_the_token(server: ScriptedServer) -> None:
    expiring(server, "second")
    tokens = ["first", "second"]

    async def token() -> str:
        await asyncio.sleep(0)
        return tokens.pop(0)

    async with OomolConnectClient(base_url=server.url, api_token=token) as client:
        await client.tasks.list()
    assert sent_tokens(server) == ["first", "second"]


def test_a_coroutine_function_is_refused_by_the_blocking_client(server: ScriptedServer) -> None:
    async def token() -> str:
        return "never"

    client = SyncOomolConnectClient(base_url=server.url, api_token=token)
    with client, pytest.raises(TypeError, match="coroutine function"):
        client.tasks.list()
    assert server.calls == []


@pytest.mark.parametrize("token", [5, None, "two\nlines", " blank", "\u00fc"])
def test_what_is_no_token_is_refused_unsent(
    face: Callable[..., Any], server: ScriptedServer, token: Any
) -> None:
    with pytest.raises((TypeError, ValueError), match="api_token"):
        face(base_url=server.url, api_token=lambda: token).tasks.list()
    assert server.calls == []


class CountingServer(RawServer):
    """Counts connections."""

    def __init__(self, answers: Callable[[RawCall], Iterable[bytes]]) -> None:
        super().__init__(answers)
        self.connections = 0

    def _serve(self, connection: Any) -> None:
        self.connections += 1
        super()._serve(connection)


def test_clients_with_other_options_share_the_connections(face: Callable[..., Any]) -> None:
    with CountingServer(lambda call: [answer(EMPTY)]) as server:
        client = face(base_url=server.url, api_token="one")
        client.tasks.list()
        for number in range(5):
            twin = client.with_options(api_token=f"token-{number}", base_url=f"{server.url}/x")
            if not isinstance(twin, SyncOomolConnectClient):
                twin = type(client)(twin, client._loop)
            twin.tasks.list()
        client.tasks.list()
        assert server.connections == 1
        tokens = [call.headers["authorization"] for call in server.calls]
    assert tokens == ["one", *[f"token-{number}" for number in range(5)], "one"]
    assert server.calls[1].path == "/api/x/v1/tasks"


async def test_a_client_with_other_options_leaves_the_connections_open(
    server: ScriptedServer,
) -> None:
    server.on(TASKS, EMPTY)
    async with OomolConnectClient(base_url=server.url) as client:
        async with client.with_options(timeout=5) as twin:
            assert twin.get_base_url() == client.get_base_url()
            await twin.tasks.list()
        assert await client.tasks.list() == EMPTY


@pytest.mark.parametrize("options", [{"http_client": None}, {"base_uri": "http://x"}])
def test_an_option_that_cannot_be_changed_is_named(
    face: Callable[..., Any], options: Dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        face(base_url="http://x").with_options(**options)


async def test_the_callers_client_is_used_and_not_closed(server: ScriptedServer) -> None:
    server.on(TASKS, EMPTY)
    async with httpx.AsyncClient(headers={"X-Mine": "yes"}) as mine:
        async with OomolConnectClient(base_url=server.url, http_client=mine) as client:
            await client.tasks.list()
        assert not mine.is_closed
    assert server.calls[0].headers["x-mine"] == "yes"


def test_the_callers_blocking_client_is_used_and_not_closed(server: ScriptedServer) -> None:
    server.on(TASKS, EMPTY)
    with httpx.Client(headers={"X-Mine": "yes"}) as mine:
        with SyncOomolConnectClient(base_url=server.url, http_client=mine) as client:
            client.tasks.list()
        assert not mine.is_closed
    assert server.calls[0].headers["x-mine"] == "yes"


def test_a_client_that_follows_redirects_takes_the_token_nowhere(server: ScriptedServer) -> None:
    with scripted_server() as elsewhere, httpx.Client(follow_redirects=True) as mine:
        away = Reply({}, status=307, headers={"Location": f"{elsewhere.url}/v1/tasks"})
        server.on(TASKS, away)
        options: Any = {"base_url": server.url, "http_client": mine, "api_token": "secret"}
        with SyncOomolConnectClient(options) as client, pytest.raises(ApiError, match="redirected"):
            client.tasks.list()
        assert elsewhere.calls == []


@pytest.mark.parametrize("key", ["blockId", "manifest", "flowName"])
def test_the_target_key_decides_how_the_target_is_named(
    face: Callable[..., Any], server: ScriptedServer, key: str
) -> None:
    server.on(CREATE, {"task": task("created")})
    client = face(base_url=server.url, target_key=key)
    for given in ("blockId", "manifest", "flowName"):
        client.tasks.create({given: "p::b"})
    assert [call.json for call in server.calls] == [{key: "p::b"}] * 3


def test_an_unknown_target_key_is_refused(face: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="target_key"):
        face(base_url="http://x", target_key="name")


def test_the_timeout_is_how_long_the_server_may_be_silent(face: Callable[..., Any]) -> None:
    def silent(call: RawCall) -> Iterable[bytes]:
        time.sleep(1.5)
        yield CLOSE

    with RawServer(silent) as server:
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError):
            face(base_url=server.url, timeout=0.2, max_retries=0).tasks.list()
        assert time.monotonic() - started < 1.4


def test_the_timeout_may_come_from_the_environment(
    face: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOMOL_CONNECT_TIMEOUT", "0.2")

    def silent(call: RawCall) -> Iterable[bytes]:
        time.sleep(1.5)
        yield CLOSE

    with RawServer(silent) as server:
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError):
            face(base_url=server.url, max_retries=0).tasks.list()
        assert time.monotonic() - started < 1.4


def test_a_slow_answer_that_keeps_coming_is_waited_for(face: Callable[..., Any]) -> None:
    def slow(call: RawCall) -> Iterable[bytes]:
        whole = answer(EMPTY)
        for start in range(0, len(whole), 20):
            yield whole[start : start + 20]
            time.sleep(0.15)

    with RawServer(slow) as server:
        client = face(base_url=server.url, timeout=0.5, max_retries=0)
        assert client.tasks.list() == EMPTY


def test_max_retries_bounds_the_attempts(face: Callable[..., Any], server: ScriptedServer) -> None:
    server.on(TASKS, Reply({"message": "down"}, status=500))
    for retries in (0, 2):
        server.calls.clear()
        with pytest.raises(ApiError, match="down"):
            face(base_url=server.url, max_retries=retries).tasks.list()
        assert len(server.calls) == retries + 1


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A proxy that the environment names; it answers itself."""
    server = RawServer(lambda call: [answer(EMPTY)])
    server.start()
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    yield server
    server.stop()


def test_a_proxy_of_the_environment_is_used(face: Callable[..., Any], proxy: RawServer) -> None:
    face(base_url="http://connect.example.com/api", api_token="t").tasks.list()
    (call,) = proxy.calls
    assert call.path == "http://connect.example.com/api/v1/tasks"
    assert call.headers["authorization"] == "t"


def test_a_host_that_needs_no_proxy_is_asked_directly(
    face: Callable[..., Any],
    proxy: RawServer,
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.on(TASKS, EMPTY)
    assert face(base_url=server.url).tasks.list() == EMPTY
    assert proxy.received == b""


async def test_many_runs_through_a_proxy_do_not_queue_in_a_pool(
    proxy: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = TaskTable(looks=2)
    proxy._answer = lambda call: table(
        RawCall(call.method, "/api" + call.path.partition("/api")[2], "", call.headers, call.body)
    )
    async with OomolConnectClient(base_url="http://connect.example.com/api") as client:
        work = [
            client.tasks.create_and_wait(
                {"blockId": "p::b"}, {"interval_ms": 20, "backoff_strategy": "fixed"}
            )
            for _ in range(6)
        ]
        done = await asyncio.gather(*work)
    assert len({record["id"] for record in done}) == 6


@pytest.mark.parametrize("first", ["http", "https"])
def test_certificates_are_checked_whatever_the_first_address_was(
    face: Callable[..., Any], server: ScriptedServer, first: str, tmp_path: Any
) -> None:
    server.on(TASKS, EMPTY)
    with TlsServer(tmp_path) as secure:
        client = face(base_url=server.url, max_retries=0)
        if first == "http":
            client.tasks.list()
        twin = client.with_options(base_url=secure.url, api_token="secret")
        if not isinstance(twin, SyncOomolConnectClient):
            twin = type(client)(twin, client._loop)
        with pytest.raises(ConnectionFailedError, match=r"(?i)certificate"):
            twin.tasks.list()
    assert secure.calls == []


def test_a_server_of_a_trusted_certificate_is_asked(
    face: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TlsServer(tmp_path) as secure:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        client = face(base_url=secure.url, api_token="secret")
        assert [client.tasks.list() for _ in range(3)] == [EMPTY] * 3
    assert {call.headers["authorization"] for call in secure.calls} == {"secret"}


def test_no_slow_answer_of_a_secure_server_stretches_the_deadline(
    face: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TlsServer(tmp_path, lambda call: dripping(answer(EMPTY))) as secure:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            face(base_url=secure.url).tasks.wait_for_completion("t1", {"timeout_ms": 400})
        assert time.monotonic() - started < 3


class TlsServer(RawServer):
    """Speaks TLS with a certificate that nobody has signed."""

    def __init__(self, directory: Any, answers: Any = lambda call: [answer(EMPTY)]) -> None:
        super().__init__(answers)
        self._context = self_signed(directory)

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:").replace("127.0.0.1", "localhost")

    def _serve(self, connection: Any) -> None:
        try:
            secured = self._context.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()
            return
        super()._serve(secured)
        secured.close()


def self_signed(directory: Any) -> Any:
    import shutil
    import ssl
    import subprocess

    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl here to make a certificate with")
    certificate, key = str(directory / "certificate.pem"), str(directory / "key.pem")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    subprocess.run([*command, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_a_client_that_is_closed_lets_other_threads_finish_their_requests() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def held(call: RawCall) -> Iterable[bytes]:
        asked.set()
        go_on.wait(10)
        return [answer(EMPTY)]

    answers: List[Any] = []
    with RawServer(held) as server:
        client = SyncOomolConnectClient(base_url=server.url)
        thread = threading.Thread(target=lambda: answers.append(client.tasks.list()))
        thread.start()
        assert asked.wait(10)
        client.close()
        go_on.set()
        thread.join(10)
    assert answers == [EMPTY]


async def test_lists_of_many_callers_queue_for_a_few_connections() -> None:
    with CountingServer(lambda call: [answer(EMPTY)]) as server:
        async with OomolConnectClient(base_url=server.url) as client:
            await asyncio.gather(*[client.tasks.list() for _ in range(200)])
        assert server.connections <= 10
