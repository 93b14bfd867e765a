"""Lines of log out of text that arrives in pieces."""

from __future__ import annotations

#: Characters of one line of log; a longer line is split.
LINE_LIMIT = 64 * 1024


class LineSplitter:
    """Complete lines, without their line ends, as a terminal would show them in the end.

    A carriage return goes back to the start of the line, so of a progress bar that rewrites
    itself only the last state is kept.
    """

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> list[str]:
        """The lines that this text completes."""
        # print() writes each word and each line end by itself.
        if "\n" not in text and len(self._rest) + len(text) < LINE_LIMIT:
            self._rest += text
            return []
        *complete, self._rest = (self._rest + text).split("\n")
        lines = [piece for line in complete for piece in _pieces(line)]
        if len(self._rest) >= LINE_LIMIT:
            *pieces, self._rest = _pieces(self._rest)
            lines += pieces
        return lines

    def flush(self) -> list[str]:
        """What is left of a line that was never ended, if anything."""
        rest, self._rest = self._rest, ""
        return _pieces(rest) if rest else []


def _pieces(line: str) -> list[str]:
    shown = line.rstrip("\r").rpartition("\r")[2]
    return [shown[at : at + LINE_LIMIT] for at in range(0, len(shown), LINE_LIMIT)] or [""]
