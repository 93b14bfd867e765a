"""Every Python block of the document this client was asked for, run as it is written there.

The document exists in Chinese and in English; its code is the same but for texts and comments.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest

from oomol_connect_sdk import BackoffStrategy, OomolConnectClient

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="the local server needs Python 3.10 or newer"
)

Names = Dict[str, Any]

#: The code blocks in the order of the document.
BLOCKS: Dict[str, str] = {
    "quick start": '''
import asyncio
from oomol_connect_sdk import OomolConnectClient

async def main():
    async with OomolConnectClient(
        base_url="http://localhost:3000/api",
        api_token="your-api-token"
    ) as client:
        # 运行任务并获取结果
        result = await client.tasks.run({
            "manifest": "audio-lab::text-to-audio",
            "inputValues": {"text": "你好，世界"}
        })

        print(f"任务 ID: {result['task_id']}")
        print(f"结果: {result['result']}")

asyncio.run(main())
''',
    "client": '''
from oomol_connect_sdk import OomolConnectClient

client = OomolConnectClient(
    base_url="/api",              # API 基础 URL
    api_token="your-token",       # API Token（自动添加到 Authorization 请求头）
    default_headers={},           # 自定义请求头（可选）
    timeout=30.0                  # 请求超时时间（秒）
)
''',
    "tasks": '''
# 简单的任务执行（推荐）
result = await client.tasks.run({
    "manifest": "flow-name",
    "inputValues": {"input1": "value1"}
})

# 带进度监控
result = await client.tasks.run(
    {
        "manifest": "flow-name",
        "inputValues": {"input": "value"}
    },
    {
        "interval_ms": 1000,
        "timeout_ms": 60000,
        "on_progress": lambda task: print(f"状态: {task['status']}"),
        "on_log": lambda log: print(f"日志: {log['type']}")
    }
)
''',
    "input formats": '''
# 格式 1: 简单对象格式（最常用）
{"input1": "value1", "input2": 123}

# 格式 2: 数组格式
[
    {"handle": "input1", "value": "value1"},
    {"handle": "input2", "value": 123}
]

# 格式 3: 节点格式（多节点场景）
[
    {
        "nodeId": "node1",
        "inputs": [{"handle": "input1", "value": "value1"}]
    }
]
''',
    "files": '''
# 单文件上传
with open("test.txt", "rb") as f:
    result = await client.tasks.run_with_files(
        "pkg::file-processor",
        {"input1": "value"},
        f
    )

# 多文件上传
with open("file1.txt", "rb") as f1, open("file2.txt", "rb") as f2:
    result = await client.tasks.run_with_files(
        "pkg::multi-file-processor",
        {"input1": "value"},
        [f1, f2]
    )
''',
    "flows": '''
# 列出所有流程
flows_response = await client.flows.list()
for flow in flows_response["flows"]:
    print(flow["name"], flow["path"])
''',
    "blocks": '''
# 列出所有区块
blocks_response = await client.blocks.list()
for block in blocks_response["blocks"]:
    print(block["package"], block["name"])
''',
    "packages": '''
# 列出已安装的包
packages = await client.packages.list()

# 安装包
install_task = await client.packages.install("package-name", "1.0.0")

# 安装并等待完成
install_task = await client.packages.install_and_wait("package-name", "1.0.0")
''',
    "polling options": '''
from oomol_connect_sdk import BackoffStrategy

polling_options = {
    "interval_ms": 2000,                    # 轮询间隔（毫秒）
    "timeout_ms": 300000,                   # 超时时间（毫秒）
    "max_interval_ms": 10000,               # 最大间隔（毫秒）
    "backoff_strategy": BackoffStrategy.EXPONENTIAL,  # 退避策略
    "backoff_factor": 1.5,                  # 退避系数
    "on_progress": lambda task: ...,        # 进度回调
    "on_log": lambda log: ...               # 日志回调
}
''',
    "errors": '''
from oomol_connect_sdk import (
    OomolConnectError,      # 基类
    ApiError,               # HTTP 错误
    TaskFailedError,        # 任务执行失败
    TaskStoppedError,       # 任务被停止
    TimeoutError,           # 轮询超时
    InstallFailedError      # 包安装失败
)

try:
    result = await client.tasks.run({
        "manifest": "flow-1",
        "inputValues": {"input": "test"}
    })
except TaskFailedError as e:
    print(f"任务失败: {e.task_id}")
except ApiError as e:
    print(f"HTTP {e.status}: {e.message}")
''',
    "many tasks": '''
import asyncio

tasks = [
    client.tasks.run({
        "manifest": "flow-1",
        "inputValues": {"input": f"test-{i}"}
    })
    for i in range(5)
]

results = await asyncio.gather(*tasks)
''',
    "backoff": '''
from oomol_connect_sdk import BackoffStrategy

result = await client.tasks.run(
    {"manifest": "long-running-flow", "inputValues": {}},
    {
        "interval_ms": 1000,
        "max_interval_ms": 5000,
        "backoff_strategy": BackoffStrategy.EXPONENTIAL,
        "backoff_factor": 2.0
    }
)
''',
}  # fmt: skip

ENGLISH: Dict[str, str] = {
    "运行任务并获取结果": "Run a task and get its result",
    "你好，世界": "Hello, World",
    "任务 ID": "Task ID",
    "结果": "Result",
    "API 基础 URL": "Base URL of the API",
    "API Token（自动添加到 Authorization 请求头）": "API token (added to the Authorization header)",
    "自定义请求头（可选）": "Custom request headers (optional)",
    "请求超时时间（秒）": "Request timeout (seconds)",
    "简单的任务执行（推荐）": "Simple task execution (recommended)",
    "带进度监控": "With progress monitoring",
    "状态": "Status",
    "日志回调": "Log callback",
    "日志": "Log",
    "格式 1: 简单对象格式（最常用）": "Format 1: plain object (most common)",
    "格式 2: 数组格式": "Format 2: list",
    "格式 3: 节点格式（多节点场景）": "Format 3: nodes (several of them)",
    "单文件上传": "Upload one file",
    "多文件上传": "Upload several files",
    "列出所有流程": "List all flows",
    "列出所有区块": "List all blocks",
    "列出已安装的包": "List the installed packages",
    "安装并等待完成": "Install and wait until it is done",
    "包安装失败": "Package installation failed",
    "安装包": "Install a package",
    "轮询间隔（毫秒）": "Polling interval (milliseconds)",
    "超时时间（毫秒）": "Timeout (milliseconds)",
    "最大间隔（毫秒）": "Longest interval (milliseconds)",
    "退避策略": "Backoff strategy",
    "退避系数": "Backoff factor",
    "进度回调": "Progress callback",
    "基类": "Base class",
    "HTTP 错误": "HTTP error",
    "任务执行失败": "Task execution failed",
    "任务被停止": "Task was stopped",
    "轮询超时": "Polling timed out",
    "任务失败": "Task failed",
}

LANGUAGES = ("Chinese", "English")


def document(language: str) -> str:
    """Return the document as far as it is code."""
    text = "\n".join(f"```python{block}```\n" for block in BLOCKS.values())
    if language == "English":
        for chinese, english in ENGLISH.items():
            text = text.replace(chinese, english)
        assert text.isascii()
    return text


def code_blocks(language: str) -> Dict[str, str]:
    """Extract the code blocks of the document."""
    found = re.findall(r"```python\n(.*?)```", document(language), flags=re.DOTALL)
    return dict(zip(BLOCKS, found))


def run(code: str, names: Names) -> None:
    """Run code that may await at its top level, as the document's does."""
    program = compile(code, "<document>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if not program.co_flags & inspect.CO_COROUTINE:
        exec(program, names)
        return

    async def with_client() -> None:
        async with OomolConnectClient(**names.pop("options")) as client:
            names["client"] = client
            await eval(program, names)

    asyncio.run(with_client())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with everything the document runs, and a registry with what it installs."""
    from package_sources import PackageRegistry
    from packages import write_package

    from oomol_connect_sdk.server import InstallOptions, LocalServer

    directory = tmp_path_factory.mktemp("document")
    for name, files in PACKAGES.items():
        write_package(directory / "packages" / name, name, "1.0.0", files)
    registry = PackageRegistry()
    registry.publish("package-name", "1.0.0")
    try:
        with LocalServer(
            [directory / "packages"],
            token="your-api-token",
            environments_dir=directory / "environments",
            installing=InstallOptions(registry=registry.url),
        ) as running:
            yield running
    finally:
        registry.close()


@pytest.fixture
def names(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Names:
    """Where the document's code runs: its client's options, and a directory with its files."""
    for name in ("test", "file1", "file2"):
        (tmp_path / f"{name}.txt").write_text(f"content of {name}")
    monkeypatch.chdir(tmp_path)
    return {"options": {"base_url": f"{server.base_url}/api", "api_token": server.token}}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("title", BLOCKS)
def test_the_document_runs_as_it_is_written(
    server: Any, names: Names, capsys: pytest.CaptureFixture[str], title: str, language: str
) -> None:
    code = code_blocks(language)[title]
    code = code.replace("http://localhost:3000", server.base_url)
    run(code, names)
    CHECKS[title](names, capsys.readouterr().out)


def test_all_blocks_of_both_documents_are_found() -> None:
    for language in LANGUAGES:
        assert len(code_blocks(language)) == len(BLOCKS) == len(CHECKS) == 12


def _check_quick_start(names: Names, printed: str) -> None:
    first, second = printed.splitlines()
    assert re.fullmatch(r"(任务|Task) ID: \S+", first)
    said = "你好，世界" if "任务" in first else "Hello, World"
    assert second.endswith(str({"audio": f"the sound of {said}"}))


def _check_client(names: Names, printed: str) -> None:
    assert names["client"].get_base_url() == "/api"


def _check_tasks(names: Names, printed: str) -> None:
    assert names["result"]["result"] == {"output": [None, "value"]}
    assert names["result"]["task"]["status"] == "completed"
    lines = printed.splitlines()
    assert [line for line in lines if line.endswith(": completed")]
    assert [line for line in lines if line.endswith(": BlockFinished")]


def _check_input_formats(names: Names, printed: str) -> None:
    assert printed == ""


def _check_files(names: Names, printed: str) -> None:
    assert names["result"]["result"] == {"texts": ["content of file1", "content of file2"]}
    assert not names["f"].name.startswith("/")


def _check_flows(names: Names, printed: str) -> None:
    listed = {line.split()[0] for line in printed.splitlines()}
    assert {"flow-name", "flow-1", "long-running-flow"} <= listed


def _check_blocks(names: Names, printed: str) -> None:
    assert "audio-lab text-to-audio" in printed.splitlines()


def _check_packages(names: Names, printed: str) -> None:
    assert "audio-lab" in {package["name"] for package in names["packages"]["packages"]}
    assert names["install_task"]["status"] == "success"
    assert names["install_task"]["version"] == "1.0.0"


def _check_polling_options(names: Names, printed: str) -> None:
    from oomol_connect_sdk.polling import Wait

    wait = Wait.of(names["polling_options"], ending="stop")
    assert (wait.timeout, wait.pause(0, 0.0), wait.pause(9, 60.0)) == (300, 2, 10)
    assert names["polling_options"]["backoff_strategy"] is BackoffStrategy.EXPONENTIAL


def _check_errors(names: Names, printed: str) -> None:
    assert re.fullmatch(r"(任务失败|Task failed): \S+\n", printed)
    assert issubclass(names["TimeoutError"], names["OomolConnectError"])


def _check_many_tasks(names: Names, printed: str) -> None:
    outputs = [result["result"]["output"] for result in names["results"]]
    assert outputs == [f"TEST-{number}" for number in range(5)]


def _check_backoff(names: Names, printed: str) -> None:
    assert names["result"]["result"] == {"output": "done"}


CHECKS: Dict[str, Callable[[Names, str], None]] = {
    "quick start": _check_quick_start,
    "client": _check_client,
    "tasks": _check_tasks,
    "input formats": _check_input_formats,
    "files": _check_files,
    "flows": _check_flows,
    "blocks": _check_blocks,
    "packages": _check_packages,
    "polling options": _check_polling_options,
    "errors": _check_errors,
    "many tasks": _check_many_tasks,
    "backoff": _check_backoff,
}


def _task(inputs: str, outputs: str) -> str:
    return (
        "executor: {name: python, options: {entry: main.py}}\n"
        f"inputs_def: [{inputs}]\noutputs_def: [{outputs}]\n"
    )


def _flow(task: str, inputs: Dict[str, str], output: str = "output") -> str:
    """A flow of one node that hands its inputs to a task of its package."""
    handed = ", ".join(f"{{handle: {i}, from_flow: [{{input_handle: {i}}}]}}" for i in inputs)
    return (
        f"inputs_def: [{', '.join(inputs.values())}]\n"
        f"outputs_def: [{{handle: {output}}}]\n"
        f"outputs_from: [{{handle: {output}, "
        f"from_node: [{{node_id: only, output_handle: {output}}}]}}]\n"
        f"nodes: [{{node_id: only, task: 'self::{task}', inputs_from: [{handed}]}}]\n"
    )


_OPTIONAL = "{{handle: {}, nullable: true, value: null}}"
_OPTIONALS = {name: _OPTIONAL.format(name) for name in ("input1", "input")}
_FILE = "{handle: file, json_schema: {type: string, 'ui:widget': file}}"
_FILES = "{handle: files, json_schema: {type: array, items: {type: string}, 'ui:widget': files}}"

PACKAGES: Dict[str, Dict[str, str]] = {
    "audio-lab": {
        "tasks/text-to-audio/task.oo.yaml": _task("{handle: text}", "{handle: audio}"),
        "tasks/text-to-audio/main.py": """
def main(params, context):
    return {"audio": "the sound of " + params["text"]}
""",
    },
    "pkg": {
        "tasks/file-processor/task.oo.yaml": _task(
            f"{{handle: input1}}, {_FILE}", "{handle: text}"
        ),
        "tasks/file-processor/main.py": """
def main(params, context):
    with open(params["file"]) as file:
        return {"text": file.read()}
""",
        "tasks/multi-file-processor/task.oo.yaml": _task(
            f"{{handle: input1}}, {_FILES}", "{handle: texts}"
        ),
        "tasks/multi-file-processor/main.py": """
def main(params, context):
    texts = []
    for path in params["files"]:
        with open(path) as file:
            texts.append(file.read())
    return {"texts": texts}
""",
    },
    "flows": {
        "flows/flow-name/flow.oo.yaml": _flow("pair", _OPTIONALS),
        "flows/flow-1/flow.oo.yaml": _flow("shout", {"input": "{handle: input}"}),
        "flows/long-running-flow/flow.oo.yaml": _flow("rest", {}),
        "tasks/pair/task.oo.yaml": _task(", ".join(_OPTIONALS.values()), "{handle: output}"),
        "tasks/pair/main.py": """
def main(params, context):
    return {"output": [params["input1"], params["input"]]}
""",
        "tasks/shout/task.oo.yaml": _task("{handle: input}", "{handle: output}"),
        "tasks/shout/main.py": """
def main(params, context):
    if params["input"] == "test":
        raise ValueError("a test is no input")
    return {"output": params["input"].upper()}
""",
        "tasks/rest/task.oo.yaml": _task("", "{handle: output}"),
        "tasks/rest/main.py": """
import time

def main(params, context):
    time.sleep(0.2)
    return {"output": "done"}
""",
    },
}
