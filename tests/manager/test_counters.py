from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import NotFound, WireError
from fastgshare.domain.readings import Reading
from fastgshare.manager import counters as program
from fastgshare.manager.counter_cpu import CpuCounters
from fastgshare.manager.counter_lines import decode, document, encode
from fastgshare.manager.counter_nvml import NvmlCounters
from fastgshare.manager.environments import beside

GPU = Device("GPU-1", DeviceKind.GPU, 132, 80 << 30)
STANDIN = Device("standin", DeviceKind.STANDIN, 10, 1 << 30)
CORES = Device("cpu", DeviceKind.CPU, 2, 0, (0, 3))

# --- lines -----------------------------------------------------------------------------------------------------------

fractions = st.none() | st.floats(0, 1)
figures = st.none() | st.floats(0, 1e9)
readings = st.builds(
    Reading,
    st.floats(0, 1e9),
    *([fractions] * 5),
    *([st.none() | st.integers(0, 2**50)] * 2),
    *([figures] * 3),
    xids=st.lists(st.tuples(st.floats(0, 1e9), st.integers(0, 2**31))).map(tuple),
    lost=st.booleans(),
    problem=st.text(),
)


@given(readings)
def test_a_reading_survives_its_line(reading: Reading) -> None:
    assert "\n" not in encode(reading)
    assert decode(encode(reading)) == reading
    assert None not in document(reading).values()


@given(st.text() | st.binary())
def test_whatever_else_comes_is_no_reading(line: str | bytes) -> None:
    with pytest.raises(WireError, match="not a reading"):
        decode(line)


@pytest.mark.parametrize(
    "change",
    [
        {"at_s": None},
        {"at_s": "1"},
        {"at_s": True},
        {"utilisation": 1.5},
        {"sm_utilisation": -0.1},
        {"sm_occupancy": float("nan")},
        {"mem_used_bytes": 2**63},
        {"power_w": float("inf")},
        {"xids": None},
        {"xids": [79]},
        {"xids": [["1", 79]]},
    ],
)
def test_a_figure_that_cannot_be_makes_the_line_none(change: dict[str, object]) -> None:
    with pytest.raises(WireError):
        decode(json.dumps({"at_s": 1.0, "xids": [], "lost": False} | change))


# --- a GPU, played ---------------------------------------------------------------------------------------------------


class Error(Exception):
    pass


class NotSupported(Error):
    pass


class NoPermission(Error):
    pass


class FunctionNotFound(Error):
    pass


class GpuIsLost(Error):
    pass


class Timeout(Error):
    pass


class Metric(ctypes.Structure):
    _fields_ = (("metricId", ctypes.c_uint), ("nvmlReturn", ctypes.c_int), ("value", ctypes.c_double))


class Metrics(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint),
        ("numMetrics", ctypes.c_uint),
        ("sample1", ctypes.c_void_p),
        ("sample2", ctypes.c_void_p),
        ("metrics", Metric * 8),
    )


class Nvml:
    """`pynvml` of one GPU that answers as it is told: a value, or an error to raise."""

    NVMLError = Error
    NVMLError_NotSupported = NotSupported
    NVMLError_NoPermission = NoPermission
    NVMLError_FunctionNotFound = FunctionNotFound
    NVMLError_GpuIsLost = GpuIsLost
    NVMLError_Timeout = Timeout
    NVML_SUCCESS = 0
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_GPM_METRIC_GRAPHICS_UTIL = 1
    NVML_GPM_METRIC_SM_UTIL = 2
    NVML_GPM_METRIC_SM_OCCUPANCY = 3
    NVML_GPM_METRIC_DRAM_BW_UTIL = 10
    NVML_GPM_METRICS_GET_VERSION = 1
    nvmlEventTypeXidCriticalError = 8
    c_nvmlGpmMetricsGet_t = Metrics

    WHOLE: ClassVar[dict[str, Any]] = {
        "nvmlDeviceGetHandleByUUID": "handle",
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37, memory=1),
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=3 << 30, total=80 << 30, free=77 << 30),
        "nvmlDeviceGetPowerUsage": 123_456,
        "nvmlDeviceGetTemperature": 41,
        "nvmlDeviceGetClockInfo": 1980,
        "nvmlDeviceGetSupportedEventTypes": 8 | 1,
        "nvmlDeviceRegisterEvents": None,
        "nvmlEventSetCreate": "events",
        "nvmlEventSetFree": None,
        "nvmlEventSetWait_v2": Timeout("nothing"),
        "nvmlGpmQueryDeviceSupport": SimpleNamespace(isSupportedDevice=1),
        "nvmlGpmSampleGet": None,
    }

    def __init__(self, **answers: Any) -> None:
        self.answers = self.WHOLE | answers
        self.metrics = {1: (0, 50.0), 2: (0, 25.0), 3: (0, 12.5), 10: (0, 6.25)}
        self.samples = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in self.answers:
            raise AttributeError(name)

        def answer(*arguments: object) -> Any:
            if isinstance(self.answers[name], Exception):
                raise self.answers[name]
            return self.answers[name]

        return answer

    def nvmlGpmSampleAlloc(self) -> int:
        self.samples += 1
        return self.samples

    def nvmlGpmMetricsGet(self, asked: Metrics) -> None:
        assert asked.version == 1
        assert asked.sample1 != asked.sample2
        for metric in asked.metrics[: asked.numMetrics]:
            metric.nvmlReturn, metric.value = self.metrics[metric.metricId]


def test_what_a_gpu_says() -> None:
    assert NvmlCounters(Nvml(), GPU).read(5.0) == Reading(
        *(5.0, 0.37, 0.25, 0.125, 0.5, 0.0625, 3 << 30, 80 << 30, 123.456, 41, 1980),
    )


@pytest.mark.parametrize("error", [NotSupported(), NoPermission(), FunctionNotFound()])
@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("nvmlDeviceGetUtilizationRates", {"utilisation"}),
        ("nvmlDeviceGetMemoryInfo", {"mem_used_bytes", "mem_total_bytes"}),
        ("nvmlDeviceGetPowerUsage", {"power_w"}),
        ("nvmlDeviceGetTemperature", {"temperature_c"}),
        ("nvmlDeviceGetClockInfo", {"sm_clock_mhz"}),
        (
            "nvmlGpmQueryDeviceSupport",
            {"sm_utilisation", "sm_occupancy", "graphics_utilisation", "memory_utilisation"},
        ),
        ("nvmlDeviceGetSupportedEventTypes", set()),
        ("nvmlDeviceRegisterEvents", set()),
    ],
)
def test_what_a_gpu_does_not_have_is_absent_and_no_problem(call: str, fields: set[str], error: Exception) -> None:
    reading = NvmlCounters(Nvml(**{call: error}), GPU).read(5.0)
    whole = NvmlCounters(Nvml(), GPU).read(5.0)
    assert reading == replace(whole, **dict.fromkeys(fields))


def test_a_metric_that_failed_or_is_no_number_is_absent() -> None:
    nvml = Nvml()
    counters = NvmlCounters(nvml, GPU)
    nvml.metrics |= {1: (3, 0.0), 2: (0, float("nan")), 3: (0, 100.4)}
    reading = counters.read(5.0)
    assert (reading.graphics_utilisation, reading.sm_utilisation, reading.sm_occupancy) == (None, None, 1.0)


def test_another_error_is_said_and_the_rest_is_there() -> None:
    nvml = Nvml(nvmlDeviceGetPowerUsage=Error("Unknown Error"))
    counters = NvmlCounters(nvml, GPU)
    assert counters.read(1.0) == replace(
        NvmlCounters(Nvml(), GPU).read(1.0), power_w=None, problem="NVML: Unknown Error"
    )
    nvml.answers["nvmlDeviceGetPowerUsage"] = 5000
    assert (counters.read(2.0).power_w, counters.read(2.0).problem) == (5.0, "")


@pytest.mark.parametrize("call", ["nvmlDeviceGetMemoryInfo", "nvmlGpmSampleGet", "nvmlEventSetWait_v2"])
def test_a_gpu_is_lost_once_any_call_says_so(call: str) -> None:
    nvml = Nvml()
    counters = NvmlCounters(nvml, GPU)
    nvml.answers[call] = GpuIsLost()
    assert counters.wait_for_xid(0.0) is None
    assert counters.read(1.0) == Reading(1.0, lost=True, problem="the device is lost")
    nvml.answers = Nvml.WHOLE  # one that comes back is not the one that was there
    assert counters.read(2.0).lost


@pytest.mark.parametrize("call", ["nvmlDeviceGetHandleByUUID", "nvmlDeviceGetSupportedEventTypes"])
def test_a_gpu_may_be_lost_before_anybody_looks(call: str) -> None:
    counters = NvmlCounters(Nvml(**{call: GpuIsLost()}), GPU)
    assert counters.is_lost
    assert counters.read(1.0).lost


def test_a_gpu_that_nvml_does_not_know_is_said() -> None:
    with pytest.raises(NotFound, match="GPU-1: no such GPU"):
        NvmlCounters(Nvml(nvmlDeviceGetHandleByUUID=Error("no such GPU")), GPU)


def test_where_xids_cannot_be_waited_for_that_is_said_and_the_figures_go_on() -> None:
    nvml = Nvml()
    counters = NvmlCounters(nvml, GPU)
    nvml.answers["nvmlEventSetWait_v2"] = Error("Unknown Error")
    assert counters.wait_for_xid(0.0) is None
    for at_s in (1.0, 2.0):
        reading = counters.read(at_s)
        assert (reading.problem, reading.power_w) == ("XIDs cannot be waited for: Unknown Error", 123.456)


def test_xids_are_told_and_one_of_them_is_the_loss() -> None:
    nvml = Nvml()
    counters = NvmlCounters(nvml, GPU)
    assert counters.wait_for_xid(0.0) is None
    nvml.answers["nvmlEventSetWait_v2"] = SimpleNamespace(eventType=8, eventData=31)
    assert (counters.wait_for_xid(0.0), counters.is_lost) == (31, False)
    nvml.answers["nvmlEventSetWait_v2"] = SimpleNamespace(eventType=1, eventData=7)
    assert counters.wait_for_xid(0.0) is None
    nvml.answers["nvmlEventSetWait_v2"] = SimpleNamespace(eventType=8, eventData=79)
    assert (counters.wait_for_xid(0.0), counters.is_lost) == (79, True)


# --- the CPU ---------------------------------------------------------------------------------------------------------


def test_the_cpus_use_is_that_of_its_own_cores(tmp_path: Path) -> None:
    def tick(busy: int, idle: int) -> str:
        rows = [f"cpu{n} {busy if n in (0, 3) else 9} 0 0 {idle} 0 0 0 0 5 5" for n in range(4)]
        return "\n".join(["cpu  1 1 1 1 1 1 1 1 1 1", *rows, "intr 1 2", ""])

    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable: 40 kB\n")
    (tmp_path / "stat").write_text(tick(100, 100))
    whole = replace(CORES, mem_bytes=2**62)
    counters, limited = CpuCounters(whole, tmp_path), CpuCounters(replace(CORES, mem_bytes=1), tmp_path)
    (tmp_path / "stat").write_text(tick(130, 170))
    assert counters.read(2.0) == Reading(2.0, sm_utilisation=0.3, mem_used_bytes=60 * 1024, mem_total_bytes=2**62)
    assert limited.read(2.0).mem_used_bytes is None
    assert counters.read(3.0).sm_utilisation is None  # no time has passed
    (tmp_path / "stat").unlink()
    assert counters.read(4.0).sm_utilisation is None


# --- the process -----------------------------------------------------------------------------------------------------


def start(device: Device, *more: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fastgshare.manager.counters", "--device", json.dumps(asdict(device)), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env or dict(os.environ))


@pytest.fixture
def on_standin(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    env = beside(STANDIN, state=tmp_path / "device", base=os.environ)
    with start(STANDIN, "--period-s", "0.1", env=env) as process:
        yield process
        process.kill()


def test_the_stand_in_says_what_it_has(on_standin: subprocess.Popen[str]) -> None:
    assert on_standin.stdout is not None
    first, second = (decode(on_standin.stdout.readline()) for _ in range(2))
    assert first.at_s < second.at_s <= time.monotonic()
    assert (second.mem_used_bytes, second.mem_total_bytes, second.utilisation) == (0, 1 << 30, 0.0)
    assert (second.power_w, second.temperature_c, second.lost, second.xids) == (None, None, False, ())
    assert second.problem == ""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("device (for NVML)", "GPU-1: Not Found"), program.NOT_THERE),
        (program.CannotRead("there is no NVML"), program.NO_COUNTERS),
    ],
)
def test_a_device_that_is_not_there_is_told_from_one_that_cannot_be_read(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(device: Device) -> None:
        raise error

    monkeypatch.setattr(program, "open_counters", fail)
    assert program.main(["--device", json.dumps(asdict(GPU))]) == status
    assert str(error) in capsys.readouterr().err


def test_it_ends_when_nobody_listens(on_standin: subprocess.Popen[str]) -> None:
    assert on_standin.stdout is not None and on_standin.stderr is not None
    on_standin.stdout.readline()
    on_standin.stdout.close()
    assert on_standin.wait(20) == 0
    assert on_standin.stderr.read() == ""


@pytest.mark.parametrize(
    ("device", "more", "status", "says"),
    [
        (replace(STANDIN, kind=DeviceKind.ABSTRACT), (), 3, "error: device standin is abstract: it has no counters"),
        (STANDIN, ("--period-s", "0"), 2, "error: period-s: 0.0 is not allowed; allowed: 0.1 to 3600 seconds"),
        (STANDIN, ("--period-s", "nan"), 2, "error: period-s: nan is not allowed; allowed: 0.1 to 3600 seconds"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(
    device: Device, more: tuple[str, ...], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["--device", json.dumps(asdict(device)), *more]) == status
    assert capsys.readouterr().err == f"{says}\n"


def test_without_nvml_there_are_no_counters(tmp_path: Path) -> None:
    with start(GPU, env={**os.environ, "LD_LIBRARY_PATH": "", "PYTHONPATH": str(without_library(tmp_path))}) as process:
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said.count("\n")) == (3, 1)
    assert said.startswith("error: NVML, which comes with NVIDIA's driver, cannot be used here: ")


def test_without_the_package_there_are_no_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(program.CannotRead, match="nvidia-ml-py is missing"):
        program.open_counters(GPU)


def without_library(folder: Path) -> Path:
    """A folder of which a `pynvml` is found first that has no library, on machines with a driver as well."""
    (folder / "pynvml.py").write_text(
        "class NVMLError(Exception): pass\ndef nvmlInit(): raise NVMLError('NVML Shared Library Not Found')\n"
    )
    return folder


class Scripted:
    """Counters whose XIDs are given; it raises `StopIteration` when they are spent."""

    def __init__(self, *numbers: int | None) -> None:
        self.numbers = iter(numbers)
        self.is_lost = False
        self.reads = 0

    def read(self, at_s: float) -> Reading:
        self.reads += 1
        return Reading(at_s, utilisation=0.5, lost=self.is_lost)

    def wait_for_xid(self, timeout_s: float) -> int | None:
        number = next(self.numbers)
        self.is_lost = number == 79
        return number


def test_an_xid_is_said_at_once_with_the_last_figures() -> None:
    said: list[Reading] = []
    with pytest.raises(StopIteration):
        program.follow(Scripted(None, 31, 79), 3600.0, said.append)
    first, second = said
    assert (first.xids[0][1], first.utilisation, first.lost) == (31, None, False)  # nothing was read yet
    assert (second.xids[0][1], second.utilisation, second.lost) == (79, 0.5, True)
    assert second.xids[0][0] == second.at_s >= first.at_s
