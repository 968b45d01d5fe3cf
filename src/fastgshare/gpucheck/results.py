"""Results: the document of a check, as JSON and as a page to read; written anew after every section."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.gpucheck.findings import Goal, Outcome, Status, Table
from fastgshare.report.bars import throughput_bars

STANDIN = "Every figure here is of the stand-in, a test double: no GPU was used, and none of them says how fast one is."

_ENDS: Final = (".json", ".md", ".svg")


@dataclass(frozen=True, slots=True)
class Check:
    """One run. began: with its time zone. partial: not all sections were asked for. commit: "" if not known.

    no_gpu: why none is used where one would have been; "" otherwise. number: of the day's runs that left files, which.
    """

    device: Device
    began: datetime
    budget_s: float
    partial: bool = False
    version: str = ""
    commit: str = ""
    no_gpu: str = ""
    number: int = 1

    @property
    def is_standin(self) -> bool:
        """Whether the figures are of a test double."""
        return self.device.kind is DeviceKind.STANDIN

    @property
    def stem(self) -> str:
        """What its files are called: gpu-, the device, the day; partial ones say so, later ones their number."""
        name = "standin" if self.is_standin else self.device.type.removeprefix("NVIDIA ") or "unknown"
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        again = f"-{self.number}" if self.number > 1 else ""
        return f"gpu-{slug}-{self.began:%Y-%m-%d}{'-partial' if self.partial else ''}{again}"

    def beside(self, directory: Path) -> Check:
        """The same with the first number of which no file is there yet: no result takes another's place."""
        numbered = (replace(self, number=number) for number in count(1))
        return next(c for c in numbered if not any((directory / f"{c.stem}{end}").exists() for end in _ENDS))

    def document(self, outcomes: Sequence[Outcome], took_s: float) -> dict[str, object]:
        """All of it as JSON."""
        device = self.device
        return {
            "what": "gpu-check of FaST-GShare",
            "stand_in": self.is_standin,
            "note": STANDIN if self.is_standin else "",
            "no_gpu": self.no_gpu,
            "version": self.version,
            "commit": self.commit,
            "began": self.began.isoformat(timespec="seconds"),
            "took_s": round(took_s, 1),
            "budget_s": round(self.budget_s, 1),
            "device": {
                "name": device.type or device.id,
                "kind": str(device.kind),
                "sms": device.sm_count,
                "mem_bytes": device.mem_bytes,
            },
            "sections": {outcome.name: outcome.document() for outcome in outcomes},
        }


def write(check: Check, outcomes: Sequence[Outcome], took_s: float, directory: Path) -> Path:
    """Write JSON, page and picture; each is whole at any moment. Returns the JSON's path. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{check.stem}.json"
    picture = picture_of(outcomes, standin=check.is_standin)
    if picture:
        _replace(directory / f"{check.stem}.svg", picture + "\n")
    _replace(directory / f"{check.stem}.md", page(check, outcomes, took_s, with_picture=bool(picture)))
    _replace(path, json.dumps(check.document(outcomes, took_s), indent=1, ensure_ascii=False) + "\n")
    return path


def discreet(text: str) -> str:
    """Text that does not say where on somebody's machine it was written."""
    for place, name in ((Path.cwd(), "."), (Path(sys.prefix), "PYTHON"), (Path.home(), "~")):
        if place != Path(place.anchor):
            text = re.sub(rf"{re.escape(str(place))}(?=/|\b)", name, text)
    return text


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(discreet(text), encoding="utf-8")
    unfinished.replace(path)


def picture_of(outcomes: Sequence[Outcome], *, standin: bool) -> str:
    """Time sharing beside shares as SVG; "" before there is anything to draw. standin: names say what they are of."""
    bars = next((outcome.findings.bars for outcome in outcomes if outcome.findings.bars), {})
    named = {f"{name}, stand-in" if standin else name: rates for name, rates in bars.items()}
    return throughput_bars(named) if named else ""


# --- the page --------------------------------------------------------------------------------------------------------


def page(check: Check, outcomes: Sequence[Outcome], took_s: float, *, with_picture: bool = False) -> str:
    """The check in Markdown."""
    name = "the stand-in, a test double" if check.is_standin else check.device.type or check.device.id
    lines = [f"# gpu-check: {name}, {check.began:%Y-%m-%d}", ""]
    lines += [f"**{STANDIN}**", ""] if check.is_standin else []
    lines += [f"Why no GPU was used: {_cell(check.no_gpu)}", ""] if check.no_gpu else []
    lines += [
        f"`make gpu-check` took {took_s:.0f} s of {check.budget_s:.0f}; "
        f"{check.device.sm_count} SMs, {check.device.mem_bytes / 2**30:.0f} GiB. "
        f"The same figures and more: [{check.stem}.json]({check.stem}.json). What the sections do: "
        "[gpu-check](../gpu-check.md).",
        "",
        *_overview(outcomes),
        "",
    ]
    lines += [f"![Requests a second under time sharing and on shares]({check.stem}.svg)", ""] if with_picture else []
    for outcome in outcomes:
        lines += _section(outcome)
    return "\n".join(lines).rstrip() + "\n"


def _overview(outcomes: Sequence[Outcome]) -> Iterator[str]:
    goals = [goal for outcome in outcomes for goal in outcome.findings.goals]
    yield from _rows(("aim", "figure", "to reach", "met"), [(g.what, g.figure, g.aim, _said(g)) for g in goals])
    yield ""
    told = [(o.title, str(o.status), f"{o.took_s:.0f}", o.why) for o in outcomes]
    yield from _rows(("section", "", "s", "why"), told)


def _said(goal: Goal) -> str:
    return goal.instead if goal.met is None else "yes" if goal.met else "**no**"


def _section(outcome: Outcome) -> Iterator[str]:
    yield f"## {outcome.title}"
    yield ""
    if outcome.status is not Status.REPORTED:
        yield f"{str(outcome.status).capitalize()}: {_cell(outcome.why)}"
        yield ""
    for key, value in outcome.findings.facts.items():
        yield f"- {key}: {_cell(_words(value))}"
    yield from (f"- {_cell(remark)}" for remark in outcome.findings.remarks)
    yield ""
    for table in outcome.findings.tables:
        if table.rows and table.shown:
            yield f"### {table.title}"
            yield ""
            yield from _table(table)
            yield ""


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    return _figure(value)


def _table(table: Table) -> Iterator[str]:
    """Columns that no row has anything in are left out."""
    columns = [(key, heading) for key, heading in table.columns.items() if any(_has(row, key) for row in table.rows)]
    rows = [[_figure(row.get(key)) for key, _ in columns] for row in table.rows]
    yield from _rows([heading for _, heading in columns], rows)


def _has(row: Mapping[str, object], key: str) -> bool:
    return row.get(key) not in (None, "")


def _rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _figure(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _cell(text: str) -> str:
    """Text that stays in its cell."""
    return " ".join(text.replace("|", "\\|").split())
