"""The shape of a trace: when host and device are at work in one request that has the whole device to itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from fastgshare.sim.traces import StepKind, Trace


@dataclass(frozen=True, slots=True)
class Span:
    """Work from start_ns to end_ns since the request began, on `sms` SMs (of the host: 1)."""

    start_ns: int
    end_ns: int
    sms: int = 1


@dataclass(frozen=True, slots=True)
class Outline:
    """What one request does. end_ns: when it is answered."""

    host: tuple[Span, ...]
    device: tuple[Span, ...]
    end_ns: int


def outline(trace: Trace, sms: int) -> Outline:
    """One request of a trace alone on a device of so many SMs, host times as written."""
    host: list[Span] = []
    device: list[Span] = []
    now_ns = free_ns = 0
    for step in trace.steps:
        if step.host_ns:
            host.append(Span(now_ns, now_ns + step.host_ns))
            now_ns += step.host_ns
        if step.kind is StepKind.LAUNCH:
            kernel = trace.kernels[step.kernel]
            start_ns = max(now_ns, free_ns)
            free_ns = start_ns + kernel.full_ns
            device.append(Span(start_ns, free_ns, min(sms, -(-kernel.blocks // kernel.blocks_per_sm))))
        elif step.kind is StepKind.SYNC:
            now_ns = max(now_ns, free_ns)
    return Outline(tuple(host), tuple(device), max(now_ns, free_ns))
