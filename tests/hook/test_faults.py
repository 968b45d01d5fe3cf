"""Work on the device that fails for good: the hook tells the daemon, which ends who is to be ended, and nobody else."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fastgshare.conformance.ground import Ground, Probe, share
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.manager.conduct import FAULT

STANDIN = Device("standin", DeviceKind.STANDIN, 132, 16 << 30)
PROGRAM = """
import ctypes, json, sys
from ctypes import byref, c_void_p
input()
cuda = ctypes.CDLL("libcuda.so.1")
cuda.cuInit(0)
context, module, kernel = c_void_p(), c_void_p(), c_void_p()
cuda.cuDevicePrimaryCtxRetain(byref(context), 0)
cuda.cuCtxSetCurrent(context)
image = b'''.version 6.0
.target sm_60
.address_size 64
//.standin full_ns=100000 fault=700
.visible .entry fails() { .reg .u64 %at; mov.u64 %at, 0; st.global.u32 [%at], 1; ret; }
//.standin full_ns=100000
.visible .entry works() { ret; }
'''
assert cuda.cuModuleLoadData(byref(module), image) == 0
def run(name):
    cuda.cuModuleGetFunction(byref(kernel), module, name)
    launched = cuda.cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, None, None, None)
    print(json.dumps({"launched": launched, "ended": cuda.cuCtxSynchronize()}), flush=True)
run(b"works")
if sys.argv[1] == "fails":
    run(b"fails")
for line in sys.stdin:
    run(b"works")
"""


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with Ground(STANDIN, tmp_path, None) as ground:
        yield ground


async def begin(ground: Ground, name: str, word: str, *, fatal_faults: bool, sm_at: int = 0) -> Probe:
    place = share(1.0, sm=40, sm_at=sm_at)
    words = [sys.executable, "-I", "-S", "-c", PROGRAM, word]
    probe = await ground.start_alone(name, words, ground.environment(place, name))
    await ground.daemon.admit(name, probe.process.pid, *place, fatal_faults=fatal_faults)
    probe.say()
    assert (await probe.line()) == {"launched": 0, "ended": 0}
    return probe


async def fault_of(ground: Ground, name: str) -> int:
    seats = (await ground.daemon.status())["instances"]
    return int(seats[name]["fault"]) if name in seats else -1


async def test_who_is_to_be_ended_by_a_fault_is_ended_with_a_verdict(ground: Ground) -> None:
    probe = await begin(ground, "faulty", "fails", fatal_faults=True)
    assert await asyncio.wait_for(probe.process.wait(), 20) == -9
    assert await ground.daemon.verdict("faulty") == f"{FAULT} 700"


async def test_who_is_not_is_left_alone_and_the_fault_is_shown(ground: Ground) -> None:
    probe = await begin(ground, "faulty", "fails", fatal_faults=False)
    assert (await probe.line()) == {"launched": 0, "ended": 700}
    until = time.monotonic() + 20
    while await fault_of(ground, "faulty") != 700:
        assert time.monotonic() < until, "the fault was not told"
        await asyncio.sleep(0.01)
    probe.say()
    assert (await probe.line()) == {"launched": 700, "ended": 700}
    os.kill(probe.process.pid, 0)


async def test_a_fault_that_spreads_is_told_by_all_that_work(ground: Ground) -> None:
    friend = await begin(ground, "friend", "works", fatal_faults=True, sm_at=50)
    faulty = await begin(ground, "faulty", "fails", fatal_faults=True)
    await asyncio.wait_for(faulty.process.wait(), 20)
    friend.say()
    assert await asyncio.wait_for(friend.process.wait(), 20) == -9
    assert await ground.daemon.verdict("friend") == f"{FAULT} 719"
