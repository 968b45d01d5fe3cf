"""The page of `fastgshare demo`, from its report as written to report.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.rects import Placement, Rect
from fastgshare.report import html
from fastgshare.report.bars import quota_bars, rate, throughput_bars
from fastgshare.report.colours import colours, labels_of
from fastgshare.report.device import device_picture
from fastgshare.report.timeline import timeline_picture

Document = Mapping[str, Any]


def demo_page(document: Document) -> str:
    """One HTML page. `throughput`, `quota` and `answers` must be there, the other parts are shown if they are.

    throughput: {time_sharing_rps: {fn: x}, fast_rps: {fn: x}, ratio, ratios?, rounds?, baseline?: {fn: {threads,
    spin}}}; quota: {max_error_pp (NaN: nobody was backlogged), seconds?, instances?: [{id, request, limit?, received,
    error_pp, backlogged}]}; answers: {fn: {input, answer, latency_ms}}; device: {id, sm_count, kind?, sm_ids?};
    placements: [{instance_id, sm_offset, quota_offset, sm, quota}]; timeline: {window_s, rows: [{instance, holds:
    [[start_s, end_s, "own" | "loan"]]}]}; machine, versions: {name: value}.

    Raises `InvalidValue` naming the part that is missing.
    """
    for part in ("throughput", "quota", "answers"):
        if not isinstance(document.get(part), Mapping):
            raise InvalidValue(part, document.get(part), "an object, as `fastgshare demo` writes it")
    palette = colours(_functions(document))
    return html.page(
        "FaST-GShare demo",
        html.heading("FaST-GShare demo", 1),
        html.paragraph(_summary(document), "soft"),
        html.tiles(_figures(document)),
        _answers(document, palette),
        _placement(document, palette),
        _timeline(document, palette),
        _throughput(document, palette),
        _quota(document, palette),
        _method(document),
    )


def _functions(document: Document) -> list[str]:
    throughput = document["throughput"]
    return sorted({*throughput["time_sharing_rps"], *throughput["fast_rps"], *document["answers"]})


def _summary(document: Document) -> str:
    device = document.get("device")
    where = f"device {device['id']} ({device['sm_count']} {_unit(device)})" if device else "one device"
    return (
        f"{len(_functions(document))} functions with real models on {where}: each on its own share in space and time, "
        "measured beside the same functions sharing in time alone."
    )


def _unit(device: Document) -> str:
    return "cores" if device.get("kind", device["id"]) == "cpu" else "SMs"


def _figures(document: Document) -> list[tuple[str, str]]:
    throughput, quota = document["throughput"], document["quota"]
    rounds = f", medians over {throughput['rounds']} rounds" if "rounds" in throughput else ""
    period = f" over {quota['seconds']:.3g} s" if "seconds" in quota else ""
    return [
        (f"{throughput['ratio']:.2f}×", f"throughput on shares over time sharing (geometric mean{rounds})"),
        (_points(quota["max_error_pp"]), f"largest quota error{period}: missing from a request, or beyond a limit"),
        (str(len(document["answers"])), "functions answered a real input"),
    ]


def _answers(document: Document, palette: Mapping[str, str]) -> str:
    rows = [
        (html.dotted(name, palette[name]), _cut(a["input"]), _answer(str(a["answer"])), f"{a['latency_ms']:.1f} ms")
        for name, a in document["answers"].items()
    ]
    table = html.table(("function", "input", "answer", "latency"), rows, frozenset({3}))
    return html.heading("What they answered") + table


def _answer(answer: str) -> str | html.Raw:
    """An answer as people read it: the fields of a JSON object line by line, anything else as it is."""
    try:
        fields = json.loads(answer)
    except ValueError:
        return _cut(answer)
    if not isinstance(fields, dict):
        return _cut(answer)
    return html.named({name: _cut(_plain(value), 160) for name, value in fields.items()})


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        numbers = all(isinstance(inner, (int, float)) for inner in value)
        return (" " if numbers else "; ").join(map(_plain, value))
    return value if isinstance(value, str) else json.dumps(value)


def _cut(words: str, most: int = 400) -> str:
    return words if len(words) <= most else words[:most] + " …"


def _placements(document: Document) -> list[Placement]:
    device = document.get("device") or {"id": "cpu"}
    return [
        Placement(p["instance_id"], device["id"], Rect(p["sm_offset"], p["quota_offset"], p["sm"], p["quota"]))
        for p in document.get("placements", ())
    ]


def _placement(document: Document, palette: Mapping[str, str]) -> str:
    placements, record = _placements(document), document.get("device")
    if not placements or not record:
        return ""
    kind = DeviceKind.CPU if _unit(record) == "cores" else DeviceKind.ABSTRACT
    device = Device(record["id"], kind, record["sm_count"], sm_ids=tuple(record.get("sm_ids", ())))
    labels = labels_of((p.instance_id for p in placements), palette)
    window_s = document.get("timeline", {}).get("window_s", 0.0)
    picture = device_picture(device, placements, labels, window_s=window_s, palette=palette)
    caption = (
        "Each rectangle is an instance's share: upwards the cores it may use, to the right the part of every "
        "window in which it is entitled to them. Rectangles never overlap; what lies free is lent to whoever has work."
    )
    return html.heading("Where the shares lie") + html.figure(picture, caption)


def _timeline(document: Document, palette: Mapping[str, str]) -> str:
    timeline = document.get("timeline")
    if not timeline or not timeline["rows"]:
        return ""
    rows = [(row["instance"], [(h[0], h[1], h[2]) for h in row["holds"]]) for row in timeline["rows"]]
    labels = labels_of((name for name, _ in rows), palette)
    slots = {p.instance_id: p.rect for p in _placements(document)}
    picture = timeline_picture(rows, timeline["window_s"], slots=slots, labels=labels, palette=palette)
    caption = "As measured while all functions were saturated."
    return html.heading("Who held the device when") + html.figure(picture, caption)


def _throughput(document: Document, palette: Mapping[str, str]) -> str:
    throughput = document["throughput"]
    slow, fast = throughput["time_sharing_rps"], throughput["fast_rps"]
    both = {name: (slow[name], fast[name]) for name in _functions(document) if name in slow and name in fast}
    baseline = throughput.get("baseline", {})
    rows = [
        (html.dotted(n, palette[n]), rate(a), rate(b), f"{b / a:.2f}×" if a > 0 else "–", _settings(baseline.get(n)))
        for n, (a, b) in both.items()
    ]
    columns = ("function", "time sharing", "on shares", "ratio", "baseline ran with")
    caption = (
        f"Geometric mean {throughput['ratio']:.2f}×. Same models, batch sizes, load and token mechanism on both sides. "
        "Under time sharing each instance gets the whole device in turn, with its own best settings."
    )
    picture = throughput_bars(both, palette=palette)
    table = html.table(columns, rows, frozenset({1, 2, 3}))
    return html.heading("What sharing in space and time brings") + html.figure(picture, caption) + table


def _settings(baseline: Document | None) -> str:
    if baseline is None:
        return "–"
    threads = baseline["threads"]
    return f"{threads} thread{'' if threads == 1 else 's'}, spinning {'on' if baseline['spin'] else 'off'}"


def _quota(document: Document, palette: Mapping[str, str]) -> str:
    instances = document["quota"].get("instances", ())
    if not instances:
        return ""
    labels = labels_of((i["id"] for i in instances), palette)
    bars = [(i["id"], i["request"], i["received"]) for i in instances]
    idle = [i["id"] for i in instances if not i["backlogged"]]
    note = f" Not counted, for they had no work at times: {', '.join(idle)}." if idle else ""
    caption = (
        "Time held, from the ledger. It may lie above the request up to the instance's limit, by what others leave "
        "idle; the error is what is missing from the request, or beyond the limit." + note
    )
    rows = [
        (
            html.dotted(i["id"], palette.get(labels[i["id"]], "#8a94a3")),
            f"{i['request'] * 100:.1f} %",
            f"{i.get('limit', i['request']) * 100:.1f} %",
            f"{i['received'] * 100:.2f} %",
            _points(i["error_pp"]),
        )
        for i in instances
    ]
    columns = ("instance", "requested", "limit", "received", "error")
    table = html.table(columns, rows, frozenset({1, 2, 3, 4}))
    picture = quota_bars(bars, labels=labels, palette=palette)
    return html.heading("What each was promised, and received") + html.figure(picture, caption) + table


def _points(points: float) -> str:
    return "–" if math.isnan(points) else f"{points:.2f} pp"


def _method(document: Document) -> str:
    parts = [document[name] for name in ("machine", "versions") if document.get(name)]
    return html.heading("Measured on") + html.facts(*parts) if parts else ""
