"""Figures: what is made of what workers say."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fastgshare.conformance.suite import TOPICS
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.gpucheck import conformity, costs, interference, throughput
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.costs import Pairs
from fastgshare.gpucheck.crews import places
from fastgshare.gpucheck.findings import Findings, Table
from fastgshare.gpucheck.names import LAUNCHES, MPS_ALONE, SHARES, TIME_SHARING
from fastgshare.scheduler.packing import Demand, pack

GPU = Device("GPU-1", DeviceKind.GPU, 132, 2**30, type="NVIDIA H100")
STANDIN = Device("standin", DeviceKind.STANDIN, 132, 2**30)


def _bench(device: Device, directory: Path) -> Bench:
    return Bench(device, directory, {}, lambda text: None)


def _rows(*rows: tuple[str, str, int, float | None]) -> Table:
    found = Table("rows", {})
    for mode, model, count, rps in rows:
        found.rows.append({"mode": mode, "model": model, "batch": 1, "instances": count, "rps": rps})
    return found


# --- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", throughput.COUNTS)
@pytest.mark.parametrize("mode", [TIME_SHARING, SHARES])
def test_places_of_instances_with_tokens_do_not_overlap_and_the_packer_finds_them_too(mode: object, count: int) -> None:
    at = places(mode, count)  # type: ignore[arg-type]

    assert not any(a[1].overlaps(b[1]) for i, a in enumerate(at) for b in at[:i])
    demands = [Demand.new(str(i), share) for i, (share, _) in enumerate(at)]
    assert pack(GPU, demands, window_s=0.04)


def test_with_mps_alone_everybody_has_everything() -> None:
    assert {(share.sm_partition, share.quota_request) for share, _ in places(MPS_ALONE, 4)} == {(100, 1.0)}


# --- throughput ------------------------------------------------------------------------------------------------------


def _line(rps: float, p50: float, p99: float) -> Mapping[str, object]:
    return {"status": "ran", "rps": rps, "requests": 3, "p50_ms": p50, "p99_ms": p99, "unanswered": 0}


def _arrivals(*latencies_ms: float) -> Mapping[str, object]:
    return {"status": "ran", "requests": len(latencies_ms), "unanswered": 0, "latencies_ms": list(latencies_ms)}


def test_instances_add_up_and_the_worst_tail_is_told() -> None:
    found = throughput.in_sum([_line(10, 1, 5), _line(20, 3, 4), _line(30, 2, 9)])

    assert (found["rps"], found["p50_ms"], found["p99_ms"]) == (60, 2, 9)
    each = found["each"]
    assert isinstance(each, Sequence) and len(each) == 3


def test_a_sum_without_one_of_them_is_none() -> None:
    found = throughput.in_sum([_line(10, 1, 5), {"status": "failed", "why": "out of memory"}])

    assert found == {"rps": None, "why": "1 of 2 failed: out of memory"}


def test_each_way_of_sharing_has_its_own_best_number_of_instances() -> None:
    rows = _rows(("shares", "bert", 8, 30.0), ("shares", "bert", 4, 40.0), ("shares", "bert", 2, None))

    assert throughput.best(rows, SHARES, "bert", 1) == (40.0, 4)
    assert throughput.best(rows, SHARES, "vit", 1) is None


@pytest.mark.parametrize(("fast", "met"), [(32.0, True), (31.0, False)])
def test_the_aim_is_the_mean_over_all_models(tmp_path: Path, fast: float, met: bool) -> None:
    bench, findings = _bench(GPU, tmp_path), Findings()
    rows = _rows(
        *[(mode, model, 4, rps) for model in bench.models for mode, rps in (("time sharing", 10.0), ("shares", fast))]
    )

    throughput.summarise(bench, rows, summary := Table("best", {}), findings)

    assert [row["ratio"] for row in summary.rows if row["batch"] == 1] == [fast / 10] * 4
    assert findings.goals[0].met is met
    assert findings.bars["vit"] == (10.0, fast)


def test_the_aim_is_not_judged_with_a_model_missing_or_on_the_stand_in(tmp_path: Path) -> None:
    for device, models in ((GPU, ["bert"]), (STANDIN, ["resnet50", "bert", "rnnt", "gnmt"])):
        rows = _rows(
            *[(mode, model, 4, rps) for model in models for mode, rps in (("time sharing", 1.0), ("shares", 9.0))]
        )
        (directory := tmp_path / str(device.kind)).mkdir()
        findings = Findings()
        throughput.summarise(_bench(device, directory), rows, Table("best", {}), findings)
        assert (findings.goals[0].met, findings.goals[0].figure[:5]) == (None, "9.00x")


# --- the hook's cost -------------------------------------------------------------------------------------------------


def test_the_cost_is_that_of_the_medians_and_says_how_far_it_spreads() -> None:
    chance = random.Random(1)
    without = [100 + chance.uniform(-1, 1) for _ in range(99)]
    pairs = Pairs(without, [0.99 * rps for rps in reversed(without)])

    assert pairs.cost == pytest.approx(0.01)
    low, high = map(float, str(pairs.row("bert")["quartiles_percent"]).split(" to "))
    assert low < 1 < high


def test_launches_are_told_as_such_and_are_no_inference(tmp_path: Path) -> None:
    found = {LAUNCHES: Pairs([10.0], [5.0]), "bert": Pairs([1000.0], [998.0])}

    row, goal = found[LAUNCHES].row(LAUNCHES), costs.goal(_bench(GPU, tmp_path), found)

    assert (row["without"], row["unit"], row["cost_percent"]) == (2000.0, "launches/s", 50.0)
    assert (goal.figure, goal.met) == ("0.20%, worst 0.20% (bert)", True)


def test_without_a_turn_there_is_no_cost(tmp_path: Path) -> None:
    assert Pairs().row("bert")["why"] == "no turn was finished"
    assert costs.goal(_bench(GPU, tmp_path), {"bert": Pairs()}).met is None


# --- interference ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flooded", "met"), [(11.0, True), (11.2, False)])
def test_only_disjoint_sms_are_held_to_the_aim(tmp_path: Path, flooded: float, met: bool) -> None:
    table = Table("rows", {})
    alone, beside, much, flood = (_arrivals(10.0), _arrivals(flooded), _arrivals(99.0), _line(50, 1, 1))
    table.rows.append({"way": interference.DISJOINT.name} | interference.compared([alone], [beside], [flood]))
    table.rows.append({"way": "other"} | interference.compared([alone], [much], [flood]))

    assert interference.goal(_bench(GPU, tmp_path), table).met is met


def test_the_tail_is_that_of_all_turns_together() -> None:
    turns = [_arrivals(*[1.0] * 99), _arrivals(*[1.0] * 98, 5.0), _arrivals(*[2.0] * 102)]
    found = interference.compared(turns[:1], turns, [_line(10, 1, 1), _line(20, 1, 1)])

    assert (found["alone_p99_ms"], found["flooded_p50_ms"], found["flooded_p99_ms"]) == (1.0, 1.0, 2.0)
    assert (found["ratio"], found["requests"], found["flood_rps"]) == (2.0, 300, 15.0)


def test_a_flood_that_fails_leaves_no_ratio() -> None:
    found = interference.compared([_arrivals(1.0)], [_arrivals(1.0)], [{"status": "failed", "why": "gone"}])

    assert found == {"why": "gone"}


def test_the_two_of_every_way_that_are_apart_do_not_overlap() -> None:
    for way in interference.WAYS:
        assert way.at[0][1].overlaps(way.at[1][1]) is (way.mode is MPS_ALONE)


# --- conformance -----------------------------------------------------------------------------------------------------


def test_every_topic_is_tried_once() -> None:
    assert sorted(conformity.order()) == sorted(TOPICS)


def test_a_topic_that_was_not_finished_is_no_pass() -> None:
    table = Table("topics", {})
    table.rows.append({"topic": "a", "passed": 4, "failed": 0})
    assert conformity.goal(table).met is True
    table.rows.append({"topic": "b", "why": "not run"})
    assert conformity.goal(table).met is None
    assert conformity.goal(table).figure == "4 passed, 0 failed, 1 topics not finished"
