from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import Connection, ServerProcess, wait_until

StartProcess = Callable[..., ServerProcess]


def post(connection: Connection, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return connection.http.post(
        "/v1/tasks", json={"manifest": "shop::add", **body}, headers=headers
    )


def test_many_requests_of_one_key_at_once_make_one_task(connection: Connection) -> None:
    before = len(connection.http.get("/v1/tasks").json()["tasks"])
    with ThreadPoolExecutor(20) as threads:
        answers = list(
            threads.map(lambda _: post(connection, "at once", inputValues={"a": 1}), range(200))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["task"]["id"] for answer in answers}) == 1
    first = [answer for answer in answers if "Idempotency-Replayed" not in answer.headers]
    assert len(first) == 1
    assert {a.headers["Idempotency-Replayed"] for a in answers if a not in first} == {"true"}
    assert len(connection.http.get("/v1/tasks").json()["tasks"]) == before + 1


def test_a_replayed_answer_shows_the_task_as_it_is_now(connection: Connection) -> None:
    task_id = post(connection, "as it is", inputValues={"a": 1}).json()["task"]["id"]
    task = connection.wait(task_id)
    # The same inputs in another form, and in another order, are the same request.
    again = post(connection, "as it is", inputValues=[{"handle": "a", "value": 1}])
    assert again.json()["task"] == task
    assert set(again.json()) == {"task", "userID", "success"}


@pytest.mark.parametrize(
    "other",
    [
        {"manifest": "shop::fail"},
        {"inputValues": {"a": 2}},
        {"inputValues": {"a": True}},
        {"priority": 1},
        {"labels": {"a": "b"}},
        {"deadline": 9_000_000_000_000},
    ],
)
def test_a_key_is_not_taken_for_another_request(
    connection: Connection, other: dict[str, Any]
) -> None:
    key = f"other {other}"
    assert post(connection, key, inputValues={"a": 1}).status_code == 200
    answer = post(connection, key, **{"inputValues": {"a": 1}, **other})
    assert answer.status_code == 422
    assert "Idempotency-Key was used before" in answer.json()["message"]


def test_a_refused_request_uses_no_key_up(connection: Connection) -> None:
    assert post(connection, "refused first").status_code == 400
    assert post(connection, "refused first", inputValues={"a": 1}).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "ü"])
def test_a_malformed_key_is_refused(connection: Connection, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    body = {"manifest": "shop::add", "inputValues": {"a": 1}}
    answer = connection.http.post("/v1/tasks", json=body, headers=headers)
    assert answer.status_code == 400
    assert "Idempotency-Key must be 1 to 255" in answer.json()["message"]


def test_a_key_outlives_a_kill_of_the_server(start_process: StartProcess) -> None:
    process = start_process()
    task_id = post(process.connection, "k", inputValues={"a": 1}).json()["task"]["id"]
    process.kill()
    connection = start_process().connection
    answer = post(connection, "k", inputValues={"a": 1})
    assert answer.json()["task"]["id"] == task_id
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert len(connection.http.get("/v1/tasks").json()["tasks"]) == 1


def test_options_come_back_on_the_task_and_are_absent_when_not_given(
    connection: Connection,
) -> None:
    options = {"priority": -3, "labels": {"größe": "x: y"}, "deadline": 9_000_000_000_000}
    task = post(connection, inputValues={"a": 1}, **options).json()["task"]
    assert {name: task[name] for name in options} == options
    plain = post(connection, inputValues={"a": 1}).json()["task"]
    assert not {*options, "rerunOf"} & set(plain)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"priority": "high"}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 10**7}, "priority"),
        ({"deadline": -1}, "deadline"),
        ({"deadline": "2030-01-01"}, "deadline"),
        ({"labels": ["a"]}, "labels"),
        ({"labels": {"a": 1}}, "labels"),
        ({"labels": {"a:b": "c"}}, "label"),
        ({"labels": {"": "c"}}, "label"),
        ({"labels": {"x" * 65: "c"}}, "label"),
        ({"labels": {"a": "x" * 257}}, "'a'"),
        ({"labels": {str(number): "" for number in range(17)}}, "16 labels"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    connection: Connection, body: dict[str, Any], word: str
) -> None:
    answer = post(connection, inputValues={"a": 1}, **body)
    assert answer.status_code == 400
    assert word in answer.json()["message"]


def test_a_higher_priority_starts_first_also_after_a_restart(
    start_process: StartProcess, tmp_path: Path
) -> None:
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    process = start_process(max_tasks=1)
    connection = process.connection
    gated = {"file": str(tmp_path / "runs"), "gate": str(gate)}
    blocker = connection.create("shop::gated", gated)

    def note(text: str, priority: int | None) -> str:
        inputs = {"file": str(notes), "text": text}
        return connection.create("shop::note", inputs, priority=priority)

    tasks = [note(f"{p}", p) for p in (None, -1, 5, 0)]
    # After the restart this one is the first, and holds the place until all others are known.
    tasks.append(connection.create("shop::gated", gated, priority=7))
    wait_until((tmp_path / "runs").exists)
    process.kill()
    connection = start_process(max_tasks=1).connection
    tasks += [note(f"late {p}", p) for p in (5, 6)]
    connection.stop(blocker)
    gate.touch()
    for task_id in tasks:
        connection.wait(task_id)
    order = notes.read_text().splitlines()
    assert order == ["late 6", "5", "late 5", "None", "0", "-1"]


def test_a_task_that_has_not_started_by_its_deadline_never_does(
    start_process: StartProcess, tmp_path: Path
) -> None:
    connection = start_process(max_tasks=1).connection
    blocker = connection.create("shop::forever", {"file": str(tmp_path / "pids")})
    inputs = {"file": str(tmp_path / "notes"), "text": "never"}
    soon = int(time.time() * 1000) + 300
    waits = connection.create("shop::note", inputs, deadline=soon)
    over = connection.create("shop::note", inputs, deadline=1)
    for task_id in (waits, over):
        task = connection.wait(task_id)
        assert task["status"] == "stopped"
        assert "deadline passed before it could start" in task["error"]["message"]
        (row,) = connection.logs(task_id)
        assert row["event"]["warning"] == task["error"]["message"]
    assert connection.task(waits)["updated_at"] >= soon
    connection.stop(blocker)
    assert connection.run("shop::add", {"a": 1})["status"] == "completed"
    assert not (tmp_path / "notes").exists()


def test_a_task_that_runs_at_its_deadline_is_stopped(
    connection: Connection, tmp_path: Path
) -> None:
    deadline = int(time.time() * 1000) + 1_500
    inputs = {"file": str(tmp_path / "pids")}
    task_id = connection.create("shop::forever", inputs, deadline=deadline, client="late")
    with connection.events(client="late") as events:
        while not (event := next(events)).ends(task_id):
            pass
    assert event.task is not None
    assert event.task["status"] == "stopped"
    assert "deadline passed while it ran" in event.task["error"]["message"]
    assert event.task == connection.task(task_id)
    kinds = [row["type"] for row in connection.logs(task_id)]
    assert kinds[-2:] == ["BlockWarning", "SessionFinished"]


def test_a_deadline_that_is_met_leaves_no_trace(connection: Connection) -> None:
    deadline = int(time.time() * 1000) + 600
    fast = connection.create("shop::add", {"a": 1}, deadline=deadline)
    task = connection.wait(fast)
    assert task["status"] == "completed"
    wait_until(lambda: time.time() * 1000 > deadline + 100)
    assert connection.task(fast) == task


def test_a_deadline_that_passes_while_no_server_runs_stops_the_task_at_the_start(
    start_process: StartProcess, tmp_path: Path
) -> None:
    process = start_process()
    deadline = int(time.time() * 1000) + 1_000
    pids = tmp_path / "pids"
    task_id = process.connection.create("shop::forever", {"file": str(pids)}, deadline=deadline)
    wait_until(pids.exists)
    process.kill()
    wait_until(lambda: time.time() * 1000 > deadline)
    task = start_process().connection.wait(task_id)
    assert task["status"] == "stopped"
    assert "deadline" in task["error"]["message"]


def test_a_task_is_run_again(connection: Connection) -> None:
    labels = {"shop": "yes"}
    first = connection.wait(connection.create("shop::add", {"a": 4}, labels=labels, priority=2))
    path = f"/v1/tasks/{first['id']}/rerun"
    headers = {"Oomol-Connect-Client": "again", "Idempotency-Key": "run again"}
    answer = connection.http.post(path, headers=headers)
    assert set(answer.json()) == {"task", "userID", "success"}
    second = connection.wait(answer.json()["task"]["id"])
    assert second["id"] != first["id"]
    assert second["rerunOf"] == first["id"]
    assert "priority" not in second
    for name in ("manifest_path", "inputValues", "labels", "result"):
        assert second[name] == first[name]
    again = connection.http.post(path, headers=headers)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["task"] == second
    with connection.events(client="again", logs=0) as events:
        assert next(events).task == second
    assert connection.http.post("/v1/tasks/nobody/rerun").status_code == 404


def test_lists_are_paged_and_filtered(start_process: StartProcess) -> None:
    connection = start_process().connection
    made = []
    for number in range(7):
        labels = {"parity": "even" if number % 2 == 0 else "odd", "all": "a:b"}
        client = "me" if number < 5 else "you"
        made.append(connection.create("shop::add", {"a": number}, labels=labels, client=client))
    failed = connection.create("shop::fail")
    for task_id in (*made, failed):
        connection.wait(task_id)

    def pages(**query: Any) -> list[list[str]]:
        found: list[list[str]] = []
        cursor: dict[str, str] | None = {}
        while cursor is not None:
            answer = connection.http.get("/v1/tasks", params={**query, **cursor}).json()
            found.append([task["id"] for task in answer["tasks"]])
            cursor = {"cursor": answer["nextCursor"]} if "nextCursor" in answer else None
        return found

    newest = [failed, *reversed(made)]
    assert pages() == [newest]
    assert pages(limit=3) == [newest[:3], newest[3:6], newest[6:]]
    assert pages(limit=4) == [newest[:4], newest[4:]]
    assert pages(status="failed,running", limit=4) == [[failed]]
    assert pages(client="me", limit=3) == [made[4:1:-1], made[1::-1]]
    assert pages(label="parity:odd") == [[made[5], made[3], made[1]]]
    assert pages(label=["parity:odd", "all:a:b"], client="you") == [[made[5]]]
    assert pages(label="parity:none", limit=5) == [[]]
    tasks = connection.http.get("/v1/tasks", params={"limit": 1}).json()["tasks"]
    assert tasks == [connection.task(failed)]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "-1"},
        {"limit": "x"},
        {"cursor": "x"},
        {"status": "done"},
        {"label": ":x"},
        {"client": ""},
    ],
)
def test_a_list_that_makes_no_sense_is_refused(
    connection: Connection, query: dict[str, str]
) -> None:
    answer = connection.http.get("/v1/tasks", params=query)
    assert answer.status_code == 400
    assert answer.json()["success"] is False
