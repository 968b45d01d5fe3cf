"""How long requests take that come at random to an instance with a quota: M/D/1 behind the token's slots. Pure.

A request needs the device for `need = quota / capacity`. In every window the instance has one slot of `quota`; work
that is not done at its end goes on in the next. So a request that begins at a chance moment of a slot takes need plus
a gap of (1 - quota) x window for every slot's end that it meets; the mean is 1 / capacity. Requests that come while
another is worked on wait as in M/D/1 with the mean (Pollaczek-Khinchine, solved in Fourier space), for gaps come
evenly: a request that met one leaves the next ones more of the slot. Then they begin at a chance moment. One that finds
nobody waits for the slot first, if it is not in one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_CELLS: Final = 2048
_PHASES: Final = 200
_HORIZON: Final = 8.0


@dataclass(frozen=True, slots=True)
class Service:
    """An instance that answers at most `capacity_rps`, in slots of `quota` of every window. One request at a time."""

    capacity_rps: float
    quota: float
    window_s: float

    def quantile(self, offered_rps: float, fraction: float) -> float:
        """Seconds within which so many of its requests are answered, open loop; infinite at capacity and beyond.

        offered_rps 0: one request after the other, of which none waits for another.
        """
        in_turn = self._elapsed(self._phases() * self.quota)
        if offered_rps <= 0:
            return float(np.quantile(in_turn, fraction))
        load = offered_rps / self.capacity_rps
        if load >= 1:
            return float("inf")
        return _quantile(self._latencies(in_turn, load), fraction, self._cell_s(in_turn, load))

    def _phases(self) -> Array:
        """Moments of a window, in seconds since it began."""
        return (np.arange(_PHASES) + 0.5) / _PHASES * self.window_s

    def _elapsed(self, phase: Array) -> Array:
        """How long a request takes that begins at such a moment of a slot."""
        need, slot = self.quota / self.capacity_rps, self.quota * self.window_s
        ends = np.floor((phase + need) / slot) if self.quota < 1 else 0.0 * phase
        return np.asarray(need + ends * (self.window_s - slot), dtype=np.float64)

    def _alone(self) -> Array:
        """How long one takes that finds nobody, coming at any moment of a window."""
        phase = self._phases()
        waits = np.where(phase < self.quota * self.window_s, 0.0, self.window_s - phase)
        return waits + self._elapsed(np.where(waits > 0, 0.0, phase))

    def _cell_s(self, in_turn: Array, load: float) -> float:
        horizon_s = float(in_turn.max() + self.window_s) + _HORIZON * float(in_turn.mean()) / (1 - load)
        return horizon_s / _CELLS

    def _latencies(self, in_turn: Array, load: float) -> Array:
        """Probabilities of latencies, in cells."""
        cell_s = self._cell_s(in_turn, load)
        edges = cell_s * np.arange(_CELLS + 1)
        left = np.minimum(edges * self.capacity_rps, 1.0)  # of what is worked on, as one comes
        residual = np.fft.rfft(np.diff(left))
        waited = np.fft.irfft((1 - load) / (1 - load * residual), _CELLS)
        waited[0] -= 1 - load  # those that find nobody
        after = np.fft.irfft(np.fft.rfft(waited) * np.fft.rfft(_cells(in_turn, cell_s)), _CELLS)
        return np.asarray(after + (1 - load) * _cells(self._alone(), cell_s), dtype=np.float64)


def _cells(samples: Array, cell_s: float) -> Array:
    counts = np.bincount(np.minimum((samples / cell_s).astype(int), _CELLS - 1), minlength=_CELLS)
    return counts / len(samples)


def _quantile(probabilities: Array, fraction: float, cell_s: float) -> float:
    return float((np.searchsorted(np.cumsum(probabilities), fraction) + 1) * cell_s)
