"""Where a model service is and how to speak to it: the checked options of `Models`."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict
from urllib.parse import urlsplit, urlunsplit

from ..errors import OomolConnectError

#: A secret, or what gives one: a function or a coroutine function, on both faces. It is asked
#: when one is first needed, and again when the service answers 401.
Secret = str | Callable[[], str | Awaitable[str]]

DEFAULT_TIMEOUT = 600.0
DEFAULT_MAX_RETRIES = 2
DEFAULT_RETRY_DELAY = 0.5
DEFAULT_MAX_FILE_SIZE = 50 * 1024 * 1024

_SCHEMES = {
    "http": ("openai", "http"),
    "https": ("openai", "https"),
    "openai+http": ("openai", "http"),
    "openai+https": ("openai", "https"),
    "dial+http": ("dial", "http"),
    "dial+https": ("dial", "https"),
    "tensorzero+http": ("tensorzero", "http"),
    "tensorzero+https": ("tensorzero", "https"),
    "tensorzero+file": ("tensorzero", "file"),
    "tamar+grpc": ("tamar", "grpc"),
    "tamar+grpcs": ("tamar", "grpcs"),
}

#: The options that only one protocol has.
_ONLY_OF = {
    "api_version": "dial",
    "clickhouse_url": "tensorzero",
    "jwt_secret_key": "tamar",
    "org_id": "tamar",
    "user_id": "tamar",
    "client_type": "tamar",
    "provider": "tamar",
    "default_authority": "tamar",
    "root_certificates": "tamar",
}


class ModelOptions(TypedDict, total=False):
    """The options of `Models`; every key is a keyword of its constructor.

    ``url``: the service, its protocol by the scheme: ``https://`` or ``openai+https://`` for an
    OpenAI-compatible one (with its ``/v1``), ``dial+https://``, ``tensorzero+http://``,
    ``tensorzero+file:///…/tensorzero.toml`` for the gateway inside this process,
    ``tamar+grpcs://`` or ``tamar+grpc://`` without TLS.
    ``api_key``: a key or a function that gives one; DIAL gets it as ``api-key``, Tamar as its
    JWT, the others as a bearer token. ``bearer_token``: a token for ``Authorization``.
    ``model``: what is asked when a call names no model.
    ``headers``: sent with every request. ``timeout``: seconds to wait for the next bytes, 600.
    ``max_retries``: how often a request is sent again, 2; ``retry_delay``: seconds before the
    first time, doubled each time, 0.5.
    ``max_file_size``: the largest file that is sent inside a message, in bytes, 50 MiB.
    ``http_client``: an httpx client to send with; it is not closed.
    ``on_exchange``: called with an `Exchange` after every request, its secrets masked.
    ``env_file``: a file of variables that stand below the environment's, ``.env``.

    Only DIAL: ``api_version``. Only the embedded TensorZero: ``clickhouse_url``. Only Tamar:
    ``jwt_secret_key``, from which tokens are made; ``org_id``, ``user_id`` and ``client_type``
    of the user; ``provider``; ``default_authority``; ``root_certificates`` in PEM.
    """

    url: str
    api_key: Secret
    bearer_token: Secret
    model: str
    headers: Mapping[str, str]
    timeout: float
    max_retries: int
    retry_delay: float
    max_file_size: int
    http_client: Any
    on_exchange: Callable[..., Any]
    env_file: str
    api_version: str
    clickhouse_url: str
    jwt_secret_key: str
    org_id: str
    user_id: str
    client_type: str
    provider: str
    default_authority: str
    root_certificates: bytes


@dataclass(frozen=True)
class Settings:
    """Checked options. Its repr shows no secret.

    ``base_url`` is the address without the protocol and without a slash at the end; ``special``
    holds the options of one protocol only.
    """

    protocol: str
    base_url: str
    api_key: Secret | None = field(default=None, repr=False)
    bearer_token: Secret | None = field(default=None, repr=False)
    model: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = DEFAULT_TIMEOUT
    max_retries: int = DEFAULT_MAX_RETRIES
    retry_delay: float = DEFAULT_RETRY_DELAY
    max_file_size: int = DEFAULT_MAX_FILE_SIZE
    on_exchange: Callable[..., Any] | None = field(default=None, repr=False)
    special: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """Check the options; raises TypeError or ValueError that names the one at fault."""
        given = {name: value for name, value in options.items() if value is not None}
        unknown = sorted(set(given) - set(ModelOptions.__annotations__))
        if unknown:
            known = ", ".join(ModelOptions.__annotations__)
            raise TypeError(f"unknown option {unknown[0]!r} of a model service; there are {known}")
        protocol, base_url = _address(given.get("url"))
        if "api_key" in given and "bearer_token" in given:
            raise ValueError("a model service gets an api_key or a bearer_token, not both")
        return cls(
            protocol=protocol,
            base_url=base_url,
            api_key=_secret(given, "api_key"),
            bearer_token=_secret(given, "bearer_token"),
            model=_text(given, "model"),
            headers=_headers(given),
            timeout=_seconds(given, "timeout", DEFAULT_TIMEOUT),
            max_retries=_whole(given, "max_retries", DEFAULT_MAX_RETRIES),
            retry_delay=_seconds(given, "retry_delay", DEFAULT_RETRY_DELAY),
            max_file_size=_whole(given, "max_file_size", DEFAULT_MAX_FILE_SIZE),
            on_exchange=_function(given, "on_exchange"),
            special=_special(given, protocol),
        )


def check_secret(value: Any, option: str) -> str:
    """Return a secret that can stand in a header; the error does not show it."""
    if not isinstance(value, str):
        raise TypeError(f"{option} must be text or give text, not {type(value).__name__}")
    if not value or not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError(f"{option} must be printable ASCII without surrounding blanks")
    return value


def _address(url: Any) -> tuple[str, str]:
    if url is None:
        raise OomolConnectError(
            "no model service is named: pass url='https://host/v1' or set OOMOL_MODELS_URL"
        )
    if not isinstance(url, str):
        raise TypeError(f"url must be text, not {type(url).__name__}")
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"url must begin with one of {', '.join(_SCHEMES)} and ://, not {url!r}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url must hold no user name or password: use api_key or headers")
    protocol, scheme = _SCHEMES[parts.scheme]
    if scheme == "file":
        if parts.netloc or not parts.path:
            raise ValueError(f"url must name a file as tensorzero+file:///path, not {url!r}")
    elif not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"url must name a host, without query and fragment: {url!r}")
    return protocol, urlunsplit((scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _special(given: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    special = {name: given[name] for name in _ONLY_OF if name in given}
    for name in special:
        if _ONLY_OF[name] != protocol:
            raise ValueError(f"{name} is an option of {_ONLY_OF[name]}+… services only")
    for name, value in special.items():
        kind: type = bytes if name == "root_certificates" else str
        if not isinstance(value, kind) or not value:
            raise TypeError(f"{name} must be non-empty {kind.__name__}, not {type(value).__name__}")
    return special


def _secret(given: Mapping[str, Any], option: str) -> Secret | None:
    value = given.get(option)
    if value is None or callable(value):
        return value
    return check_secret(value, option)


def _text(given: Mapping[str, Any], option: str) -> str | None:
    value = given.get(option)
    if value is not None and (not isinstance(value, str) or not value):
        raise TypeError(f"{option} must be non-empty text, not {value!r}")
    return value


def _headers(given: Mapping[str, Any]) -> dict[str, str]:
    headers = given.get("headers", {})
    if not isinstance(headers, Mapping) or not all(
        isinstance(text, str) for item in headers.items() for text in item
    ):
        raise TypeError("headers must be a mapping of texts")
    for name, text in headers.items():
        if not text.isascii() or not text.isprintable():
            raise ValueError(f"the header {name!r} must be printable ASCII")
    return dict(headers)


def _seconds(given: Mapping[str, Any], option: str, default: float) -> float:
    value = given.get(option, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{option} must be a number of seconds, not {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{option} must be a positive number of seconds, not {value!r}")
    return float(value)


def _whole(given: Mapping[str, Any], option: str, default: int) -> int:
    value = given.get(option, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option} must be a whole number, not {value!r}")
    if value < 0:
        raise ValueError(f"{option} must be 0 or more, not {value!r}")
    return value


def _function(given: Mapping[str, Any], option: str) -> Callable[..., Any] | None:
    value = given.get(option)
    if value is not None and not callable(value):
        raise TypeError(f"{option} must be a function, not {type(value).__name__}")
    return value
