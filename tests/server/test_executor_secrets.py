"""Secrets and credentials in the inputs of blocks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from executor_task import ExecutorTask, running_task

from oomol_connect_sdk.server.executors import Environments, WorkerPool

TOKEN = "s3cret-value"
FILE = {
    "github": {"secretType": "Custom", "secrets": [{"secretKey": "token", "value": TOKEN}]},
    "empty": {"secretType": "Custom"},
}
SECRET = {"contentMediaType": "oomol/secret"}
REFERENCE = "${{OO_SECRET:Custom,github,token}}"
ECHO = "def main(inputs): return {'out': inputs['it']}"


@pytest.fixture
def secrets_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps(FILE))
    monkeypatch.setenv("OOMOL_SECRETS_FILE", str(file))
    return file


@pytest.fixture
def broken_file(secrets_file: Path) -> Path:
    secrets_file.write_text(f"{{ {TOKEN}")
    return secrets_file


@pytest.fixture
async def task(tmp_path: Path) -> AsyncIterator[ExecutorTask]:
    pool = WorkerPool(Environments(tmp_path / "environments"))
    async with running_task(pool, tmp_path) as task:
        yield task
    await pool.close()


async def run(task: ExecutorTask, value: Any, schema: Any = None, source: str = ECHO) -> Any:
    """What a block gets for this value of its input."""
    definitions = {"it": {"handle": "it", "json_schema": schema}}
    job = task.job(task.block("echo", source), {"it": value}, inputs_def=definitions)
    return await task.finished(task.start_job(job))


VALUES: list[tuple[Any, Any, Any]] = [
    ("Custom,github,token", SECRET, TOKEN),
    (REFERENCE, SECRET, TOKEN),
    (REFERENCE, None, TOKEN),
    (REFERENCE, {"type": "string"}, TOKEN),
    ({"a": [{"b": REFERENCE}], "c": 1}, None, {"a": [{"b": TOKEN}], "c": 1}),
    (
        {"key": "Custom,github,token", "other": "Custom,github,token"},
        {"type": "object", "properties": {"key": SECRET}},
        {"key": TOKEN, "other": "Custom,github,token"},
    ),
    (["Custom,github,token"], {"type": "array", "items": SECRET}, [TOKEN]),
    ({"__OOMOL_TYPE__": "oomol/secret", "value": "Custom,github,token"}, None, TOKEN),
    (f"{REFERENCE} and more", None, f"{REFERENCE} and more"),
    ("Custom,github,other", SECRET, "Custom,github,other"),
    ("${{OO_SECRET:Custom,gitlab,token}}", None, "${{OO_SECRET:Custom,gitlab,token}}"),
    ("Custom,empty,token", SECRET, "Custom,empty,token"),
    ("given as it is", SECRET, "given as it is"),
    (None, SECRET, None),
]


@pytest.mark.parametrize(("value", "schema", "expected"), VALUES)
async def test_a_reference_becomes_the_secret(
    task: ExecutorTask, secrets_file: Path, value: Any, schema: Any, expected: Any
) -> None:
    assert await run(task, value, schema) == {"result": {"out": expected}}


async def test_what_a_flow_calls_a_secret_becomes_one(
    task: ExecutorTask, secrets_file: Path
) -> None:
    block = task.block("block", "def main(inputs): return {'out': inputs['value']}")
    overrides = [
        {"path": ["keys", 0], "schema": SECRET},
        {"path": ["deep", "er"], "schema": SECRET},
    ]
    definitions = {"value": {"handle": "value", "schema_overrides": overrides}}
    name = "Custom,github,token"
    value = {"keys": [name, name], "deep": {"er": name, "other": name}}
    job = task.job(block, {"value": value}, inputs_def=definitions)
    assert await task.finished(task.start_job(job)) == {
        "result": {"out": {"keys": [TOKEN, name], "deep": {"er": TOKEN, "other": name}}}
    }


async def test_a_shell_command_gets_secrets_too(task: ExecutorTask, secrets_file: Path) -> None:
    task.block("shell", "")
    inputs = {"command": 'test "$T" = s3cret-value', "envs": f"T={TOKEN}"}
    job = task.job("shell", inputs, executor="shell")
    assert await task.finished(task.start_job(job)) == {}
    job = task.job("shell", {"command": REFERENCE}, executor="shell")
    finished = await task.finished(task.start_job(job))
    assert "exited with code 127" in finished["error"]


async def test_without_a_file_a_secret_handle_fails_and_says_where_it_was_looked_for(
    task: ExecutorTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOMOL_SECRETS_FILE", str(tmp_path / "none.json"))
    finished = await run(task, "Custom,github,token", SECRET)
    assert f"{tmp_path / 'none.json'}: No such file or directory" in finished["error"]
    assert await run(task, REFERENCE) == {"result": {"out": REFERENCE}}


async def test_without_the_variable_the_file_is_where_studio_keeps_it(
    task: ExecutorTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OOMOL_SECRETS_FILE", raising=False)
    file = tmp_path / "app-config" / "oomol-secrets" / "secrets.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(FILE))
    assert await run(task, REFERENCE) == {"result": {"out": TOKEN}}


async def test_a_broken_file_is_told_without_its_content(
    task: ExecutorTask, broken_file: Path
) -> None:
    finished = await run(task, "Custom,github,token", SECRET)
    assert finished["error"].endswith("OOMOL_SECRETS_FILE may name another file.")
    assert TOKEN not in finished["error"]


async def test_a_worker_does_not_know_the_file_and_an_error_shows_no_secret(
    task: ExecutorTask, secrets_file: Path
) -> None:
    source = """
        import os
        def main(inputs):
            assert "OOMOL_SECRETS_FILE" not in os.environ
            raise KeyError("broken")
        """
    finished = await run(task, REFERENCE, source=source)
    assert finished["error"].endswith("KeyError: 'broken'")
    assert TOKEN not in json.dumps(task.messages)


CREDENTIAL = {"contentMediaType": "oomol/credential"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${{OO_CREDENTIAL:api,My account,id-1}}", ["api", "id-1"]),
        ("${{OO_CREDENTIAL:api,id-1}}", None),
        ("nothing", None),
        (None, None),
    ],
)
async def test_a_credential_is_what_query_auth_takes(
    task: ExecutorTask, value: Any, expected: Any
) -> None:
    source = """
        from oocana import CredentialInput
        def main(inputs):
            it = inputs["it"]
            assert it is None or isinstance(it, CredentialInput)
            return {"out": it and [it.type, it.id]}
        """
    assert await run(task, value, CREDENTIAL, source) == {"result": {"out": expected}}
