from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.standin.programs import GIB, Neighbour, environment, run_python

BEGIN = """
import ctypes
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


def ask(source: str, settings: str) -> list[str]:
    return run_python(BEGIN + textwrap.dedent(source), settings)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "device"


def test_it_says_that_it_is_a_stand_in() -> None:
    name, driver, cuda, capability, cores = ask(
        """
        print(nvml.nvmlDeviceGetName(gpu))
        print(nvml.nvmlSystemGetDriverVersion())
        print(nvml.nvmlSystemGetCudaDriverVersion())
        print(*nvml.nvmlDeviceGetCudaComputeCapability(gpu))
        print(nvml.nvmlDeviceGetNumGpuCores(gpu))
        """,
        "sms=10",
    )
    assert name == "Stand-in GPU (not real)"
    assert driver.endswith("-standin")
    assert (cuda, capability, cores) == ("13000", "9 0", str(10 * 128))


def test_it_is_found_by_index_uuid_and_bus(state: Path) -> None:
    lines = ask(
        """
        uuid = nvml.nvmlDeviceGetUUID(gpu)
        pci = nvml.nvmlDeviceGetPciInfo(gpu)
        more = nvml.nvmlPciInfoExt_v1_t(version=nvml.nvmlPciInfoExt_v1)
        nvml.nvmlDeviceGetPciInfoExt(gpu, ctypes.byref(more))
        print(nvml.nvmlDeviceGetCount(), uuid, pci.busId, pci.busIdLegacy, more.busId)
        found = [nvml.nvmlDeviceGetHandleByUUID(each) for each in (uuid, uuid.upper())]
        found += [nvml.nvmlDeviceGetHandleByPciBusId(bus) for bus in (pci.busId, pci.busIdLegacy, "57:00.0")]
        print(*[nvml.nvmlDeviceGetIndex(each) for each in found])
        print(refused(nvml.nvmlDeviceGetHandleByIndex, 1))
        print(refused(nvml.nvmlDeviceGetHandleByUUID, uuid[:-1]))
        print(refused(nvml.nvmlDeviceGetHandleByPciBusId, "0000:58:00.0"))
        """,
        f"state={state}",
    )
    count, uuid, bus, legacy, extended = lines[0].split()
    assert (count, bus, legacy, extended) == ("1", "00000000:57:00.0", "0000:57:00.0", "00000000:57:00.0")
    assert uuid.startswith("GPU-57a4d140-")
    assert len(uuid) == 40
    assert lines[1:] == ["0 0 0 0 0", "InvalidArgument", "NotFound", "NotFound"]


def test_devices_in_different_places_are_different_devices(tmp_path: Path) -> None:
    uuids = {ask("print(nvml.nvmlDeviceGetUUID(gpu))", f"state={tmp_path / name}")[0] for name in ("a", "b", "b")}
    assert len(uuids) == 2


def test_its_memory_is_what_all_processes_have(state: Path) -> None:
    neighbour = Neighbour(state, mem_bytes=40 * GIB)
    neighbour.take(3 * GIB)
    show = """
        v1, v2 = nvml.nvmlDeviceGetMemoryInfo(gpu), nvml.nvmlDeviceGetMemoryInfo(gpu, version=nvml.nvmlMemory_v2)
        print(v1.total, v1.free, v1.used)
        print(v2.total, v2.free, v2.used + v2.reserved)
        """
    expected = f"{40 * GIB} {37 * GIB} {3 * GIB}"
    # The device was made with 40 GiB: who comes later cannot make it larger.
    assert ask(show, f"state={state},mem={80 * GIB}") == [expected, expected]
    neighbour.leave()
    assert ask(show, f"state={state}")[0] == f"{40 * GIB} {40 * GIB} 0"


def test_processes_are_listed_and_those_with_a_part_of_the_sms_as_under_mps(state: Path) -> None:
    Neighbour(state).take(1 * GIB)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        Neighbour(state, pid=other.pid, sms_percent=25).take(2 * GIB)
        show = """
            for find in (
                nvml.nvmlDeviceGetComputeRunningProcesses_v2,
                nvml.nvmlDeviceGetComputeRunningProcesses_v3,
                nvml.nvmlDeviceGetMPSComputeRunningProcesses,
                nvml.nvmlDeviceGetGraphicsRunningProcesses,
            ):
                print(*sorted((each.pid, each.usedGpuMemory) for each in find(gpu)))
            """
        both = " ".join(str(each) for each in sorted([(os.getpid(), GIB), (other.pid, 2 * GIB)]))
        assert ask(show, f"state={state}") == [both, both, str((other.pid, 2 * GIB)), ""]
        assert other.stdin is not None
        other.stdin.close()
        other.wait()
    # Its memory came back with its death.
    assert ask("print(nvml.nvmlDeviceGetMemoryInfo(gpu).used)", f"state={state}") == [str(GIB)]


def test_the_oldest_form_of_the_list_of_processes(state: Path) -> None:
    Neighbour(state).take(GIB)
    source = """
        class Info(ctypes.Structure):
            _fields_ = (("pid", ctypes.c_uint), ("used", ctypes.c_ulonglong))
        found, count = (Info * 2)(), ctypes.c_uint(0)
        list_them = ctypes.CDLL("libnvidia-ml.so.1").nvmlDeviceGetComputeRunningProcesses
        print(list_them(gpu, ctypes.byref(count), None), count.value)
        print(list_them(gpu, ctypes.byref(count), found), found[0].pid, found[0].used)
        """
    too_small = 7
    assert ask(source, f"state={state}") == [f"{too_small} 1", f"0 {os.getpid()} {GIB}"]


def test_utilisation_is_the_time_in_which_kernels_ran(state: Path) -> None:
    show = """
        rates = nvml.nvmlDeviceGetUtilizationRates(gpu)
        samples = nvml.nvmlDeviceGetProcessUtilization(gpu, 0)
        print(rates.gpu, *[(each.pid, each.smUtil) for each in samples])
        """
    neighbour = Neighbour(state, sms_percent=50)
    assert ask(show, f"state={state}") == [f"0 {(os.getpid(), 0)}"]
    neighbour.compute(3_600_000_000_000)
    assert ask(show, f"state={state}") == [f"100 {(os.getpid(), 50)}"]


def test_a_device_that_the_process_has_to_itself_is_libcudas_own() -> None:
    lines = ask(
        f"""
        cuda, address, uuid = ctypes.CDLL("libcuda.so.1"), ctypes.c_uint64(), (ctypes.c_ubyte * 16)()
        context = ctypes.c_void_p()
        print(nvml.nvmlDeviceGetMemoryInfo(gpu).used)
        print(cuda.cuInit(0), cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0), cuda.cuCtxSetCurrent(context))
        print(cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t({GIB})))
        print(nvml.nvmlDeviceGetMemoryInfo(gpu).used)
        cuda.cuDeviceGetUuid_v2(uuid, 0)
        print(bytes(uuid).hex() == nvml.nvmlDeviceGetUUID(gpu).removeprefix("GPU-").replace("-", ""))
        """,
        f"mem={2 * GIB}",
    )
    assert lines == ["0", "0 0 0", "0", str(GIB), "True"]


def test_what_it_does_not_have_is_not_supported() -> None:
    lines = ask(
        """
        print(refused(nvml.nvmlDeviceGetPowerUsage, gpu))
        print(refused(nvml.nvmlDeviceGetTemperature, gpu, nvml.NVML_TEMPERATURE_GPU))
        print(refused(nvml.nvmlDeviceGetClockInfo, gpu, nvml.NVML_CLOCK_SM))
        print(refused(nvml.nvmlDeviceGetFieldValues, gpu, [nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION]))
        print(refused(nvml.nvmlDeviceGetSerial, gpu))
        print(refused(nvml.nvmlDeviceGetTotalEnergyConsumption, gpu))
        """,
        "",
    )
    assert lines == ["NotSupported"] * 6


def test_its_modes_are_those_of_a_whole_device_for_any_number_of_processes() -> None:
    lines = ask(
        """
        print(nvml.nvmlDeviceGetMigMode(gpu), nvml.nvmlDeviceGetMaxMigDeviceCount(gpu))
        print(nvml.nvmlDeviceGetComputeMode(gpu), nvml.nvmlDeviceGetPersistenceMode(gpu))
        print(nvml.nvmlDeviceGetArchitecture(gpu) == nvml.NVML_DEVICE_ARCH_HOPPER, nvml.nvmlDeviceGetMinorNumber(gpu))
        print(refused(nvml.nvmlDeviceSetComputeMode, gpu, nvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS))
        """,
        "",
    )
    assert lines == ["[0, 0] 0", "0 0", "True 0", "NoPermission"]


def test_a_shutdown_ends_what_an_init_began() -> None:
    lines = ask(
        """
        nvml.nvmlInit()
        nvml.nvmlShutdown()
        print(refused(nvml.nvmlDeviceGetName, gpu))
        nvml.nvmlShutdown()
        print(refused(nvml.nvmlDeviceGetName, gpu))
        print(refused(nvml.nvmlShutdown))
        """,
        "",
    )
    assert lines == ["answered", "Uninitialized", "Uninitialized"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("sms=0", "sms=0: allowed is 1 to 1024"),
        ("mem=8GiB", "mem=8GiB: allowed is bytes, 1048576 to 2^50"),
        ("colour=red", "colour=red: allowed is the keys sms, mem, state, kernel_ns, null, mps and die"),
        ("die=cuInit:1:now", "die=cuInit:1:now: allowed is FUNCTION:N:before or FUNCTION:N:after, N from 1"),
    ],
)
def test_a_malformed_setting_is_said_in_one_line(settings: str, problem: str) -> None:
    source = "import ctypes; nvml = ctypes.CDLL('libnvidia-ml.so.1'); print(nvml.nvmlInit_v2(), nvml.nvmlInit_v2())"
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    invalid_argument = 2
    assert done.stdout.split() == [str(invalid_argument)] * 2
    assert done.stderr == f"stand-in NVML: FASTGSHARE_STANDIN: {problem}\n"


def test_a_place_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import ctypes; print(ctypes.CDLL('libnvidia-ml.so.1').nvmlInit_v2())"],
        env=environment(f"state={tmp_path / 'none' / 'device'}"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "9\n"
    assert "No such file or directory" in done.stderr
