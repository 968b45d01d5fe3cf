"""A device of the stand-in that several processes share, some of which are killed."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastgshare.domain.errors import InvalidValue
from fastgshare.sim.standin import MARK, NEVER_NS, StandinDevice, Work

SMS = 80
KERNEL = Work(500, blocks=20, blocks_per_sm=2, bandwidth=300)


def _device(path: Path) -> StandinDevice:
    return StandinDevice(SMS, mem_bytes=2**30, path=path)


def _start(work: Callable[[], None]) -> int:
    """A child that does this work; its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def _code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "device"


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that does nothing until it is killed."""
    pid = _start(signal.pause)
    yield pid
    _kill(pid)


def _ready(said: Path) -> None:
    """Wait until a child has said so."""
    while not said.exists():
        time.sleep(0.001)


def test_all_who_map_the_file_see_one_device(path: Path) -> None:
    first, second = _device(path), StandinDevice(7, mem_bytes=5, path=path)
    assert second.sms == SMS
    process = first.join(1)
    queue = second.open_queue(process)
    assert second.submit(queue, KERNEL, 100) == 1
    assert first.ended(queue, 1, 600) == 600
    assert first.charge(process, 2**29)
    assert second.mem_free_bytes == 2**29


def test_its_file_holds_only_what_was_used(path: Path) -> None:
    device = _device(path)
    for queue in [device.open_queue(device.join(i)) for i in range(1, 10)]:
        for i in range(2000):
            device.submit(queue, KERNEL, 1000 * i)
    assert path.stat().st_size < 80 * 2**20
    assert path.stat().st_blocks * 512 < 2**20


def test_many_may_make_it_at_once(path: Path) -> None:
    def make() -> None:
        device = _device(path)
        process = device.join(os.getpid(), now=time.monotonic_ns())
        assert device.submit(device.open_queue(process), KERNEL, time.monotonic_ns()) == 1

    children = [_start(make) for _ in range(12)]
    assert [_code(pid) for pid in children] == [0] * 12
    assert sorted(u.pid for u in _device(path).processes(time.monotonic_ns())) == sorted(children)


def test_who_died_while_it_made_the_device_leaves_that_to_the_next(path: Path) -> None:
    dead = _start(lambda: None)
    os.waitpid(dead, 0)
    path.write_bytes(struct.pack("<Q", dead << 8 | 1))
    assert _device(path).sms == SMS


def test_a_file_that_holds_something_else_is_refused(path: Path) -> None:
    path.write_bytes(b"something else")
    with pytest.raises(InvalidValue, match="path"):
        _device(path)


def test_the_dead_are_taken_off_and_the_living_stay(path: Path, sleeper: int) -> None:
    device = _device(path)

    def visit() -> None:
        process = device.join(os.getpid(), now=1)
        device.submit(device.open_queue(process), Work(2**63, 80), 1)
        device.charge(process, 1000)
        signal.pause()

    pid = _start(visit)
    while len(device.processes(1)) < 1 or device.mem_free_bytes == 2**30:
        time.sleep(0.001)
    stays = [device.join(sleeper, now=1), device.join(os.getpid(), now=1)]
    queue = device.open_queue(stays[0])
    device.submit(queue, Work(1000, 80), 2)
    device.reap(1002)
    assert (len(device.processes(1002)), device.mem_free_bytes) == (3, 2**30 - 1000)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, but a zombie: nobody has asked for its exit code yet
    device.reap(1002)
    os.waitpid(pid, 0)
    assert [u.pid for u in device.processes(1002)] == [sleeper, os.getpid()]
    assert device.mem_free_bytes == 2**30
    assert device.ended(queue, 1, 10_000) == 1502  # half of it beside the one that died, half alone


def test_a_process_with_the_pid_of_a_dead_one_does_not_inherit(path: Path) -> None:
    """A pid cannot be had on demand: so the other way round, it is the dead one that is older than the living."""
    device = _device(path)
    device.join(os.getpid(), now=1)
    started = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    content, born = path.read_bytes(), struct.pack("<QQ", os.getpid(), started)
    at = content.index(born)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<QQ", os.getpid(), started - 1))
    device.reap(1)
    assert device.processes(1) == []


def _work(device: StandinDevice, pieces: int) -> None:
    """Submit pieces to two queues, the second after the first, and see them end one by one."""
    process = device.join(os.getpid(), sm_partition=24, now=time.monotonic_ns())
    queue, other = device.open_queue(process), device.open_queue(process)
    device.charge(process, 1000)
    for i in range(1, pieces + 1):
        assert device.submit(queue, KERNEL, time.monotonic_ns()) == i
        assert device.follow(other, queue, i, time.monotonic_ns())
        assert device.submit(other, MARK, time.monotonic_ns()) == i
        while device.finished(other, time.monotonic_ns()) < i:
            pass
        now = time.monotonic_ns()
        end, mark = device.ended(queue, i, now), device.ended(other, i, now)
        assert end is not None and mark is not None and end <= mark
    usage = device.usage(process, time.monotonic_ns())
    assert (usage.kernels, usage.mem_bytes) == (pieces, 1000)
    assert 500 * pieces <= usage.busy_ns <= usage.sm_ns <= 10 * usage.busy_ns + 10
    device.leave(process, time.monotonic_ns())


def _hurry(device: StandinDevice) -> None:
    """Be inside the device nearly all of the time, until killed."""
    process = device.join(os.getpid(), sm_partition=24, now=time.monotonic_ns())
    queues = [device.open_queue(process) for _ in range(3)]
    while True:
        now = time.monotonic_ns()
        for queue in queues:
            position = device.submit(queue, KERNEL, now)
            device.follow(queues[0], queue, position, now)
        device.due(queues[0], position, now)
        device.charge(process, 1000)
        device.charge(process, -1000)
        device.close_queue(queues.pop(0), now)
        queues.append(device.open_queue(process))


def test_nobody_is_held_up_or_loses_a_count_by_those_that_are_killed(path: Path) -> None:
    device, chance = _device(path), random.Random(5)
    workers = [_start(lambda: _work(device, 5000)) for _ in range(3)]
    for _ in range(60):
        victim = _start(lambda: _hurry(device))
        time.sleep(chance.uniform(0.001, 0.008))  # wherever it is by then
        _kill(victim)
        device.reap(time.monotonic_ns())
    assert [_code(pid) for pid in workers] == [0, 0, 0]
    now = time.monotonic_ns()
    assert device.processes(now) == []
    assert (device.mem_free_bytes, device.next_end(now)) == (2**30, NEVER_NS)
