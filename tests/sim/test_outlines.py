"""The shape of a trace, and its picture."""

from __future__ import annotations

from pathlib import Path

from bench.trace_shapes import picture

from fastgshare.report.shapes import Shape, shapes_picture
from fastgshare.sim.outlines import Span, outline
from fastgshare.sim.traces import parse

ROOT = Path(__file__).parent.parent.parent
TRACE = parse("kernel k blocks=12 per_sm=2 us=100 gap_us=10\nhost 50\nk\nk\nsync\nhost 5\n", "two")


def test_an_outline_has_the_host_ahead_of_the_device_until_it_waits() -> None:
    found = outline(TRACE, 80)
    assert found.host == (Span(0, 50_000), Span(50_000, 60_000), Span(60_000, 70_000), Span(260_000, 265_000))
    assert found.device == (Span(60_000, 160_000, 6), Span(160_000, 260_000, 6))
    assert found.end_ns == 265_000


def test_a_kernel_uses_no_more_sms_than_there_are() -> None:
    assert outline(TRACE, 4).device[0].sms == 4


def test_a_picture_is_as_high_as_what_is_in_use() -> None:
    text = shapes_picture([Shape("a <b>", 1.0, [(0, 1, 1)], [(0.5, 1, 0.5)])], title="one")
    assert "a &lt;b&gt;" in text
    assert text.count("<path") == 2


def test_the_picture_in_the_documentation_is_of_the_shipped_traces() -> None:
    assert (ROOT / "docs" / "pictures" / "traces.svg").read_text() == picture() + "\n"
