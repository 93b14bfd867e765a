"""What a `ChatAgent` logs and saves of its traffic."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from .agent_config import RuntimeConfig
from .exchanges import Exchange, logger

DEFAULT_LOG_FILE = "chat.log"

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class ExchangeLog:
    """Logs exchanges, and saves each as a JSON file, as the runtime configuration says."""

    def __init__(self, runtime: RuntimeConfig) -> None:
        self._runtime = runtime
        self._numbers = itertools.count(1)
        self._begun = time.strftime("%Y%m%d-%H%M%S")

    def __call__(self, exchange: Exchange) -> None:
        """Take one exchange."""
        runtime = self._runtime
        if runtime.capture_http_traffic and runtime.log_http_requests:
            sent = _text({"headers": exchange.headers, "body": exchange.body})
            logger.info("%s %s %s", exchange.method, exchange.url, sent)
        if runtime.capture_http_traffic and runtime.log_http_responses:
            came = exchange.error or _text(exchange.answer)
            status, seconds = exchange.status, exchange.seconds
            logger.info(
                "%s %s: %s in %.3f s: %s", exchange.method, exchange.url, status, seconds, came
            )
        if runtime.enable_debug:
            self._save(exchange)

    def _save(self, exchange: Exchange) -> None:
        record = dataclasses.asdict(exchange)
        if not self._runtime.debug_save_requests:
            del record["headers"], record["body"]
        if not self._runtime.debug_save_responses:
            del record["answer"]
        directory = Path(self._runtime.debug_directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._new_file(directory) as file:
            json.dump(record, file, ensure_ascii=False, indent=2, default=repr)

    def _new_file(self, directory: Path) -> TextIO:
        # Other agents, perhaps in other processes, save here as well.
        while True:
            with suppress(FileExistsError):
                path = directory / f"{self._begun}-{next(self._numbers):05}.json"
                return path.open("x", encoding="utf-8")


def prepare_logging(runtime: RuntimeConfig) -> None:
    """Set up this package's own logger, if the runtime configuration asks for that.

    The root logger is never touched; what is set up already is not set up twice.
    """
    if not runtime.enable_logging:
        return
    logger.setLevel(runtime.log_level)
    if not logger.hasHandlers():
        _add(logging.StreamHandler())
    if runtime.save_logs_to_file:
        named = runtime.save_logs_to_file
        path = os.path.abspath(named if isinstance(named, str) else DEFAULT_LOG_FILE)
        handlers = [item for item in logger.handlers if isinstance(item, logging.FileHandler)]
        if path not in [handler.baseFilename for handler in handlers]:
            _add(logging.FileHandler(path, encoding="utf-8", delay=True))


def _add(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)
