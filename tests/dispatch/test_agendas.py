from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastgshare.dispatch.agendas import Agenda


def drain(agenda: Agenda) -> list[int]:
    order = []
    while (first := agenda.first()) is not None:
        order.append(first[1])
        agenda.discard(first[1])
    return order


@given(st.lists(st.integers(0, 5)), st.sets(st.integers(0, 30)))
def test_order_is_by_key_then_arrival_without_those_who_left(keys: list[int], leaving: set[int]) -> None:
    agenda = Agenda()
    for id, key in enumerate(keys):
        agenda.add(id, key)
    for id in leaving:
        agenda.discard(id)
    staying = [id for id in range(len(keys)) if id not in leaving]
    assert len(agenda) == len(staying)
    assert list(agenda) == staying
    assert drain(agenda) == sorted(staying, key=lambda id: keys[id])
    assert len(agenda) == 0


def test_an_id_may_come_again_with_another_key() -> None:
    agenda = Agenda()
    agenda.add(1, 5.0)
    agenda.add(2, 6.0)
    agenda.discard(1)
    agenda.add(1, 7.0)
    assert 1 in agenda
    assert agenda.first() == (6.0, 2)
    assert drain(agenda) == [2, 1]


def test_those_who_left_do_not_pile_up() -> None:
    agenda = Agenda()
    agenda.add(-1, -1.0)
    for id in range(10_000):
        agenda.add(id, float(id))
        agenda.discard(id)
    assert len(agenda._heap) < 200
    assert drain(agenda) == [-1]
