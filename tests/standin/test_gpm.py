from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from tests.standin.programs import GIB, Neighbour, environment, run_python

from fastgshare.native import library

HOUR_NS = 3_600_000_000_000
BEGIN = """
import pynvml as nvml
nvml.nvmlInit()
gpu = nvml.nvmlDeviceGetHandleByIndex(0)
def refused(function, *arguments):
    try:
        function(*arguments)
    except nvml.NVMLError as error:
        return type(error).__name__.removeprefix("NVMLError_")
    return "answered"
"""
GPM = """
import time
one, other = nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()
def metrics(*numbers, version=nvml.NVML_GPM_METRICS_GET_VERSION):
    asked = nvml.c_nvmlGpmMetricsGet_t(version=version, numMetrics=len(numbers), sample1=one, sample2=other)
    for place, number in enumerate(numbers):
        asked.metrics[place].metricId = number
    nvml.nvmlGpmMetricsGet(asked)
    return [(each.nvmlReturn, each.value) for each in asked.metrics[: len(numbers)]]
"""


def ask(source: str, settings: str) -> list[str]:
    return run_python(BEGIN + textwrap.dedent(source), settings)


def fault(state: Path, *words: str) -> None:
    subprocess.run([str(library("standin/bin/standin-fault")), str(state), *words], check=True, timeout=20)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "device"


# --- performance monitors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sms_percent", "used"),
    [((100,), 100.0), ((25,), 25.0), ((25, 50), 75.0), ((), 0.0)],
)
def test_the_sms_in_use_are_those_that_kernels_occupy(state: Path, sms_percent: tuple[int, ...], used: float) -> None:
    neighbours = []
    for percent in sms_percent:
        other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        neighbours.append(other)
        Neighbour(state, pid=other.pid, sms_percent=percent).compute(HOUR_NS)
    lines = ask(
        GPM
        + textwrap.dedent("""
        print(nvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice)
        nvml.nvmlGpmSampleGet(gpu, one)
        time.sleep(0.05)
        nvml.nvmlGpmSampleGet(gpu, other)
        names = ("SM_UTIL", "SM_OCCUPANCY", "GRAPHICS_UTIL")
        for error, value in metrics(*(getattr(nvml, "NVML_GPM_METRIC_" + name) for name in names)):
            print(error, value)
        """),
        f"state={state}",
    )
    for other in neighbours:
        other.communicate(b"\n", timeout=20)
    supported, sm, occupancy, graphics = lines
    assert supported == "1"
    assert [float(word) for word in sm.split()] == pytest.approx([0, used], rel=1e-3)
    assert occupancy == sm  # an SM in use counts as full
    assert [float(word) for word in graphics.split()] == pytest.approx([0, 100.0 if used else 0.0], rel=1e-3)


def test_what_the_monitors_do_not_have_is_said_of_each_metric() -> None:
    lines = ask(
        GPM
        + textwrap.dedent("""
        nvml.nvmlGpmSampleGet(gpu, one)
        time.sleep(0.001)
        nvml.nvmlGpmSampleGet(gpu, other)
        print([error for error, _ in metrics(nvml.NVML_GPM_METRIC_DRAM_BW_UTIL, 1, 999)])
        print(refused(metrics), refused(lambda: metrics(1, version=7)))
        one, other = other, one  # the later one first
        print(refused(metrics, 1))
        one = None
        print(refused(metrics, 1), refused(nvml.nvmlGpmSampleGet, gpu, None), refused(nvml.nvmlGpmSampleFree, None))
        print(refused(nvml.nvmlGpmSampleFree, other))
        """),
        "",
    )
    assert lines == [
        "[3, 0, 3]",
        "InvalidArgument ArgumentVersionMismatch",
        "InvalidArgument",
        "InvalidArgument InvalidArgument InvalidArgument",
        "answered",
    ]


# --- events ----------------------------------------------------------------------------------------------------------

EVENTS = """
events = nvml.nvmlEventSetCreate()
print(nvml.nvmlDeviceGetSupportedEventTypes(gpu))
print(refused(nvml.nvmlDeviceRegisterEvents, gpu, nvml.nvmlEventTypeClock, events))
nvml.nvmlDeviceRegisterEvents(gpu, nvml.nvmlEventTypeXidCriticalError, events)
print("registered", flush=True)
"""


def waiting(state: Path, source: str) -> subprocess.Popen[str]:
    """A program that has registered for events when its third line has been read."""
    pipe = subprocess.PIPE
    program = subprocess.Popen(
        [sys.executable, "-c", BEGIN + EVENTS + textwrap.dedent(source)],
        env=environment(f"state={state}"),
        stdin=pipe,
        stdout=pipe,
        text=True,
    )
    assert program.stdout is not None
    assert [program.stdout.readline().strip() for _ in range(3)] == ["8", "NotSupported", "registered"]
    return program


def test_xids_that_are_logged_are_told_once_each_and_in_order(state: Path) -> None:
    Neighbour(state)
    fault(state, "xid=13")  # before anybody listens
    source = """
        for _ in range(2):
            event = nvml.nvmlEventSetWait_v2(events, 20_000)
            print(event.eventType, event.eventData, event.gpuInstanceId == 0xFFFFFFFF)
        print(refused(nvml.nvmlEventSetWait_v2, events, 1))
        print(refused(nvml.nvmlEventSetFree, events))
        """
    program = waiting(state, source)
    fault(state, "xid=31")
    fault(state, "xid=63")
    assert program.communicate(timeout=30)[0].splitlines() == ["8 31 True", "8 63 True", "Timeout", "answered"]


def test_a_set_without_events_waits_in_vain(state: Path) -> None:
    lines = ask(
        """
        events = nvml.nvmlEventSetCreate()
        nvml.nvmlDeviceRegisterEvents(gpu, 0, events)
        print(refused(nvml.nvmlEventSetWait_v2, events, 1), refused(nvml.nvmlEventSetWait_v2, None, 1))
        """,
        f"state={state}",
    )
    assert lines == ["Timeout InvalidArgument"]


def test_a_kernel_that_fails_is_told_to_who_only_listens(state: Path) -> None:
    neighbour = Neighbour(state)
    program = waiting(state, "print(nvml.nvmlEventSetWait_v2(events, 20_000).eventData)")
    neighbour.compute(1000, fault=700)
    assert program.communicate(timeout=30)[0] == "31\n"


# --- loss ------------------------------------------------------------------------------------------------------------


def test_a_device_that_is_lost_says_so_and_nothing_else(state: Path) -> None:
    Neighbour(state).take(GIB)
    source = """
        sample = nvml.nvmlGpmSampleAlloc()
        uuid = nvml.nvmlDeviceGetUUID(gpu)
        print("known", flush=True)
        input()
        print(nvml.nvmlEventSetWait_v2(events, 20_000).eventData)
        for function, *arguments in (
            (nvml.nvmlEventSetWait_v2, events, 20_000),
            (nvml.nvmlDeviceGetHandleByIndex, 0),
            (nvml.nvmlDeviceGetHandleByUUID, uuid),
            (nvml.nvmlDeviceGetName, gpu),
            (nvml.nvmlDeviceGetMemoryInfo, gpu),
            (nvml.nvmlDeviceGetUtilizationRates, gpu),
            (nvml.nvmlDeviceGetComputeRunningProcesses, gpu),
            (nvml.nvmlDeviceGetSupportedEventTypes, gpu),
            (nvml.nvmlGpmQueryDeviceSupport, gpu),
            (nvml.nvmlGpmSampleGet, gpu, sample),
        ):
            print(refused(function, *arguments))
        print(nvml.nvmlDeviceGetCount(), nvml.nvmlErrorString(nvml.NVML_ERROR_GPU_IS_LOST))
        """
    program = waiting(state, source)
    assert program.stdout is not None and program.stdout.readline() == "known\n"
    fault(state, "xid=79", "lose")
    first, *refusals, last = program.communicate("\n", timeout=30)[0].splitlines()
    assert (first, last) == ("79", "1 The stand-in's device is lost")
    assert refusals == ["GpuIsLost"] * 10


def test_counters_tell_of_xids_and_of_the_loss(state: Path) -> None:
    """The whole way: the stand-in's log, its NVML, the counters process, its lines."""
    from fastgshare.manager.counter_lines import decode

    Neighbour(state, pid=os.getpid(), sms_percent=50).compute(HOUR_NS)
    command = [sys.executable, "-m", "fastgshare.manager.counters", "--period-s", "0.1", "--device"]
    device = '{"id": "standin", "kind": "standin", "sm_count": 132}'
    env = environment(f"state={state}")
    with subprocess.Popen([*command, device], env=env, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        readings = [decode(program.stdout.readline()) for _ in range(2)]
        fault(state, "xid=63")
        while not readings[-1].xids:
            readings.append(decode(program.stdout.readline()))
        fault(state, "xid=79", "lose")
        while not readings[-1].lost:
            readings.append(decode(program.stdout.readline()))
        program.kill()
    calm = readings[1]
    assert (calm.utilisation, calm.mem_used_bytes) == (1.0, 0)
    assert calm.sm_utilisation == calm.sm_occupancy == pytest.approx(0.5, rel=1e-3)
    assert (calm.graphics_utilisation, calm.memory_utilisation) == (pytest.approx(1.0), None)
    assert [number for each in readings for _, number in each.xids] == [63, 79]
    assert readings[-1].at_s <= time.monotonic()
    assert (readings[-1].sm_utilisation, readings[-1].problem) == (None, "the device is lost")
