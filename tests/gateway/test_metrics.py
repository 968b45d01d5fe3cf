from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fastgshare.domain.errors import DaemonUnavailable
from fastgshare.domain.functions import Batching, Slo
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.readings import Part, Reading
from fastgshare.gateway.figures import SIZES, Histogram
from fastgshare.testing.gateway import RunningGateway, function, running_gateway

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(g: RunningGateway) -> Samples:
    answer = await g.ask("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.body.decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


async def test_openfaas_names_and_labels() -> None:
    async with running_gateway() as g:
        await g.platform.deploy(function())
        for _ in range(3):
            await g.ask("POST", "/function/f", data=b"x")
        await g.ask("POST", "/function/f", data=b"x", headers={"X-Timeout-Ms": "no"})
        await g.ask("POST", "/function/nobody", data=b"x")
        await g.ask("GET", "/system/functions")
        await g.ask("GET", "/system/function/f")
        for method in ("PROPFIND", "LOCK"):
            await g.ask(method, "/system/secrets")
        samples = await scrape(g)
    assert value(samples, "gateway_function_invocation_total", function_name="f", code="200") == 3
    assert value(samples, "gateway_function_invocation_total", function_name="f", code="400") == 1
    assert value(samples, "gateway_function_invocation_started", function_name="f") == 4
    assert value(samples, "gateway_functions_seconds_count", function_name="f", code="200") == 3
    assert value(samples, "gateway_functions_seconds_bucket", function_name="f", code="200", le="+Inf") == 3
    assert value(samples, "gateway_service_count", function_name="f") == 1
    route = {"code": "200", "method": "GET", "path": "/system/function/{name}"}
    assert value(samples, "provider_http_requests_total", **route) == 1
    assert value(samples, "provider_http_request_duration_seconds_count", **route) == 1
    others = {"code": "501", "method": "other", "path": "/system/secrets"}
    assert value(samples, "provider_http_requests_total", **others) == 2
    assert not any("nobody" in dict(labels).values() for _, labels in samples)


async def test_our_own_names() -> None:
    async with running_gateway(answer_s=0.2) as g:
        slo = Slo(latency_s=0.3)
        await g.platform.deploy(function(queue_size=3, batch=Batching(max_size=2, max_wait_s=0.1), slo=slo))
        asked = [g.ask("POST", "/function/f", data=b"x") for _ in range(7)]
        await g.arrived("f", 7)
        await g.ask("POST", "/function/f", data=b"x")
        during = await scrape(g)
        await g.clock.advance(5.0)
        await asyncio.gather(*asked)
        after = await scrape(g)
    assert value(during, "fastgshare_queue_length", function_name="f") == 3
    assert value(during, "fastgshare_in_flight", function_name="f") == 4
    assert value(during, "fastgshare_instance_batches", function_name="f", instance_id="f-1") == 2
    assert value(during, "fastgshare_refused_total", function_name="f", reason="queue_full") == 1
    assert value(after, "fastgshare_batch_size_count", function_name="f") == 4
    assert value(after, "fastgshare_batch_size_sum", function_name="f") == 7
    assert value(after, "fastgshare_queue_wait_seconds_count", function_name="f") == 7
    assert value(after, "fastgshare_service_seconds_count", function_name="f") == 7
    assert value(after, "fastgshare_service_seconds_sum", function_name="f") == pytest.approx(1.4)
    assert value(after, "fastgshare_retried_total", function_name="f") == 0
    assert value(after, "fastgshare_withdrawn_total", function_name="f") == 0
    assert value(after, "fastgshare_slo_total", function_name="f", met="true") == 4
    assert value(after, "fastgshare_slo_total", function_name="f", met="false") == 4
    assert value(after, "fastgshare_completion_rate", function_name="f") > 0
    ready = {"function_name": "f", "instance_id": "f-1"}
    assert value(after, "fastgshare_instance_state", **ready, state="ready") == 1
    assert value(after, "fastgshare_instance_state", **ready, state="draining") == 0
    assert value(after, "fastgshare_instance_share", **ready, dimension="sm") == 1
    assert value(after, "fastgshare_instance_burst_seconds", **ready) == 0.002
    assert value(after, "fastgshare_ledger_up") == 0


def entry(instance_id: str) -> LedgerEntry:
    return LedgerEntry(-1, 0.0, 10.0, instance_id, 50.0, 3.0, 3.5, 0.5, 9.0, 3.25)


async def test_the_ledger() -> None:
    async def totals() -> Sequence[LedgerEntry]:
        return [entry("f-1"), entry("ended-7")]

    async with running_gateway(ledger=totals) as g:
        await g.platform.deploy(function())
        samples = await scrape(g)
    expected = {"entitled": 3.0, "received": 3.5, "loan": 0.5, "demand": 9.0, "observed": 10.0, "cpu": 3.25}
    for name, seconds in expected.items():
        labels = {"function_name": "f", "instance_id": "f-1"}
        assert value(samples, f"fastgshare_{name}_seconds_total", **labels) == seconds
    assert value(samples, "fastgshare_received_seconds_total", function_name="", instance_id="ended-7") == 3.5
    assert value(samples, "fastgshare_ledger_up") == 1


async def test_without_the_daemon_the_other_figures_are_there() -> None:
    async def totals() -> Sequence[LedgerEntry]:
        raise DaemonUnavailable("it does not answer")

    async with running_gateway(ledger=totals) as g:
        await g.platform.deploy(function())
        samples = await scrape(g)
    assert value(samples, "fastgshare_ledger_up") == 0
    assert value(samples, "gateway_service_count", function_name="f") == 1


class Telemetry:
    """`gateway.ports.Telemetry` of a GPU that says all, one that was lost, a CPU, and one that cannot be read."""

    def readings(self) -> Mapping[str, Reading]:
        full = Reading(1.0, 0.5, 0.25, 0.125, 0.75, 0.0625, 3, 8, 70.5, 41, 1980)
        lost = Reading(1.0, lost=True, problem="the device is lost")
        return {"gpu": full, "gone": lost, "cpu": Reading(1.0, sm_utilisation=0.0), "dark": Reading(1.0, problem="no")}

    def xid_counts(self) -> Mapping[str, Mapping[int, int]]:
        return {"gpu": {31: 2, 63: 1}, "cpu": {}}

    def parts(self) -> Mapping[str, Part]:
        return {"f-1": Part(0.125, None), "ended-7": Part(0.0, 0.5)}


async def test_devices_say_what_they_have_and_nothing_else() -> None:
    async with running_gateway(telemetry=Telemetry()) as g:
        await g.platform.deploy(function())
        samples = await scrape(g)
    expected = {"utilisation_ratio": 0.5, "sm_utilisation_ratio": 0.25, "sm_occupancy_ratio": 0.125}
    expected |= {"graphics_utilisation_ratio": 0.75, "memory_utilisation_ratio": 0.0625, "memory_used_bytes": 3}
    expected |= {"memory_total_bytes": 8, "power_watts": 70.5, "temperature_celsius": 41, "sm_clock_hertz": 1.98e9}
    for name, each in expected.items():
        assert value(samples, f"fastgshare_device_{name}", device_id="gpu") == each
    said = {
        (name.removeprefix("fastgshare_device_"), dict(labels).get("device_id")): v
        for (name, labels), v in samples.items()
    }
    others = {key: v for key, v in said.items() if key[1] in ("gone", "cpu", "dark")}
    assert others == {
        ("sm_utilisation_ratio", "cpu"): 0.0,
        **{("up", "gone"): 0.0, ("up", "cpu"): 1.0, ("up", "dark"): 0.0},
        **{("lost", "gone"): 1.0, ("lost", "cpu"): 0.0},
    }
    assert value(samples, "fastgshare_device_xids_total", device_id="gpu", xid="31") == 2
    own = {"function_name": "f", "instance_id": "f-1"}
    assert value(samples, "fastgshare_instance_sm_utilisation_ratio", **own) == 0.125
    of_others = {"function_name": "", "instance_id": "ended-7"}
    assert value(samples, "fastgshare_instance_sm_occupancy_ratio", **of_others) == 0.5
    assert not any(
        name == "fastgshare_instance_sm_occupancy_ratio" and ("instance_id", "f-1") in labels
        for name, labels in samples
    )


async def test_without_telemetry_nothing_is_said_of_devices() -> None:
    async with running_gateway() as g:
        assert not any(name.startswith("fastgshare_device") for name, _ in await scrape(g))


@given(st.lists(st.floats(0, 2000)))
def test_a_histogram_counts_every_value_once_below_its_bound(values: list[float]) -> None:
    histogram = Histogram(SIZES)
    for one in values:
        histogram.observe(one)
    assert histogram.count == len(values)
    assert histogram.total == pytest.approx(sum(values))
    for index, bound in enumerate(SIZES):
        assert sum(histogram.counts[: index + 1]) == sum(one <= bound for one in values)
