"""The grid, and what devices make of it."""

from __future__ import annotations

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.profiles import Configuration
from fastgshare.profiler.grids import paper_grid, snapped


def test_the_paper_has_35_configurations_for_every_batch() -> None:
    assert len(set(paper_grid())) == 35
    assert len(set(paper_grid((1, 4)))) == 70
    assert Configuration(24, 0.6) in paper_grid()


def test_two_cores_can_give_a_half_and_all() -> None:
    points = snapped(Device("cpu", DeviceKind.CPU, 2), paper_grid())
    assert len(points) == len(set(points)) == 10
    assert {p.sm for p in points} == {50, 100}


def test_a_stand_in_gives_the_papers_percents_as_they_are() -> None:
    assert snapped(Device("standin", DeviceKind.STANDIN, 80), paper_grid()) == paper_grid()


def test_what_nothing_divides_is_given_whole() -> None:
    points = snapped(Device("gpu", DeviceKind.GPU, 132, steps=1), paper_grid())
    assert [(p.sm, p.quota) for p in points] == [(100, q) for q in (0.2, 0.4, 0.6, 0.8, 1)]


def test_of_two_steps_as_near_the_smaller_is_taken() -> None:
    assert snapped(Device("cpu", DeviceKind.CPU, 4), [Configuration(37.5, 1)]) == (Configuration(25, 1),)


def test_a_batch_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidValue, match="batch"):
        paper_grid((0,))
