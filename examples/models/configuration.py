"""Configuration by file and code, captured traffic, statistics, debug files and callbacks.

This one is written with the blocking face. Run it from the root of the repository:

    export OOMOL_MODELS_URL=https://api.openai.com/v1 OOMOL_MODELS_MODEL=gpt-4o-mini
    export OOMOL_MODELS_API_KEY=your-api-key
    python examples/models/configuration.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from oomol_connect_sdk.models import ModelConfig, Piece, Reply, RuntimeConfig, SyncChatAgent

FILE = Path(__file__).with_name("chat.yaml")
SERVICE: dict[str, Any] = {
    "api_base_url": os.environ["OOMOL_MODELS_URL"],
    "model": os.environ["OOMOL_MODELS_MODEL"],
}
QUESTION = "What is a workflow?"


def from_a_file() -> None:
    config, runtime = ModelConfig.from_yaml(FILE, **SERVICE), RuntimeConfig.from_yaml(FILE)
    print("file:", config.temperature, config.max_tokens, runtime.max_tool_iterations)
    with SyncChatAgent(config, runtime) as agent:
        print("answer:", agent.chat(QUESTION))


def captured(directory: Path) -> None:
    """Log every request and answer, the key masked."""
    log = directory / "chat.log"
    runtime = RuntimeConfig(
        enable_logging=True, save_logs_to_file=str(log), capture_http_traffic=True
    )
    with SyncChatAgent(ModelConfig(**SERVICE), runtime) as agent:
        agent.chat(QUESTION)
    print("captured:", log.read_text(encoding="utf-8"))


def counted() -> None:
    runtime = RuntimeConfig(
        capture_token_usage=True, capture_latency=True, display_stream_output=False
    )
    with SyncChatAgent(ModelConfig(**SERVICE), runtime) as agent:
        agent.chat(QUESTION)
        for _ in agent.chat_stream("And a block?"):
            pass
        stats = agent.stats
        print(f"requests: {stats.requests}, of which answered: {stats.success_rate:.0%}")
        print(f"tokens: {stats.prompt_tokens} + {stats.completion_tokens}")
        print(f"on average: {stats.average_seconds:.3f} s")


def saved_for_debugging(directory: Path) -> None:
    runtime = RuntimeConfig(enable_debug=True, debug_directory=str(directory / "debug"))
    with SyncChatAgent(ModelConfig(**SERVICE), runtime) as agent:
        agent.chat(QUESTION)
    (file,) = (directory / "debug").iterdir()
    record = json.loads(file.read_text(encoding="utf-8"))
    print("saved:", record["method"], record["status"], record["body"]["messages"])


def with_callbacks() -> None:
    pieces: list[Piece] = []

    def show(reply: Reply) -> None:
        print(f"callback: {len(pieces)} pieces, {reply.text}")

    runtime = RuntimeConfig(
        response_callback=show, stream_chunk_callback=pieces.append, display_stream_output=False
    )
    with SyncChatAgent(ModelConfig(**SERVICE), runtime) as agent:
        for _ in agent.chat_stream(QUESTION):
            pass


def mixed() -> None:
    """Code wins over the file, and a call over both."""
    config = ModelConfig.from_yaml(FILE, **SERVICE, temperature=1.0)
    print("mixed:", config.temperature, config.max_tokens)
    with SyncChatAgent(config, RuntimeConfig.from_yaml(FILE, log_level="ERROR")) as agent:
        print("call:", agent.chat(QUESTION, max_tokens=50))


def main() -> None:
    from_a_file()
    with TemporaryDirectory() as directory:
        captured(Path(directory))
        saved_for_debugging(Path(directory))
    counted()
    with_callbacks()
    mixed()


if __name__ == "__main__":
    main()
