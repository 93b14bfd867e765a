"""What only the embedded TensorZero has: when it opens, with what, and how it ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from faces import ModelsFace
from openai_server import (
    PATIENCE,
    Answer,
    Call,
    OpenAIServer,
    chunk,
    completion,
    head,
    respond,
    stream,
)
from tensorzero_server import configuration

from oomol_connect_sdk.errors import ConnectionFailedError, OomolConnectError
from oomol_connect_sdk.models import Models, SyncModels

ANALYTICS_SWITCH = "TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS"


#: Programs whose first eight calls come at once; they print how many were answered, and the switch.
FIRST_CALLS = {
    "async": f"""
import asyncio, os, sys
from oomol_connect_sdk.models import Models

async def main():
    async with Models(sys.argv[1], model="m") as models:
        return await asyncio.gather(*(models.chat("hi") for _ in range(8)))

print(len(asyncio.run(main())), os.environ["{ANALYTICS_SWITCH}"])
""",
    "sync": f"""
import os, sys
from concurrent.futures import ThreadPoolExecutor
from oomol_connect_sdk.models import SyncModels

with SyncModels(sys.argv[1], model="m") as models, ThreadPoolExecutor(8) as pool:
    print(len(list(pool.map(models.chat, ["hi"] * 8))), os.environ["{ANALYTICS_SWITCH}"])
""",
}


@pytest.fixture(autouse=True)
def _quiet_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUST_LOG", "off")
    monkeypatch.setenv(ANALYTICS_SWITCH, "1")
    for database in ("CLICKHOUSE", "POSTGRES", "VALKEY"):
        monkeypatch.delenv(f"TENSORZERO_{database}_URL", raising=False)


@pytest.fixture
def config(tmp_path: Path, openai: OpenAIServer) -> Path:
    """The configuration of a gateway whose models are at the OpenAI-compatible server."""
    pytest.importorskip("tensorzero", reason="needs pip install tensorzero")
    return configuration(tmp_path, openai.url)


@pytest.fixture
def url(config: Path) -> str:
    """The address of the embedded gateway."""
    return f"tensorzero+file://{config}"


def test_it_opens_with_the_first_call_and_names_a_bad_configuration(
    config: Path, url: str, models_face: ModelsFace
) -> None:
    config.write_text("[models.m]\nrouting = 7")
    models = models_face(url, model="m")
    with pytest.raises(OomolConnectError, match=r"tensorzero\.toml") as raised:
        models.chat("hi")
    assert "routing" in str(raised.value)
    config.unlink()
    with pytest.raises(OomolConnectError, match="does not open"):
        models.chat("hi")


def test_nothing_is_awaited_to_make_one_and_it_serves_several_event_loops(url: str) -> None:
    models = Models(url, model="m")

    async def ask(text: str) -> str:
        return (await models.chat(text)).text

    assert asyncio.run(ask("one")) == "Echo: one"
    assert asyncio.run(ask("two")) == "Echo: two"
    asyncio.run(models.close())


async def test_first_calls_may_come_at_once(url: str) -> None:
    async with Models(url, model="m") as models:
        replies = await asyncio.gather(*(models.chat(f"q{n}") for n in range(8)))
    assert [reply.text for reply in replies] == [f"Echo: q{n}" for n in range(8)]


def test_threads_share_one(url: str) -> None:
    with SyncModels(url, model="m") as models, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(models.chat, [f"q{n}" for n in range(8)]))
    assert [reply.text for reply in replies] == [f"Echo: q{n}" for n in range(8)]


def test_other_threads_run_while_it_blocks(url: str, openai: OpenAIServer) -> None:
    arrived = threading.Event()
    openai.script(held(arrived))
    with SyncModels(url, model="m") as models, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(models.chat, "hi")
        openai.wait_for(lambda: len(openai.calls) == 1)
        assert not waiting.done()
        arrived.set()
        assert waiting.result().text == "late"


def test_the_path_may_have_characters_that_addresses_quote(
    config: Path, models_face: ModelsFace
) -> None:
    folder = config.parent / "my flows 流"
    folder.mkdir()
    for name in ("tensorzero.toml", "facts.json"):
        (config.parent / name).rename(folder / name)
    plain = f"tensorzero+file://{folder}/tensorzero.toml"
    assert models_face(plain, model="m").chat("hi").text == "Echo: hi"
    quoted = (folder / "tensorzero.toml").as_uri()
    assert models_face(f"tensorzero+{quoted}", model="m").chat("hi").text == "Echo: hi"


def test_the_database_is_asked_and_its_password_is_in_no_error(
    url: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    database = f"http://chuser:chpassword@127.0.0.1:{openai.port}/tensorzero"
    models = models_face(url, model="m", clickhouse_url=database)
    with pytest.raises(OomolConnectError, match="ClickHouse is not healthy") as raised:
        models.chat("hi")
    assert openai.calls[0].path.startswith("/ping")
    assert "chpassword" not in f"{raised.value!r} {raised.value.__cause__!r} {models!r}"


@pytest.mark.parametrize("name", ["async", "sync"])
def test_first_calls_open_it_once_and_it_reports_nothing_to_its_makers(url: str, name: str) -> None:
    variables = {key: value for key, value in os.environ.items() if key != ANALYTICS_SWITCH}
    ran = subprocess.run(
        [sys.executable, "-c", FIRST_CALLS[name], url],
        env={**variables, "RUST_LOG": "info", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    # The gateway logs this whenever it opens.
    assert ran.stdout.count("usage analytics is disabled") == 1, ran.stdout
    assert ran.stdout.splitlines()[-1] == "8 1"


def test_a_choice_of_the_user_about_reports_stays(
    config: Path, url: str, models_face: ModelsFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ANALYTICS_SWITCH, "0")
    config.unlink()  # It does not open, so that it reports nothing.
    with pytest.raises(OomolConnectError, match="does not open"):
        models_face(url, model="m").chat("hi")
    assert os.environ[ANALYTICS_SWITCH] == "0"


def test_without_the_wheel_the_error_names_the_extra(
    models_face: ModelsFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorzero", None)
    models = models_face("tensorzero+file:///nowhere/tensorzero.toml", model="m")
    with pytest.raises(OomolConnectError, match=r"oomol-connect-sdk\[tensorzero\]"):
        models.chat("hi")


def test_the_wheel_is_imported_by_the_first_call_only() -> None:
    made = (
        "import sys; from oomol_connect_sdk.models import SyncModels;"
        "SyncModels('tensorzero+file:///nowhere/tensorzero.toml', model='m').close();"
        "print('tensorzero' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", made], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


@pytest.mark.parametrize("option", [{"headers": {"X-Team": "a"}}, {"bearer_token": "t"}])
def test_what_only_http_has_is_refused(url: str, models_face: ModelsFace, option: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        models_face(url, **option)


def test_a_call_that_takes_too_long_is_a_failed_connection(
    url: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    over = threading.Event()
    openai.script(held(over), held(over))
    models = models_face(url, model="m", timeout=0.2)
    try:
        with pytest.raises(ConnectionFailedError, match="timed out"):
            models.chat("hi")
        with pytest.raises(ConnectionFailedError, match="timed out"):
            next(models.stream("hi"))
    finally:
        over.set()


def test_a_stream_may_be_left_while_it_is_coming(
    url: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    over = threading.Event()
    openai.script(stream(chunk("one"), lambda: over.wait(PATIENCE), chunk("two")))
    models = models_face(url, model="m")
    try:
        pieces = models.stream("hi")
        assert next(pieces).text == "one"
        pieces.close()
        assert models.chat("and now?").text == "Echo: and now?"
    finally:
        over.set()


async def test_a_cancelled_call_lets_the_models_service_go(url: str, openai: OpenAIServer) -> None:
    openai.script(endless)
    async with Models(url, model="m") as models:
        asking = asyncio.ensure_future(models.chat("hi"))
        await asyncio.to_thread(openai.wait_for, lambda: len(openai.calls) == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.to_thread(openai.wait_for, lambda: not openai.connections)
        assert (await models.chat("and now?")).text == "Echo: and now?"


def test_it_can_be_closed_twice_and_used_again(url: str, models_face: ModelsFace) -> None:
    models = models_face(url, model="m")
    models.close()
    assert models.chat("one").text == "Echo: one"
    models.close()
    models.close()
    assert models.chat("two").text == "Echo: two"


def held(until: threading.Event) -> Answer:
    """Answer when the event is set."""

    def answer(call: Call) -> Any:
        assert until.wait(PATIENCE)
        return respond(completion("late"))(call)

    return answer


def endless(call: Call) -> Iterator[bytes]:
    """Go on with an answer until the other side is gone."""
    yield head(200, {"Connection": "close"})
    while True:
        yield b" "
        time.sleep(0.005)
