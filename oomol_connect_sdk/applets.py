"""Applets: blocks with preset inputs, published on a server of their own."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Tuple

from .answers import expect
from .blocks import UNKNOWN_VERSION, BlocksClient, version_key
from .errors import ApiError, BadAnswerError, OomolConnectError
from .inputs import ROOT_NODE, normalize_input_values
from .polling import PollingOptions
from .tasks import TasksClient
from .transport import Transport
from .types import (
    Applet,
    AppletData,
    ListAppletsResponse,
    NodeInputs,
    RunResult,
    TaskInputValues,
)

_PACKAGE_ID = re.compile(
    r"(?P<name>.+?)-(?P<version>\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?)"
)


class AppletsClient:
    """Applets, found on the applet server and run on the client's own.

    ::

        result = await client.applets.run("84dc8cac-7f91-4bd1-a3b6-6715bf4f81c9", {"indent": 4})
    """

    def __init__(self, directory: Transport, tasks: TasksClient, blocks: BlocksClient) -> None:
        self._directory = directory
        self._tasks = tasks
        self._blocks = blocks

    async def list(self) -> ListAppletsResponse:
        """Return all applets: ``appletId``, and under ``data`` what they run.

        Asks the server of ``applets_url``, which gets neither the token nor the headers that
        are meant for ``base_url``.
        """
        answer = await self._directory.request("POST", "/rpc/listApplets", body={})
        if not isinstance(answer, list):
            raise BadAnswerError(f"the applet list is no list: {str(answer)[:200]}", 200, answer)
        return answer

    async def run(
        self,
        applet_id: str,
        input_values: TaskInputValues | None = None,
        polling_options: PollingOptions | None = None,
    ) -> RunResult:
        """Run an applet and return what `TasksClient.run` returns.

        ``input_values``, in any of the three input formats, win over the preset ones handle by
        handle. The block runs in the version the applet names: OomolConnectError when the
        server has only others. ApiError with status 404 when there is no such applet.
        """
        applet = await self._find(applet_id)
        data = _data_of(applet)
        block_id = await self._block_id(data)
        values = merge_inputs(data.get("presetInputs") or {}, input_values)
        return await self._tasks.run({"blockId": block_id, "inputValues": values}, polling_options)

    async def _find(self, applet_id: str) -> Applet:
        applets = await self.list()
        for applet in applets:
            if applet.get("appletId") == applet_id:
                return applet
        raise ApiError(
            f"there is no applet {applet_id!r} among the {len(applets)} of "
            f"{self._directory.config.base_url}",
            404,
        )

    async def _block_id(self, data: AppletData) -> str:
        """Name the block so that the server runs the applet's version, not just its latest."""
        package, wanted = split_package_id(data["packageId"])
        block = data["blockName"]
        if wanted is None:
            return f"{package}::{block}"
        listed = await self._blocks.list(include_all_versions=True)
        versions = {row["version"] for row in listed["blocks"] if row["package"] == package}
        if not versions or UNKNOWN_VERSION in versions or versions == {wanted}:
            return f"{package}::{block}"
        if wanted not in versions:
            raise OomolConnectError(
                f"the applet runs {package} {wanted}, but the server has "
                f"{', '.join(sorted(versions, key=version_key))}: install it with "
                f"client.packages.install_and_wait({package!r}, {wanted!r})"
            )
        # A bare name means the highest version, so only another one has to be spelt out.
        latest = max(versions, key=version_key) == wanted
        return f"{package}::{block}" if latest else f"{package}@{wanted}::{block}"


def split_package_id(package_id: str) -> Tuple[str, str | None]:
    """Split ``name-1.2.3`` into name and version; the version is None when there is none."""
    match = _PACKAGE_ID.fullmatch(package_id)
    return (match.group("name"), match.group("version")) if match else (package_id, None)


def merge_inputs(preset: Mapping[str, Any], given: TaskInputValues | None) -> List[NodeInputs]:
    """Merge preset inputs of a block with a user's, which win handle by handle."""
    merged: Dict[str, Dict[str, Any]] = {}
    ours = [{"nodeId": ROOT_NODE, "inputs": preset}]
    for entry in normalize_input_values(ours) + normalize_input_values(given or {}):
        handles = merged.setdefault(entry["nodeId"], {})
        handles.update({item["handle"]: item["value"] for item in entry["inputs"]})
    return normalize_input_values(
        [{"nodeId": node, "inputs": handles} for node, handles in merged.items()]
    )


def _data_of(applet: Applet) -> AppletData:
    data: AppletData = expect(applet, "data", dict, f"applet {applet['appletId']}")
    for key in ("packageId", "blockName"):
        expect(data, key, str, f"applet {applet['appletId']}")
    return data
