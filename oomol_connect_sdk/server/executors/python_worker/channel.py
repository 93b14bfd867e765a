"""The worker's connection to its server, kept away from the code of the blocks."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import BinaryIO

from .frames import encode_frame, read_frame
from .protocol import MARK_END, MARK_START


class Channel:
    """Frames in both directions, and marks in the error output.

    Made before anything else runs: it takes the process' standard input and output for itself.
    What blocks, C libraries and child processes write to their standard output lands in the
    error output from then on, and their standard input is empty.
    """

    def __init__(self) -> None:
        self._input: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._output = os.dup(1)
        self._errors = os.dup(2)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        self._lock = threading.RLock()
        self._waiting: deque[bytes] = deque()
        self._writing = False
        self._detached = False

    def receive(self) -> bytes | None:
        """Wait for the next frame's body; None when the server is gone."""
        return read_frame(self._input)

    def send(self, *bodies: bytes) -> None:
        """Send each in a frame; blocks while the server is not reading. Raises FrameTooLarge."""
        frames = b"".join(map(encode_frame, bodies))
        if self._detached:
            raise RuntimeError("a child process can't send for the block that started it")
        with self._lock:
            self._waiting.append(frames)
            # A finalizer may print in the middle of the write below: its frames come after.
            if not self._writing:
                self._write_waiting()

    def mark(self, number: int) -> None:
        """Write this mark to the error output."""
        _write(self._errors, f"{MARK_START}{number}{MARK_END}".encode())

    def detach(self) -> None:
        """In a forked child: leave the connection to the parent."""
        if self._detached:
            return
        self._detached = True
        os.close(self._output)
        os.close(self._errors)

    def _write_waiting(self) -> None:
        self._writing = True
        try:
            while self._waiting:
                _write(self._output, self._waiting.popleft())
        finally:
            self._writing = False


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
