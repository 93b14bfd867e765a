"""The page for people at ``/ui``: one answer that holds all it needs, under a strict policy."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib.resources import files

from starlette.responses import Response

#: The parts of the script, in this order: all share one scope.
SCRIPTS = ("base.js", "tasks.js", "run.js", "packages.js", "main.js")


def page_answer() -> Response:
    """Return the page."""
    text, policy = _page()
    return Response(
        text,
        media_type="text/html",
        headers={
            "Content-Security-Policy": policy,
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-cache",
        },
    )


@functools.cache
def _page() -> tuple[str, str]:
    """Return the page and its content policy: only its own script and style, only this server."""
    style = _file("style.css")
    script = "".join(_file(name) for name in SCRIPTS)
    text = _file("page.html").replace("{style}", style).replace("{script}", script)
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        # Browsers that know it refuse markup made of text, whatever the script does.
        "require-trusted-types-for": "'script'",
    }
    return text, "; ".join(f"{name} {value}" for name, value in policy.items())


def _file(name: str) -> str:
    return (files(__package__) / "ui" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
