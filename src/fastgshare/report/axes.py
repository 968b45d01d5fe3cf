"""Axes: scales, ticks and the frame that points are drawn in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fastgshare.report import svg

LEFT, RIGHT, TOP, BOTTOM = 64.0, 20.0, 40.0, 48.0
"""Room around a frame for its heading, its ticks and its labels."""

LEAST: Final = 1e-9
"""What is smaller is 0 to every picture here."""

_STEPS: Final = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to lengths: `low` at 0, `high` at `length`; in a logarithmic one both are above 0."""

    low: float
    high: float
    length: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where a value lies; those outside lie at the nearer end."""
        inside = min(max(value, self.low), self.high)
        if self.logarithmic:
            return self.length * math.log(inside / self.low) / math.log(self.high / self.low)
        return self.length * (inside - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values that lie on it, about `most` of them."""
        return _decades(self.low, self.high, most) if self.logarithmic else _even(self.low, self.high, most)


def from_zero(values: Iterable[float], length: float) -> Scale:
    """A scale from 0 to a little above the largest value."""
    largest = max([*values, 0.0])
    return Scale(0.0, 1.06 * largest if largest > LEAST else 1.0, length)


def spanning(values: Iterable[float], length: float) -> Scale:
    """A logarithmic scale around all values that are not as good as 0."""
    above = [value for value in values if value > LEAST] or [1.0]
    return Scale(min(above) / 1.25, max(above) * 1.25, length, logarithmic=True)


@dataclass(frozen=True, slots=True)
class Frame:
    """Two scales, x to the right and y upwards, with what stands around them."""

    x: Scale
    y: Scale

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies, from the frame's upper left corner."""
        return self.x.at(x), self.y.length - self.y.at(y)

    def drawn(self, heading: str, x_label: str, y_label: str, *body: str, x_ticks: Sequence[float] = ()) -> str:
        """The frame with its heading, labels and ticks, and what is in it; its corner is at (LEFT, TOP)."""
        width, height = self.x.length, self.y.length
        marks = [svg.text(-LEFT + 8, -26, heading, "strong"), svg.text(-LEFT + 8, -10, y_label, "soft small")]
        for value in self.y.ticks():
            y = height - self.y.at(value)
            marks += [svg.line(0, y, width, y), svg.text(-7, y + 4, shown(value), "soft small", "end")]
        for value in x_ticks or self.x.ticks():
            x = self.x.at(value)
            marks += [svg.line(x, height, x, height + 4, "axis")]
            marks.append(svg.text(x, height + 17, shown(value), "soft small", "middle"))
        marks.append(svg.line(0, height, width, height, "axis"))
        marks.append(svg.text(width / 2, height + 36, x_label, "soft small", "middle"))
        return svg.group(LEFT, TOP, *marks, *body)


def frame_size(width: float, height: float) -> tuple[float, float]:
    """Lengths of the two scales of a frame that takes this much room with what is around it."""
    return width - LEFT - RIGHT, height - TOP - BOTTOM


def shown(value: float) -> str:
    """A number with three digits, or whole."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _even(low: float, high: float, most: int) -> list[float]:
    least = (high - low) / most
    size = 10.0 ** math.floor(math.log10(least))
    step = next(size * step for step in _STEPS if size * step >= least * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float, most: int) -> list[float]:
    """1, 2 and 5 of every decade; where these are too many, every so many decades' 1 alone."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [step * 10.0**e for e in exponents for step in (1, 2, 5) if low <= step * 10.0**e <= high]
    if len(fine) <= most + 3:
        return fine
    stride = max(1, math.ceil(len(exponents) / most))
    return [10.0**e for e in exponents[::stride] if low <= 10.0**e <= high]
