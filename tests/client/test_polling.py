"""The pauses of a wait: paced by itself, by the options, by tenacity, by a caller's function."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest
import tenacity
from scripted import ScriptedServer, task

from oomol_connect_sdk.polling import Wait

GET = "GET /api/v1/tasks/t1"


def pauses(options: Any, count: int = 4) -> List[float]:
    pause = Wait.of(options, ending="stop").pause
    return [pause(attempt, age=1.0) for attempt in range(count)]


def test_a_wait_paces_itself_by_its_age() -> None:
    pause = Wait.of(None, ending="stop").pause
    assert pause(0, 0.0) == pytest.approx(0.2)
    assert pause(5, 1.0) < 0.3
    assert pause(50, 60.0) < 3.0
    assert pause(1000, 1e6) == 10.0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"backoff_strategy": "fixed"}, [2.0, 2.0, 2.0, 2.0]),
        ({"backoff_strategy": "exponential"}, [2.0, 3.0, 4.5, 6.75]),
        ({"interval_ms": 1000}, [1.0, 1.5, 2.25, 3.375]),
        ({"interval_ms": 1000, "backoff_factor": 3, "max_interval_ms": 5000}, [1.0, 3.0, 5.0, 5.0]),
        ({"backoff_strategy": tenacity.wait_fixed(7)}, [7.0, 7.0, 7.0, 7.0]),
        ({"backoff_strategy": tenacity.wait_incrementing(1, 2)}, [1.0, 3.0, 5.0, 7.0]),
        ({"backoff_strategy": tenacity.wait_exponential(1, max=5)}, [1.0, 2.0, 4.0, 5.0]),
        (
            {"backoff_strategy": tenacity.wait_fixed(1) + tenacity.wait_fixed(2)},
            [3.0, 3.0, 3.0, 3.0],
        ),
        (
            {"backoff_strategy": tenacity.wait_chain(*map(tenacity.wait_fixed, (1, 2, 3)))},
            [1.0, 2.0, 3.0, 3.0],
        ),
        ({"backoff_strategy": lambda attempt: attempt / 2}, [0.0, 0.5, 1.0, 1.5]),
    ],
)
def test_a_strategy_decides_the_pauses(options: Any, expected: List[float]) -> None:
    assert pauses(options) == pytest.approx(expected)


def test_pauses_may_be_random() -> None:
    drawn = pauses({"backoff_strategy": tenacity.wait_random(1, 2)}, 50)
    assert all(1 <= pause <= 2 for pause in drawn)
    assert len(set(drawn)) > 1


@pytest.mark.parametrize("strategy", [tenacity.wait_fixed(0.005), lambda attempt: 0.005])
def test_a_wait_follows_a_strategy_to_its_end(
    face: Callable[..., Any], server: ScriptedServer, strategy: Any
) -> None:
    server.on(GET, *[{"task": task(status)} for status in ("created", "running", "completed")])
    client = face(base_url=server.url)
    waited = client.tasks.wait_for_completion("t1", {"backoff_strategy": strategy})
    assert waited["status"] == "completed"
    assert len(server.routes(GET)) == 3


@pytest.mark.parametrize("pause", [-1, None, "soon", True, float("nan")])
def test_what_is_no_pause_ends_the_wait_with_an_error(
    face: Callable[..., Any], server: ScriptedServer, pause: Any
) -> None:
    server.on(GET, {"task": task("running")})
    client = face(base_url=server.url)
    with pytest.raises(ValueError, match="no pause in seconds"):
        client.tasks.wait_for_completion("t1", {"backoff_strategy": lambda attempt: pause})
