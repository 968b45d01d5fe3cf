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
from fastgshare.report.points import Point, describe, name, points_of
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
    (offered requests/s, seconds). slo_s: bound on latency, 0 for none. allowed: configurations that hold the SLO, where
    that is known; the highest RPR is sought among them. agreements: of configurations that the predictor had not seen.
    """

    subject: Subject
    trials: Sequence[Trial]
    capacities: Mapping[Configuration, Estimate] = field(default_factory=dict)
    latencies: Mapping[Configuration, Mapping[float, Curve]] = field(default_factory=dict)
    slo_s: float = 0.0
    allowed: frozenset[Configuration] | None = None
    agreements: Sequence[Agreement] = ()

    @property
    def points(self) -> list[Point]:
        """Capacity by configuration."""
        return points_of(self.trials, self.capacities)


def best_of(points: Sequence[Point], allowed: frozenset[Configuration] | None = None) -> Point | None:
    """The point with the highest RPR among those that are allowed (None: all); None if nothing is known of any."""
    known = [p for p in points if p.value and (allowed is None or p.configuration in allowed)]
    return max(known, key=lambda p: (p.rpr or 0.0, -p.configuration.area), default=None)


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
    standin = "" if "stand-in" not in profile.subject.device_type else "; measured on the stand-in, a test double"
    return f"{model}; {count} trial{'' if count == 1 else 's'}{when}{slo}{standin}"


def _tiles(profile: Profile) -> list[tuple[str, str]]:
    tiles = [(str(len(profile.trials)), "trials")]
    best = best_of(profile.points, profile.allowed)
    if best is not None:
        how = "measured" if best.rps is not None else "predicted"
        tiles.append((shown(best.rpr or 0.0), f"highest RPR, {how}: {name(best.configuration)}"))
        tiles.append((f"{shown(best.value or 0.0)}/s", "answered there by one instance"))
    return tiles


def _by_batch(points: Sequence[Point]) -> Iterator[tuple[str, list[Point]]]:
    batches = sorted({p.configuration.batch for p in points})
    for batch in batches:
        words = f", batch {batch}" if len(batches) > 1 or batch > 1 else ""
        yield words, [p for p in points if p.configuration.batch == batch]


def _surfaces(profile: Profile) -> list[Part]:
    points, parts = profile.points, []
    best = best_of(points, profile.allowed)
    for words, some in _by_batch(points):
        mark = best if best in some else None
        element = heatmap(some, title=f"Throughput, requests/s{words}", width=WIDTH, mark=mark)
        parts.append((heatmap_height(some), element))
        if any(p.value is not None for p in some):
            parts.append((380.0, capacity_curves(some, title=f"Throughput by quota{words}", size=(WIDTH, 380.0))))
    return parts


def _frontier(profile: Profile) -> list[Part]:
    points = [p for p in profile.points if p.value]
    if not points:
        return []
    allowed = [p for p in points if profile.allowed is None or p.configuration in profile.allowed]
    words = (
        f"RPR frontier within the SLO of {1000 * profile.slo_s:g} ms"
        if profile.slo_s and profile.allowed is not None
        else "RPR frontier"
    )
    chosen = best_of(points, profile.allowed)
    return [(380.0, frontier_picture(points, frontier_of(allowed), title=words, chosen=chosen, size=(WIDTH, 380.0)))]


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
    """What the pictures show, in figures."""
    columns = ("configuration", "measured", "predicted", "RPR", "trials gave")
    rows = [
        (
            name(p.configuration),
            "–" if p.rps is None else f"{shown(p.rps)}/s",
            "–" if p.estimate is None else describe(p.estimate).removeprefix("predicted "),
            "–" if p.rpr is None else shown(p.rpr),
            p.failed or ("figures" if p.rps is not None else "–"),
        )
        for p in profile.points
    ]
    said = f" {summary(profile.agreements)}." if profile.agreements else ""
    return (
        html.heading("In figures")
        + html.paragraph(f"Requests a second by configuration.{said}")
        + html.table(columns, rows, frozenset({1, 3}))
    )
