from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.rects import Placement, Rect
from fastgshare.report.bars import quota_bars, rate, throughput_bars
from fastgshare.report.device import device_picture
from fastgshare.report.pictures import main, pictures
from fastgshare.report.timeline import Hold, timeline_picture

SVG = "{http://www.w3.org/2000/svg}"
CPU = Device("cpu", DeviceKind.CPU, 2, sm_ids=(4, 6))
names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=12)


def shapes(picture: str, fill: str) -> list[ElementTree.Element]:
    return [e for e in ElementTree.fromstring(picture).iter(f"{SVG}rect") if e.get("fill") == fill]


def texts(picture: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def place(instance: str, rect: Rect, device: str = "cpu") -> Placement:
    return Placement(instance, device, rect)


def test_a_share_is_drawn_in_proportion_with_sms_upwards_and_time_to_the_right() -> None:
    placements = [place("a-1", Rect(0, 0, 50, 0.5)), place("b-1", Rect(50, 0.5, 50, 0.25))]
    palette = {"a": "#111111", "b": "#222222"}

    picture = device_picture(CPU, placements, {"a-1": "a", "b-1": "b"}, palette=palette)

    ((a,), (b,)) = shapes(picture, "#111111"), shapes(picture, "#222222")
    assert float(a.get("width", 0)) + 2 == pytest.approx(2 * (float(b.get("width", 0)) + 2), abs=0.05)
    assert a.get("height") == b.get("height")
    assert float(a.get("y", 0)) > float(b.get("y", 0))
    assert float(b.get("x", 0)) > float(a.get("x", 0))


def test_only_what_lies_on_the_device_is_drawn() -> None:
    placements = [place("a-1", Rect(0, 0, 50, 0.5)), place("b-1", Rect(0, 0, 50, 0.5), device="other")]

    picture = device_picture(CPU, placements, {"a-1": "a", "b-1": "b"})

    assert "a" in texts(picture)
    assert "b" not in texts(picture)


def test_the_axes_have_units_and_the_cores_their_numbers() -> None:
    shown = texts(device_picture(CPU, [], {}, window_s=0.04))

    assert {"core 4", "core 6", "0 ms", "40 ms", "time in the window of 40 ms"} <= set(shown)
    assert "100 %" in texts(device_picture(CPU, [], {}))


def test_a_device_of_many_sms_is_marked_in_tenths() -> None:
    shown = texts(device_picture(Device("gpu", DeviceKind.ABSTRACT, 132), [], {}))

    assert {"0-10 %", "90-100 %"} <= set(shown)


def test_a_share_too_small_for_words_still_says_what_it_is_when_pointed_at() -> None:
    picture = device_picture(CPU, [place("tiny-1", Rect(0, 0, 50, 0.01))], {"tiny-1": "tiny"})

    hints = [e.text or "" for e in ElementTree.fromstring(picture).iter(f"{SVG}title")]
    assert any(hint.startswith("tiny-1: 1 of 2 cores, 1 % of time") for hint in hints)
    assert "tiny" not in texts(picture)


holds = st.lists(st.tuples(st.floats(0, 0.3), st.floats(0, 0.3), st.sampled_from(["own", "loan"])), max_size=6)


@given(st.dictionaries(names, holds, max_size=5))
def test_any_timeline_can_be_drawn(raw: dict[str, list[Hold]]) -> None:
    rows = [(name, [(min(a, b), max(a, b), kind) for a, b, kind in spans]) for name, spans in raw.items()]

    root = ElementTree.fromstring(timeline_picture(rows, 0.1))

    bars = sum(len(spans) for _, spans in rows)
    assert sum(1 for e in root.iter(f"{SVG}rect") if e.find(f"{SVG}title") is not None) == bars


def test_loans_are_striped_and_own_slots_solid_and_outlined_in_every_window() -> None:
    rows = [("a-1", [(0.0, 0.05, "own"), (0.12, 0.14, "loan")])]

    picture = timeline_picture(
        rows, 0.1, slots={"a-1": Rect(0, 0, 50, 0.5)}, labels={"a-1": "a"}, palette={"a": "#111111"}
    )

    outlines = [e for e in ElementTree.fromstring(picture).iter(f"{SVG}rect") if e.get("class") == "outline"]
    assert [e.get("height") for e in shapes(picture, "#111111")] == ["6", "20"]  # the stripes' ground, and the bar
    assert len(shapes(picture, "url(#lent-0)")) == 1
    assert len(outlines) == 2 + 1  # two windows and the legend
    assert {"window 1", "window 2"} <= set(texts(picture))


@given(st.dictionaries(names, st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)), max_size=9))
def test_any_throughput_can_be_drawn(throughput: dict[str, tuple[float, float]]) -> None:
    shown = texts(throughput_bars(throughput))

    assert sum(words.endswith("on shares") for words in shown) == len(throughput)


def test_bars_are_relative_to_time_sharing_and_carry_their_values() -> None:
    picture = throughput_bars({"a": (20.0, 30.0)}, palette={"a": "#111111"})

    (bar,) = shapes(picture, "#111111")
    (baseline,) = [e for e in ElementTree.fromstring(picture).iter(f"{SVG}rect") if e.get("class") == "other"]
    assert float(bar.get("width", 0)) == pytest.approx(1.5 * float(baseline.get("width", 0)), abs=0.05)
    assert {"20/s time sharing", "30/s on shares", "1.50×"} <= set(texts(picture))


@given(st.lists(st.tuples(names, st.floats(0.01, 1), st.floats(0, 1.2)), max_size=9))
def test_any_quotas_can_be_drawn(quotas: list[tuple[str, float, float]]) -> None:
    shown = texts(quota_bars(quotas))

    assert sum(words.endswith("requested") for words in shown) == len(quotas)


@pytest.mark.parametrize(("rps", "shown"), [(1085.4, "1085/s"), (38.64, "38.6/s"), (0.5, "0.5/s")])
def test_rates_have_three_digits_or_are_whole(rps: float, shown: str) -> None:
    assert rate(rps) == shown


def test_the_pictures_of_the_documentation_are_the_ones_that_are_drawn(tmp_path: Path) -> None:
    main(tmp_path)

    checked_in = Path(__file__).parents[2] / "docs" / "pictures"
    for name in pictures():
        assert (tmp_path / name).read_text() == (checked_in / name).read_text(), f"run `make pictures` for {name}"
