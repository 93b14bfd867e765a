"""The page at /ui, as far as it can be tested without a browser."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from servers import Connection

from oomol_connect_sdk.server import LocalServer


@pytest.fixture(scope="module")
def page(server: LocalServer) -> httpx.Response:
    answer = httpx.get(f"{server.base_url}/ui")
    assert answer.status_code == 200
    return answer


def policy(page: httpx.Response) -> dict[str, str]:
    parts = page.headers["Content-Security-Policy"].split("; ")
    return dict(part.split(" ", 1) for part in parts)


def between(text: str, start: str, end: str) -> str:
    (found,) = re.findall(f"{start}(.*?){end}", text, re.DOTALL)
    return str(found)


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("path", ["/ui", "/api/ui"])
def test_the_page_is_given_to_everybody_who_names_this_machine(
    server: LocalServer, path: str
) -> None:
    answer = httpx.get(server.base_url + path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert server.token not in answer.text
    assert httpx.get(server.base_url + path, headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("path", ["/ui/", "/ui/x", "//ui", "/doc/", "/api//ui", "/v1/tasks?/ui"])
def test_nothing_but_the_page_is_given_without_the_token(server: LocalServer, path: str) -> None:
    assert httpx.get(server.base_url + path).status_code == 401


def test_only_the_script_and_the_style_of_the_page_itself_may_act(page: httpx.Response) -> None:
    rules = policy(page)
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == digest(between(page.text, '<script type="module">', "</script>"))
    assert rules["style-src"] == digest(between(page.text, "<style>", "</style>"))
    assert rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    # What the policy would stop: handlers and styles in attributes, further scripts.
    assert not re.search(r"<[^>]+\s(on\w+|style)\s*=", page.text)
    assert page.text.count("<script") == page.text.count("<style") == 1


def test_the_page_names_no_other_address(page: httpx.Response) -> None:
    assert not re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", page.text, re.IGNORECASE)
    assert re.findall(r'\s(?:src|href)="(?!#|data:,|doc")[^"]*"', page.text) == []


def test_no_text_becomes_markup_or_code(page: httpx.Response) -> None:
    script = between(page.text, '<script type="module">', "</script>")
    makers = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment"
        r"|DOMParser|srcdoc|\beval\b|new Function|javascript:|setTimeout\(\s*[\"'`]"
    )
    assert re.findall(makers, script) == []
    assert "localStorage" not in script
    assert "document.cookie" not in script


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_script_is_a_module_without_faults_of_syntax(
    page: httpx.Response, tmp_path: Path
) -> None:
    script = tmp_path / "page.mjs"
    script.write_text(between(page.text, '<script type="module">', "</script>"), encoding="utf-8")
    done = subprocess.run(["node", "--check", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_everything_the_page_asks_for_is_there(connection: Connection) -> None:
    task = connection.run("shop::leave", {"secret": "/nowhere/at-all"})
    for path in (
        "/v1/tasks?limit=50&status=completed",
        f"/v1/tasks/{task['id']}",
        f"/v1/tasks/{task['id']}/files",
        f"/v1/tasks/{task['id']}/files/deep/est/gr%C3%B6%C3%9Fe%201.txt",
        "/v1/flows",
        "/v1/blocks",
        "/packages",
        "/packages/install",
        "/doc",
    ):
        assert connection.http.get(path).status_code == 200, path
    with connection.events(task=task["id"], after=0) as events:
        assert next(event for event in events if event.ends(task["id"]))
