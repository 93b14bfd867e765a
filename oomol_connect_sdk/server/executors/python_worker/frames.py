"""Frames: how the server and a worker tell each message from the next.

A frame is the length of its body, four bytes big-endian, and the body: UTF-8 JSON.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

#: Bytes that the body of one frame may have; larger values go by file.
FRAME_LIMIT = 64 * 1024 * 1024
#: Bytes of one message of a job; the rest of a frame is for what the server adds when it shows
#: the message to another block.
MESSAGE_LIMIT = FRAME_LIMIT - 1024 * 1024

_LENGTH = struct.Struct(">I")


class FrameTooLarge(ValueError):
    """A message is larger than FRAME_LIMIT."""

    def __init__(self, size: int) -> None:
        super().__init__(f"a message of {size} bytes is over the limit of {FRAME_LIMIT} bytes")
        self.size = size


def encode_frame(body: bytes) -> bytes:
    """The bytes to send for one body. Raises FrameTooLarge."""
    if len(body) > FRAME_LIMIT:
        raise FrameTooLarge(len(body))
    return _LENGTH.pack(len(body)) + body


def read_frame(stream: BinaryIO) -> bytes | None:
    """Wait for the next body; None when the other side is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    body = stream.read(size)
    return body if len(body) == size else None


class FrameDecoder:
    """Bodies out of bytes that arrive in pieces."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that these bytes complete. Raises FrameTooLarge."""
        self._received += data
        while len(self._received) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._received)
            if size > FRAME_LIMIT:
                raise FrameTooLarge(size)
            end = _LENGTH.size + size
            if len(self._received) < end:
                return
            body = bytes(self._received[_LENGTH.size : end])
            del self._received[:end]
            yield body
