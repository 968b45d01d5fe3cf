"""A function's profile, drawn: throughput surface, RPR frontier, latency by load, predicted beside measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fastgshare.domain.profiles import Configuration, Estimate, Subject, Trial
from fastgshare.report import html, svg
from fastgshare.report.agreements import Agreement, agreement_picture, summary
from fastgshare.report.axes import shown
from fastgshare.report.frontiers import frontier_of, frontier_picture
from fastgshare.report.latencies import Curve, latencies_of, latency_legend, latency_picture
from fastgshare.report.points import Point, describe, name, points_of, rates_of
from fastgshare.report.surfaces import capacity_curves, heatmap, heatmap_height

WIDTH = 860.0
_MOST_LATENCIES = 4
_ABOVE, _BETWEEN = 66.0, 20.0

Part = tuple[float, str]
"""Height of an element, and the element."""


@dataclass(frozen=True, slots=True)
class Profile:
    """All that the pictures show of a subject.

    trials: of this subject alone. capacities: predicted requests/s. latencies: predicted, configuration -> quantile ->
    (offered requests/s, seconds). slo_s: bound on latency, 0 for none. within: predicted, the highest rates
    within it; RPR is then of them. agreements: of configurations that the predictor had not seen. notes: in words.
    """

    subject: Subject
    trials: Sequence[Trial]
    capacities: Mapping[Configuration, Estimate] = field(default_factory=dict)
    latencies: Mapping[Configuration, Mapping[float, Curve]] = field(default_factory=dict)
    slo_s: float = 0.0
    within: Mapping[Configuration, Estimate] = field(default_factory=dict)
    agreements: Sequence[Agreement] = ()
    notes: Sequence[str] = ()

    @property
    def points(self) -> list[Point]:
        """Capacity by configuration."""
        return points_of(self.trials, self.capacities)

    @property
    def rates(self) -> list[Point]:
        """The highest rate within the SLO by configuration; without an SLO, capacity."""
        return rates_of(self.trials, self.within, self.slo_s) if self.slo_s else self.points

    @property
    def best(self) -> Point | None:
        """The rate with the highest RPR; None if nothing is known of any."""
        return best_of(self.rates)


def best_of(points: Sequence[Point]) -> Point | None:
    """The point with the highest RPR; None if nothing is known of any."""
    return max((p for p in points if p.value), key=lambda p: (p.rpr or 0.0, -p.configuration.area), default=None)


def profile_picture(profile: Profile) -> str:
    """One SVG with all that there is to show, from top to bottom."""
    parts = [*_surfaces(profile), *_frontier(profile), *_latencies(profile), *_agreements(profile)]
    body, y = [svg.text(8, 26, _title(profile), "strong"), svg.text(8, 44, _facts(profile), "soft small")], _ABOVE
    for height, element in parts or [(24.0, svg.text(8, 14, "no trial measured anything yet"))]:
        body.append(svg.group(0, y, element))
        y += height + _BETWEEN
    return svg.picture(WIDTH, y, *body, title=_title(profile))


def profile_page(profiles: Sequence[Profile]) -> str:
    """One HTML page, without anything from outside, with a part for each profile."""
    functions = ", ".join(sorted({profile.subject.function for profile in profiles}))
    return html.page(f"Profile of {functions}", *(part for profile in profiles for part in _sections(profile)))


def _sections(profile: Profile) -> Iterator[str]:
    yield html.heading(_title(profile), 1)
    yield html.paragraph(_facts(profile), "soft")
    yield html.tiles(_tiles(profile))
    surface = "Full colours and dots are measured, ~ and hollow dots predicted; pointing at one says all about it."
    yield _figures("What a share is worth", _surfaces(profile), surface)
    rpr = "RPR is requests a second per device that is paid for, rps / (SM × quota). No other configuration answers "
    rpr += "as much as one on the dashed line at a higher RPR."
    yield _figures("RPR frontier", _frontier(profile), rpr)
    yield _figures("Latency under load", _latencies(profile), "Requests came in an open loop, at the rate shown.")
    beside = "Each configuration was predicted from the others' trials alone."
    yield _figures("Predicted beside measured", _agreements(profile), beside)
    yield _table(profile)


def _title(profile: Profile) -> str:
    return f"Profile of {profile.subject.function} on {profile.subject.device_type}"


def _facts(profile: Profile) -> str:
    digest, count = profile.subject.model_digest, len(profile.trials)
    model = f"model {digest[:12]}" if digest else "model not known"
    slo = f"; SLO {1000 * profile.slo_s:g} ms" if profile.slo_s else ""
    last = max((t.started_unix_s for t in profile.trials), default=0.0)
    when = f"; last {time.strftime('%Y-%m-%d', time.gmtime(last))}" if last else ""
    standin = (
        ""
        if "stand-in" not in profile.subject.device_type
        else "; the stand-in is a test double: no figure here is a GPU's"
    )
    return f"{model}; {count} trial{'' if count == 1 else 's'}{when}{slo}{standin}"


def _tiles(profile: Profile) -> list[tuple[str, str]]:
    tiles = [(str(len(profile.trials)), "trials")]
    best = profile.best
    if best is not None:
        how = "measured" if best.rps is not None else "predicted"
        tiles.append((shown(best.rpr or 0.0), f"highest RPR, {how}: {name(best.configuration)}"))
        tiles.append((f"{shown(best.value or 0.0)}/s", f"answered there by one instance{_within(profile)}"))
    return tiles


def _by_batch(points: Sequence[Point]) -> Iterator[tuple[str, list[Point]]]:
    batches = sorted({p.configuration.batch for p in points})
    for batch in batches:
        words = f", batch {batch}" if len(batches) > 1 or batch > 1 else ""
        yield words, [p for p in points if p.configuration.batch == batch]


def _surfaces(profile: Profile) -> list[Part]:
    points, parts = profile.points, []
    best = profile.best
    for words, some in _by_batch(points):
        mark = None if best is None else best.configuration
        element = heatmap(some, title=f"Throughput, requests/s{words}", width=WIDTH, mark=mark)
        parts.append((heatmap_height(some), element))
        if any(p.value is not None for p in some):
            parts.append((380.0, capacity_curves(some, title=f"Throughput by quota{words}", size=(WIDTH, 380.0))))
    return parts


def _frontier(profile: Profile) -> list[Part]:
    points = [p for p in profile.rates if p.value]
    if not points:
        return []
    title = f"RPR frontier{_within(profile)}"
    picture = frontier_picture(points, frontier_of(points), title=title, chosen=profile.best, size=(WIDTH, 380.0))
    return [(380.0, picture)]


def _within(profile: Profile) -> str:
    return f" within {1000 * profile.slo_s:g} ms" if profile.slo_s else ""


def _latencies(profile: Profile) -> list[Part]:
    shown_ = latencies_of(profile.trials, profile.latencies)[:_MOST_LATENCIES]
    if not shown_:
        return []
    parts: list[Part] = [(28.0, svg.text(8, 18, "Latency against offered rate", "strong"))]
    for index in range(0, len(shown_), 2):
        pair = [latency_picture(one, slo_s=profile.slo_s, size=(WIDTH / 2, 280.0)) for one in shown_[index : index + 2]]
        parts.append((280.0, "".join(svg.group(WIDTH / 2 * i, 0, one) for i, one in enumerate(pair))))
    return [*parts, (16.0, latency_legend(64, 4))]


def _agreements(profile: Profile) -> list[Part]:
    if not profile.agreements:
        return []
    picture = agreement_picture(profile.agreements, title="Predicted beside measured", size=(WIDTH, 380.0))
    return [(380.0, picture)]


def _figures(heading: str, parts: Sequence[Part], caption: str) -> str:
    if not parts:
        return ""
    body, y = [], 0.0
    for height, element in parts:
        body.append(svg.group(0, y, element))
        y += height + _BETWEEN
    return html.heading(heading) + html.figure(svg.picture(WIDTH, y, *body, title=heading), caption)


def _table(profile: Profile) -> str:
    """What the pictures show, in figures, and what there is to say of it."""
    columns = ["configuration", "measured", "predicted", "RPR", "trials gave"]
    rows: list[list[str]] = [_row(point) for point in profile.points]
    if profile.slo_s:
        columns.insert(3, f"within {1000 * profile.slo_s:g} ms")
        rates = {p.configuration: p for p in profile.rates}
        for point, row in zip(profile.points, rows, strict=True):
            rate = rates.get(point.configuration)
            row.insert(3, "–" if rate is None or rate.value is None else f"{_about(rate)}/s")
            row[4] = "–" if rate is None or rate.rpr is None else shown(rate.rpr)
    said = f" {summary(profile.agreements)}." if profile.agreements else ""
    notes = "".join(html.paragraph(note, "soft") for note in profile.notes)
    words = html.paragraph(f"Requests a second by configuration.{said}")
    return (
        html.heading("In figures")
        + words
        + html.table(columns, rows, frozenset({1, *range(3, len(columns) - 1)}))
        + notes
    )


def _row(point: Point) -> list[str]:
    return [
        name(point.configuration),
        "–" if point.rps is None else f"{shown(point.rps)}/s",
        "–" if point.estimate is None else describe(point.estimate).removeprefix("predicted "),
        "–" if point.rpr is None else shown(point.rpr),
        point.failed or ("figures" if point.rps is not None else "–"),
    ]


def _about(point: Point) -> str:
    return f"{'' if point.rps is not None else '~'}{shown(point.value or 0.0)}"
