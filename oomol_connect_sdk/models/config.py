"""Options that were not given: from a YAML file, the environment, and ``.env``, in that order."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..errors import OomolConnectError

DEFAULT_ENV_FILE = ".env"

#: One secret that is given replaces all that are found.
_SECRETS = ("api_key", "bearer_token", "jwt_secret_key")

_OPENAI_URL = "https://api.openai.com/v1"

_TAMAR = "MODEL_MANAGER_SERVER_"


def resolved(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with what is missing filled in from variables.

    They are: ``OOMOL_MODELS_URL``,
    ``OOMOL_MODELS_API_KEY`` and ``OOMOL_MODELS_MODEL``; and, each for its own service only,
    ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``, ``TENSORZERO_API_KEY``,
    ``MODEL_MANAGER_SERVER_ADDRESS`` and what else begins like it, and inside a block
    ``OOMOL_LLM_BASE_URL_V1``, ``OOMOL_LLM_API_KEY`` and ``OOMOL_LLM_MODELS``.
    """
    given = {name: value for name, value in options.items() if value is not None}
    variables = _variables(given.pop("env_file", None))
    found = {} if "url" in given else _named_service(variables)
    found = {**_for_the_address(given.get("url") or found.get("url"), variables), **found}
    if any(name in given for name in _SECRETS):
        found = {name: value for name, value in found.items() if name not in _SECRETS}
    return {**found, **given}


def yaml_options(path: str | os.PathLike[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a YAML file, with those that are given in their place."""
    given = {name: value for name, value in options.items() if value is not None}
    return {**yaml_mapping(path), **given}


def context_options(context: Any) -> dict[str, Any]:
    """Return the options of the service that the context of a block names."""
    service = context.oomol_llm_env
    url = service.get("base_url_v1")
    if not url:
        raise OomolConnectError(
            "this block was given no model service: start the server with one (--models-url)"
        )
    model = next((name for name in service.get("models") or () if name), None)
    return {"url": url, "api_key": service.get("api_key") or None, "model": model}


def _named_service(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the service that the variables name, with its own key."""
    for read in (_oomol_models, _block_service, _openai, _tamar):
        options = read(variables)
        if options.get("url"):
            return {name: value for name, value in options.items() if value}
    return {}


def _oomol_models(variables: Mapping[str, str]) -> dict[str, Any]:
    return {"url": variables.get("OOMOL_MODELS_URL")}


def _block_service(variables: Mapping[str, str]) -> dict[str, Any]:
    models = variables.get("OOMOL_LLM_MODELS", "").split(",")
    return {
        "url": variables.get("OOMOL_LLM_BASE_URL_V1"),
        "api_key": variables.get("OOMOL_LLM_API_KEY"),
        "model": models[0],
    }


def _openai(variables: Mapping[str, str]) -> dict[str, Any]:
    url = variables.get("OPENAI_BASE_URL")
    return {"url": url, "api_key": variables.get("OPENAI_API_KEY")}


def _tamar(variables: Mapping[str, str]) -> dict[str, Any]:
    address = variables.get(f"{_TAMAR}ADDRESS")
    if not address:
        return {}
    tls = variables.get(f"{_TAMAR}GRPC_USE_TLS", "true").strip().lower()
    if tls not in ("true", "false", "1", "0"):
        raise ValueError(f"{_TAMAR}GRPC_USE_TLS must be true or false, not {tls!r}")
    scheme = "tamar+grpcs" if tls in ("true", "1") else "tamar+grpc"
    return {"url": f"{scheme}://{address}"}


def _for_the_address(url: Any, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return what the variables say of a service at this address.

    A key of one maker's is never sent to another's service: only to the address it stands beside.
    """
    found: dict[str, Any] = {}
    if _same_origin(url, variables.get("OOMOL_MODELS_URL") or url):
        found["api_key"] = variables.get("OOMOL_MODELS_API_KEY")
        found["model"] = variables.get("OOMOL_MODELS_MODEL")
    address = url if isinstance(url, str) else ""
    if address.startswith("tensorzero+"):
        found["api_key"] = found.get("api_key") or variables.get("TENSORZERO_API_KEY")
    elif address.startswith("tamar+"):
        if variables.get(f"{_TAMAR}ADDRESS") in (None, "", urlsplit(address).netloc):
            found.update(_tamar_details(variables))
    elif _same_origin(url, variables.get("OPENAI_BASE_URL") or _OPENAI_URL):
        found["api_key"] = found.get("api_key") or variables.get("OPENAI_API_KEY")
    return {name: value for name, value in found.items() if value not in (None, "")}


def _same_origin(one: Any, other: Any) -> bool:
    return isinstance(one, str) and isinstance(other, str) and _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.rpartition("+")[2], parts.netloc.lower()


def _tamar_details(variables: Mapping[str, str]) -> dict[str, Any]:
    def number(name: str, kind: Callable[[str], Any]) -> Any:
        text = variables.get(_TAMAR + name)
        try:
            return None if not text else kind(text)
        except ValueError:
            raise ValueError(f"{_TAMAR}{name} must be a number, not {text!r}") from None

    token = variables.get(f"{_TAMAR}JWT_TOKEN")
    details = {
        "jwt_secret_key": None if token else variables.get(f"{_TAMAR}JWT_SECRET_KEY"),
        "default_authority": variables.get(f"{_TAMAR}GRPC_DEFAULT_AUTHORITY"),
        "max_retries": number("GRPC_MAX_RETRIES", int),
        "retry_delay": number("GRPC_RETRY_DELAY", float),
    }
    if token:
        details["api_key"] = token
    return {name: value for name, value in details.items() if value is not None}


def _variables(env_file: Any) -> dict[str, str]:
    path = DEFAULT_ENV_FILE if env_file is None else env_file
    if not os.path.isfile(path):
        if env_file is not None:
            raise FileNotFoundError(f"env_file {os.fspath(path)!r} does not exist")
        return dict(os.environ)
    try:
        from dotenv import dotenv_values
    except ImportError:
        if env_file is None:
            return dict(os.environ)
        raise _needs_extra("env_file") from None
    values = {name: value for name, value in dotenv_values(path).items() if value is not None}
    return {**values, **os.environ}


def yaml_mapping(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; ValueError when it does not."""
    try:
        import yaml
    except ImportError:
        raise _needs_extra("a YAML file") from None
    with open(path, encoding="utf-8") as file:
        try:
            options = yaml.safe_load(file)
        except yaml.YAMLError as error:
            raise ValueError(f"{os.fspath(path)} is no YAML: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{os.fspath(path)} must hold a mapping of options")
    return options


def _needs_extra(what: str) -> OomolConnectError:
    return OomolConnectError(f"{what} needs pip install 'oomol-connect-sdk[models]'")
