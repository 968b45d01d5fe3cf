"""Surfaces: requests a second over (SMs, quota, batch), from a few measured points. Pure, NumPy alone.

In logarithms, rps = physics + rest. Physics: a request takes h of the device whatever its SMs, and d / SMs that more
SMs shorten, joined by a p-norm (p 1: one after the other; p large: whichever is longer); a quota gives its part of the
time, and a little more, for what the host does between tokens is not charged (b); requests that are worked on as one
cost each of them less (g). The rest is a Gaussian process with an exponential kernel, which takes what physics leaves:
bursts that end at the edges of slots make steps, so nothing smoother would do. The parameters of physics are uncertain
too: linearised around their best values, they are part of the process's covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_PRIOR: Final = np.array([0.0, 2.7, -3.5, 0.7, -1.2])
"""log of: whole-device time of a request over that of the fastest seen; d / h in percent; b; p; g."""

_PRIOR_SD: Final = np.array([1.0, 1.2, 1.2, 0.6, 0.8])
_ROUGH: Final = 0.03
"""How far points lie from physics, as a fraction, while its parameters are sought."""

_SIZES: Final = (0.015, 0.03, 0.06, 0.12)
_REACHES: Final = (0.5, 2.0)
"""Standard deviations of the rest, and over which factors of SMs and quota (in logarithms) it changes."""

_LEAST_ERROR: Final = 0.003
"""No measurement is more exact than this, as a fraction."""


@dataclass(frozen=True, slots=True)
class Surface:
    """log rps and its standard deviation on a lattice of log SMs x log quota x log batch; monotone along all axes."""

    axes: tuple[Array, Array, Array]
    mean: Array
    sd: Array

    def at(self, sm: float, quota: float, batch: float) -> tuple[float, float]:
        """log rps and its standard deviation: linear between the lattice's points; below it, in proportion."""
        wanted = np.log([sm, quota, batch])
        inside = np.array([np.clip(x, axis[0], axis[-1]) for x, axis in zip(wanted, self.axes, strict=True)])
        beyond = wanted - inside
        mean, sd = (_interpolated(self.axes, values, inside) for values in (self.mean, self.sd))
        return mean + float(beyond[:2].clip(max=0).sum()), sd + float(np.abs(beyond).sum())


def surface(points: Array, log_rps: Array, errors: Array) -> Surface:
    """Fit n points (n x 3: SMs in percent, quota, batch) with their rps and relative standard errors (n)."""
    x = np.log(points)
    noise = np.maximum(errors, _LEAST_ERROR) ** 2
    level = float(np.max(log_rps - x[:, 1]))
    y = log_rps - level
    best = _most_likely(x, y, np.sqrt(noise + _ROUGH**2))
    axes = _axes(x)
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    mean, variance = _posterior(x, y, noise, lattice, best)
    shape = tuple(len(axis) for axis in axes)
    return Surface(axes, _monotone((mean + level).reshape(shape)), np.sqrt(variance).reshape(shape))


def _axes(x: Array) -> tuple[Array, Array, Array]:
    """The paper's steps, finer ones between and below, and all that was measured."""
    sms = np.log([1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 24, 30, 36, 42, 50, 60, 70, 80, 90, 100])
    quotas = np.log(np.arange(1, 21) / 20)
    batches = np.log(2.0 ** np.arange(11)) if np.ptp(x[:, 2]) > 0 or x[0, 2] > 0 else np.zeros(1)
    return tuple(_union(a, x[:, i]) for i, a in enumerate((sms, quotas, batches)))  # type: ignore[return-value]


def _union(axis: Array, seen: Array) -> Array:
    values = np.union1d(axis, seen)
    return np.asarray(values[np.append(True, np.diff(values) > 1e-9)], dtype=np.float64)


def _physics(theta: Array, x: Array) -> Array:
    """log rps of points (n x 3, in logarithms)."""
    log_h, log_d, log_b, log_p, log_g = theta
    p = np.exp(log_p)
    share = np.exp(-x[:, 1])
    spared = np.log1p(np.exp(log_b) * (share - 1))
    per_request = -np.exp(log_g) / (1 + np.exp(log_g)) * x[:, 2]
    time = log_h + np.logaddexp(0.0, p * (log_d - x[:, 0])) / p
    return np.asarray(x[:, 1] + spared - time - per_request, dtype=np.float64)


def _slopes(theta: Array, x: Array) -> Array:
    """Derivatives of physics by its parameters (n x 5)."""
    steps = 1e-4 * np.eye(len(theta))
    return np.stack([(_physics(theta + s, x) - _physics(theta - s, x)) / 2e-4 for s in steps], axis=1)


def _most_likely(x: Array, y: Array, sd: Array) -> Array:
    """Parameters of physics that points and prior make most likely; by damped Gauss-Newton steps."""

    def cost(theta: Array) -> float:
        return float(np.sum(((y - _physics(theta, x)) / sd) ** 2) + np.sum(((theta - _PRIOR) / _PRIOR_SD) ** 2))

    theta, damping, now = _PRIOR.copy(), 1.0, cost(_PRIOR)
    for _ in range(60):
        slopes = _slopes(theta, x) / sd[:, None]
        curvature = slopes.T @ slopes + np.diag(_PRIOR_SD**-2.0)
        downhill = slopes.T @ ((y - _physics(theta, x)) / sd) + (_PRIOR - theta) / _PRIOR_SD**2
        there = theta + np.clip(np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), downhill), -1, 1)
        then = cost(there)
        damping = damping / 4 if then < now else damping * 4
        if then < now:
            theta, now = there, then
    return theta


def _posterior(x: Array, y: Array, noise: Array, lattice: Array, theta: Array) -> tuple[Array, Array]:
    """Mean and variance at the lattice's points, over all sizes and reaches, by how well they explain what was seen."""
    here, there = _slopes(theta, x) * _PRIOR_SD, _slopes(theta, lattice) * _PRIOR_SD
    shift = (_PRIOR - theta) / _PRIOR_SD
    rest = y - _physics(theta, x) - here @ shift
    prior = _physics(theta, lattice) + there @ shift
    found = []
    for size, reach_sm, reach_quota in product(_SIZES, _REACHES, _REACHES):
        reaches = np.array([reach_sm, reach_quota, 1.5])
        inner = here @ here.T + size**2 * _kernel(x, x, reaches) + np.diag(noise)
        cross = there @ here.T + size**2 * _kernel(lattice, x, reaches)
        lower = np.linalg.cholesky(inner)
        white = np.linalg.solve(lower, rest)
        spread = np.linalg.solve(lower, cross.T)
        evidence = -0.5 * white @ white - np.log(np.diag(lower)).sum()
        variance = np.sum(there**2, axis=1) + size**2 - np.sum(spread**2, axis=0)
        found.append((evidence, prior + spread.T @ white, np.maximum(variance, 1e-8)))
    evidences, means, variances = (np.array(values) for values in zip(*found, strict=True))
    weights = np.exp(evidences - evidences.max())
    weights /= weights.sum()
    mean = weights @ means
    return mean, weights @ (variances + (means - mean) ** 2)


def _kernel(a: Array, b: Array, reaches: Array) -> Array:
    apart = np.abs(a[:, None, :] - b[None, :, :]) / reaches
    return np.asarray(np.exp(-apart.sum(axis=2)), dtype=np.float64)


def _monotone(values: Array) -> Array:
    """The middle between the least monotone surface above and the greatest below: itself if it is monotone."""
    above, below = values, values
    for axis in range(values.ndim):
        above = np.maximum.accumulate(above, axis=axis)
        below = np.flip(np.minimum.accumulate(np.flip(below, axis), axis=axis), axis)
    return np.asarray((above + below) / 2, dtype=np.float64)


def _interpolated(axes: tuple[Array, Array, Array], values: Array, at: Array) -> float:
    for axis, x in zip(axes, at, strict=True):
        if len(axis) == 1:
            values = values[0]
            continue
        i = int(np.clip(np.searchsorted(axis, x) - 1, 0, len(axis) - 2))
        part = (x - axis[i]) / (axis[i + 1] - axis[i])
        values = values[i] * (1 - part) + values[i + 1] * part
    return float(values)
