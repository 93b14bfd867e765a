"""DIAL for the tests: a real aidial-sdk application behind a stand-in for DIAL Core.

Run as a script it serves on a free port, which it prints. The stand-in keeps Core's rules for
keys, buckets, files, metadata, deployments and applications; everything a deployment answers is
aidial-sdk's. What the application does is told it by the last message, as the OpenAI server's.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import uvicorn
from aidial_sdk import DIALApp, HTTPException
from aidial_sdk.chat_completion import ChatCompletion, Request, Response
from starlette import requests, responses

#: The bucket of each key and token.
BUCKETS = {"key-1": "bucket1", "key-2": "bucket2", "Bearer token-1": "bucket1"}

#: The entries of a folder that are given at once, however many are asked for.
PAGE = 3

FEATURES = {"rate": True, "tools": True, "system_prompt": True, "url_attachments": False}
COMMON = {"owner": "organization-owner", "status": "succeeded", "features": FEATURES}
DEPLOYMENTS = [
    {"id": id, "model": id, "object": "deployment", "created_at": 1672534800, **COMMON}
    for id in ("echo", "applications/bucket1/My App")
]
APPLICATIONS = [
    {"id": id, "application": id, "object": "application", "created_at": 1672534800, **COMMON}
    for id in ("an_app", "applications/bucket1/My App")
]


class Application(ChatCompletion):
    """Says ``Echo: …``, calls tools, or does what the last message names."""

    def __init__(self) -> None:
        self.ratings: list[Any] = []

    async def rate_response(self, request: Any) -> None:
        self.ratings.append([request.deployment_id, request.response_id, request.rate])

    async def chat_completion(self, request: Request, response: Response) -> None:
        response.set_model("a-model-behind-it")
        said = text_of(request.messages[-1])
        if said == "refuse":
            shown = "Please come back later"
            raise HTTPException("over the limit", 403, code="limit", display_message=shown)
        with response.create_single_choice() as choice:
            if said == "break":
                choice.append_content("some ")
                await response.aflush()
                raise HTTPException("the model is gone", 502, display_message="Try again")
            if said == "stages":
                with choice.create_stage("Reading") as stage:
                    stage.append_content("page 1")
                choice.add_attachment(type="text/plain", title="notes", data="some notes")
                choice.set_state({"step": 1})
            calls = list(wanted_calls(request))
            for number, (name, arguments) in enumerate(calls):
                call = choice.create_function_tool_call(f"call_{number}", name, arguments[:3])
                call.append_arguments(arguments[3:])
            for word in re.findall(r"\S+|\s+", "" if calls else self.answer(request, said)):
                choice.append_content(word)
        response.set_usage(7, 5)

    def answer(self, request: Request, said: str) -> str:
        if said.split(" ")[0] == "show":
            dumped = [message.model_dump(exclude_none=True) for message in request.messages]
            version, deployment = request.api_version, request.deployment_id
            return json.dumps({"messages": dumped, "version": version, "deployment": deployment})
        if said == "ratings":
            return json.dumps(self.ratings)
        if request.messages[-1].role == "tool":
            results = [text_of(message) for message in request.messages if message.role == "tool"]
            return "Tools: " + " | ".join(results)
        return f"Echo: {said}"


def text_of(message: Any) -> str:
    content = message.content or ""
    if isinstance(content, str):
        return content
    return " ".join(getattr(part, "text", f"[{part.type}]") for part in content)


def wanted_calls(request: Request) -> Iterator[tuple[str, str]]:
    if request.tools and request.messages[-1].role == "user":
        for line in text_of(request.messages[-1]).splitlines():
            if line.startswith("call "):
                _, name, arguments = line.split(" ", 2)
                yield name, arguments


@dataclass
class Stored:
    content: bytes
    kind: str
    created: int
    updated: int

    @property
    def etag(self) -> str:
        return hashlib.md5(self.content).hexdigest()


class Core:
    """What DIAL Core does before and beside its applications."""

    def __init__(self) -> None:
        self.application = DIALApp()
        self.application.add_chat_completion("app", Application())
        self.files: dict[str, Stored] = {}
        self.broken: set[str] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        request = requests.Request(scope, receive)
        path = scope["raw_path"].decode()
        key, token = request.headers.get("api-key"), request.headers.get("authorization")
        if key and token and f"Bearer {key}" != token:
            answer = text(400, "Either API-KEY or Authorization header must be provided")
        elif (bucket := BUCKETS.get(key or token or "")) is None:
            answer = text(401, "Unknown API key" if key else "")
        elif deployment := asked_deployment(path):
            if deployment[0] in {row["id"] for row in DEPLOYMENTS}:
                await self.application(behind_core(scope, *deployment), receive, send)
                return
            answer = error(404, f"Unknown deployment: {deployment[0]}", "The service is not there")
        else:
            answer = await self.answer(request, path, bucket)
        await answer(scope, receive, send)

    async def answer(self, request: Any, path: str, bucket: str) -> Any:
        if path == "/v1/bucket":
            return responses.JSONResponse({"bucket": bucket})
        if match := re.fullmatch("/openai/(deployments|applications)(?:/(.+))?", path):
            return rows(*match.groups())
        match = re.fullmatch("/v1/(metadata/)?files/([a-zA-Z0-9]+)/(.*)", path)
        if not match:
            return error(404, "Not Found")
        if match[2] != bucket:
            return text(403, "You don't have an access to: files")
        name = f"{match[2]}/{unquote(match[3])}"
        if match[1]:
            return self.metadata(name, request)
        if name.endswith("/"):
            return text(400, "File name is missing")
        return await getattr(self, f"on_{request.method.lower()}")(name, request)

    async def on_put(self, name: str, request: Any) -> Any:
        if refused := self.refused(name, request):
            return refused
        async with request.form() as form:
            (part,) = form.values()
            now = int(time.time() * 1000)
            created = self.files[name].created if name in self.files else now
            content = await part.read()
            self.files[name] = Stored(content, part.content_type, created, now)
        headers = {"ETag": self.files[name].etag}
        return responses.JSONResponse(self.entry(name), headers=headers)

    async def on_get(self, name: str, request: Any) -> Any:
        file = self.files.get(name)
        if file is None:
            return text(404, "")
        content = file.content
        if "breaks" in name and name not in self.broken:
            self.broken.add(name)
            content = content[: len(content) // 2]
        length = {"Content-Length": str(len(file.content)), "ETag": file.etag}
        return responses.StreamingResponse(pieces(content), headers=length, media_type=file.kind)

    async def on_delete(self, name: str, request: Any) -> Any:
        if refused := self.refused(name, request):
            return refused
        return text(200 if self.files.pop(name, None) else 404, "")

    def refused(self, name: str, request: Any) -> Any:
        etag = self.files[name].etag if name in self.files else None
        wanted, unwanted = (request.headers.get(h) for h in ("if-match", "if-none-match"))
        if (wanted and wanted.strip('"') not in (etag, "*")) or (unwanted == "*" and etag):
            return text(412, f"If-match condition is failed for etag {etag}")
        return None

    def metadata(self, name: str, request: Any) -> Any:
        if not name.endswith("/"):
            found = self.files.get(name)
            return responses.JSONResponse(self.entry(name)) if found else text(404, "")
        start = int(request.query_params.get("token", 0))
        limit = int(request.query_params.get("limit", 100))
        if limit > 1000:
            return text(400, "Limit is out of allowed range: [0, 1000]")
        below = {child(name, file) for file in self.files if file.startswith(name)}
        shown = sorted(below)[start : start + min(limit, PAGE)]
        found = {**self.entry(name), "items": [self.entry(item) for item in shown]}
        if start + len(shown) < len(below):
            found["nextToken"] = str(start + len(shown))
        return responses.JSONResponse(found) if below else text(404, "")

    def entry(self, name: str) -> dict[str, Any]:
        bucket, *names = name.rstrip("/").split("/")
        common = {"name": names[-1] if names else None, "bucket": bucket}
        common.update(parentPath="/".join(names[:-1]) or None, resourceType="FILE")
        common["url"] = quote(f"files/{name}")
        if name.endswith("/"):
            return {**common, "nodeType": "FOLDER", "items": None}
        file = self.files[name]
        times = {"createdAt": file.created, "updatedAt": file.updated, "etag": file.etag}
        content = {"contentLength": len(file.content), "contentType": file.kind}
        return {**common, "nodeType": "ITEM", **content, **times}


def child(folder: str, file: str) -> str:
    """Return the entry of a folder that a file below it is, or is in."""
    first, slash, _ = file[len(folder) :].partition("/")
    return folder + first + slash


async def pieces(content: bytes) -> Any:
    for start in range(0, len(content), 65536):
        yield content[start : start + 65536]


def asked_deployment(path: str) -> tuple[str, str] | None:
    """Return the deployment and the end of the application's path that a path of Core's names."""
    chat = re.fullmatch("/openai/deployments/(.+?)/(chat/completions)", path)
    match = chat or re.fullmatch("/v1/(.+?)/(rate)", path)
    return (unquote(match[1]), match[2]) if match else None


def behind_core(scope: Any, deployment: str, end: str) -> Any:
    """Return a request as Core hands it on: with a key of its own, to the application's path."""
    path = f"/openai/deployments/app/{end}"
    headers = [item for item in scope["headers"] if item[0] not in (b"api-key", b"authorization")]
    headers += [(b"api-key", b"a-key-of-core"), (b"x-dial-override-name", deployment.encode())]
    return {**scope, "path": path, "raw_path": path.encode(), "headers": headers}


def rows(kind: str, id: str | None) -> Any:
    known = DEPLOYMENTS if kind == "deployments" else APPLICATIONS
    if id is None:
        return responses.JSONResponse({"data": known, "object": "list"})
    found = [row for row in known if row["id"] == unquote(id)]
    return responses.JSONResponse(found[0]) if found else text(404, "")


def text(status: int, message: str) -> Any:
    return responses.PlainTextResponse(message, status)


def error(status: int, message: str, shown: str = "") -> Any:
    body = {"message": message, "type": "invalid_request_error", "display_message": shown}
    return responses.JSONResponse({"error": body}, status)


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(Core(), log_level="critical")).run(sockets=[listener])
