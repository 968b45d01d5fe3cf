"""Kernel traces: what is shipped, what a text means, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastgshare.domain.errors import InvalidValue, NotFound
from fastgshare.sim.traces import Scales, StepKind, Trace, load, names, parse, shipped

TEXT = """
title A small one   # a remark
spread 0.25
scale device=2 host=3 launch=4 blocks=0.5 bandwidth=10
kernel a blocks=8 per_sm=2 us=10.5 gap_us=1 bandwidth=0.05
kernel b blocks=1 us=4
host 100
repeat 2
  a
  repeat 3
    b
  end
  sync
end
"""


def _launched(trace: Trace) -> list[str]:
    return [trace.kernels[step.kernel].name for step in trace.steps if step.kind is StepKind.LAUNCH]


def test_a_text_is_its_kernels_and_its_steps_with_repeats_written_out_and_scales_applied() -> None:
    trace = parse(TEXT, "small")
    assert (trace.name, trace.title, trace.spread) == ("small", "A small one", 0.25)
    a, b = trace.kernels
    assert (a.name, a.blocks, a.blocks_per_sm, a.full_ns, a.gap_ns, a.bandwidth) == ("a", 4, 2, 21_000, 4_000, 0.5)
    assert (b.blocks, b.full_ns, b.gap_ns) == (1, 8_000, 0)
    assert _launched(trace) == ["a", "b", "b", "b"] * 2
    assert [step.kind for step in trace.steps].count(StepKind.SYNC) == 2
    assert trace.steps[0].host_ns == 300_000
    assert trace.launches == 8
    assert trace.host_ns == 308_000
    assert trace.device_ns == 2 * (21_000 + 3 * 8_000)


def test_other_scales_take_the_place_of_its_own() -> None:
    assert parse(TEXT, "small", Scales()).kernels[0].full_ns == 10_500


def test_a_request_is_over_when_its_work_is() -> None:
    trace = parse("kernel a blocks=1 us=1\na", "short")
    assert [step.kind for step in trace.steps] == [StepKind.LAUNCH, StepKind.SYNC]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("kernel a us=1\na", "line 1"),
        ("kernel a blocks=0 us=1\na", "line 1, blocks"),
        ("kernel a blocks=1 us=-1\na", "line 1, us"),
        ("kernel a blocks=1 us=nan\na", "line 1, us"),
        ("kernel a blocks=1 us=1 bandwidth=1.5\na", "line 1, bandwidth"),
        ("kernel a blocks=1 us=1 speed=3\na", "line 1: 'speed'"),
        ("kernel sync blocks=1 us=1\nsync", "line 1"),
        ("kernel a blocks=1 us=1\n\nc", "line 3"),
        ("kernel a blocks=1 us=1\nrepeat 1.5\na\nend", "line 2, repeat"),
        ("kernel a blocks=1 us=1\na\nend", "line 3"),
        ("kernel a blocks=1 us=1\nrepeat 2\na", "repeat"),
        ("kernel a blocks=1 us=1\nrepeat 400\nrepeat 400\na\nend\nend", "line 6"),
        ("spread 2\nkernel a blocks=1 us=1\na", "line 1, spread"),
        ("scale size=2\nkernel a blocks=1 us=1\na", "line 1: 'size'"),
        ("host 1\nsync", "launch"),
    ],
)
def test_what_is_wrong_with_a_text_is_one_sentence_that_names_the_place(text: str, where: str) -> None:
    with pytest.raises(InvalidValue) as error:
        parse(text, "broken")
    assert where in str(error.value)


def test_what_is_not_there_is_said_with_what_is(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="resnet50"):
        load("vgg")
    with pytest.raises(NotFound, match=r"none\.trace"):
        load(str(tmp_path / "none.trace"))


@pytest.mark.parametrize(
    ("name", "kernels", "fewest", "most"),
    [("resnet50", 21, 160, 180), ("bert", 12, 200, 400), ("rnnt", 6, 800, 2000), ("gnmt", 8, 600, 2000)],
)
def test_the_shipped_traces_have_the_shape_of_their_networks(name: str, kernels: int, fewest: int, most: int) -> None:
    trace = load(name)
    assert name in names()
    assert trace.title and shipped(name).is_file()
    assert len(trace.kernels) == kernels
    assert fewest <= trace.launches <= most


def test_recurrent_networks_are_long_sequences_of_tiny_kernels_between_which_the_host_works() -> None:
    for name in ("rnnt", "gnmt"):
        trace = load(name)
        assert trace.device_ns / trace.launches < 60_000
        assert [step.kind for step in trace.steps].count(StepKind.SYNC) > 20
