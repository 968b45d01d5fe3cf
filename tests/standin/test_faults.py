"""The stand-in when something goes wrong: kernels that fail, whom that breaks, a device that is gone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.standin.programs import environment, on_driver

from fastgshare.native import library
from fastgshare.sim.standin import StandinDevice, Work

BOOM = """
BOOM = b'''
.version 8.0
.target sm_90
.address_size 64
//.standin full_ns=100000 fault=700
.visible .entry boom() { .reg .u64 a; mov.u64 a, 0; st.global.u32 [a], 1; ret; }
//.standin full_ns=100000
.visible .entry works() { ret; }
'''
def launch(f):
    return call("cuLaunchKernel", f, 1, 1, 1, 32, 1, 1, 0, None, None, None)
start()
image = module(BOOM)
boom, works = function(b"boom", image), function(b"works", image)
"""
FAULT = library("standin/bin/standin-fault")


@contextmanager
def beside(source: str, settings: str, more: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A program that says "there" when it has begun, and goes on when it is told."""
    words = [sys.executable, "-c", "from tests.standin.calls import *\n" + textwrap.dedent(source)]
    with subprocess.Popen(
        words, env=environment(settings, more), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            yield process
        finally:
            process.kill()


def the_rest(process: subprocess.Popen[str]) -> list[str]:
    """What it says once it is told to go on."""
    said, _ = process.communicate("go\n", timeout=30)
    return said.splitlines()


# --- the device ------------------------------------------------------------------------------------------------------


def test_a_fault_breaks_its_group_and_nobody_else() -> None:
    device = StandinDevice(132)
    culprit, friend, stranger = device.join(1, group=7), device.join(2, group=7), device.join(3, group=8)
    queues = {process: device.open_queue(process) for process in (culprit, friend, stranger)}
    device.submit(queues[friend], Work(10_000, 10), 1)
    device.submit(queues[stranger], Work(10_000, 10), 1)
    device.submit(queues[culprit], Work(1_000, 10, fault=700), 1)
    assert [device.fault_of(process, 900) for process in (culprit, friend, stranger)] == [0, 0, 0]
    assert [device.fault_of(process, 50_000) for process in (culprit, friend, stranger)] == [700, 719, 0]
    assert device.finished(queues[stranger], 50_000) == 1
    assert [(xid.xid, xid.pid) for xid in device.xids()] == [(31, 1)]


def test_a_process_without_a_group_is_alone_with_its_fault() -> None:
    device = StandinDevice(132)
    culprit, other = device.join(1, group=0), device.join(2, group=0)
    device.submit(device.open_queue(culprit), Work(1_000, 10, fault=716), 1)
    assert [device.fault_of(process, 50_000) for process in (culprit, other)] == [716, 0]


def test_a_process_that_comes_after_a_fault_is_whole() -> None:
    device = StandinDevice(132)
    culprit = device.join(1)
    device.submit(device.open_queue(culprit), Work(1_000, 10, fault=700), 1)
    assert device.fault_of(culprit, 5_000) == 700
    device.leave(culprit, 5_000)
    assert device.fault_of(device.join(2, now=6_000), 6_000) == 0


def test_looking_ahead_breaks_nobody() -> None:
    device = StandinDevice(132)
    process = device.join(1)
    queue = device.open_queue(process)
    device.submit(queue, Work(1_000, 10, fault=700), 1)
    device.submit(queue, Work(1_000, 10), 1)
    device.due(queue, 2, 2)
    assert device.fault_of(process, 500) == 0 and device.xids() == []
    assert device.finished(queue, 500) == 0


def test_a_lost_device_breaks_everybody_and_stays_lost() -> None:
    device = StandinDevice(132)
    process = device.join(1, group=1)
    device.submit(device.open_queue(process), Work(10**9, 10), 1)
    device.lose(10)
    assert device.is_lost and device.fault_of(process, 11) == 999
    assert device.fault_of(device.join(2, group=2), 12) == 999
    assert [xid.xid for xid in device.xids()] == [79]


def test_the_last_xids_are_remembered() -> None:
    device = StandinDevice(132)
    for number in range(1, 100):
        device.log_xid(number, number)
    assert [xid.xid for xid in device.xids()] == list(range(36, 100))
    assert [xid.xid for xid in device.xids(97)] == [98, 99]


# --- the driver ------------------------------------------------------------------------------------------------------


def test_a_fault_stays_with_the_context() -> None:
    assert on_driver(
        BOOM
        + """
print(launch(works), call("cuCtxSynchronize"), launch(boom))
print(call("cuCtxSynchronize"))
print(launch(works), call("cuMemAlloc_v2", byref(c_uint64()), c_size_t(16)), call("cuCtxSynchronize"))
print(call("cuEventCreate", byref(c_void_p()), 0), call("cuDeviceGetCount", byref(c_int())))
"""
    ) == [
        "SUCCESS SUCCESS SUCCESS",
        "ILLEGAL_ADDRESS",
        "ILLEGAL_ADDRESS ILLEGAL_ADDRESS ILLEGAL_ADDRESS",
        "ILLEGAL_ADDRESS SUCCESS",
    ]


def test_who_shares_an_assumed_server_is_broken_too_and_a_new_process_works(tmp_path: Path) -> None:
    state = f"state={tmp_path / 'device'}"
    waits = (
        BOOM
        + """
print("there", flush=True)
input()
print(launch(works), call("cuCtxSynchronize"))
"""
    )
    with beside(waits, state) as friend:
        assert on_driver(BOOM + 'launch(boom); print(call("cuCtxSynchronize"))', state) == ["ILLEGAL_ADDRESS"]
        assert the_rest(friend) == ["LAUNCH_FAILED LAUNCH_FAILED"]
    assert on_driver(BOOM + 'launch(works); print(call("cuCtxSynchronize"))', state) == ["SUCCESS"]


def test_without_mps_a_fault_is_nobody_elses(tmp_path: Path) -> None:
    state = f"state={tmp_path / 'device'},mps=real"
    nowhere = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "nowhere")}
    waits = BOOM + 'print("there", flush=True); input(); launch(works); print(call("cuCtxSynchronize"))'
    with beside(waits, state, nowhere) as other:
        assert on_driver(BOOM + 'launch(boom); print(call("cuCtxSynchronize"))', state, nowhere) == ["ILLEGAL_ADDRESS"]
        assert the_rest(other) == ["SUCCESS"]


def test_who_waits_on_a_device_that_is_lost_is_told_and_nobody_comes_any_more(tmp_path: Path) -> None:
    state = tmp_path / "device"
    endless = """
start()
f = function(b"spin")
must("cuLaunchKernel", f, 1, 1, 1, 32, 1, 1, 0, None, (c_void_p * 1)(addressof(c_uint64(10**15))), None)
print("there", flush=True)
print(call("cuCtxSynchronize"))
"""
    with beside("from ctypes import addressof\n" + textwrap.dedent(endless), f"state={state}") as waits:
        subprocess.run([FAULT, state, "xid=79", "lose"], check=True, timeout=10)
        assert the_rest(waits) == ["UNKNOWN"]
    assert on_driver('print(call("cuInit", 0))', f"state={state}") == ["NO_DEVICE"]


@pytest.mark.parametrize("words", [(), ("xid=0",), ("xid=many",), ("xid=79", "loose")])
def test_what_makes_it_fail_says_how_it_is_used(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run([FAULT, tmp_path / "none", *words], capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 2 and done.stderr.startswith("usage: standin-fault STATE_FILE xid=N [lose]")


def test_what_makes_it_fail_wants_a_device(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no device")
    for name in "none", "text":
        done = subprocess.run(
            [FAULT, tmp_path / name, "xid=79"], capture_output=True, text=True, check=False, timeout=10
        )
        assert done.returncode == 1 and "not the file of a stand-in device" in done.stderr
