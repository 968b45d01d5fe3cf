"""Metrics: figures in Prometheus's words, OpenFaaS's names first, then our own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fastgshare.dispatch.outcomes import Snapshot
from fastgshare.domain.deployments import DeploymentStatus
from fastgshare.domain.instances import InstanceState
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.readings import Part, Reading
from fastgshare.gateway.figures import Figures, FunctionFigures, Histogram
from fastgshare.gateway.ports import Telemetry

_FUNCTION = ("function_name",)
_INSTANCE = ("function_name", "instance_id")
_DEVICE = ("device_id",)
_HERTZ_PER_MHZ = 1e6

_DEVICE_GAUGES: Sequence[tuple[str, str, Callable[[Reading], float | None]]] = (
    ("utilisation_ratio", "Part of the time in which a kernel ran", lambda r: r.utilisation),
    ("sm_utilisation_ratio", "Mean part of the SMs in use", lambda r: r.sm_utilisation),
    ("sm_occupancy_ratio", "Mean part of the warps that the SMs can hold", lambda r: r.sm_occupancy),
    ("graphics_utilisation_ratio", "Part of the time in which an engine ran", lambda r: r.graphics_utilisation),
    ("memory_utilisation_ratio", "Part of the memory's bandwidth in use", lambda r: r.memory_utilisation),
    ("memory_used_bytes", "Memory in use, of all processes", lambda r: r.mem_used_bytes),
    ("memory_total_bytes", "Memory that there is", lambda r: r.mem_total_bytes),
    ("power_watts", "Electrical power drawn", lambda r: r.power_w),
    ("temperature_celsius", "Temperature", lambda r: r.temperature_c),
    (
        "sm_clock_hertz",
        "Clock of the SMs",
        lambda r: None if r.sm_clock_mhz is None else r.sm_clock_mhz * _HERTZ_PER_MHZ,
    ),
    ("up", "Whether its counters could be read", lambda r: float(r.has_figures)),
    ("lost", "Whether it does not answer any more", lambda r: float(r.lost) if r.lost or r.has_figures else None),
)
_PART_GAUGES: Sequence[tuple[str, str, Callable[[Part], float | None]]] = (
    ("sm_utilisation_ratio", "Its part of the device's SM utilisation", lambda p: p.sm_utilisation),
    ("sm_occupancy_ratio", "Its part of the device's SM occupancy", lambda p: p.sm_occupancy),
)


class _Scrape(Collector):
    """All metrics at one moment."""

    def __init__(
        self,
        figures: Figures,
        snapshots: Mapping[str, Snapshot],
        deployments: Sequence[DeploymentStatus],
        ledger: Sequence[LedgerEntry] | None,
        telemetry: Telemetry | None,
    ) -> None:
        self._figures = figures
        self._snapshots = snapshots
        self._deployments = deployments
        self._ledger = ledger
        self._telemetry = telemetry

    def collect(self) -> Iterable[Metric]:
        yield from self._openfaas()
        yield from self._requests()
        yield from self._queues()
        yield from self._instances()
        yield from self._shares()
        yield from self._devices()

    def _openfaas(self) -> Iterable[Metric]:
        functions = self._figures.functions
        by_code = [((name, str(code)), h) for name, f in functions.items() for code, h in f.by_code.items()]
        labels = ("function_name", "code")
        yield _histogram("gateway_functions_seconds", "Seconds from arrival to answer", labels, by_code)
        answered = [(values, h.count) for values, h in by_code]
        yield _counter("gateway_function_invocation", "Requests answered", labels, answered)
        # OpenFaaS's name lacks the suffix that a counter must have here, so its type stays unknown.
        started = Metric("gateway_function_invocation_started", "Requests that came", "unknown")
        for name, f in functions.items():
            started.add_sample(started.name, {"function_name": name}, f.started)
        yield started
        replicas = [((d.deployment.function.name,), float(d.deployment.replicas)) for d in self._deployments]
        yield _gauge("gateway_service_count", "Instances wanted", _FUNCTION, replicas)
        system = [((str(code), method, path), h) for (code, method, path), h in self._figures.system.items()]
        names = ("code", "method", "path")
        yield _counter("provider_http_requests", "Requests to /system", names, [(v, h.count) for v, h in system])
        yield _histogram("provider_http_request_duration_seconds", "Seconds of requests to /system", names, system)

    def _requests(self) -> Iterable[Metric]:
        functions = self._figures.functions
        histograms: list[tuple[str, str, Callable[[FunctionFigures], Histogram]]] = [
            ("fastgshare_queue_wait_seconds", "Seconds that requests waited in the queue", lambda f: f.waits),
            ("fastgshare_service_seconds", "Seconds that requests were with an instance", lambda f: f.service),
            ("fastgshare_batch_size", "Requests in a batch", lambda f: f.batches),
        ]
        for name, text, pick in histograms:
            yield _histogram(name, text, _FUNCTION, [((n,), pick(f)) for n, f in functions.items()])
        refused = [((n, reason), c) for n, f in functions.items() for reason, c in f.refused.items()]
        yield _counter("fastgshare_refused", "Requests not accepted", (*_FUNCTION, "reason"), refused)
        withdrawn = [((n,), f.withdrawn) for n, f in functions.items()]
        yield _counter("fastgshare_withdrawn", "Requests whose callers went away", _FUNCTION, withdrawn)
        bound = [(n, f) for n, f in functions.items() if f.slo_met or f.slo_missed]
        slo = [((n, met), c) for n, f in bound for met, c in (("true", f.slo_met), ("false", f.slo_missed))]
        yield _counter("fastgshare_slo", "Answers by whether they met the latency bound", (*_FUNCTION, "met"), slo)

    def _queues(self) -> Iterable[Metric]:
        snapshots = self._snapshots
        gauges: list[tuple[str, str, Callable[[Snapshot], float | None]]] = [
            ("fastgshare_queue_length", "Requests in the queue", lambda s: s.waiting),
            ("fastgshare_in_flight", "Requests with an instance", lambda s: s.in_flight),
            ("fastgshare_completion_rate", "Requests completed per second of work", lambda s: s.completed_per_s),
        ]
        for name, text, pick in gauges:
            values = [((n,), value) for n, s in snapshots.items() if (value := pick(s)) is not None]
            yield _gauge(name, text, _FUNCTION, values)
        retried = [((n,), s.retried) for n, s in snapshots.items()]
        yield _counter("fastgshare_retried", "Requests sent again after their instance was lost", _FUNCTION, retried)
        batches = [((n, i), float(load.batches)) for n, s in snapshots.items() for i, load in s.instances.items()]
        yield _gauge("fastgshare_instance_batches", "Batches with an instance", _INSTANCE, batches)

    def _instances(self) -> Iterable[Metric]:
        states, places = [], []
        bursts = []
        for instance in (i for d in self._deployments for i in d.instances):
            key = (instance.function_name, instance.id)
            states += [((*key, str(state)), float(instance.state is state)) for state in InstanceState]
            rect = instance.placement.rect
            places += [((*key, "sm"), rect.sm), ((*key, "quota"), rect.quota)]
            bursts.append((key, instance.burst_s))
        yield _gauge("fastgshare_instance_state", "1 for the state an instance is in", (*_INSTANCE, "state"), states)
        yield _gauge(
            "fastgshare_instance_share",
            "Share of the device: sm in percent, quota as a fraction of the window",
            (*_INSTANCE, "dimension"),
            places,
        )
        yield _gauge("fastgshare_instance_burst_seconds", "Longest unit of device work", _INSTANCE, bursts)

    def _shares(self) -> Iterable[Metric]:
        yield _gauge(
            "fastgshare_ledger_up", "Whether the ledger could be read", (), [((), float(self._ledger is not None))]
        )
        functions = self._function_names()
        sums: list[tuple[str, str, Callable[[LedgerEntry], float]]] = [
            ("entitled", "Seconds that an instance was entitled to", lambda e: e.entitled_s),
            ("received", "Seconds that an instance held a token", lambda e: e.received_s),
            ("loan", "Seconds of those received that others lent", lambda e: e.loan_s),
            ("demand", "Seconds in which an instance had work", lambda e: e.demand_s),
            ("observed", "Seconds since an instance was admitted", lambda e: e.window_s),
            ("cpu", "Seconds of CPU time that an instance used", lambda e: e.cpu_s),
        ]
        for name, text, pick in sums:
            values = [((functions.get(e.instance_id, ""), e.instance_id), pick(e)) for e in self._ledger or ()]
            yield _counter(f"fastgshare_{name}_seconds", text, _INSTANCE, values)

    def _devices(self) -> Iterable[Metric]:
        """What devices say: only where there is a value."""
        said = self._telemetry
        readings, counts, parts = ({}, {}, {}) if said is None else (said.readings(), said.xid_counts(), said.parts())
        for name, text, pick in _DEVICE_GAUGES:
            values = [((id,), value) for id, reading in readings.items() if (value := pick(reading)) is not None]
            yield _gauge(f"fastgshare_device_{name}", text, _DEVICE, values)
        xids = [((id, str(xid)), n) for id, count in counts.items() for xid, n in count.items()]
        yield _counter("fastgshare_device_xids", "Errors that the driver logged, by XID", (*_DEVICE, "xid"), xids)
        functions = self._function_names()
        for name, text, of in _PART_GAUGES:
            own = [
                ((functions.get(id, ""), id), value) for id, part in parts.items() if (value := of(part)) is not None
            ]
            yield _gauge(f"fastgshare_instance_{name}", text, _INSTANCE, own)

    def _function_names(self) -> Mapping[str, str]:
        """The function of every instance."""
        return {i.id: i.function_name for d in self._deployments for i in d.instances}


def expose(
    figures: Figures,
    snapshots: Mapping[str, Snapshot],
    deployments: Sequence[DeploymentStatus],
    ledger: Sequence[LedgerEntry] | None,
    telemetry: Telemetry | None = None,
) -> bytes:
    """All metrics in Prometheus's text format.

    ledger: the sums per instance, None if it cannot be read. telemetry: what the devices say, None if nobody asks them.
    """
    registry = CollectorRegistry()
    registry.register(_Scrape(figures, snapshots, deployments, ledger, telemetry))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def _histogram(
    name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], Histogram]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in rows:
        buckets, below = [], 0
        for bound, count in zip([*histogram.bounds, float("inf")], histogram.counts, strict=True):
            below += count
            buckets.append((str(bound) if bound != float("inf") else "+Inf", float(below)))
        family.add_metric(values, buckets, histogram.total)
    return family


def _counter(
    name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], float]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _gauge(
    name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family
