"""A server that takes uploads and gives out files: a real socket, and faults on demand."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import policy
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from typing import Any, Dict, Iterator, List, Mapping, Union
from urllib.parse import unquote

from scripted import QuietServer, task


@dataclass(frozen=True)
class Upload:
    """One request with files, as it arrived. ``size`` is that of its body in bytes."""

    headers: Mapping[str, str]
    body: bytes
    size: int

    @property
    def parts(self) -> List[Message]:
        """The parts as Python's own mail parser sees them."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser(policy=policy.HTTP).parsebytes(head + self.body)
        assert message.is_multipart()
        assert not message.defects
        return list(message.get_payload())  # type: ignore[arg-type]

    @property
    def files(self) -> List[Any]:
        """Name, media type and content of each file."""
        return [
            (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
            for part in self.parts
            if part.get_param("name", header="content-disposition") == "files"
        ]

    @property
    def fields(self) -> Dict[str, str]:
        """The fields that are no files."""
        return {
            str(part.get_param("name", header="content-disposition")): part.get_payload()
            for part in self.parts
            if part.get_filename() is None
        }  # type: ignore[return-value]


@dataclass
class StoredFile:
    """A file of task t1. ``cuts``: after how many bytes each next answer breaks off."""

    content: bytes
    etag: Union[str, None] = '"one"'
    cuts: List[int] = field(default_factory=list)


class FileServer:
    """Takes ``POST /api/v1/tasks`` and gives ``GET /api/v1/tasks/t1/files/NAME``."""

    def __init__(self) -> None:
        self.url = ""
        self.uploads: List[Upload] = []
        self.keep = True
        #: Status codes of the next answers to uploads; 200 when there are none left.
        self.refusals: List[int] = []
        self.files: Dict[str, StoredFile] = {}
        self.ranges: List[Union[str, None]] = []


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Run a file server on a free loopback port."""
    state = FileServer()

    class Handler(_Handler):
        server_state = state

    server = QuietServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/api"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: FileServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        state = self.server_state
        headers = {name.lower(): value for name, value in self.headers.items()}
        kept, size = [], 0
        for piece in self._body():
            size += len(piece)
            if state.keep:
                kept.append(piece)
        state.uploads.append(Upload(headers, b"".join(kept), size))
        if state.refusals:
            self._answer(state.refusals.pop(0), {"message": "later"})
        else:
            self._answer(200, {"task": task("created"), "success": True})

    def do_GET(self) -> None:
        name = unquote(self.path.rpartition("/")[2])
        if self.path == "/api/v1/tasks/t1":
            self._answer(200, {"task": task("completed", result={"n": 1}), "success": True})
        elif self.path == "/api/v1/tasks/t1/logs":
            self._answer(200, {"logs": [], "success": True})
        elif self.path == "/api/v1/tasks/t1/files":
            rows = [{"name": n, "size": len(f.content)} for n, f in self.server_state.files.items()]
            self._answer(200, {"files": rows})
        elif name in self.server_state.files:
            self._send_file(self.server_state.files[name])
        else:
            self._answer(404, {"message": f"no file {name}"})

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                size = int(self.rfile.readline(), 16)
                chunk = self.rfile.read(size)
                self.rfile.readline()
                if not size:
                    return
                yield chunk
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(left, 65536))
            if not piece:
                raise ConnectionResetError("the client went away")
            left -= len(piece)
            yield piece

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status in (429, 503):
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(content)

    def _send_file(self, file: StoredFile) -> None:
        asked = self.headers.get("Range")
        self.server_state.ranges.append(asked)
        start = 0
        match = re.match(r"bytes=(\d+)-$", asked or "")
        if match and self.headers.get("If-Range") == file.etag:
            start = int(match.group(1))
        self.send_response(206 if start else 200)
        if start:
            last = len(file.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(file.content)}")
        if file.etag:
            self.send_header("ETag", file.etag)
        self.send_header("Content-Length", str(len(file.content) - start))
        self.end_headers()
        rest = file.content[start:]
        if file.cuts:
            self.wfile.write(rest[: file.cuts.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(rest)
