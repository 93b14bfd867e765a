from __future__ import annotations

from pathlib import Path

from engine_runs import Run, open_catalog, open_session, task_files

SECRET = "${{OO_SECRET:custom,mine,key}}"
CREDENTIAL = "${{OO_CREDENTIAL:oauth,github,7}}"
VARIABLE = {
    "__OOMOL_TYPE__": "oomol/var",
    "value": {"executor": "python", "handle": "r", "job_id": "j", "session_id": "s"},
    "serialize_path": None,
}
BINARY = {"__OOMOL_TYPE__": "oomol/bin", "value": "/session/binary/s/j/r"}


def run(directory: Path, nodes: str) -> Run:
    files = {**task_files(s="-> r q", t="a b ->"), "flows/main/flow.oo.yaml": nodes}
    return Run(open_session(open_catalog(directory, files), "main"))


def test_values_that_stand_for_others_are_passed_on_as_they_are(tmp_path: Path) -> None:
    nodes = f"""
nodes:
  - {{node_id: s, task: self::s}}
  - node_id: t
    task: self::t
    concurrency: 9
    inputs_from:
      - {{handle: a, from_node: [{{node_id: s, output_handle: r}}]}}
      - {{handle: b, value: ['{SECRET}', '{CREDENTIAL}']}}
"""
    session = run(tmp_path, nodes)
    for value in (VARIABLE, BINARY, SECRET, [{"deep": CREDENTIAL}]):
        session.send(session.job("s"), "BlockOutput", handle="r", output=value)
    assert [inputs["a"] for inputs in session.inputs_of("t")] == [
        VARIABLE,
        BINARY,
        SECRET,
        [{"deep": CREDENTIAL}],
    ]
    assert session.inputs_of("t")[0]["b"] == [SECRET, CREDENTIAL]


def test_an_input_that_may_be_null_is_shown_to_the_block_with_that_value(tmp_path: Path) -> None:
    task = """
executor: {name: python}
inputs_def:
  - {handle: a, nullable: true}
  - {handle: b, nullable: true, value: 1}
  - {handle: c, nullable: false}
"""
    flow = """
nodes:
  - node_id: n
    task: self::t
    inputs_from: [{handle: a, value: 2}, {handle: b, value: 2}, {handle: c, value: 2}]
  - {node_id: open, task: self::t, inputs_from: [{handle: b, value: 2}, {handle: c, value: 2}]}
"""
    files = {"tasks/t/task.oo.yaml": task, "flows/main/flow.oo.yaml": flow}
    session = Run(open_session(open_catalog(tmp_path, files), "main"))
    # Inside a flow it is no value: the other node waits for one.
    (job,) = session.started
    definitions = job.inputs_def
    assert (definitions["a"]["value"], definitions["b"]["value"]) == (None, 1)
    assert "value" not in definitions["c"]


def test_what_a_node_calls_a_secret_is_one_in_the_jobs_definition(tmp_path: Path) -> None:
    nodes = """
nodes:
  - node_id: t
    task: self::t
    inputs_from:
      - handle: a
        value: custom,mine,key
        schema_overrides: [{schema: {contentMediaType: oomol/secret}}]
      - handle: b
        value: {keys: [x]}
        schema_overrides:
          - {path: [keys, 0], schema: {contentMediaType: oomol/secret}}
          - {path: other, schema: {contentMediaType: oomol/secret, type: string}}
          - {path: [plain], schema: {type: object}}
          - {path: 1}
"""
    (job,) = run(tmp_path, nodes).started
    secret = {"contentMediaType": "oomol/secret"}
    assert job.inputs_def["a"] == {
        "handle": "a",
        "json_schema": secret,
        "schema_overrides": [{"path": [], "schema": secret}],
    }
    assert job.inputs_def["b"] == {
        "handle": "b",
        "schema_overrides": [
            {"path": ["keys", 0], "schema": secret},
            {"path": ["other"], "schema": secret},
        ],
    }


def test_objects_that_are_kept_for_a_later_run_are_marked_at_both_ends(tmp_path: Path) -> None:
    nodes = """
nodes:
  - {node_id: s, task: self::s}
  - node_id: t
    task: self::t
    inputs_from:
      - handle: a
        from_node: [{node_id: s, output_handle: r}]
        serialize_for_cache: true
      - {handle: b, from_node: [{node_id: s, output_handle: q}], serialize_for_cache: false}
"""
    session = run(tmp_path, nodes)
    source = session.job("s")
    assert source.outputs_def == {
        "r": {"handle": "r", "_serialize_for_cache": True},
        "q": {"handle": "q"},
    }
    session.finish_job(source, r=1, q=2)
    assert session.job("t").inputs_def == {
        "a": {"handle": "a", "_deserialize_from_cache": True},
        "b": {"handle": "b"},
    }
