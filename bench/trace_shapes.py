"""Draws the shipped kernel traces: ``python bench/trace_shapes.py docs/pictures/traces.svg``."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastgshare.report.shapes import Shape, shapes_picture
from fastgshare.sim.outlines import Span, outline
from fastgshare.sim.published import SMS
from fastgshare.sim.traces import Trace, load, names

ORDER = ("resnet50", "bert", "rnnt", "gnmt")


def shape_of(trace: Trace) -> Shape:
    """One request of a trace on the whole of the device that the traces are written for."""
    found = outline(trace, SMS)

    def part(span: Span, most: int) -> tuple[float, float, float]:
        return span.start_ns / 1e9, span.end_ns / 1e9, span.sms / most

    heading = f"{trace.title.partition(':')[0].partition(',')[0]}: {trace.launches} kernels"
    device = [part(span, SMS) for span in found.device]
    return Shape(heading, found.end_ns / 1e9, [part(span, 1) for span in found.host], device)


def picture() -> str:
    """All shipped traces, the well-known ones first."""
    known = [name for name in ORDER if name in names()]
    rest = [name for name in names() if name not in known]
    shapes = [shape_of(load(name)) for name in known + rest]
    return shapes_picture(shapes, title=f"Kernel traces of one request each, alone on a device of {SMS} SMs (modelled)")


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.parse_args().path.write_text(picture() + "\n")


if __name__ == "__main__":
    main()
