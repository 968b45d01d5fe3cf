from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fastgshare.cluster import watches as module
from fastgshare.cluster.attributions import Attributions
from fastgshare.cluster.watches import Watches, next_patience
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import DaemonUnavailable, NotFound
from fastgshare.domain.instances import InstanceState, InstanceStatus
from fastgshare.domain.ledger import LedgerEntry
from fastgshare.domain.readings import Part, Reading
from fastgshare.domain.rects import Placement, Rect
from fastgshare.manager.counter_lines import encode
from fastgshare.manager.counters import NOT_THERE

GPU = Device("GPU-1", DeviceKind.GPU, 132)
OTHER = Device("GPU-2", DeviceKind.GPU, 132)
PATIENCE_S = 20.0

News = list[tuple[str, Reading]]


def script(source: str) -> tuple[str, ...]:
    """A counters process that does what is written instead."""
    return (sys.executable, "-c", textwrap.dedent(source))


def says(*readings: Reading | str, then: str = "import time; time.sleep(3600)") -> tuple[str, ...]:
    lines = [each if isinstance(each, str) else encode(each) for each in readings]
    return script(f"print({chr(10).join(lines)!r}, flush=True)\n{then}")


def watch(command: Sequence[str], devices: Sequence[Device] = (GPU,), **options: object) -> Watches:
    return Watches(devices, env=os.environ, command=command, period_s=0.01, **options)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for comes from another process
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHORTEST_S", 0.01)


async def test_the_latest_reading_is_kept_and_garbage_is_counted() -> None:
    first, second = Reading(1.0, utilisation=0.5), Reading(2.0, power_w=70.0)
    async with watch(says(first, "what?", "{}", "x" * 100_000, second)) as watches:
        await until(lambda: watches.reading("GPU-1") == second)
        assert watches.ignored("GPU-1") == 3
        assert watches.readings() == {"GPU-1": second}
        assert watches.restarts("GPU-1") == 0
        with pytest.raises(NotFound, match="watched device 'GPU-9' does not exist"):
            watches.reading("GPU-9")


async def test_before_the_first_reading_there_are_no_figures() -> None:
    async with watch(script("import time; time.sleep(3600)")) as watches:
        reading = watches.reading("GPU-1")
        assert reading == replace(Reading(reading.at_s), problem="it was not read yet")


async def test_the_listener_is_told_of_xids_and_once_of_the_loss() -> None:
    news: News = []
    readings = [
        Reading(1.0),
        Reading(2.0, xids=((1.5, 31),)),
        Reading(3.0),
        Reading(4.0, lost=True),
        Reading(5.0, lost=True),
        Reading(6.0, xids=((5.5, 31), (5.6, 79)), lost=True),
    ]
    async with watch(says(*readings), listener=lambda id, reading: news.append((id, reading))) as watches:
        await until(lambda: watches.reading("GPU-1").at_s == 6.0)
        assert news == [("GPU-1", readings[place]) for place in (1, 3, 5)]
        assert watches.xid_counts() == {"GPU-1": {31: 2, 79: 1}}


async def test_a_listener_that_fails_stops_nothing() -> None:
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context["exception"]))

    def listener(device_id: str, reading: Reading) -> None:
        raise ValueError(device_id)

    async with watch(says(Reading(1.0, lost=True), Reading(2.0, lost=True)), listener=listener) as watches:
        await until(lambda: watches.reading("GPU-1").at_s == 2.0)
    assert [str(error) for error in failed] == ["GPU-1"]


async def test_a_process_that_dies_is_started_again_and_a_loss_is_not_told_again() -> None:
    news: News = []
    dies = says(Reading(1.0, utilisation=0.5, lost=True), then="import os; os._exit(7)")
    async with watch(dies, listener=lambda id, reading: news.append((id, reading))) as watches:
        await until(lambda: watches.reading("GPU-1").problem == "its counters ended with exit status 7")
        between = watches.reading("GPU-1")
        assert (between.utilisation, between.lost) == (None, True)
        await until(lambda: watches.restarts("GPU-1") >= 2)
    assert len(news) == 1


async def test_one_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    hangs = script(
        f"""
        import os, time
        with open({str(tmp_path / "pids")!r}, "a") as file:
            print(os.getpid(), file=file)
        print({encode(Reading(1.0, power_w=1.0))!r}, flush=True)
        time.sleep(3600)
        """
    )
    async with watch(hangs, silent_s=0.1) as watches:
        await until(lambda: watches.restarts("GPU-1") >= 1)
        await until(lambda: len(pids(tmp_path)) >= 2)
        assert is_gone(pids(tmp_path)[0])
        await until(lambda: watches.reading("GPU-1").problem == "its counters said nothing for 0.2 s")
        assert watches.reading("GPU-1").power_w is None
    assert all(map(is_gone, pids(tmp_path)))


async def test_one_that_hangs_and_cannot_even_be_killed_means_that_the_device_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KILLED_S", 0.05)
    monkeypatch.setattr(module, "_END_S", 0.05)
    monkeypatch.setattr(module, "_kill", lambda process: None)  # as one that waits in the driver takes it
    news: dict[str, Reading] = {}
    hangs = script(
        f"""
        import os, time
        with open({str(tmp_path / "pids")!r}, "a") as file:
            print(os.getpid(), file=file)
        print({encode(Reading(1.0, power_w=1.0))!r}, flush=True)
        time.sleep(3600)
        """
    )
    cpu = Device("cpu", DeviceKind.CPU, 1, 1, (0,))
    try:
        async with watch(hangs, [GPU, cpu], silent_s=0.1, listener=news.__setitem__) as watches:
            await until(lambda: bool(news))
            await until(lambda: watches.reading("cpu").problem == "its counters said nothing for 0.2 s")
            lost = watches.reading("GPU-1")
            assert (lost.lost, lost.power_w) == (True, None)
            assert lost.problem == "its counters hang in a call, and do not end though they were killed"
            assert watches.restarts("GPU-1") == 0
            assert not watches.reading("cpu").lost
        assert list(news) == ["GPU-1"]
    finally:
        for pid in pids(tmp_path):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: all(map(is_gone, pids(tmp_path))))
        await asyncio.sleep(0.05)  # for the loop to hear of it


@pytest.mark.parametrize("was_read", [True, False])
async def test_a_device_that_was_read_and_is_not_found_any_more_is_lost(tmp_path: Path, was_read: bool) -> None:
    news: News = []
    if was_read:
        (tmp_path / "there").touch()
    reads_once = script(
        f"""
        import os, sys
        try:
            os.remove({str(tmp_path / "there")!r})
        except FileNotFoundError:
            print("error: there is no such GPU", flush=True)
            sys.exit({NOT_THERE})
        print({encode(Reading(1.0, power_w=1.0))!r}, flush=True)
        """
    )
    async with watch(reads_once, listener=lambda id, reading: news.append((id, reading))) as watches:
        await until(lambda: "there is no such GPU" in watches.reading("GPU-1").problem)
        await until(lambda: watches.reading("GPU-1").lost == was_read)
        assert len(news) == was_read
        if was_read:
            assert watches.reading("GPU-1").problem == "it is not there any more: there is no such GPU"


async def test_why_a_device_cannot_be_read_is_its_problem() -> None:
    cannot = script("import sys; print('error: there is no NVML here', file=sys.stderr); sys.exit(3)")
    async with watch(cannot) as watches:
        await until(lambda: watches.reading("GPU-1").problem == "there is no NVML here")
        assert watches.restarts("GPU-1") == 0


async def test_a_program_that_is_not_there_is_said() -> None:
    async with watch(("/no/such/program",)) as watches:
        await until(lambda: "No such file or directory: '/no/such/program'" in watches.reading("GPU-1").problem)


def test_patience_grows_with_every_one_that_dies_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHORTEST_S", 0.5)
    waited, each = [], 0.0
    for _ in range(9):
        each = next_patience(each, 1.0, 1)
        waited.append(each)
    assert waited == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert next_patience(60.0, 11.0, -9) == 0.5
    assert next_patience(0.5, 1.0, 3) == 60.0


async def test_every_device_has_a_process_of_its_own_and_all_end(tmp_path: Path) -> None:
    counts = script(
        f"""
        import json, os, sys, time
        with open({str(tmp_path / "pids")!r}, "a") as file:
            print(os.getpid(), file=file)
        sms = json.loads(sys.argv[sys.argv.index("--device") + 1])["sm_count"]
        print('{{"at_s": %d, "xids": [], "lost": false}}' % sms, flush=True)
        time.sleep(3600)
        """
    )
    abstract = Device("abstract", DeviceKind.ABSTRACT, 100)
    async with watch(counts, [GPU, replace(OTHER, sm_count=7), abstract]) as watches:
        await until(lambda: [each.at_s for each in watches.readings().values()] == [132.0, 7.0])
        assert len(pids(tmp_path)) == 2
    assert all(map(is_gone, pids(tmp_path)))


async def test_the_stand_in_and_the_cpu_are_read(tmp_path: Path) -> None:
    standin = Device("standin", DeviceKind.STANDIN, 10, 1 << 30)
    cpu = Device("cpu", DeviceKind.CPU, 1, 1 << 20, (min(os.sched_getaffinity(0)),))
    states = {"standin": tmp_path / "device"}
    async with Watches([standin, cpu], env=os.environ, states=states, period_s=0.1) as watches:
        await until(lambda: all(reading.mem_total_bytes for reading in watches.readings().values()))
        assert watches.reading("standin").mem_used_bytes == 0
        assert watches.reading("cpu").mem_total_bytes == 1 << 20
    assert states["standin"].exists()


def pids(folder: Path) -> list[int]:
    path = folder / "pids"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# --- attributions ----------------------------------------------------------------------------------------------------


class Sums:
    """`domain.ports.Ledger` whose sums are set."""

    def __init__(self) -> None:
        self.received: dict[str, float] = {}
        self.fails = False

    async def totals(self) -> Sequence[LedgerEntry]:
        if self.fails:
            raise DaemonUnavailable("it does not answer")
        return [LedgerEntry(-1, 0.0, 99.0, id, 50.0, 0.0, s, 0.0, 0.0, 0.0) for id, s in self.received.items()]


def placed(places: Iterable[tuple[str, str]]) -> Callable[[], Sequence[InstanceStatus]]:
    rect = Rect(0, 0, 50, 0.5)
    found = [InstanceStatus(id, "f", InstanceState.READY, Placement(id, device_id, rect)) for id, device_id in places]
    return lambda: found


async def test_each_instances_part_is_that_of_its_own_device_since_the_last_reading() -> None:
    ledger = Sums()
    attributions = Attributions(ledger, placed([("a", "GPU-1"), ("b", "GPU-1"), ("c", "GPU-2")]))

    async def read(device_id: str, reading: Reading, **received: float) -> None:
        ledger.received = received
        attributions.note(device_id, reading)
        await attributions.settle()

    await read("GPU-1", Reading(1.0, sm_utilisation=0.8), a=7.0, b=1.0, c=1.0)
    assert attributions.parts() == {}
    await read("GPU-1", Reading(2.0, sm_utilisation=0.8), a=7.3, b=1.1, c=1.9)
    assert attributions.parts()["a"].sm_utilisation == pytest.approx(0.6)
    assert attributions.parts()["b"].sm_utilisation == pytest.approx(0.2)
    await read("GPU-1", Reading(2.5, sm_utilisation=0.8, xids=((2.5, 31),)), a=9.0, b=1.1, c=1.9)
    assert attributions.parts()["a"].sm_utilisation == pytest.approx(0.6)
    await read("GPU-2", Reading(2.6, sm_utilisation=0.5, sm_occupancy=0.25), a=9.0, b=1.1, c=2.0)
    await read("GPU-2", Reading(3.6, sm_utilisation=0.5, sm_occupancy=0.25), a=9.0, b=1.1, c=2.1)
    assert attributions.parts()["c"] == Part(0.5, 0.25)
    await read("GPU-1", Reading(4.0, problem="its counters ended"), a=9.0, b=1.1, c=2.1)
    assert attributions.parts()["a"] == Part(None, None)


async def test_without_the_ledger_there_are_no_parts() -> None:
    ledger = Sums()
    attributions = Attributions(ledger, placed([("a", "GPU-1")]))
    for fails, there in [(False, False), (False, True), (True, False), (False, False), (False, True)]:
        ledger.fails, ledger.received = fails, {"a": ledger.received.get("a", 0.0) + 1.0}
        attributions.note("GPU-1", Reading(1.0, sm_utilisation=0.5))
        await attributions.settle()
        assert bool(attributions.parts()) == there


async def test_watches_attribute_as_they_read() -> None:
    class Growing(Sums):
        async def totals(self) -> Sequence[LedgerEntry]:
            self.received["a"] = self.received.get("a", 0.0) + 1.0
            return await super().totals()

    repeats = script(
        f"""
        import time
        while True:
            print({encode(Reading(1.0, sm_utilisation=0.5))!r}, flush=True)
            time.sleep(0.01)
        """
    )
    async with watch(repeats, ledger=Growing(), observe=placed([("a", "GPU-1")])) as watches:
        await until(lambda: watches.parts() == {"a": Part(0.5, None)})
