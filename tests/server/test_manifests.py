from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from packages import task_text, write_package

from oomol_connect_sdk.server.engine.manifests import (
    ABSENT,
    ConditionsNode,
    Flow,
    ManifestError,
    OtherNode,
    ServiceNode,
    SlotNode,
    SubflowNode,
    TaskBlock,
    TaskNode,
    ValuesNode,
    read_flow,
    read_package,
    read_service,
    read_task_block,
)

ReadFlow = Callable[[str], Flow]
ReadTask = Callable[[str], TaskBlock]


@pytest.fixture
def flow(tmp_path: Path) -> ReadFlow:
    def read(text: str) -> Flow:
        path = tmp_path / "flow.oo.yaml"
        path.write_text(text, encoding="utf-8")
        return read_flow(path)

    return read


@pytest.fixture
def task(tmp_path: Path) -> ReadTask:
    def read(text: str) -> TaskBlock:
        path = tmp_path / "task.oo.yaml"
        path.write_text(text, encoding="utf-8")
        return read_task_block(path)

    return read


def test_a_package_has_the_name_version_and_pins_of_its_manifest(tmp_path: Path) -> None:
    directory = write_package(
        tmp_path / "x",
        "x",
        files={
            "package.oo.yaml": "name: '@me/x'\nversion: 1.10.0\ndescription: d\n"
            "dependencies: {other: 2.0.0}\nunknown: {key: [1]}\n"
        },
    )
    package = read_package(directory)
    assert (package.name, package.version, package.description) == ("@me/x", "1.10.0", "d")
    assert package.dependencies == {"other": "2.0.0"}
    assert package.directory == directory


@pytest.mark.parametrize(
    ("directory", "name"),
    [("tool-1.2.3", "tool"), ("@me/tool-0.1.0-beta.1", "@me/tool"), ("my-tool", "my-tool")],
)
def test_a_package_without_a_name_has_that_of_its_directory(
    tmp_path: Path, directory: str, name: str
) -> None:
    files = {"package.oo.yaml": "version: 1.2.3\n"}
    assert read_package(write_package(tmp_path / directory, "", files=files)).name == name


def test_the_other_suffix_of_a_manifest_works_too(tmp_path: Path) -> None:
    (tmp_path / "package.oo.yml").write_text("name: short\n")
    assert read_package(tmp_path).name == "short"


def test_an_absent_value_is_not_a_null_value(task: ReadTask) -> None:
    block = task(
        task_text()
        + "inputs_def:\n  - {handle: none}\n  - {handle: 'null', value: null}\n"
        + "  - {handle: empty, value: }\n  - {handle: maybe, nullable: true}\n"
    )
    assert [item.value for item in block.inputs_def] == [ABSENT, None, None, ABSENT]
    assert [item.default for item in block.inputs_def] == [ABSENT, None, None, None]


def test_a_task_keeps_what_its_executor_needs(task: ReadTask, tmp_path: Path) -> None:
    block = task(
        "executor:\n  name: python\n  options: {entry: a.py, function: run, spawn: true}\n"
        "inputs_def:\n  - {group: Files, collapsed: true}\n  - {handle: a, json_schema: {}}\n"
        "outputs_def: [{handle: b}]\nadditional_inputs: {label: more}\nadditional_outputs: false\n"
    )
    assert block.executor.name == "python"
    assert block.executor.options == {"entry": "a.py", "function": "run", "spawn": True}
    assert block.inputs_def[0].definition == {"handle": "a", "json_schema": {}}
    assert [item.handle for item in block.outputs_def] == ["b"]
    assert (block.additional_inputs, block.additional_outputs) == (True, False)
    assert block.directory == tmp_path


def test_every_kind_of_node_is_read(flow: ReadFlow, tmp_path: Path) -> None:
    nodes = flow(
        """
nodes:
  - node_id: reference
    task: self::x
    timeout: 5
    concurrency: 3
    progress_weight: 0.5
    ignore: true
    inputs_from:
      - handle: a
        value: null
        from_node: [{node_id: constants, output_handle: v}]
        from_flow: [{input_handle: i}]
  - {node_id: inline, task: {executor: {name: shell}, outputs_def: [{handle: o}]}}
  - node_id: sub
    subflow: self::s
    description: a subflow
    slots:
      - slot_node_id: hole
        slotflow: self::+f#1
        inputs_def: [{handle: more}]
        inputs_from: [{handle: more, value: 2}]
  - {node_id: constants, values: [{handle: v, value: 1}]}
  - node_id: choice
    inputs_def: [{handle: a}]
    conditions:
      cases:
        - handle: yes
          logical: AND
          expressions: [{input_handle: a, operator: '>', value: 3}]
      default: {handle: no}
  - {node_id: hole, slot: {inputs_def: [{handle: i}]}}
  - {node_id: hole2, node_type: slot_node, outputs_def: [{handle: o}]}
  - {node_id: served, service: self::a::b}
  - {node_id: odd, slotflow: x}
"""
    ).nodes
    reference, inline, sub, constants, choice, hole, hole2, served, odd = nodes
    assert isinstance(reference, TaskNode)
    assert reference.task == "self::x"
    assert (reference.timeout, reference.concurrency, reference.progress_weight) == (5.0, 3, 0.5)
    assert reference.ignore
    (source,) = reference.inputs_from
    assert source.value is None
    assert (source.from_node[0].node_id, source.from_node[0].handle) == ("constants", "v")
    assert source.from_flow == ("i",)
    assert isinstance(inline, TaskNode)
    assert isinstance(inline.task, TaskBlock)
    assert (inline.task.path, inline.task.directory) == (None, tmp_path)
    assert isinstance(sub, SubflowNode)
    assert isinstance(constants, ValuesNode)
    assert constants.values[0].value == 1
    assert isinstance(choice, ConditionsNode)
    assert (choice.cases[0].handle, choice.cases[0].logical, choice.default) == ("yes", "AND", "no")
    (provider,) = sub.slots
    assert (provider.slot_node_id, provider.kind, provider.reference) == (
        "hole",
        "slotflow",
        "self::+f#1",
    )
    assert (provider.inputs_def[0].handle, provider.inputs_from[0].value) == ("more", 2)
    assert sub.description == "a subflow"
    assert isinstance(hole, SlotNode)
    assert [item.handle for item in hole.inputs_def] == ["i"]
    assert isinstance(hole2, SlotNode)
    assert [item.handle for item in hole2.outputs_def] == ["o"]
    assert isinstance(served, ServiceNode)
    assert served.service == "self::a::b"
    assert isinstance(odd, OtherNode)
    assert odd.kind == "slotflow"


def test_plain_words_and_dates_are_text_as_in_yaml_1_2(task: ReadTask) -> None:
    block = task(
        task_text()
        + "inputs_def: [{handle: on, value: {yes: no, when: 2024-01-02, time: 1:30, oct: 010, "
        "hex: 0x1F, float: 1e3, no_number: 1_000, t: true, 7: ~}}]\n"
    )
    (definition,) = block.inputs_def
    assert definition.handle == "on"
    assert definition.value == {
        "yes": "no",
        "when": "2024-01-02",
        "time": "1:30",
        "oct": 10,
        "hex": 31,
        "float": 1000.0,
        "no_number": "1_000",
        "t": True,
        "7": None,
    }


def test_line_separators_are_removed_before_parsing(task: ReadTask) -> None:
    assert task(task_text() + "description: 'a\u2028b\u2029c'\n").description == "abc"


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        ("nodes:\n  - title: x\n    task: a\n", 2, "nodes[0]: 'node_id' is missing"),
        (
            "nodes:\n  - {node_id: a, task: x}\n  - {node_id: a, task: x}\n",
            3,
            "nodes[1]: node_id 'a' is already used on line 2",
        ),
        ("nodes:\n  - {node_id: a}\n", 2, "nodes[0]: node 'a' has none of task, subflow"),
        (
            "nodes:\n  - node_id: a\n    subflow: x\n    slots:\n      - slot_node_id: s\n",
            5,
            "nodes[0].slots[0]: a slot's provider has none of task, subflow, slotflow",
        ),
        ("nodes: {a: b}\n", 1, "nodes: expected a list, found a mapping"),
        ("nodes:\n  - just text\n", 2, "nodes[0]: expected a mapping, found text"),
        ("- a\n", 1, "expected a mapping, found a list"),
        ("", 1, "the file is empty"),
        ("title: x\nnodes: [\n", 3, "not YAML: "),
        ("a: 1\n---\nb: 2\n", 2, "not YAML: but found another document"),
        ("title: \x01\n", 1, "not YAML: special characters are not allowed"),
        (
            "nodes:\n  - node_id: a\n    task: x\n    inputs_from:\n      - handle: i\n"
            "        from_node: [{node_id: b}]\n",
            6,
            "nodes[0].inputs_from[0].from_node[0]: 'output_handle' is missing",
        ),
        (
            "nodes:\n  - node_id: a\n    task: x\n    inputs_from:\n      - handle: i\n"
            "        from_node: b\n",
            6,
            "nodes[0].inputs_from[0].from_node: expected a list, found text",
        ),
        (
            "nodes:\n  - node_id: a\n    task: x\n    concurrency: many\n",
            4,
            "nodes[0].concurrency: expected a whole number, found text",
        ),
        (
            "nodes:\n  - node_id: a\n    task: x\n    concurrency: 0\n",
            4,
            "nodes[0].concurrency: has to be 1 or more, not 0",
        ),
        (
            "nodes:\n  - node_id: a\n    task: x\n    timeout: -1\n",
            4,
            "nodes[0].timeout: has to be 0 or more, not -1",
        ),
        ("nodes:\n  - {node_id: a, task: x, ignore: 1}\n", 2, "expected true or false"),
        ("nodes:\n  - {node_id: a, task: {inputs_def: []}}\n", 2, "'executor' is missing"),
        (
            "nodes:\n  - node_id: a\n    conditions:\n      cases:\n        - handle: h\n"
            "          expressions: [{input_handle: i, operator: like}]\n",
            6,
            "there is no operator 'like'",
        ),
        (
            "nodes:\n  - node_id: a\n    conditions:\n      cases: [{handle: h, logical: XOR}]\n",
            4,
            "expected AND or OR, found 'XOR'",
        ),
        ("inputs_def: [{handle: a, value: !!python/name:os.system x}]\n", 1, "is not supported"),
        ("inputs_def: [{handle: a, value: !!int x}]\n", 1, "'x' is not a number"),
        (
            "inputs_def: [{handle: a, value: 1e999}]\n",
            1,
            "'1e999' is not a number that can be read",
        ),
        ("inputs_def: [{handle: [a]}]\n", 1, "handle: expected text, found a list"),
        ("inputs_def: [{[a]: b}]\n", 1, "a key has to be text"),
        ("inputs_def:\n  - &a {handle: x, value: *a}\n", 2, "stands inside the value it names"),
        ("a: " + "[" * 800 + "]" * 800, 1, "nested too deeply"),
        ("a: " + "[" * 101 + "]" * 101, 1, "nested more than 100 levels deep"),
    ],
)
def test_a_fault_of_a_flow_is_named_with_its_line(
    flow: ReadFlow, tmp_path: Path, text: str, line: int, fault: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        flow(text)
    assert str(caught.value).startswith(f"{tmp_path / 'flow.oo.yaml'}:{line}: ")
    assert fault in str(caught.value)
    assert caught.value.line == line


def test_a_task_without_an_executor_is_refused(task: ReadTask) -> None:
    with pytest.raises(ManifestError, match=r"task\.oo\.yaml:1: 'executor' is missing"):
        task("title: x\n")


def test_a_task_without_the_name_of_an_executor_is_refused(task: ReadTask) -> None:
    with pytest.raises(ManifestError, match=r"task\.oo\.yaml:2: executor: 'name' is missing"):
        task("executor:\n  options: {}\n")


def test_options_of_an_executor_have_to_be_a_mapping(task: ReadTask) -> None:
    with pytest.raises(ManifestError, match=r"executor\.options: expected a mapping, found a list"):
        task("executor: {name: python, options: [1]}\n")


def test_a_file_that_is_too_large_is_refused(task: ReadTask) -> None:
    with pytest.raises(ManifestError, match="larger than 4194304 bytes"):
        task("#" * (4 * 1024 * 1024 + 1))


def test_aliases_that_multiply_are_refused(task: ReadTask) -> None:
    levels = "".join(f"l{n + 1}: &l{n + 1} [{', '.join([f'*l{n}'] * 10)}]\n" for n in range(9))
    with pytest.raises(ManifestError, match="aliases expand to more than"):
        task("l0: &l0 [lol]\n" + levels)


def test_an_alias_used_twice_is_fine(task: ReadTask) -> None:
    block = task(task_text() + "inputs_def: [{handle: a, value: &v [1]}, {handle: b, value: *v}]\n")
    assert [item.value for item in block.inputs_def] == [[1], [1]]


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "task.oo.yaml"
    path.write_bytes(b"title: a\ndescription: \xff\n")
    with pytest.raises(ManifestError, match=r"task\.oo\.yaml:2: the file is not UTF-8"):
        read_task_block(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"package\.oo\.yaml:1: can't be read: No such file"):
        read_package(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("flow.oo.yaml", "flow"),
        ("subflow.oo.yml", "subflow"),
        ("slotflow.oo.yaml", "slotflow"),
        ("my-subflow.oo.yaml", "subflow"),
        ("+slotflow#1.oo.yaml", "slotflow"),
        ("anything.oo.yaml", "slotflow"),
    ],
)
def test_the_name_of_the_file_says_what_a_flow_is(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_text("nodes: []\n")
    assert read_flow(tmp_path / name).kind == kind


SERVICE = """
executor: {name: python, entry: main.py, function: serve, start_at: session_start, keep_alive: 30}
blocks:
  - {name: one, inputs_def: [{handle: a}], outputs_def: [{handle: b}], description: first}
  - {name: two}
"""


def test_a_service_has_blocks_that_know_it(tmp_path: Path) -> None:
    path = tmp_path / "service.oo.yaml"
    path.write_text(SERVICE)
    blocks = read_service(path).blocks
    assert list(blocks) == ["one", "two"]
    one = blocks["one"]
    assert (one.path, one.directory, one.description) == (path, tmp_path, "first")
    assert [item.handle for item in one.inputs_def] == ["a"]
    service = one.service
    assert service is not None
    assert (service.path, service.block_name, service.executor) == (path, "one", "python")
    assert service.options == {"entry": "main.py", "function": "serve"}
    assert (service.start_at, service.stop_at, service.keep_alive) == (
        "session_start",
        "session_end",
        30.0,
    )


def test_a_service_starts_with_its_block_and_stops_with_the_session_unless_it_says_so(
    tmp_path: Path,
) -> None:
    path = tmp_path / "service.oo.yaml"
    for written, start_at, stop_at in [
        ("", "block_start", "session_end"),
        (", start_at: app_start, stop_at: never", "app_start", "never"),
        (", start_at: soon, stop_at: late", "block_start", "session_end"),
    ]:
        path.write_text(f"executor: {{name: nodejs{written}}}\nblocks: [{{name: a}}]\n")
        service = read_service(path).blocks["a"].service
        assert service is not None
        assert (service.start_at, service.stop_at) == (start_at, stop_at)


def test_a_service_names_its_blocks_once(tmp_path: Path) -> None:
    path = tmp_path / "service.oo.yaml"
    path.write_text("executor: {name: python}\nblocks:\n  - {name: a}\n  - {name: a}\n")
    with pytest.raises(ManifestError, match=r":4: blocks\[1\]: the block 'a' is declared twice"):
        read_service(path)
