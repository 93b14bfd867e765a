"""The blocking face of `Models`: the same code, for programs without an event loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, List

from typing_extensions import Self, Unpack

from .._io import drive, iterate
from ..batch import limit_of
from ..files import FileInput
from ..sync_tasks import documented_by
from .client import BATCH_LIMIT, Models, by_priority, in_given_order
from .config import context_options, resolved, yaml_options
from .face import Face, blocking_face
from .files import FileUrl, ModelFiles
from .messages import Messages, ModelFile
from .options import ModelOptions, Settings
from .stats import UsageStats
from .values import Piece, Reply

if TYPE_CHECKING:
    import os


class SyncModels:
    """The models of one service, blocking. See `Models`.

    ::

        with SyncModels("https://api.openai.com/v1", api_key="…", model="gpt-4o") as models:
            print(models.chat("What is the capital of Japan?").text)

    May be shared by several threads.
    """

    def __init__(self, url: str | None = None, /, **options: Unpack[ModelOptions]) -> None:
        given = resolved({"url": url, **options} if url is None else {**options, "url": url})
        self._connect(Settings.of(given), blocking_face(given.get("http_client")), owner=True)

    @classmethod
    @documented_by(Models.from_yaml)
    def from_yaml(cls, path: str | os.PathLike[str], **options: Unpack[ModelOptions]) -> Self:
        return cls(**yaml_options(path, options))

    @classmethod
    @documented_by(Models.from_context)
    def from_context(cls, context: Any, **options: Unpack[ModelOptions]) -> Self:
        return cls(**{**context_options(context), **options})

    def _connect(self, settings: Settings, face: Face, *, owner: bool) -> None:
        self._models = Models.__new__(Models)
        self._models._connect(settings, face, owner=owner)

    @documented_by(Models.chat)
    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        files: Iterable[ModelFile] = (),
        tools: Any = (),
        **params: Any,
    ) -> Reply:
        return drive(self._models.chat(messages, model=model, files=files, tools=tools, **params))

    @documented_by(Models.stream)
    def stream(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        files: Iterable[ModelFile] = (),
        tools: Any = (),
        **params: Any,
    ) -> Iterator[Piece]:
        return iterate(
            self._models.stream(messages, model=model, files=files, tools=tools, **params)
        )

    @documented_by(Models.batch)
    def batch(
        self, requests: Iterable[Mapping[str, Any]], *, limit: int = BATCH_LIMIT
    ) -> List[Reply]:
        limit_of(limit, BATCH_LIMIT)
        calls = drive(self._models._calls(requests))
        replies = drive(self._models._batch_of_its_own(calls))
        if replies is not None:
            return replies
        order = by_priority(calls)
        with ThreadPoolExecutor(limit, "models-batch") as pool:
            answers = pool.map(
                lambda index: drive(self._models._answer_or_error(calls[index])), order
            )
            return in_given_order(order, list(answers))

    @documented_by(Models.feedback)
    def feedback(self, reply: Reply | str, metric: str, value: Any, **options: Any) -> Any:
        return drive(self._models.feedback(reply, metric, value, **options))

    @documented_by(Models.list)
    def list(self) -> List[dict[str, Any]]:
        return drive(self._models.list())

    @documented_by(Models.applications)
    def applications(self) -> List[dict[str, Any]]:
        return drive(self._models.applications())

    @documented_by(Models.application)
    def application(self, id: str) -> dict[str, Any]:
        return drive(self._models.application(id))

    @property
    def files(self) -> SyncModelFiles:
        """The files of a DIAL service; the others raise NotSupported."""
        return SyncModelFiles(self._models.files)

    @property
    def stats(self) -> UsageStats:
        """What was asked and what it took."""
        return self._models.stats

    @property
    def model(self) -> str | None:
        """The model that is asked when a call names none."""
        return self._models.model

    @documented_by(Models.close)
    def close(self) -> None:
        drive(self._models.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._models._settings.base_url!r})"


class SyncModelFiles:
    """The files of one user on a model service, blocking. See `ModelFiles`."""

    def __init__(self, files: ModelFiles) -> None:
        self._files = files

    @documented_by(ModelFiles.home)
    def home(self) -> PurePosixPath:
        return drive(self._files.home())

    @documented_by(ModelFiles.upload)
    def upload(
        self,
        url: FileUrl,
        file: FileInput,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> dict[str, Any]:
        upload = self._files.upload(url, file, if_match=if_match, if_none_match=if_none_match)
        return drive(upload)

    @documented_by(ModelFiles.read)
    def read(self, url: FileUrl) -> Iterator[bytes]:
        return iterate(self._files.read(url))

    @documented_by(ModelFiles.content)
    def content(self, url: FileUrl) -> bytes:
        return drive(self._files.content(url))

    @documented_by(ModelFiles.download)
    def download(self, url: FileUrl, target: str | os.PathLike[str]) -> Path:
        return drive(self._files.download(url, target))

    @documented_by(ModelFiles.metadata)
    def metadata(self, url: FileUrl) -> dict[str, Any]:
        return drive(self._files.metadata(url))

    @documented_by(ModelFiles.delete)
    def delete(self, url: FileUrl, *, if_match: str | None = None) -> None:
        drive(self._files.delete(url, if_match=if_match))
