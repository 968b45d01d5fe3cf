"""Turns and the worker, against a gate that writes down what it is asked, in a time that the handlers move."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from fastgshare.domain.errors import InstanceFailed
from fastgshare.domain.requests import Request
from fastgshare.runtime.bursts import Bursts
from fastgshare.runtime.handlers import Result
from fastgshare.runtime.loading import Handler
from fastgshare.runtime.models import Model, Tensor
from fastgshare.runtime.turns import Turn
from fastgshare.runtime.worker import Worker


@dataclass
class World:
    """A gate, a clock and a network that takes 0.25 s a run."""

    now_s: float = 0.0
    waits_s: float = 0.0
    evicted: bool = False
    asked: list[tuple[str, float | bool]] = field(default_factory=list)
    inputs = (Tensor("x", "FP32", (None,)),)
    outputs = (Tensor("y", "FP32", (None,)),)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def acquire(self, burst_s: float) -> object:
        if self.evicted:
            raise InstanceFailed("f-1", "gone")
        self.asked.append(("acquire", burst_s))
        self.now_s += self.waits_s
        return True

    def checkpoint(self, burst_s: float) -> None:
        if self.evicted:
            raise InstanceFailed("f-1", "gone")
        self.asked.append(("checkpoint", burst_s))

    def release(self, more: bool = False) -> None:
        self.asked.append(("release", more))

    def report_burst(self, burst_s: float) -> None:
        self.asked.append(("report", burst_s))

    def close(self) -> None:
        pass

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Any]:
        self.now_s += 0.25
        return [inputs["x"]]


@dataclass
class Bench:
    """A worker in a world; `models` runs a model so many times a request."""

    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        self.turn = Turn(Bursts(), lambda: self.world.now_s)
        self.turn.attach(self.world)
        self.model = Model("m", self.world, self.turn)

    def run_model(self, times: int) -> None:
        for _ in range(times):
            self.model.run({"x": np.zeros(4, dtype=np.float32)})

    def worker(self, single: Callable[[Request], Result], many: object = None) -> Worker:
        handler = Handler(None, many, None) if callable(many) else Handler(single, None, None)
        return Worker(handler, self.turn, lambda: self.world.now_s, logging.getLogger("test"))


def requests(count: int, deadline_s: float = 100.0) -> list[Request]:
    return [Request(n, "f", b"", 0.0, deadline_s) for n in range(count)]


def verbs(world: World) -> list[str]:
    return [verb for verb, _ in world.asked]


def test_a_request_is_one_burst_however_it_runs_its_model_once() -> None:
    bench = Bench()
    bench.worker(lambda _: bench.run_model(1)).work(requests(1), lambda: False)
    assert bench.world.asked == [("acquire", 0.001), ("report", 0.25), ("release", False)]


def test_every_further_run_is_a_burst_of_its_own() -> None:
    bench = Bench()
    worker = bench.worker(lambda _: bench.run_model(3))
    worker.work(requests(1), lambda: False)
    assert verbs(bench.world) == ["acquire", "report", "checkpoint", "checkpoint", "release"]
    bench.world.asked.clear()
    worker.work(requests(1), lambda: True)
    assert bench.world.asked == [("acquire", 0.25), ("checkpoint", 0.25), ("checkpoint", 0.25), ("release", True)]


def test_between_requests_the_token_may_go() -> None:
    bench = Bench()
    bench.worker(lambda _: bench.run_model(1)).work(requests(3), lambda: False)
    assert verbs(bench.world) == ["acquire", "report", "checkpoint", "checkpoint", "release"]


def test_a_batch_is_one_burst() -> None:
    bench = Bench()
    worker = bench.worker(lambda _: None, lambda batch: [bench.run_model(1), *[None] * (len(batch) - 1)])
    worker.work(requests(8), lambda: False)
    assert verbs(bench.world) == ["acquire", "report", "release"]


def test_a_burst_that_grew_is_reported() -> None:
    bench = Bench()
    lengths = iter([1.0, 1.05, 3.0, 3.0])

    def compute(_: Request) -> Result:
        bench.world.now_s += next(lengths)
        return None

    worker = bench.worker(compute)
    for _ in range(4):
        worker.work(requests(1), lambda: False)
    assert [length for verb, length in bench.world.asked if verb == "report"] == [1.0, 3.0]


def test_the_token_is_returned_whatever_the_handler_does() -> None:
    bench = Bench()

    def fail(_: Request) -> Result:
        raise KeyError("x")

    (reply,) = bench.worker(fail).work(requests(1), lambda: False)
    assert reply.status == 500
    assert verbs(bench.world)[-1] == "release"


def test_requests_too_late_never_ask_for_the_token() -> None:
    bench = Bench()
    replies = bench.worker(lambda _: None).work(requests(2, deadline_s=0.0), lambda: False)
    assert [reply.status for reply in replies] == [504, 504]
    assert bench.world.asked == []


def test_requests_that_became_late_while_waiting_for_the_token_are_not_computed() -> None:
    bench = Bench(World(waits_s=5.0))
    early, late = requests(1)[0], requests(1, deadline_s=3.0)[0]
    computed: list[Request] = []
    worker = bench.worker(computed.append)
    assert [reply.status for reply in worker.work([late, early], lambda: False)] == [504, 200]
    assert computed == [early]
    assert verbs(bench.world) == ["acquire", "release"]


def test_requests_that_become_late_while_others_are_computed_are_not_computed() -> None:
    bench = Bench()
    replies = bench.worker(lambda _: bench.run_model(4)).work(requests(3, deadline_s=1.5), lambda: False)
    assert [reply.status for reply in replies] == [200, 200, 504]


@pytest.mark.parametrize("when", ["before", "within"])
def test_an_instance_taken_off_the_device_says_so_and_answers_nothing(when: str) -> None:
    bench = Bench(World(evicted=when == "before"))

    def evicted(_: Request) -> Result:
        bench.world.evicted = True
        bench.run_model(2)
        return None

    with pytest.raises(InstanceFailed):
        bench.worker(evicted).work(requests(1), lambda: False)
    assert "release" not in verbs(bench.world)


def test_models_run_outside_a_turn_without_the_gate() -> None:
    bench = Bench()
    bench.run_model(2)
    assert bench.world.asked == []


def test_models_belong_to_the_worker_thread() -> None:
    bench = Bench()
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            bench.run_model(1)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "belongs into the thread" in str(errors[0])


def test_a_wrong_number_of_results_is_an_error_of_the_handler() -> None:
    bench = Bench()
    replies = bench.worker(lambda _: None, lambda batch: ["one"]).work(requests(2), lambda: False)
    assert [reply.status for reply in replies] == [200, 200]
    replies = bench.worker(lambda _: None, lambda batch: ["one", "two"]).work(requests(3), lambda: False)
    assert {reply.body for reply in replies} == {
        b"the handler failed: ValueError: handle returned 2 results for 1 requests\n"
    }


def test_running_out_of_memory_is_said() -> None:
    bench = Bench()

    def grow(_: Request) -> Result:
        raise MemoryError

    (reply,) = bench.worker(grow).work(requests(1), lambda: False)
    assert reply.status == 500
    assert reply.body == b"out of memory, the share's mem is too small: MemoryError\n"
