"""What holds of the stand-in's device for all programs."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.standin.random_programs import START_NS, Program, Run, Submit, programs, run_plainly

from fastgshare.sim.standin import NEVER_NS


def _assert_near(ends: list[list[int | None]], expected: list[list[int]]) -> None:
    """They round in different places: of every piece a nanosecond may come, and those that follow it inherit it."""
    pieces = sum(len(queue) for queue in expected)
    assert [len(queue) for queue in ends] == [len(queue) for queue in expected]
    for queue, other in zip(ends, expected, strict=True):
        for end, also in zip(queue, other, strict=True):
            assert end is not None
            assert abs(end - also) <= pieces


@settings(max_examples=300)
@given(programs())
def test_times_are_those_of_the_plain_model(program: Program) -> None:
    run, plain = Run(program), run_plainly(program)
    _assert_near(run.ends(), [queue.ends_ns for queue in plain.queues])
    sm_ns = sum(run.device.usage(p, run.end_ns).sm_ns for p in run.processes)
    assert abs(sm_ns - plain.sm_ns) <= 2 * program.sms * (1 + len(program.steps))


@settings(max_examples=150)
@given(programs(), st.randoms(use_true_random=False))
def test_asking_changes_nothing(program: Program, chance: random.Random) -> None:
    def look(run: Run, now: int) -> None:
        for _ in range(chance.randrange(4)):
            i = chance.randrange(len(run.queues))
            position = chance.randrange(10)
            run.device.finished(run.queues[i], now)
            run.device.due(run.queues[i], position, now)
            run.device.ended(run.queues[i], position, now)
            run.device.usage(run.processes[i // 2], now)

    quiet, asked = Run(program), Run(program, look)
    assert asked.ends() == quiet.ends()
    assert [asked.device.usage(p, asked.end_ns) for p in asked.processes] == [
        quiet.device.usage(p, quiet.end_ns) for p in quiet.processes
    ]


@settings(max_examples=150)
@given(programs())
def test_what_is_due_comes_true(program: Program) -> None:
    run = Run(Program(program.sms, program.partitions, program.turns, program.turn_loss, (), program.groups))
    submits = [step for step in program.steps if isinstance(step, Submit)]
    for step in submits:
        run.device.submit(run.queues[step.queue], step.work, START_NS)
        run.submitted[step.queue] += 1
    due = [
        [run.device.due(q, i + 1, START_NS) for i in range(n)] for q, n in zip(run.queues, run.submitted, strict=True)
    ]
    while (then := run.device.next_end(run.end_ns)) != NEVER_NS:
        run.end_ns = then
    assert run.ends() == due


@settings(max_examples=150)
@given(programs())
def test_order_and_caps_hold_and_all_is_done(program: Program) -> None:
    run = Run(program)
    for queue, ends in zip(run.queues, run.ends(), strict=True):
        assert None not in ends
        assert ends == sorted(ends)  # type: ignore[type-var]
        assert run.device.finished(queue, run.end_ns) == len(ends)
    usages = [run.device.usage(p, run.end_ns) for p in run.processes]
    for usage in usages:
        assert usage.busy_ns <= run.end_ns
        assert usage.sm_ns <= usage.sms * usage.busy_ns + usage.sms
    assert sum(usage.sm_ns for usage in usages) <= program.sms * run.end_ns + len(usages)


@settings(max_examples=60)
@given(programs())
def test_at_no_moment_more_sms_are_used_than_there_are(program: Program) -> None:
    marks: list[tuple[int, list[int]]] = []

    def look(run: Run, now: int) -> None:
        marks.append((now, [run.device.usage(p, now).sm_ns for p in run.processes]))

    run = Run(program, look)
    caps = [run.device.usage(p, run.end_ns).sms for p in run.processes]
    for (start, before), (end, after) in pairwise(marks):
        used = [b - a for a, b in zip(before, after, strict=True)]
        assert all(u <= cap * (end - start) + 1 for u, cap in zip(used, caps, strict=True))
        assert sum(used) <= program.sms * (end - start) + len(used)


@settings(max_examples=60)
@given(programs(), st.integers(0, 40), st.integers(0, 3))
def test_the_same_calls_give_the_same_times(program: Program, when: int, who: int) -> None:
    def go(run: Run, now: int) -> None:
        nonlocal step
        step += 1
        if step == when:
            run.device.leave(run.processes[who % len(run.processes)], now)

    def once() -> tuple[list[list[int | None]], int]:
        nonlocal step
        step = 0
        # Who has left takes no more work: only what was submitted before counts.
        steps = [
            s for i, s in enumerate(program.steps) if i < when - 1 or s.queue // 2 != who % len(program.partitions)
        ]
        run = Run(
            Program(program.sms, program.partitions, program.turns, program.turn_loss, tuple(steps), program.groups), go
        )
        return run.ends(), run.end_ns

    step = 0
    first = once()
    assert first == once()
    assert all(end is not None for queue in first[0] for end in queue)
