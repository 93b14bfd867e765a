"""Server-sent events: the decoder, and the events a Connect server streams."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List

from .errors import BadAnswerError

#: The longest event that is taken, in bytes.
MAX_EVENT = 256 * 1024 * 1024


@dataclass(frozen=True)
class ServerEvent:
    """One event: its name, the last id that was sent up to it, and its data."""

    name: str
    id: str
    data: str

    def json(self) -> Dict[str, Any]:
        """Return the data as a JSON object; BadAnswerError when it is none."""
        try:
            value = json.loads(self.data)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise BadAnswerError(f"the event stream sent no JSON object: {self.data[:200]!r}")
        return value


class EventDecoder:
    """Turns pieces of bytes into events, wherever the pieces are cut.

    Lines end as the HTML standard says: with CR, LF or both; U+2028 and its like end none.
    """

    def __init__(self) -> None:
        # The pieces of a line are joined once, when it ends: a long one comes in thousands.
        self._line: List[bytes] = []
        self._begun = False
        self._after_cr = False
        self._name = ""
        self._id = ""
        self._data: List[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """Take a piece and give the events that it completes."""
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
        elif not chunk:
            return
        self._after_cr = chunk[-1:] == b"\r"
        ends = chunk.splitlines()
        rest = ends.pop() if chunk[-1:] not in (b"", b"\r", b"\n") else b""
        for end in ends:
            self._add(end)
            line = self._whole_line()
            if line:
                self._take(line)
                continue
            if self._data:
                yield ServerEvent(self._name or "message", self._id, "\n".join(self._data))
            self._name, self._data, self._size = "", [], 0
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_EVENT:
            raise BadAnswerError(f"the event stream sent an event of more than {MAX_EVENT} bytes")
        if piece:
            self._line.append(piece)

    def _whole_line(self) -> str:
        line, self._line = b"".join(self._line), []
        if not self._begun:
            self._begun = True
            line = line[3:] if line.startswith(BOM_UTF8) else line
        return line.decode("utf-8", "replace")

    def _take(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "id" and "\0" not in value:
            self._id = value
