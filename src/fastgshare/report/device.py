"""The picture of a device: rects of shares, window time to the right, SMs upwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.rects import Placement, Rect
from fastgshare.report import svg
from fastgshare.report.colours import colours, text_class

_LEFT, _RIGHT, _TOP, _BOTTOM = 74.0, 28.0, 14.0, 44.0


def device_picture(
    device: Device,
    placements: Sequence[Placement],
    labels: Mapping[str, str],
    *,
    window_s: float = 0.0,
    palette: Mapping[str, str] | None = None,
    size: tuple[float, float] = (860.0, 320.0),
) -> str:
    """An SVG of the placements on `device` (those on other devices are left out).

    labels: instance id -> function name, which gives the colour; an instance without one is its own function.
    window_s: the window's length; given, the time axis is in milliseconds, else in percent of the window.
    palette: function name -> colour; by default `colours` of all labels.
    """
    here = [p for p in placements if p.device_id == device.id]
    unit = "cores" if device.kind is DeviceKind.CPU else "SMs"
    title = f"Shares on device {device.id}: {len(here)} instances, {device.sm_count} {unit}"
    hues = palette or colours(labels.get(p.instance_id, p.instance_id) for p in here)
    return svg.picture(*size, panel(device, here, labels, window_s, hues, size), title=title)


def panel(
    device: Device,
    placements: Sequence[Placement],
    labels: Mapping[str, str],
    window_s: float,
    palette: Mapping[str, str],
    size: tuple[float, float],
) -> str:
    """What `device_picture` shows, as an element of a larger picture."""
    width, height = size[0] - _LEFT - _RIGHT, size[1] - _TOP - _BOTTOM
    body = [svg.box(0, 0, width, height, class_="free", hint="free: lent to whoever has work")]
    body += _grid(device, width, height, window_s)
    body += [_share(p, device, labels.get(p.instance_id, p.instance_id), palette, width, height) for p in placements]
    axis = f"time in the window of {window_s * 1000:g} ms" if window_s else "time in the window"
    body.append(svg.text(width / 2, height + 36, axis, "soft", "middle"))
    return svg.group(_LEFT, _TOP, *body)


def _grid(device: Device, width: float, height: float, window_s: float) -> list[str]:
    marks = []
    for tenth in range(0, 11, 2):
        x = width * tenth / 10
        label = f"{window_s * tenth * 100:g} ms" if window_s else f"{tenth * 10} %"
        marks += [svg.line(x, 0, x, height + 4), svg.text(x, height + 18, label, "soft small", "middle")]
    rows = device.sm_count if device.sm_count <= 16 else 10
    for row in range(rows):
        y = height * (1 - (row + 0.5) / rows) + 4
        marks.append(svg.line(-4, height * row / rows, width, height * row / rows))
        marks.append(svg.text(-8, y, _row_name(device, row, rows), "soft small", "end"))
    marks.append(svg.line(-4, height, width, height))
    return marks


def _row_name(device: Device, row: int, rows: int) -> str:
    if rows != device.sm_count:
        return f"{row * 100 // rows}-{(row + 1) * 100 // rows} %"
    number = device.sm_ids[row] if device.sm_ids else row
    return f"core {number}" if device.kind is DeviceKind.CPU else f"SM {number}"


def _share(
    placement: Placement, device: Device, label: str, hues: Mapping[str, str], width: float, height: float
) -> str:
    rect, fill, said = placement.rect, hues.get(label, "#8a94a3"), _said(placement.rect, device)
    x, w = rect.quota_offset * width, rect.quota * width
    y, h = (100 - rect.sm_end) / 100 * height, rect.sm / 100 * height
    shape = svg.box(x + 1, y + 1, w - 2, h - 2, fill=fill, hint=f"{placement.instance_id}: {said}", radius=4)
    name, detail = svg.fitted(label, w - 16), svg.first_that_fits((said, _briefly(rect, device)), w - 14, 11)
    colour = text_class(fill)
    words = [svg.text(x + 9, y + 20, name, f"strong {colour}")] if name and h >= 24 else []
    if detail and h >= 42:
        words.append(svg.text(x + 9, y + 36, detail, f"small {colour}"))
    return svg.tag("g", shape, *words)


def _said(rect: Rect, device: Device) -> str:
    cores = round(rect.sm / device.sm_step)
    space = f"{cores} of {device.sm_count} cores" if device.kind is DeviceKind.CPU else f"{rect.sm:g} % of SMs"
    return f"{space}, {rect.quota * 100:.3g} % of time"


def _briefly(rect: Rect, device: Device) -> str:
    cores = round(rect.sm / device.sm_step)
    space = f"{cores} core{'s' if cores > 1 else ''}" if device.kind is DeviceKind.CPU else f"{rect.sm:g} %"
    return f"{space} × {rect.quota * 100:.3g} %"
