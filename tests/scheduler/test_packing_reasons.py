"""What a packing says when it has no place, and what it certifies when it has."""

from __future__ import annotations

import pytest

from fastgshare.domain.errors import InvalidValue, NoPlacement
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share
from fastgshare.scheduler.packing import Demand, pack, pack_beside, pack_what_fits, why
from fastgshare.testing.strategies import ABSTRACT, cpu

CPU = cpu(2, mem_bytes=2**30)
UNPLACEABLE = [Demand("a", 50, 0.6, 0), Demand("b", 50, 0.3, 50), Demand("c", 50, 0.3, 50), Demand("d", 50, 0.7)]


def test_two_wide_ones_whose_quotas_exceed_the_window_are_named() -> None:
    with pytest.raises(NoPlacement, match=r"a 60% SM x 0\.6, b 60% SM x 0\.6 .*cannot run at the same time.* 1\.2 "):
        pack(ABSTRACT, [Demand("a", 60, 0.6), Demand("b", 60, 0.6), Demand("c", 10, 0.1)])


def test_long_ones_that_must_overlap_in_time_are_named_with_their_sms() -> None:
    demands = [Demand(name, 34, 0.6) for name in "abc"]
    with pytest.raises(NoPlacement, match=r"must run at the same time.*102%, above 100%"):
        pack(ABSTRACT, demands)


def test_too_large_an_area_is_given_in_percent() -> None:
    with pytest.raises(NoPlacement, match=r"need 102% of the SM x window area of device abstract"):
        pack(ABSTRACT, [Demand("a", 100, 0.6), Demand("b", 60, 0.6), Demand("c", 10, 0.6)])


def test_the_exact_search_says_that_it_proved_it() -> None:
    with pytest.raises(NoPlacement, match="the exact search proved it"):
        pack(cpu(2), UNPLACEABLE)


def test_a_search_that_gives_up_says_so() -> None:
    with pytest.raises(NoPlacement, match="gave up after 1 nodes"):
        pack(cpu(2), UNPLACEABLE, max_nodes=1)


def test_many_instances_are_refused_without_a_list_of_all_and_without_a_deep_search() -> None:
    demands = [Demand(f"i-{i}", 7, 0.13) for i in range(109)]
    with pytest.raises(NoPlacement, match=r"i-5, 103 more on device abstract; beyond 96 instances no proof"):
        pack(ABSTRACT, demands)


def test_shares_off_the_grid_name_the_two_nearest() -> None:
    with pytest.raises(InvalidValue, match="nearest: 50 and 100"):
        pack(CPU, [Demand("a", 60, 0.5)])


def test_an_instance_with_more_memory_than_the_device_is_refused() -> None:
    with pytest.raises(InvalidValue, match="mem_bytes"):
        pack(CPU, [Demand("a", 50, 0.5, mem_bytes=2**31)])


def test_memory_must_fit_together_with_what_is_taken() -> None:
    demands = [Demand("a", 50, 0.1, mem_bytes=2**29)]
    pack(CPU, demands, mem_taken_bytes=2**29)
    with pytest.raises(NoPlacement, match=f"{2**29 + 1} of them taken"):
        pack(CPU, demands, mem_taken_bytes=2**29 + 1)


def test_a_pin_outside_the_device_is_refused() -> None:
    with pytest.raises(NoPlacement, match="would leave device cpu"):
        pack(cpu(4), [Demand("a", 50, 0.5, sm_offset=75)])


def test_beside_running_ones_slots_move_but_sms_do_not() -> None:
    running = [
        Demand.running("a", Share(50, 0.5, 1.0), Rect(0, 0.3, 50, 0.5)),
        Demand.running("b", Share(50, 0.4, 1.0), Rect(50, 0.0, 50, 0.4)),
    ]
    packing = pack_beside(cpu(2), [Demand("wide", 100, 0.5)], running)
    assert packing.rect_of("a").sm_offset == 0
    assert packing.rect_of("b").sm_offset == 50
    assert packing.rect_of("a").quota_offset != 0.3


def test_it_says_if_a_restart_on_other_sms_would_help() -> None:
    running = [
        Demand.running("a", Share(50, 0.6, 1.0), Rect(0, 0.0, 50, 0.6)),
        Demand.running("b", Share(50, 0.3, 1.0), Rect(50, 0.0, 50, 0.3)),
        Demand.running("c", Share(50, 0.3, 1.0), Rect(50, 0.3, 50, 0.3)),
    ]
    with pytest.raises(NoPlacement, match="if all instances on device cpu were restarted, on other SMs"):
        pack_beside(cpu(2), [Demand("d", 50, 0.7), Demand("e", 50, 0.1)], running)
    with pytest.raises(NoPlacement) as refused:
        pack_beside(cpu(2), [Demand("d", 100, 0.7)], running)
    assert "restarted" not in str(refused.value)


def test_a_running_demand_must_say_where_it_runs() -> None:
    with pytest.raises(InvalidValue, match="preferred rect of a"):
        pack_beside(cpu(2), [], [Demand("a", 50, 0.5)])


def test_sixths_of_a_window_fill_it_exactly_and_are_found_again_beside_each_other() -> None:
    device = cpu(7)
    demands = [Demand(f"i-{i}", 100 / 7, 1 / 6) for i in range(42)]
    packing = pack(device, demands)
    running = [Demand.running(p.instance_id, Share(100 / 7, 1 / 6, 1), p.rect) for p in packing.placements[1:]]
    again = pack_beside(device, demands[:1], running)
    assert again.rect_of("i-0") == packing.rect_of("i-0")


def test_the_certificate_bounds_the_devices_by_area_and_by_time() -> None:
    packing = pack(ABSTRACT, [Demand("a", 60, 0.5, burst_s=0.02), Demand("b", 51, 0.4)], window_s=0.04)
    certificate = packing.certificate
    assert (certificate.bound_by_area, certificate.bound_by_time, certificate.gap) == (1, 1, 0)
    assert certificate.proven
    assert certificate.free_area == pytest.approx(1 - 0.3 - 0.204)
    assert certificate.window_s == 0.04
    assert certificate.tolerance("a", 1.0) == 0.02
    assert certificate.tolerance("b", 1.0) == 0.01


def test_a_forced_set_leaves_out_what_has_no_place() -> None:
    placements, unplaced = pack_what_fits(ABSTRACT, [Demand("a", 60, 0.6), Demand("b", 60, 0.6), Demand("c", 60, 0.3)])
    assert [p.instance_id for p in placements] == ["a", "c"]
    assert unplaced == ("b",)


def test_why_says_where_an_instance_is_would_be_or_what_is_free_instead() -> None:
    taken = [Placement("a", "abstract", Rect(0, 0, 60, 1))]
    assert "a is on abstract: SMs 0-60%" in why(ABSTRACT, Demand("a", 60, 1), taken)
    assert "b would fit on abstract: SMs 60-100%" in why(ABSTRACT, Demand("b", 40, 1), taken)
    assert "largest free rect is 40% SM x quota 1" in why(ABSTRACT, Demand("b", 50, 0.1), taken)
    assert "nearest" in why(cpu(2), Demand("b", 60, 0.1), [])
    assert "nothing is free" in why(ABSTRACT, Demand("b", 1, 0.1), [Placement("a", "abstract", Rect(0, 0, 100, 1))])
