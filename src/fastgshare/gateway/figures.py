"""Figures: what is counted of requests, cheap enough to be counted for each one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class Histogram:
    """Counts of values by upper bounds (inclusive), the last count is of those beyond all, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)


class FunctionFigures:
    """What is counted of one function. started: requests that came for it; the rest by how they ended.

    by_code: seconds from arrival to answer, by HTTP status. waits: seconds in the queue, service: seconds with an
    instance, per request. batches: their sizes. refused: by reason. slo_met, slo_missed: successes within and beyond
    the latency bound.
    """

    __slots__ = ("batches", "by_code", "refused", "service", "slo_met", "slo_missed", "started", "waits", "withdrawn")

    def __init__(self) -> None:
        self.started = 0
        self.by_code: dict[int, Histogram] = {}
        self.waits = Histogram()
        self.service = Histogram()
        self.batches = Histogram(SIZES)
        self.refused: dict[str, int] = {}
        self.withdrawn = 0
        self.slo_met = 0
        self.slo_missed = 0

    def finish(self, code: int, seconds: float) -> None:
        """Count an answer."""
        histogram = self.by_code.get(code)
        if histogram is None:
            histogram = self.by_code[code] = Histogram()
        histogram.observe(seconds)

    def refuse(self, reason: str) -> None:
        """Count a request that was not accepted."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    @property
    def invocations(self) -> int:
        """How many requests were answered, however."""
        return sum(histogram.count for histogram in self.by_code.values())


class Figures:
    """All that is counted. functions: by name. system: seconds of /system requests by code, method and path."""

    def __init__(self) -> None:
        self.functions: dict[str, FunctionFigures] = {}
        self.system: dict[tuple[int, str, str], Histogram] = {}

    def of(self, function_name: str) -> FunctionFigures:
        """The figures of a function, made at the first call."""
        figures = self.functions.get(function_name)
        if figures is None:
            figures = self.functions[function_name] = FunctionFigures()
        return figures

    def observe_system(self, code: int, method: str, path: str, seconds: float) -> None:
        """Count a request to the platform's own API; path: the route, not what stands in its place holders."""
        self.system.setdefault((code, method, path), Histogram()).observe(seconds)
