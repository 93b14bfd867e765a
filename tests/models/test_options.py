"""Options of a model service: what is refused, and where what is missing comes from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faces import ModelsFace
from openai_server import OpenAIServer

from oomol_connect_sdk.errors import OomolConnectError
from oomol_connect_sdk.models import Models, SyncModels
from oomol_connect_sdk.models.config import resolved, yaml_options
from oomol_connect_sdk.models.options import Settings

URL = "https://models.example/v1"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"url": 5}, TypeError, "url must be text"),
        ({"url": "models.example"}, ValueError, "url must begin with one of http, https, openai"),
        ({"url": "ftp://models.example"}, ValueError, "url must begin with"),
        ({"url": "https://"}, ValueError, "must name a host"),
        ({"url": "https://me:pw@models.example"}, ValueError, "no user name or password"),
        ({"url": "https://models.example/v1?key=1"}, ValueError, "without query"),
        ({"url": "tensorzero+file://host/x.toml"}, ValueError, "must name a file"),
        ({"key": "x"}, TypeError, "unknown option 'key'"),
        ({"api_key": 5}, TypeError, "api_key must be text"),
        ({"api_key": ""}, ValueError, "api_key must be printable"),
        ({"api_key": "a\nb"}, ValueError, "api_key must be printable"),
        ({"api_key": "a", "bearer_token": "b"}, ValueError, "not both"),
        ({"model": ""}, TypeError, "model must be non-empty text"),
        ({"headers": ["a"]}, TypeError, "headers must be a mapping"),
        ({"headers": {"a": 1}}, TypeError, "headers must be a mapping of texts"),
        ({"headers": {"X-A": "a\r\nb"}}, ValueError, "the header 'X-A' must be printable"),
        ({"headers": {"X-A": "ä"}}, ValueError, "the header 'X-A' must be printable"),
        ({"timeout": 0}, ValueError, "timeout must be a positive"),
        ({"timeout": "5"}, TypeError, "timeout must be a number"),
        ({"timeout": float("inf")}, ValueError, "timeout must be a positive"),
        ({"max_retries": -1}, ValueError, "max_retries must be 0 or more"),
        ({"max_retries": 1.5}, TypeError, "max_retries must be a whole number"),
        ({"retry_delay": True}, TypeError, "retry_delay must be a number"),
        ({"max_file_size": "1"}, TypeError, "max_file_size must be a whole number"),
        ({"on_exchange": 5}, TypeError, "on_exchange must be a function"),
        ({"api_version": "1"}, ValueError, "api_version is an option of dial"),
        ({"clickhouse_url": "x"}, ValueError, "clickhouse_url is an option of tensorzero"),
        ({"jwt_secret_key": "x"}, ValueError, "jwt_secret_key is an option of tamar"),
        ({"env_file": "nowhere.env"}, FileNotFoundError, "nowhere.env"),
    ],
    ids=str,
)
def test_an_unusable_option_is_named(
    models_face: ModelsFace, options: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        models_face(**{"url": URL, **options})


def test_no_service_is_said(models_face: ModelsFace) -> None:
    with pytest.raises(OomolConnectError, match="no model service is named"):
        models_face()


def test_no_secret_is_shown_by_settings() -> None:
    settings = Settings.of({"url": URL, "api_key": "sk-secret", "headers": {"X-Key": "sk-secret"}})
    assert "secret" not in repr(settings)


def test_making_a_client_sends_nothing(models_face: ModelsFace, openai: OpenAIServer) -> None:
    assert repr(openai.url) in repr(models_face(openai.url, model="m"))
    assert openai.calls == []


@pytest.mark.parametrize("prefix", ["", "openai+"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_an_address_may_be_written_in_two_ways(
    models_face: ModelsFace, openai: OpenAIServer, prefix: str, slash: str
) -> None:
    assert models_face(prefix + openai.url + slash, model="m").chat("hi").text == "Echo: hi"
    assert openai.calls[0].path == "/v1/chat/completions"


def test_one_source_stands_above_another(
    models_face: ModelsFace,
    openai: OpenAIServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def asked(call: Any = None) -> tuple[str, str]:
        made = models_face.wrap((SyncModels if models_face.blocking else Models)(**options))
        made.chat("hi", **({"model": call} if call else {}))
        sent = openai.calls[-1]
        return sent.json["model"], sent.headers["authorization"]

    options: dict[str, Any] = {}
    lines = ["URL=" + openai.url, "MODEL=from-env-file", "API_KEY=key-of-env-file"]
    Path(".env").write_text("".join(f"OOMOL_MODELS_{line}\n" for line in lines))
    assert asked() == ("from-env-file", "Bearer key-of-env-file")
    monkeypatch.setenv("OOMOL_MODELS_MODEL", "from-environment")
    assert asked() == ("from-environment", "Bearer key-of-env-file")
    monkeypatch.setenv("OOMOL_MODELS_API_KEY", "key-of-environment")
    assert asked() == ("from-environment", "Bearer key-of-environment")
    path = tmp_path / "models.yaml"
    path.write_text(f"url: {openai.url}\nmodel: from-yaml\n")
    options = yaml_options(path, {})
    assert asked() == ("from-yaml", "Bearer key-of-environment")
    options = yaml_options(path, {"model": "from-constructor"})
    assert asked() == ("from-constructor", "Bearer key-of-environment")
    assert asked("from-call") == ("from-call", "Bearer key-of-environment")


def test_a_yaml_file_is_enough(
    models_face: ModelsFace, openai: OpenAIServer, tmp_path: Path
) -> None:
    kind = SyncModels if models_face.blocking else Models
    path = tmp_path / "models.yaml"
    path.write_text(f"url: {openai.url}\nmodel: from-yaml\napi_key: k\nheaders: {{X-Team: blue}}\n")
    models = models_face.wrap(kind.from_yaml(path))
    assert models.model == "from-yaml"
    models.chat("hi")
    assert openai.calls[0].headers["x-team"] == "blue"
    assert models_face.wrap(kind.from_yaml(path, model="over")).model == "over"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "mapping"),
        ("a: [", "no YAML"),
        ("", "mapping"),
        ("ur: x\n", "unknown option 'ur'"),
    ],
)
def test_an_unusable_yaml_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises((ValueError, TypeError), match=message):
        Models.from_yaml(path)


def test_another_file_of_variables_may_be_named(tmp_path: Path) -> None:
    Path(".env").write_text("OOMOL_MODELS_URL=https://wrong.example/v1\n")
    path = tmp_path / "other.env"
    path.write_text("OOMOL_MODELS_URL=https://right.example/v1\n")
    assert resolved({"env_file": str(path)})["url"] == "https://right.example/v1"
    yaml = tmp_path / "models.yaml"
    yaml.write_text(f"env_file: {path}\n")
    assert "right.example" in repr(Models.from_yaml(yaml))


def test_a_file_of_variables_changes_no_environment() -> None:
    import os

    Path(".env").write_text(f"OOMOL_MODELS_URL={URL}\n")
    assert resolved({})["url"] == URL
    assert "OOMOL_MODELS_URL" not in os.environ


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OOMOL_MODELS_URL": URL, "OPENAI_API_KEY": "sk"}, {"url": URL}),
        (
            {"OPENAI_BASE_URL": URL, "OPENAI_API_KEY": "sk"},
            {"url": URL, "api_key": "sk"},
        ),
        (
            {"OOMOL_LLM_BASE_URL_V1": URL, "OOMOL_LLM_API_KEY": "k", "OOMOL_LLM_MODELS": "a,b"},
            {"url": URL, "api_key": "k", "model": "a"},
        ),
        ({"OOMOL_LLM_BASE_URL_V1": URL, "OOMOL_LLM_MODELS": ""}, {"url": URL}),
        (
            {"MODEL_MANAGER_SERVER_ADDRESS": "h:1", "MODEL_MANAGER_SERVER_JWT_TOKEN": "t"},
            {"url": "tamar+grpcs://h:1", "api_key": "t"},
        ),
        (
            {
                "MODEL_MANAGER_SERVER_ADDRESS": "h:1",
                "MODEL_MANAGER_SERVER_JWT_SECRET_KEY": "s",
                "MODEL_MANAGER_SERVER_GRPC_USE_TLS": "false",
                "MODEL_MANAGER_SERVER_GRPC_DEFAULT_AUTHORITY": "name",
                "MODEL_MANAGER_SERVER_GRPC_MAX_RETRIES": "5",
                "MODEL_MANAGER_SERVER_GRPC_RETRY_DELAY": "0.25",
            },
            {
                "url": "tamar+grpc://h:1",
                "jwt_secret_key": "s",
                "default_authority": "name",
                "max_retries": 5,
                "retry_delay": 0.25,
            },
        ),
    ],
)
def test_a_service_is_found_in_the_environment(
    variables: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert resolved({}) == expected


@pytest.mark.parametrize(
    ("url", "variables", "key"),
    [
        ("https://api.openai.com/v1", {"OPENAI_API_KEY": "sk"}, "sk"),
        ("openai+https://api.openai.com", {"OPENAI_API_KEY": "sk"}, "sk"),
        ("http://api.openai.com/v1", {"OPENAI_API_KEY": "sk"}, None),
        ("https://api.openai.com.evil.example/v1", {"OPENAI_API_KEY": "sk"}, None),
        ("https://other.example/v1", {"OPENAI_API_KEY": "sk"}, None),
        (
            "https://api.openai.com/v1",
            {"OPENAI_API_KEY": "sk", "OPENAI_BASE_URL": "https://gateway.example/v1"},
            None,
        ),
        (
            "https://gateway.example/v1",
            {"OPENAI_API_KEY": "sk", "OPENAI_BASE_URL": "https://gateway.example/v1"},
            "sk",
        ),
        ("https://other.example/v1", {"TENSORZERO_API_KEY": "t0"}, None),
        ("tensorzero+http://gateway.example", {"TENSORZERO_API_KEY": "t0"}, "t0"),
        ("https://other.example/v1", {"OOMOL_LLM_API_KEY": "k"}, None),
        ("https://other.example/v1", {"OOMOL_MODELS_API_KEY": "k"}, "k"),
        ("https://other.example/v1", {"OOMOL_MODELS_API_KEY": ""}, None),
        (
            "https://other.example/v1",
            {"OOMOL_MODELS_API_KEY": "k", "OOMOL_MODELS_URL": "https://mine.example/v1"},
            None,
        ),
        (
            "https://mine.example/v1/",
            {"OOMOL_MODELS_API_KEY": "k", "OOMOL_MODELS_URL": "https://mine.example/v1"},
            "k",
        ),
        ("https://other.example/v1", {"MODEL_MANAGER_SERVER_JWT_TOKEN": "t"}, None),
        ("tamar+grpcs://h:1", {"MODEL_MANAGER_SERVER_JWT_TOKEN": "t"}, "t"),
        (
            "tamar+grpcs://h:1",
            {"MODEL_MANAGER_SERVER_JWT_TOKEN": "t", "MODEL_MANAGER_SERVER_ADDRESS": "g:1"},
            None,
        ),
    ],
)
def test_a_key_goes_only_to_the_service_it_stands_beside(
    url: str, variables: Any, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert resolved({"url": url}).get("api_key") == key


@pytest.mark.parametrize("option", ["api_key", "bearer_token", "jwt_secret_key"])
def test_a_secret_that_is_given_replaces_those_of_the_environment(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOMOL_MODELS_API_KEY", "found")
    monkeypatch.setenv("MODEL_MANAGER_SERVER_JWT_TOKEN", "found")
    given = {"url": "tamar+grpc://h:1", option: "given"}
    assert resolved(given) == given
    Settings.of(resolved(given))


@pytest.mark.parametrize("name", ["GRPC_USE_TLS", "GRPC_MAX_RETRIES", "GRPC_RETRY_DELAY"])
def test_an_unusable_variable_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_MANAGER_SERVER_ADDRESS", "h:1")
    monkeypatch.setenv(f"MODEL_MANAGER_SERVER_{name}", "perhaps")
    with pytest.raises(ValueError, match=f"MODEL_MANAGER_SERVER_{name} must be"):
        resolved({})


def test_a_block_is_given_the_service_of_its_context(
    models_face: ModelsFace, openai: OpenAIServer
) -> None:
    kind = SyncModels if models_face.blocking else Models
    service = {"base_url_v1": openai.url, "api_key": "k", "models": ["", "first", "second"]}
    models = models_face.wrap(kind.from_context(SimpleNamespace(oomol_llm_env=service)))
    assert models.chat("hi").text == "Echo: hi"
    assert openai.calls[0].json["model"] == "first"
    assert openai.calls[0].headers["authorization"] == "Bearer k"
    with pytest.raises(OomolConnectError, match="given no model service"):
        kind.from_context(SimpleNamespace(oomol_llm_env={"base_url_v1": "", "models": [""]}))
