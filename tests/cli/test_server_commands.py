"""Commands about a server that runs elsewhere, as processes: tasks, blocks, flows, packages."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest

from oomol_connect_sdk import SyncOomolConnectClient

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="the local server needs Python 3.10 or newer"
)

TASK = """
description: "{description}"
inputs_def:
  - {{handle: name, json_schema: {{type: string}}}}
  - {{handle: gate, value: ""}}
outputs_def: [{{handle: greeting}}]
executor: {{name: python, options: {{entry: main.py}}}}
"""

GREET = """
import os, time

def main(inputs, context):
    print("greeting", inputs["name"])
    if inputs["name"] == "nobody":
        raise ValueError("there is nobody to greet")
    while inputs["gate"] and not os.path.exists(inputs["gate"]):
        time.sleep(0.01)
    with open(os.path.join(context.session_dir, "note.txt"), "w") as file:
        file.write("hello " + inputs["name"])
    return {"greeting": "hello " + inputs["name"]}
"""

SHOUT = """
def main(inputs, context):
    for number in range(20_000):
        print("\\033]0;owned\\007 line", number)
    return {"greeting": "\\x9b31m\\ud800 HELLO"}
"""

READ = """
inputs_def:
  - {handle: text, json_schema: {type: string, "ui:widget": file}}
outputs_def: [{handle: content}]
executor: {name: python, options: {entry: main.py}}
"""

READ_CODE = """
def main(inputs, context):
    with open(inputs["text"]) as file:
        return {"content": file.read()}
"""

FLOW = """
description: Greets Ada.
nodes:
  - {node_id: one, task: "self::greet", inputs_from: [{handle: name, value: Ada}]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from oomol_connect_sdk.server import LocalServer

    directory = tmp_path_factory.mktemp("package")
    files = {
        "package.oo.yaml": "name: hello\nversion: 0.1.0\n",
        "tasks/greet/task.oo.yaml": TASK.format(description="Greets someone. " * 20),
        "tasks/greet/main.py": GREET,
        "tasks/shout/task.oo.yaml": TASK.format(description="Shouts."),
        "tasks/shout/main.py": SHOUT,
        "tasks/read/task.oo.yaml": READ,
        "tasks/read/main.py": READ_CODE,
        "flows/once/flow.oo.yaml": FLOW,
    }
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    with LocalServer([directory], environments_dir=tmp_path_factory.mktemp("cache")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[SyncOomolConnectClient]:
    with SyncOomolConnectClient(base_url=server.base_url, api_token=server.token) as client:
        yield client


def start(server: Any, *words: Any, **more: Any) -> Any:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(
        [sys.executable, "-m", "oomol_connect_sdk", *map(str, words)],
        env={
            **{key: value for key, value in os.environ.items() if key != "COLUMNS"},
            "OOMOL_CONNECT_BASE_URL": server.base_url,
            "OOMOL_CONNECT_API_TOKEN": server.token,
        },
        text=True,
        **streams,
    )


def call(server: Any, *words: Any, cwd: Path | None = None) -> Tuple[int, str, str]:
    """Return the status of a command, its output, and what it said beside."""
    process = start(server, *words, cwd=cwd)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def shown(server: Any, *words: str, columns: int = 80) -> List[str]:
    """Return the lines that a command shows on a terminal of so many columns."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = start(server, *words, stdout=end, stdin=end)
    os.close(end)
    output = b""
    try:
        while piece := os.read(terminal, 65536):
            output += piece
    except OSError:  # What Linux reports when the other end was closed.
        pass
    os.close(terminal)
    assert process.wait(60) == 0, process.stderr.read()
    process.stderr.close()
    return re.sub(r"\x1b\[\d*m", "", output.decode()).replace("\r", "").splitlines()


def greet(client: SyncOomolConnectClient, name: str, **more: Any) -> str:
    inputs = {"name": name, **more}
    return client.tasks.submit({"blockId": "hello::greet", "inputValues": inputs}).id


def test_tasks_are_listed_the_newest_first_and_chosen(
    server: Any, client: SyncOomolConnectClient
) -> None:
    good = client.tasks.run({"blockId": "hello::greet", "inputValues": {"name": "Ada"}})["task_id"]
    request: Any = {
        "blockId": "hello::greet",
        "inputValues": {"name": "nobody"},
        "labels": {"team": "red"},
    }
    bad = client.tasks.submit(request)
    list(bad.logs())
    status, output, errors = call(server, "tasks", "list", "--limit", 2)
    assert (status, errors) == (0, "")
    rows = [line.split("\t") for line in output.splitlines()]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        (bad.id, "failed", "hello::greet"),
        (good, "completed", "hello::greet"),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row[2]) for row in rows)
    chosen = call(server, "tasks", "list", "--status", "failed", "--label", "team=red", "--json")
    assert [task["id"] for task in json.loads(chosen[1])] == [bad.id]
    assert json.loads(call(server, "tasks", "list", "--label", "team=blue", "--json")[1]) == []
    assert "KEY=VALUE" in call(server, "tasks", "list", "--label", "team")[2]


def test_a_task_is_shown_with_inputs_and_result_or_reason(
    server: Any, client: SyncOomolConnectClient
) -> None:
    good, bad = greet(client, "Ada"), greet(client, "nobody")
    list(client.tasks.handle(good).logs())
    list(client.tasks.handle(bad).logs())
    output = call(server, "tasks", "show", good)[1]
    fields = dict(line.split(maxsplit=1) for line in output.splitlines())
    assert fields["task"] == good
    assert fields["status"] == "completed"
    assert fields["runs"] == "hello::greet"
    assert fields["inputs"] == 'name = "Ada"'
    assert json.loads(fields["result"]) == {"greeting": "hello Ada"}
    assert "ValueError: there is nobody to greet" in call(server, "tasks", "show", bad)[1]
    assert json.loads(call(server, "tasks", "show", bad, "--json")[1])["id"] == bad


def test_a_log_is_followed_to_its_end(
    server: Any, client: SyncOomolConnectClient, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    task = greet(client, "Ada", gate=str(gate))
    process = start(server, "tasks", "logs", "--follow", task)
    assert process.stdout.readline() == "started\n"
    assert process.stdout.readline() == "greeting Ada\n"
    gate.touch()
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "finished\n", "")
    rows = [
        json.loads(line)
        for line in call(server, "tasks", "logs", task, "--json")[1].split("\n")[:-1]
    ]
    assert rows == client.tasks.get_logs(task)


def test_ctrl_c_ends_following_and_waiting_but_not_the_task(
    server: Any, client: SyncOomolConnectClient, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    task = greet(client, "Ada", gate=str(gate))
    for words in (["logs", "-f", task], ["wait", task]):
        process = start(server, "tasks", *words)
        stream = process.stdout if words[0] == "logs" else process.stderr
        assert stream.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert (output + errors).endswith("interrupted\n")
        assert "Traceback" not in errors
    assert client.tasks.get(task)["status"] == "running"
    gate.touch()
    status, output, errors = call(server, "tasks", "wait", task)
    assert (status, json.loads(output)) == (0, {"greeting": "hello Ada"})
    assert errors.endswith("100 %\n")


def test_a_wait_for_a_task_that_fails_says_why(server: Any, client: SyncOomolConnectClient) -> None:
    status, output, errors = call(server, "tasks", "wait", greet(client, "nobody"), "--quiet")
    assert (status, output) == (1, "")
    assert "there is nobody to greet" in errors


def test_tasks_are_stopped_repeated_and_removed(
    server: Any, client: SyncOomolConnectClient, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")
    tasks = [greet(client, "Ada", gate=gate) for _ in range(2)]
    status, _, errors = call(server, "tasks", "delete", tasks[0])
    assert status == 1
    assert "stop it" in errors
    output = call(server, "tasks", "stop", *tasks)[1]
    assert output == "".join(f"{task}\tstopped\n" for task in tasks)
    (tmp_path / "gate").touch()
    again = call(server, "tasks", "rerun", tasks[0])[1].strip()
    assert client.tasks.handle(again).result() == {"greeting": "hello Ada"}
    assert call(server, "tasks", "delete", *tasks) == (0, "", "")
    for words in (["show", tasks[0]], ["logs", tasks[1]], ["delete", tasks[0]]):
        status, output, errors = call(server, "tasks", *words)
        assert (status, output) == (2, "")
        assert "There is no task" in errors


def test_files_go_in_with_a_run_and_come_out(
    server: Any, client: SyncOomolConnectClient, tmp_path: Path
) -> None:
    given = tmp_path / "given.txt"
    given.write_text("some words", encoding="utf-8")
    status, output, errors = call(server, "run", "hello::read", "--file", given, "-q")
    assert (status, errors) == (0, "")
    assert json.loads(output) == {"content": "some words"}
    task = client.tasks.run({"blockId": "hello::greet", "inputValues": {"name": "Ada"}})["task_id"]
    assert call(server, "tasks", "files", task)[1].startswith("note.txt\t9\t")
    assert json.loads(call(server, "tasks", "files", task, "--json")[1])[0]["size"] == 9
    target = tmp_path / "out.txt"
    assert call(server, "tasks", "download", task, "note.txt", target)[1] == f"{target}\n"
    assert target.read_text(encoding="utf-8") == "hello Ada"
    assert call(server, "tasks", "download", task, "nothing", target)[0] == 2


def test_blocks_flows_and_packages_are_listed(server: Any) -> None:
    rows = [line.split("\t") for line in call(server, "blocks")[1].splitlines()]
    assert [row[:2] for row in rows] == [
        ["hello::greet", "0.1.0"],
        ["hello::read", "0.1.0"],
        ["hello::shout", "0.1.0"],
    ]
    blocks = json.loads(call(server, "blocks", "--json")[1])
    assert [item["handle"] for item in blocks[0]["inputs"]] == ["name", "gate"]
    assert call(server, "flows")[1] == "hello::once\t0.1.0\tGreets Ada.\n"
    assert json.loads(call(server, "flows", "--json")[1])[0]["name"] == "once"
    (package,) = json.loads(call(server, "packages", "list", "--json")[1])
    assert call(server, "packages", "list")[1] == f"hello\t0.1.0\t{package['path']}\n"


def test_a_terminal_shows_aligned_columns_that_fit(server: Any) -> None:
    lines = shown(server, "blocks", columns=60)
    assert lines[0] == "BLOCK         VERSION  DESCRIPTION"
    assert lines[1].startswith("hello::greet  0.1.0    Greets someone. ")
    assert lines[1].endswith("…")
    assert [len(line) for line in lines] == [34, 60, 19, 30]


def test_a_log_or_a_result_can_not_talk_to_the_terminal(
    server: Any, client: SyncOomolConnectClient
) -> None:
    task = client.tasks.submit({"blockId": "hello::shout", "inputValues": {"name": "x"}}).id
    lines = shown(server, "tasks", "wait", task, "--quiet")
    assert json.loads("".join(lines)) == {"greeting": "\x9b31m\ud800 HELLO"}
    assert "\x9b" not in "".join(lines)
    lines = shown(server, "tasks", "logs", task)
    assert lines[1] == "\ufffd]0;owned\ufffd line 0"
    assert "\x07" not in "".join(shown(server, "tasks", "show", task))


def test_a_reader_who_has_enough_is_no_trouble(server: Any, client: SyncOomolConnectClient) -> None:
    task = client.tasks.submit({"blockId": "hello::shout", "inputValues": {"name": "x"}}).id
    client.tasks.handle(task).result()
    process = start(server, "tasks", "logs", task, "--json")
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 1


def test_a_server_that_is_unknown_or_away_is_named(server: Any) -> None:
    for words in (["tasks", "list"], ["blocks"], ["flows"], ["packages", "list"]):
        status, output, errors = call(server, *words, "--server", "http://127.0.0.1:9")
        assert (status, output) == (1, ""), words
        assert "127.0.0.1:9" in errors
        assert server.token not in errors
