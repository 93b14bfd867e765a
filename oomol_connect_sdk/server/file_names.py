"""Names of files on their way through headers and onto a disk."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote, unquote_to_bytes

#: Bytes of the longest name a file gets.
_LONGEST = 200
_PARAMETER = re.compile(
    r';\s*([!#$&+\-.^_`|~\w]+\*?)\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^;"]*))\s*(?=;|$)'
)
# What browsers and HTTP clients write for the characters a quoted name can't hold.
_ESCAPES = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"), ('\\"', '"'))
#: What Windows does not take in a name, and what no name should hold anywhere.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\ud800-\udfff]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")


def disposition_names(header: bytes) -> tuple[str | None, str | None]:
    """Return the ``name`` and the ``filename`` of a Content-Disposition.

    Names are UTF-8 (RFC 7578); a ``filename*`` (RFC 5987) counts more than a ``filename``.
    """
    text = header.decode("utf-8", "replace")
    found: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(text):
        found.setdefault(name.lower(), _unescaped(quoted) if quoted else plain.strip())
    extended = _decoded(found.get("filename*", ""))
    return found.get("name"), extended if extended is not None else found.get("filename")


def safe_name(name: str) -> str:
    """Return a name for a file that is only a name, on every system, and as like as it can be."""
    last = re.split(r"[/\\]", name)[-1]
    safe = _UNSAFE.sub("_", last).strip(" ").rstrip(" .")
    if not safe:
        return "file"
    return _shortened(f"_{safe}" if _RESERVED.fullmatch(safe) else safe)


def attachment(name: str) -> str:
    """Return the Content-Disposition of a download that is to be saved under this name."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _unescaped(text: str) -> str:
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return text


def _decoded(value: str) -> str | None:
    charset, _, rest = value.partition("'")
    if charset.lower() not in ("utf-8", "iso-8859-1"):
        return None
    return unquote_to_bytes(rest.partition("'")[2]).decode(charset, "replace")


def _shortened(name: str) -> str:
    if len(name.encode()) <= _LONGEST:
        return name
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= _LONGEST // 4 else ""
    stem = name[: len(name) - len(suffix)].encode()[: _LONGEST - len(suffix.encode())]
    return stem.decode("utf-8", "ignore") + suffix
