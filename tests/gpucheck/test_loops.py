from __future__ import annotations

import pytest

from fastgshare.domain.errors import InvalidValue
from fastgshare.gpucheck.loops import Tally, Task, parse_task, play


class _Clock:
    """Time that passes by requests and sleep alone."""

    def __init__(self) -> None:
        self.ns = 0

    def now_ns(self) -> int:
        return self.ns

    def sleep_until(self, at_ns: int) -> None:
        self.ns = max(self.ns, at_ns)

    def request(self, took_ns: int) -> None:
        self.ns += took_ns


def _play(task: Task, took_ns: int) -> Tally:
    clock = _Clock()
    return play(task, lambda: clock.request(took_ns), clock)


def test_requests_back_to_back_count_from_the_first_that_begins_in_time() -> None:
    tally = _play(Task("bert", 1, 1_000, 10_000), 300)

    assert set(tally.latencies_ns) == {300}
    assert len(tally.latencies_ns) == tally.passed_ns / 300 == 30


def test_a_request_that_is_longer_than_the_time_is_counted_as_what_it_took() -> None:
    tally = _play(Task("bert", 1, 0, 1_000), 5_000)

    assert tally.document() == {"requests": 1, "rps": 200_000.0, "unanswered": 0, "p50_ms": 0.005, "p99_ms": 0.005}


def test_arrivals_wait_in_line_and_their_wait_counts() -> None:
    often = _play(Task("bert", 1, 0, 10**9, rate=1000.0), 2_000_000)
    seldom = _play(Task("bert", 1, 0, 10**9, rate=10.0), 2_000_000)

    assert max(often.latencies_ns) > 100 * 2_000_000
    assert min(seldom.latencies_ns) == 2_000_000
    assert often.unanswered == pytest.approx(500, abs=100)
    assert seldom.unanswered == 0


def test_arrivals_are_the_same_with_the_same_seed() -> None:
    first, again, other = (_play(Task("m", 1, 0, 10**9, rate=50.0, seed=seed), 10**7) for seed in (3, 3, 4))

    assert first.latencies_ns == again.latencies_ns != other.latencies_ns


def test_what_warms_up_does_not_count() -> None:
    tally = _play(Task("m", 1, 5 * 10**8, 10**9, rate=100.0), 1_000)

    assert len(tally.latencies_ns) == pytest.approx(50, abs=25)
    assert tally.passed_ns == 5 * 10**8


def test_nothing_answered_is_no_rate() -> None:
    assert Tally([], 0).document()["rps"] == 0.0


def test_a_task_is_read_as_it_was_written() -> None:
    task = Task("vit", 8, 1, 2, 3.5, 4)

    assert parse_task(task.document()) == task


def test_a_malformed_task_is_refused() -> None:
    with pytest.raises(InvalidValue, match="model, batch, from_ns"):
        parse_task({"model": "vit"})
