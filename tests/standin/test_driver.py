"""The stand-in's driver: beginning, device, contexts, how its functions are found, and what ends a process."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.standin.programs import LIBRARIES, environment, on_driver

ROOT = Path(__file__).parents[2]
DRIVER = ROOT / "native/standin/driver"
GIB = 1 << 30


def test_the_device_says_what_it_is_and_that_it_is_none() -> None:
    assert on_driver(
        """
        start()
        name, pci = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
        must("cuDeviceGetName", name, 64, 0)
        must("cuDeviceGetPCIBusId", pci, 64, 0)
        print(name.value.decode(), pci.value.decode())
        print(new(c_int, "cuDriverGetVersion"), new(c_int, "cuDeviceGetCount"), new(c_size_t, "cuDeviceTotalMem_v2", 0))
        attributes = dict(sms=16, warp=10, threads=1, per_sm=39, major=75, minor=76, pools=115, virtual=102)
        print(*[f"{key}={new(c_int, 'cuDeviceGetAttribute', at, 0)}" for key, at in attributes.items()])
        print(new(c_int, "cuDeviceGetByPCIBusId", pci.value), call("cuDeviceGetAttribute", byref(c_int()), 16, 1))
        """,
        f"sms=20,mem={GIB}",
    ) == [
        "Stand-in GPU (not real) 0000:57:00.0",
        f"13000 1 {GIB}",
        "sms=20 warp=32 threads=1024 per_sm=2048 major=9 minor=0 pools=1 virtual=1",
        "0 INVALID_DEVICE",
    ]


def test_errors_have_their_names_and_say_that_they_are_the_stand_ins() -> None:
    assert on_driver(
        """
        text = ctypes.c_char_p()
        for error in 0, 2, 906, 999, 12345:
            results = [getattr(cuda, f)(error, byref(text)) for f in ("cuGetErrorName", "cuGetErrorString")]
            print(*results, text.value)
        """
    ) == [
        "0 0 b'success (stand-in)'",
        "0 0 b'out of memory (stand-in)'",
        "0 0 b'stream capture implicit (stand-in)'",
        "0 0 b'unknown (stand-in)'",
        "1 1 None",
    ]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("sms=0", "sms=0: allowed is 1 to 1024"),
        ("colour=red", "colour=red: allowed is the keys"),
        ("die=cuInit", "die=cuInit: allowed is FUNCTION:N:before or FUNCTION:N:after"),
    ],
)
def test_malformed_settings_are_named_and_nothing_starts(settings: str, complaint: str) -> None:
    program = "from tests.standin.calls import *; print(call('cuInit', 0), call('cuCtxSynchronize'))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(settings), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["INVALID_VALUE", "NOT_INITIALIZED"]
    assert done.stderr.startswith(f"stand-in libcuda: FASTGSHARE_STANDIN: {complaint}")


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_hidden_device_is_not_there(hidden: str) -> None:
    assert on_driver('print(call("cuInit", 0))', "", {"CUDA_VISIBLE_DEVICES": hidden}) == ["NO_DEVICE"]


def test_a_device_is_known_by_its_state_file(tmp_path: Path) -> None:
    source = """
        must("cuInit", 0)
        uuid = ctypes.create_string_buffer(16)
        must("cuDeviceGetUuid_v2", uuid, 0)
        print(uuid.raw.hex())
        """
    one, again = (on_driver(source, f"state={tmp_path / 'a'}") for _ in range(2))
    other = on_driver(source, f"state={tmp_path / 'b'}")
    assert one == again != other


def test_contexts_are_made_stacked_and_ended() -> None:
    assert on_driver(
        """
        print(call("cuMemAlloc_v2", byref(c_uint64()), c_size_t(1)))
        must("cuInit", 0)
        print(call("cuMemAlloc_v2", byref(c_uint64()), c_size_t(1)))
        first = new(c_void_p, "cuCtxCreate_v2", 0, 0)
        second = new(c_void_p, "cuCtxCreate_v4", None, 0, 0)
        identities = c_uint64(), c_uint64()
        for context, identity in zip((first, second), identities):
            must("cuCtxGetId", context, byref(identity))
        print(identities[0].value != identities[1].value, new(c_void_p, "cuCtxGetCurrent").value == second.value)
        alloc(1 << 20)
        print(taken())
        must("cuCtxDestroy_v2", second)
        print(new(c_void_p, "cuCtxGetCurrent").value == first.value, taken())
        must("cuCtxPushCurrent_v2", first)
        must("cuCtxDestroy_v2", first)
        print(call("cuCtxSynchronize"), call("cuCtxPushCurrent_v2", first))
        """
    ) == [
        "NOT_INITIALIZED",
        "INVALID_CONTEXT",
        "True True",
        str(1 << 20),
        "True 0",
        "CONTEXT_IS_DESTROYED INVALID_CONTEXT",
    ]


def test_the_primary_context_comes_and_goes_under_one_handle() -> None:
    assert on_driver(
        """
        context = start()


        def state():
            flags, active = c_uint(), c_int()
            must("cuDevicePrimaryCtxGetState", 0, byref(flags), byref(active))
            return flags.value, active.value


        again = new(c_void_p, "cuDevicePrimaryCtxRetain", 0)
        alloc(4096)
        print(again.value == context.value, state())
        must("cuDevicePrimaryCtxRelease_v2", 0)
        print(state(), taken())
        must("cuDevicePrimaryCtxReset_v2", 0)
        print(state(), taken())
        must("cuDevicePrimaryCtxSetFlags_v2", 0, 4)
        must("cuDevicePrimaryCtxRelease_v2", 0)
        print(state(), call("cuDevicePrimaryCtxRelease_v2", 0), call("cuStreamSynchronize", None))
        print(
            new(c_void_p, "cuDevicePrimaryCtxRetain", 0).value == context.value, call("cuStreamSynchronize", None)
        )
        """
    ) == [
        "True (0, 1)",
        "(0, 1) 4096",
        "(0, 1) 0",
        "(4, 0) INVALID_CONTEXT CONTEXT_IS_DESTROYED",
        "True SUCCESS",
    ]


@pytest.mark.parametrize(("percent", "ms"), [("100", 2), ("50", 4), ("25", 8), ("nonsense", 2), ("0", 2)])
def test_the_percentage_of_mps_is_a_cap_on_sms(percent: str, ms: int) -> None:
    (measured,) = on_driver(
        """
        start()
        print(timed_ms(function(b"spin"), 2, blocks=20))
        """,
        "sms=20",
        {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": percent},
    )
    assert float(measured) == pytest.approx(ms, abs=1e-3)


def test_a_context_may_have_some_of_the_sms() -> None:
    assert on_driver(
        """
        must("cuInit", 0)
        affinity = (c_uint * 4)(0, 5)
        context = new(c_void_p, "cuCtxCreate_v3", affinity, 1, 0, 0)
        given = (c_uint * 4)()
        must("cuCtxGetExecAffinity", given, 0)
        print(given[1], round(timed_ms(function(b"spin"), 2, blocks=20), 3))
        after = recorded()
        must("cuCtxDestroy_v2", context)
        print(call("cuEventQuery", after))
        """,
        "sms=20",
    ) == ["5 8.0", "SUCCESS"]


def test_the_child_of_a_fork_cannot_use_the_device() -> None:
    assert on_driver(
        """
        import os, sys

        start()
        sys.stdout.flush()
        if os.fork() == 0:
            print(
                call("cuInit", 0), call("cuCtxSynchronize"), call("cuMemAlloc_v2", byref(c_uint64()), c_size_t(1))
            )
            print(new(c_int, "cuDriverGetVersion"))
            sys.stdout.flush()
            os._exit(0)
        os.wait()
        print(call("cuCtxSynchronize"))
        """
    ) == ["NOT_INITIALIZED NOT_INITIALIZED NOT_INITIALIZED", "13000", "SUCCESS"]


def exported() -> set[str]:
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", LIBRARIES / "libcuda.so.1"], capture_output=True, text=True, check=True
    ).stdout
    return {line.split()[-1] for line in symbols.splitlines()}


def rows() -> list[tuple[str, int, str, str]]:
    """Name, CUDA version, whose default stream, symbol."""
    text = "".join(path.read_text() for path in DRIVER.glob("calls_*.h"))
    found = re.findall(r"^[A-Z_]+\((\w+), (\d+), (\w+), (\w+)", text, re.MULTILINE)
    return [(name, int(version), streams, symbol) for name, version, streams, symbol in found]


def test_what_is_exported_is_the_list_and_nothing_else() -> None:
    assert exported() == {symbol for *_, symbol in rows()} | {"standin_register_body", "standin_device"}
    assert len(rows()) == len({symbol for *_, symbol in rows()})


def test_every_form_is_found_by_name_version_and_stream(tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.write_text("\n".join(" ".join(map(str, row)) for row in rows()))
    assert on_driver(
        f"""
        def found(name, version, flags):
            place, status = c_void_p(), c_int()
            result = call("cuGetProcAddress_v2", name.encode(), byref(place), version, c_uint64(flags), byref(status))
            return result, status.value, place.value
        lost = 0
        for line in open({str(table)!r}):
            name, version, streams, symbol = line.split()
            expected = ctypes.cast(getattr(cuda, symbol), c_void_p).value
            flags = 2 if streams == "PER_THREAD" else 1
            lost += found(name, int(version), flags) != ("SUCCESS", 0, expected)
            lost += streams == "LEGACY" and found(name, int(version), 0)[2] != expected
        print(lost)
        print(found("cuNothing", 13000, 0), found("cuGraphAddNode", 10000, 0), found("cuInit", 14000, 0))
        print(found("cuMemAlloc", 13000, 2) == found("cuMemAlloc", 13000, 0))
        print(found("cuMemAlloc", 2000, 0) != found("cuMemAlloc", 3020, 0) == found("cuMemAlloc", 13000, 0))
        """
    ) == ["0", "('NOT_FOUND', 1, None) ('NOT_FOUND', 2, None) ('INVALID_VALUE', 0, None)", "True", "True"]


def test_its_own_functions_are_found_whoever_is_preloaded(tmp_path: Path) -> None:
    source = tmp_path / "other.c"
    source.write_text("int cuMemAlloc_v2(void) { return 77; }\n")
    other = tmp_path / "other.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", other, source], check=True)
    assert on_driver(
        """
        start()
        place, status = c_void_p(), c_int()
        must("cuGetProcAddress_v2", b"cuMemAlloc", byref(place), 13000, c_uint64(0), byref(status))
        alloc = ctypes.CFUNCTYPE(c_int, c_void_p, c_size_t)(place.value)
        print(alloc(byref(c_uint64()), 1))
        """,
        more={"LD_PRELOAD": str(other)},
    ) == ["0"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_dies_where_it_is_told_to(tmp_path: Path, when: str) -> None:
    program = textwrap.dedent(
        """
        import mmap
        from tests.standin.calls import *
        start()
        # Memory of this process that the call writes to, and that is looked at when the process is no more.
        with open("{seen}", "r+b") as file:
            place = c_uint64.from_buffer(mmap.mmap(file.fileno(), 8))
        for i in range(3):
            place.value = 0
            print(i + 1, flush=True)
            cuda.cuMemAlloc_v2(byref(place), c_size_t(4096))
        """
    )
    seen = tmp_path / "seen"
    seen.write_bytes(bytes(8))
    program = program.replace("{seen}", str(seen))
    state = tmp_path / "device"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(f"state={state},die=cuMemAlloc:2:{when}"),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["1", "2"]
    assert (seen.read_bytes() != bytes(8)) == (when == "after")
    # What it had is free again for the next.
    assert on_driver("start(); print(taken())", f"state={state}") == ["0"]


def test_with_null_launches_and_allocations_do_nothing() -> None:
    assert on_driver(
        """
        start()
        kernel = function(b"spin")
        spin(kernel, 1e9)
        addresses = {alloc(1 << 40) for _ in range(1000)}
        for address in addresses:
            must("cuMemFree_v2", c_uint64(address))
        wait()
        print(len(addresses), taken(), call("cuEventQuery", recorded()))
        """,
        "null=1",
    ) == ["1000 0 SUCCESS"]


def test_processes_on_one_device_share_its_memory(tmp_path: Path) -> None:
    child = (
        "from tests.standin.calls import *; start(); print(taken()); "
        "print(call('cuMemAlloc_v2', byref(c_uint64()), c_size_t(700 << 20)))"
    )
    assert on_driver(
        f"""
        import subprocess, sys
        start()
        alloc(512 << 20)
        print(subprocess.run([sys.executable, "-c", {child!r}], capture_output=True, text=True).stdout.split())
        print(taken())
        """,
        f"state={tmp_path / 'device'},mem={GIB}",
    ) == [f"['{512 << 20}', 'OUT_OF_MEMORY']", str(512 << 20)]


def test_processes_contend_for_the_sms(tmp_path: Path) -> None:
    neighbour = (
        "from tests.standin.calls import *; start(); "
        "spin(function(b'spin'), 5000, blocks=20); print(flush=True); wait()"
    )
    (measured,) = on_driver(
        f"""
        import subprocess, sys
        start()
        kernel = function(b"spin")
        other = subprocess.Popen([sys.executable, "-c", {neighbour!r}], stdout=subprocess.PIPE)
        other.stdout.readline()
        print(timed_ms(kernel, 5, blocks=20))
        other.kill()
        other.communicate()
        """,
        f"state={tmp_path / 'device'},sms=20",
    )
    assert float(measured) == pytest.approx(10, abs=1e-3)


def test_the_neighbour_of_a_dead_process_gets_the_device_back(tmp_path: Path) -> None:
    neighbour = (
        "from tests.standin.calls import *; start(); alloc(1 << 20); "
        "spin(function(b'spin'), 3600e3, blocks=20); print(flush=True); wait()"
    )
    assert on_driver(
        f"""
        import subprocess, sys
        start()
        other = subprocess.Popen([sys.executable, "-c", {neighbour!r}], stdout=subprocess.PIPE)
        other.stdout.readline()
        spin(function(b"spin"), 20, blocks=20)
        other.kill()
        other.communicate()
        wait()
        print(taken())
        """,
        f"state={tmp_path / 'device'},sms=20",
    ) == ["0"]


def test_ctypes_is_enough_to_load_it() -> None:
    driver = ctypes.CDLL(str(LIBRARIES / "libcuda.so.1"))
    version = ctypes.c_int()
    assert driver.cuDriverGetVersion(ctypes.byref(version)) == 0
    assert version.value == 13000
    assert os.environ.get("FASTGSHARE_STANDIN") is None or version.value


def test_a_process_may_end_inside_a_call_and_with_work_pending() -> None:
    assert on_driver(
        """
        import os, sys
        from tests.standin.bodies import register
        start()
        kernel = function(b"spin")
        Function = ctypes.CFUNCTYPE(None, c_void_p)
        forever = Function(lambda data: __import__("time").sleep(3600))
        must("cuLaunchHostFunc", stream(1), forever, None)
        spin(kernel, 3600e3)
        libc = ctypes.CDLL(None)
        register("plain", lambda launch: libc._exit(0) if os.fork() == 0 else libc.exit(0))
        print("ends", flush=True)
        launch(function(b"plain"), c_uint(1), (ctypes.c_char * 12)(), c_uint64(1))
        """
    ) == ["ends"]


def test_children_end_although_their_parents_threads_were_inside() -> None:
    assert on_driver(
        """
        import os, threading
        context = start()
        mark = recorded()
        over = False
        def ask():
            must("cuCtxSetCurrent", context)
            spin(function(b"spin"), 0, form="_ptsz")
            while not over:
                cuda.cuEventQuery(mark)
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        spin(function(b"spin"), 0, form="_ptsz")
        results = set()
        for _ in range(50):
            child = os.fork()
            if child == 0:
                ctypes.CDLL(None).exit(7 if call("cuEventQuery", mark) == "NOT_INITIALIZED" else 1)
            results.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        over = True
        for thread in threads:
            thread.join()
        print(results)
        """
    ) == ["{7}"]
