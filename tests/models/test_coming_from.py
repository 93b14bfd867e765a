"""Every call on the page about coming from other clients does what it is said to do."""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dial_server import DEPLOYMENT, KEY, TOKEN, dial_server
from faces import NAMES
from openai_server import (
    Answer,
    OpenAIServer,
    chunk,
    completion,
    failure,
    respond,
    stream,
    tool_call,
    usage_chunk,
)
from tamar_server import TamarServer, says, tamar_server
from tensorzero_server import configuration, tensorzero_server

from oomol_connect_sdk import ApiError, OomolConnectError, ToolError
from oomol_connect_sdk.models.exchanges import logger

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text(encoding="utf-8")

JWT_KEY = "a secret key that is long enough for HS256"

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20


@dataclass(frozen=True)
class Row:
    """A call of the other client, and the code that does the same here."""

    theirs: str
    ours: Sequence[str]


def section(name: str) -> tuple[str, list[Row]]:
    """Return what the rows of a section need, and the rows."""
    (text,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    needed = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    cells = re.findall(r"^\| (.*) \| (.*) \|$", text, re.MULTILINE)
    rows = [Row(theirs, re.findall("`(.+?)`", ours)) for theirs, ours in cells if "`" in ours]
    return "\n".join(needed), rows


def blocking(code: str) -> str:
    """Change code as the page says it is changed for the blocking face."""
    code = re.sub(r"\bawait |\basync (?!def)", "", code)
    return re.sub(r"\b(Models|ModelPool|ChatAgent)\b", r"Sync\1", code)


class Program:
    """The code of one section at work, with the names and addresses of the counterparts."""

    def __init__(self, face: str, places: Mapping[str, str]) -> None:
        self._blocking = face == "sync"
        self._places = places
        self._loop = asyncio.new_event_loop()
        self._made: list[Any] = []
        self.names: dict[str, Any] = {}

    def run(self, code: str) -> Any:
        """Run a piece of code and return its value, or what it printed if it has none."""
        for name, place in self._places.items():
            code = code.replace(name, place)
        tree = ast.parse(blocking(code) if self._blocking else code)
        keep_value(tree)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        printed = io.StringIO()
        with redirect_stdout(printed):
            self.finished(eval(compile(tree, "coming-from.md", "exec", flags), self.names))
        value = self.names.pop("_value", None)
        self._made += [item for item in (value, *self.names.values()) if is_client(item)]
        return printed.getvalue() if value is None else value

    def finished(self, value: Any) -> Any:
        """Return the value, awaited if it has to be."""
        return self._loop.run_until_complete(value) if inspect.isawaitable(value) else value

    def close(self) -> None:
        for item in {id(item): item for item in self._made}.values():
            self.finished(item.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def keep_value(tree: ast.Module) -> None:
    """Have the value of the last statement kept under a name."""
    body: list[ast.stmt] = tree.body
    while isinstance(body[-1], (ast.With, ast.AsyncWith)):
        body = body[-1].body
    last = body[-1]
    kept = ast.Name("_value", ast.Store())
    if isinstance(last, ast.Expr):
        body[-1] = ast.Assign([kept], last.value)
    elif isinstance(last, ast.Assign) and isinstance(last.targets[0], ast.Name):
        body.append(ast.Assign([kept], ast.Name(last.targets[0].id, ast.Load())))
    ast.fix_missing_locations(tree)


def is_client(value: Any) -> bool:
    return type(value).__module__.startswith("oomol_connect_sdk.models") and hasattr(value, "close")


#: What a row gives: a value, a kind of error, or a function that tells whether it is right.
Check = Any


def check_rows(
    program: Program,
    name: str,
    checks: Sequence[Check],
    before: Mapping[str, Callable[[], None]] | None = None,
) -> None:
    """Run the rows of a section, each against its check.

    A key of ``before`` stands in the code that has to be preceded by its value.
    """
    needed, rows = section(name)
    program.run(needed)
    for row, check in zip(rows, checks, strict=True):
        *first, last = row.ours
        for key, prepare in (before or {}).items():
            if key in last:
                prepare()
        for code in first:
            program.run(code)
        if isinstance(check, type) and issubclass(check, Exception):
            with pytest.raises(check):
                program.run(last)
            continue
        value = program.run(last)
        if callable(check):
            assert program.finished(check(value)), f"{row.theirs} gave {value!r}"
        else:
            assert value == check, row.theirs


@pytest.fixture(params=NAMES)
def program(request: pytest.FixtureRequest) -> Iterator[Callable[[Mapping[str, str]], Program]]:
    """Make the program of a section, given what stands for the names on the page."""
    made: list[Program] = []

    def make(places: Mapping[str, str]) -> Program:
        made.append(Program(request.param, places))
        return made[-1]

    yield make
    for item in made:
        item.close()


@pytest.fixture
def own_logger() -> Iterator[None]:
    """Put the package's logger back as it was."""
    handlers, level = list(logger.handlers), logger.level
    yield
    for handler in [item for item in logger.handlers if item not in handlers]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)


def lists_models(client: Any) -> Any:
    return client.list()


def test_the_page_has_no_other_section() -> None:
    names = ["aidial-client", "tensorzero", "tamar-model-client", "openai_chatapi"]
    assert re.findall("^## (.*)", PAGE, re.MULTILINE) == names


def test_every_call_of_aidial_client(program: Any, tmp_path: Path) -> None:
    (tmp_path / "some-local-file.txt").write_text("local")
    with dial_server() as dial:
        places = {
            "dial+https://your-dial-instance.com": dial.url,
            "https://your-dial-instance.com": dial.base,
            "your-api-key": KEY,
            "your-bearer-token": TOKEN,
            "gpt-35-turbo": DEPLOYMENT,
            "app_id": "an_app",
            "my-bucket": "bucket1",
        }
        running = program(places)
        clients = [lists_models] * 6 + [is_client] + [lists_models] * 2
        chats = [
            lambda rows: rows[0]["id"] == DEPLOYMENT,
            lambda value: value[0] == DEPLOYMENT and value[1]["tools"] is True,
            lambda reply: reply.model == DEPLOYMENT,
            "Echo: 2+3=",
            "stop",
            12,
            (),
            lambda created: isinstance(created, int),
            "Echo: 2+3=",
            ("stop", 12),
            lambda rows: rows[0]["id"] == "an_app",
            lambda row: row["id"] == "an_app",
        ]
        files = [
            lambda home: str(home) == "files/bucket1",
            lambda saved: saved["url"] == "files/bucket1/some-relative-path/my-file.txt",
            lambda saved: saved["content_length"] == len(b"raw bytes"),
            lambda saved: (saved["name"], saved["content_type"]) == ("named", "text/plain"),
            lambda saved: saved["content_length"] == len("local"),
            lambda saved: saved["url"] == "files/bucket1/some-relative-path/my-file.txt",
            lambda saved: saved["url"] == "files/bucket1/my-file.txt",
            ValueError,
            "b'raw bytes'\n",
            b"raw bytes",
            lambda path: path.read_bytes() == (tmp_path / "copy.txt").read_bytes() == b"raw bytes",
            lambda metadata: metadata["bucket"] == "bucket1",
            (len(b"relative"), "some-relative-path", "ITEM"),
            "",
        ]
        check_rows(running, "aidial-client", [*clients, *chats, *files])
        with pytest.raises(ApiError) as raised:
            running.run('await models.files.metadata(home / "bytes.txt")')
        assert raised.value.status == 404


def test_every_call_of_tensorzero(
    program: Any, openai: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorzero", reason="needs pip install tensorzero")
    monkeypatch.setenv("RUST_LOG", "off")
    monkeypatch.setenv("TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS", "1")
    config = configuration(tmp_path, openai.url)
    answer = "Echo: 日本的首都是哪里？"
    with tensorzero_server(config) as gateway:
        places = {
            "http://localhost:3000": gateway.url,
            "/path/to/tensorzero.toml": str(config),
            "localhost:8123": f"127.0.0.1:{openai.port}",
            "openai::gpt-4o-mini": "m",
        }
        running = program(places)

        def asks_its_database(client: Any) -> bool:
            with pytest.raises(OomolConnectError, match="ClickHouse"):
                running.finished(client.chat("hi", model="m"))
            return openai.calls[-1].path.startswith("/ping")

        checks = [
            f"{answer}\n",
            is_client,
            f"{answer}\n",
            asks_its_database,
            lambda client: client.chat("hi", model="m"),
            lambda reply: reply.finish == "stop",
            answer,
            (7, 5),
            lambda id: id == running.names["reply"].raw["inference_id"],
            lambda id: id == running.names["reply"].raw["episode_id"],
            answer,
            lambda reply: reply.text == answer and reply.model == "a",
            lambda given: given["feedback_id"],
            lambda id: isinstance(id, str),
        ]
        check_rows(running, "tensorzero", checks)
        asked, *given = [call.json for call in gateway.calls[-3:]]
        assert (asked["function_name"], asked["tags"]) == ("chat", {"user": "me"})
        ids = ["00000000-0000-0000-0000-000000000000", running.names["reply"].id]
        thumbs_up = {"metric_name": "thumbs_up", "value": True}
        assert given == [{**thumbs_up, "inference_id": id} for id in ids]


def test_every_call_of_tamar_model_client(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tamar_server() as manager:
        monkeypatch.setenv("MODEL_MANAGER_SERVER_JWT_SECRET_KEY", JWT_KEY)
        (tmp_path / ".env").write_text(
            f"MODEL_MANAGER_SERVER_ADDRESS={manager.address}\n"
            "MODEL_MANAGER_SERVER_GRPC_USE_TLS=false\n"
        )
        places = {"localhost:50051": manager.address, "your-jwt-secret-key": JWT_KEY}
        running = program(places)

        def is_let_in(token: str | None) -> Callable[[Any], Any]:
            def check(client: Any) -> Any:
                manager.tokens = {token} if token else None
                manager.jwt_secret_key = None if token else JWT_KEY
                return client.chat("hi", model="gpt-4")

            return check

        answer = "Echo: Please introduce yourself."
        checks = [
            is_let_in("your-jwt-token"),
            *[is_let_in(None)] * 3,
            lambda reply: reply.text == answer and manager.calls[-1].extra["max_tokens"] == 1000,
            answer,
            12,
            lambda id: id == manager.calls[-1].metadata["x-request-id"],
            ApiError,
            lambda _: last_target(manager) == ("openai", "normal", "chat-completions"),
            lambda _: last_target(manager) == ("azure", "openai", "chat-completions"),
            lambda _: (
                last_target(manager) == ("google", "ai-studio", "generation")
                and manager.calls[-1].extra["contents"] == HELLO_OF_GOOGLE
            ),
            lambda _: (
                last_target(manager) == ("google", "vertexai", "generation")
                and manager.calls[-1].extra["contents"] == HELLO_OF_GOOGLE
            ),
            lambda reply: reply.text == "Echo: What is shown in this image? [file_data]",
            lambda _: manager.calls[-1].extra["contents"][0]["parts"][1] == running.names["photo"],
            answer,
            lambda replies: [reply.usage.total_tokens for reply in replies] == [12, 12],
            "q1 Echo: What is AI?\nq2 Echo: What is ML?\n",
            "",
        ]
        before = {"refused": lambda: manager.script(says({"error": "quota exceeded"}))}
        check_rows(running, "tamar-model-client", checks, before)
        assert [sent["priority"] for sent in manager.calls[-1].request["items"]] == [1, 2]
        assert {call.claims["user_id"] for call in manager.calls[3:]} == {"test_user"}


HELLO_OF_GOOGLE = [{"role": "user", "parts": [{"text": "Hello"}]}]


def last_target(manager: TamarServer) -> tuple[str, str, str]:
    request = manager.calls[-1].request
    return request["provider"], request["channel"], request["invoke_type"]


def test_every_call_of_openai_chatapi(
    program: Any,
    openai: OpenAIServer,
    tmp_path: Path,
    own_logger: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, content in (("photo.png", PNG), ("clip.mp4", b"moving"), ("my_tools.py", b"")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "my_tools.py").write_text('def dice() -> int:\n    """Throw."""\n    return 4\n')
    (tmp_path / "chat.yaml").write_text("model: {model: qwen-max}\nruntime: {log_level: DEBUG}\n")
    monkeypatch.syspath_prepend(tmp_path)
    places = {"https://dashscope.aliyuncs.com/compatible-mode/v1": openai.url}
    saved = tmp_path / "debug"
    before = {
        "Kyoto": lambda: openai.script(wants_weather("Kyoto", "Oslo")),
        "Lima": lambda: openai.script(wants_weather_in_pieces("Lima")),
        "Quito": lambda: openai.script(wants_weather_in_pieces("Quito")),
        "refused": lambda: openai.script(failure(400, "no")),
        "never ends": lambda: openai.script(*[wants_weather("Rome")] * 6),
    }
    basics = [
        lambda config: config.temperature == 0.7,
        lambda runtime: runtime.enable_logging,
        "Echo: 你好\n",
        is_client,
        "Echo: My name is Ada.",
        "Echo: What is my name?",
        ["Echo: My name is Ada.", "Echo: What is my name?"],
        "",
        "Echo: What is this? [image_url]",
        "Echo: What happens? [video_url]",
    ]
    streaming = ["Echo: Tell a joke.\n", *["Echo: Tell a joke."] * 3]
    tools = [
        "",
        "",
        f"Tools: {weather('Kyoto')} | {weather('Oslo')}",
        f"Tools: {weather('Lima')}",
        f'[weather] \n[] {{"city": "Quito"}}\nTools: {weather("Quito")}',
        "",
    ]
    configuration = [
        lambda config: (config.model, config.temperature) == ("qwen-max", 0.7),
        lambda config: (config.model, config.temperature) == ("qwen-max", 0.9),
        lambda runtime: (runtime.log_level, runtime.max_tool_iterations) == ("DEBUG", 3),
        lambda _: "Is this logged?" in (tmp_path / "chat.log").read_text(encoding="utf-8"),
        lambda _: any("Is this saved?" in file.read_text() for file in saved.iterdir()),
        lambda stats: stats["requests"] == stats["successes"] == 8,
        lambda figures: figures[0] == 8 * 12 and figures[1] > 0 and figures[2] == 1,
        lambda rows: [row["id"] for row in rows] == ["gpt-4o-mini", "text-only"],
        ApiError,
        ToolError,
    ]
    checks = [*basics, *streaming, *tools, *configuration]
    check_rows(program(places), "openai_chatapi", checks, before)
    asked = [call.json["messages"] for call in openai.calls if call.method == "POST"]
    assert [len(messages) for messages in asked[:3]] == [1, 1, 3]
    assert asked[3][0] == {"role": "system", "content": "Be brief."}


def weather(city: str) -> str:
    """What the page's tool says."""
    return json.dumps({"city": city, "days": 1, "sky": "clear"})


def wants_weather(*cities: str) -> Answer:
    return respond(completion(None, tools=[("weather", {"city": city}) for city in cities]))


def wants_weather_in_pieces(city: str) -> Answer:
    parts = [tool_call(0, "weather", ""), tool_call(0, None, {"city": city}, None)]
    pieces = [chunk(tools=[part]) for part in parts]
    return stream(*pieces, chunk(finish="tool_calls"), usage_chunk())
