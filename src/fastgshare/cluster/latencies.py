"""Latencies as HdrHistograms: every one to three digits, small enough to be kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fastgshare.cluster.loads import EXTRA
from fastgshare.domain.errors import InvalidValue

_LONGEST_US: Final = 3_600_000_000
_DIGITS: Final = 3


class Latencies:
    """A histogram in microseconds. Raises `InvalidValue` where its package is not installed."""

    def __init__(self, latencies_s: Iterable[float]) -> None:
        self._histogram = _histogram()
        for latency_s in latencies_s:
            self._histogram.record_value(min(_LONGEST_US, max(1, round(latency_s * 1e6))))

    def percentile_s(self, percent: float) -> float | None:
        """A percentile in seconds; None of nothing."""
        if not self._histogram.get_total_count():
            return None
        return float(self._histogram.get_value_at_percentile(percent)) / 1e6

    def encode(self) -> bytes:
        """HdrHistogram's compressed form (V2, base64), as all its implementations read it; in microseconds."""
        return bytes(self._histogram.encode())


def _histogram() -> Any:
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError as error:
        allowed = f"hdrhistogram, installed: pip install 'fastgshare[{EXTRA}]' ({error})"
        raise InvalidValue("histogram", "hdrh", allowed) from None
    return HdrHistogram(1, _LONGEST_US, _DIGITS)
