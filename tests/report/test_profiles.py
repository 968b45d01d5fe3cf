from __future__ import annotations

import struct
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgshare.domain.profiles import Configuration, Estimate, Figures, Outcome, Trial
from fastgshare.report import rasters, svg
from fastgshare.report.agreements import Agreement, agreement_picture, summary
from fastgshare.report.axes import Scale, from_zero, shown, spanning
from fastgshare.report.colours import text_class
from fastgshare.report.frontiers import frontier_of
from fastgshare.report.latencies import QUANTILES, latencies_of, latency_picture
from fastgshare.report.marks import end_labels
from fastgshare.report.points import Point, points_of, rates_of
from fastgshare.report.profiles import Profile, profile_page, profile_picture
from fastgshare.report.rasters import PictureFailed, png
from fastgshare.report.surfaces import RAMP, capacity_curves, colour_of, heatmap
from fastgshare.testing.profiles import SUBJECT, configurations, trial, trials

A, B, C = Configuration(12, 0.4), Configuration(50, 0.4), Configuration(50, 1.0)


def texts(picture: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(picture).iter() if e.tag.endswith("text")]


def hints(picture: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(picture).iter() if e.tag.endswith("title")]


def whole(element: str) -> str:
    return svg.picture(860, 400, element, title="")


def estimate(value: float, beyond: str = "") -> Estimate:
    return Estimate(value, value * 0.9, value * 1.1, extrapolated=beyond)


# --- points ----------------------------------------------------------------------------------------------------------


def test_capacity_is_the_mean_of_trials_without_an_offered_load_by_what_was_given() -> None:
    points = points_of(
        [
            trial(12, 0.4, 10.0, asked=Configuration(10, 0.4)),
            trial(12, 0.4, 14.0),
            trial(12, 0.4, 99.0, offered_rps=5.0),
            trial(50, 0.4, None),
            trial(50, 0.4, None, outcome=Outcome.OUT_OF_MEMORY),
        ],
        {A: estimate(11.0), C: estimate(40.0)},
    )
    assert [p.configuration for p in points] == [A, B, C]
    assert points[0].rps == 12.0
    assert points[0].rps_error == pytest.approx((0.1**2 + 0.14**2) ** 0.5 / 2)
    assert (points[1].value, points[1].failed) == (None, "crashed, out of memory")
    assert (points[2].rps, points[2].value, points[2].rpr) == (None, 40.0, 80.0)


def test_rates_within_a_bound_are_the_highest_that_held_and_of_that_bound_alone() -> None:
    given_ = [
        trial(12, 0.4, 5.0, offered_rps=5.0, within_s=0.1),
        trial(12, 0.4, 6.0, offered_rps=6.0, within_s=0.1),
        trial(12, 0.4, 9.0, offered_rps=9.0, within_s=0.2),
        trial(12, 0.4, 9.5, offered_rps=9.5),
        trial(12, 0.4, 20.0),
    ]
    (first, second) = rates_of(given_, {B: estimate(7.0)}, 0.1)
    assert (first.rps, second.rps, second.value) == (6.0, None, 7.0)


def test_words_of_a_point_say_all_that_is_known() -> None:
    point = Point(C, 40.0, 0.5, estimate(41.0, "above 12 % SMs"))
    assert point.words == (
        "50 % SMs × 100 % time; measured 40 requests/s ± 0.5; "
        "predicted 41 (36.9 to 45.1 at 90 %, extrapolated: above 12 % SMs)"
    )


def test_the_frontier_has_all_that_nothing_else_beats_in_rate_and_rpr() -> None:
    best, wasteful, large, nothing = Point(A, 10.0), Point(B, 9.0), Point(C, 40.0), Point(Configuration(6, 0.2))
    assert frontier_of([large, wasteful, nothing, best]) == [best, large]


# --- axes ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e9), max_size=5))
def test_ticks_lie_on_any_scale_in_order_and_are_few(values: list[float]) -> None:
    for scale in (from_zero(values, 300.0), spanning(values, 300.0)):
        ticks = scale.ticks()
        assert ticks == sorted(ticks)
        assert len(ticks) <= 12
        assert all(-0.01 <= scale.at(tick) <= 300.01 for tick in ticks)


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(0, 62, 100), [0, 20, 40, 60]),
        (Scale(-11, 11, 100), [-10, -5, 0, 5, 10]),
        (Scale(3, 80, 100, logarithmic=True), [5, 10, 20, 50]),
        (Scale(1e-3, 1e6, 100, logarithmic=True), [1e-3, 0.1, 10, 1e3, 1e5]),
    ],
)
def test_ticks_are_round(scale: Scale, ticks: list[float]) -> None:
    assert scale.ticks() == pytest.approx(ticks)


def test_what_lies_outside_of_a_scale_lies_at_its_end() -> None:
    assert Scale(0, 10, 100).at(float("inf")) == 100
    assert Scale(1, 10, 100, logarithmic=True).at(0) == 0


@pytest.mark.parametrize(("value", "words"), [(0, "0"), (0.12345, "0.123"), (12.345, "12.3"), (1234.5, "1234")])
def test_numbers_have_three_digits_or_are_whole(value: float, words: str) -> None:
    assert shown(value) == words


# --- colours ---------------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_more_is_always_darker_so_that_no_hue_need_be_seen() -> None:
    lights = [luminance(colour_of(step / 50)) for step in range(51)]
    assert all(darker < lighter for lighter, darker in pairwise(lights))
    assert (colour_of(-1), colour_of(0), colour_of(1), colour_of(2)) == (RAMP[0], RAMP[0], RAMP[-1], RAMP[-1])


def test_figures_can_be_read_on_all_colours_of_the_ramp() -> None:
    inks = {"on-dark": "#ffffff", "on-light": "#10131a"}

    def linear(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for step in range(51):
        fill = colour_of(step / 50)
        low, high = sorted((linear(fill), linear(inks[text_class(fill)])))
        assert (high + 0.05) / (low + 0.05) >= 3


# --- pictures --------------------------------------------------------------------------------------------------------


def test_a_heatmap_tells_measured_predicted_extrapolated_and_failed_apart() -> None:
    points = points_of(
        [trial(12, 0.4, 10.0), trial(50, 0.4, None, outcome=Outcome.OUT_OF_MEMORY)],
        {C: estimate(40.0), Configuration(100, 1.0): estimate(41.0, "above 50 % SMs")},
    )
    picture = whole(heatmap(points, title="T", mark=A))
    assert {"10", "~40", "~41 ?", "out of memory", "36 to 44"} <= set(texts(picture))
    assert {"measured", "~ predicted", "highest RPR", "extrapolated beyond all trials"} <= set(texts(picture))
    assert any("extrapolated: above 50 % SMs" in hint for hint in hints(picture))


def test_curves_go_up_with_the_quota_and_carry_the_sms_at_their_ends() -> None:
    points = points_of([trial(50, 0.2, 10.0), trial(50, 1.0, 50.0), trial(12, 1.0, 20.0)], {})
    picture = whole(capacity_curves(points, title="T"))
    assert {"50 % SMs", "12 % SMs", "requests/s", "quota, fraction of every window"} <= set(texts(picture))
    circles = [e for e in ElementTree.fromstring(picture).iter() if e.tag.endswith("circle") and len(e)]
    assert len(circles) == 1  # of 12 % SMs; those of 50 % are squares
    assert "12 % SMs × 100 % time; measured 20 requests/s ± 0.2" in hints(picture)


@given(st.lists(st.floats(0, 200), max_size=9))
def test_labels_at_the_ends_of_curves_never_overlap(ys: list[float]) -> None:
    labels = end_labels(100, [((90.0, y), f"{i}", "#000000") for i, y in enumerate(ys)], 200.0)
    places = [float(e.get("y", "")) for text in labels[1::2] for e in [ElementTree.fromstring(text)]]
    assert all(lower - upper >= 13.9 for upper, lower in pairwise(places))
    assert all(place <= 204.01 for place in places)


def test_latencies_are_shown_as_far_as_they_are_finite_and_beside_the_slo() -> None:
    curve = [(5.0, estimate(0.01)), (9.0, Estimate(0.05, 0.02, float("inf"))), (10.0, Estimate(*[float("inf")] * 3))]
    (one,) = latencies_of([trial(12, 0.4, 5.0, offered_rps=5.0)], {A: dict.fromkeys(QUANTILES, curve)})
    picture = whole(latency_picture(one, slo_s=0.1))
    assert {"offered requests/s", "latency, ms", "SLO 100 ms", "12 % SMs × 40 % time"} <= set(texts(picture))
    assert {"p50 at 5 requests/s: 10 ms", "p99 at 5 requests/s: 20 ms"} <= set(hints(picture))
    assert "inf" not in picture
    assert "nan" not in picture


def test_configurations_with_the_most_rates_come_first() -> None:
    given_ = [trial(12, 0.4, 5.0, offered_rps=5.0), *(trial(50, 0.4, r, offered_rps=r) for r in (2.0, 4.0))]
    assert [one.configuration for one in latencies_of(given_, {})] == [B, A]


def test_agreement_is_summed_up_without_what_was_extrapolated() -> None:
    found = [
        Agreement(A, 100.0, estimate(101.0)),
        Agreement(B, 100.0, estimate(104.0)),
        Agreement(C, 100.0, estimate(150.0)),
        Agreement(C, 100.0, estimate(300.0, "above")),
    ]
    assert summary(found) == (
        "median error 4 %, 90th percentile 50 %; 2 of 3 within their interval; 1 more extrapolated"
    )
    assert summary([]) == ""
    assert any(words.endswith(summary(found)) for words in texts(whole(agreement_picture(found, title="T"))))


def profile(**other: object) -> Profile:
    kept = [
        trial(12, 0.4, 10.0, started_unix_s=1.7e9),
        trial(50, 1.0, 40.0),
        trial(100, 1.0, None),
        trial(12, 0.4, 8.0, offered_rps=8.0, within_s=0.1),
        trial(50, 1.0, 30.0, offered_rps=30.0, within_s=0.1),
    ]
    return replace(Profile(SUBJECT, kept, {B: estimate(14.0)}), **other)  # type: ignore[arg-type]


def test_one_picture_shows_all_there_is() -> None:
    shown_ = texts(profile_picture(profile(agreements=[Agreement(A, 10.0, estimate(10.5))])))
    assert f"Profile of ocr on {SUBJECT.device_type}" in shown_
    for heading in ("Throughput, requests/s", "Throughput by quota", "RPR frontier", "Latency against offered rate"):
        assert heading in shown_
    assert any(words.startswith("Predicted beside measured: median error") for words in shown_)


def test_with_an_slo_rpr_is_of_the_rates_within_it() -> None:
    with_bound = profile(slo_s=0.1, within={B: estimate(12.0)})
    best = with_bound.best
    assert best is not None
    assert (best.configuration, best.rps) == (A, 8.0)
    assert "RPR frontier within 100 ms" in texts(profile_picture(with_bound))


def test_batches_have_surfaces_of_their_own() -> None:
    both = profile(trials=[trial(12, 0.4, 10.0), trial(12, 0.4, 25.0, batch=4)])
    assert {"Throughput by quota, batch 1", "Throughput by quota, batch 4"} <= set(texts(profile_picture(both)))


def test_a_profile_without_figures_says_so_and_one_on_the_stand_in_too() -> None:
    crashed = profile(trials=[trial(12, 0.4, None)], capacities={})
    assert "crashed" in texts(profile_picture(crashed))
    assert "no trial measured anything yet" in texts(profile_picture(profile(trials=[], capacities={})))
    standin = profile(subject=replace(SUBJECT, device_type="stand-in for a GPU, 132 SMs"))
    assert any("the stand-in is a test double" in words for words in texts(profile_picture(standin)))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(trials, max_size=6),
    st.dictionaries(configurations, st.floats(0, 1e6).map(estimate), max_size=4),
    st.sampled_from([0.0, 0.1]),
)
def test_any_profile_can_be_drawn(some: list[Trial], estimates: dict[Configuration, Estimate], slo_s: float) -> None:
    curves = {c: {0.5: [(1.0, e), (2.0, e)]} for c, e in estimates.items()}
    agreements = [Agreement(c, e.high, e) for c, e in estimates.items()]
    any_ = Profile(SUBJECT, some, estimates, curves, slo_s, estimates, agreements)
    ElementTree.fromstring(profile_picture(any_))
    HTMLParser().feed(profile_page([any_]))


# --- pages and PNG ---------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [v for k, v in attrs if k in ("src", "href") and v]


def test_a_page_needs_nothing_from_outside_and_has_the_figures_as_a_table() -> None:
    content = profile_page([profile(notes=["Not used: <this>."]), profile(subject=replace(SUBJECT, device_type="cpu"))])
    page = Page(content)
    assert page.outside == []
    assert "script" not in page.tags
    assert page.tags.count("h1") == 2
    assert page.tags.count("table") == 2
    assert "Not used: &lt;this&gt;." in content
    assert "predicted 14" in content


def test_a_png_is_the_picture_at_twice_its_size() -> None:
    content = png(svg.picture(100, 50, svg.box(0, 0, 100, 50, class_="free"), title=""))
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (200, 100)


def test_a_png_knows_the_colours_that_a_browser_would_use() -> None:
    plain = rasters._plain(svg.picture(10, 10, svg.text(0, 5, "a", "soft"), title=""))
    assert "var(" not in plain
    assert "@media" not in plain
    assert "fill: #5c6675" in plain


def test_where_no_font_is_a_png_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = rasters._drawn
    monkeypatch.setattr(rasters, "_drawn", lambda picture, zoom: drawn(picture.replace(">M<", "><"), zoom))
    with pytest.raises(PictureFailed, match="needs a font"):
        png(svg.picture(10, 10, title=""))


def test_without_resvg_a_png_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(PictureFailed, match=r"pip install 'fastgshare\[profile\]'; or write .svg or .html"):
        png(svg.picture(10, 10, title=""))


def test_figures_without_percentiles_have_no_dots() -> None:
    (one,) = latencies_of([trial(figures=Figures(5.0), offered_rps=5.0)], {})
    assert all(not points for points in one.measured.values())
    ElementTree.fromstring(whole(latency_picture(one)))
