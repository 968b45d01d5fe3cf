"""The stand-in's driver: physical memory mapped where one likes, and memory that other processes use too."""

from __future__ import annotations

from pathlib import Path

from tests.standin.programs import on_driver

VIRTUAL = """
start()
prop = AllocationProp(type=1, handle_types=1, location=DEVICE)
unit = new(c_size_t, "cuMemGetAllocationGranularity", byref(prop), 0)
everyone = AccessDesc(DEVICE, 3)


def create(size):
    return new(c_uint64, "cuMemCreate", c_size_t(size), byref(prop), c_uint64(0))


def reserve(size):
    return new(c_uint64, "cuMemAddressReserve", c_size_t(size), c_size_t(0), address(0), c_uint64(0))


def map_to(place, size, handle, offset=0):
    return call("cuMemMap", address(place), c_size_t(size), c_size_t(offset), c_uint64(handle), c_uint64(0))


def open_to(place, size):
    return call("cuMemSetAccess", address(place), c_size_t(size), byref(everyone), c_size_t(1))


def fill(place, size):
    return call("cuMemsetD8_v2", address(place), 7, c_size_t(size))
"""


def test_physical_memory_is_mapped_where_one_likes() -> None:
    assert on_driver(
        VIRTUAL
        + """
handle = create(2 * unit)
place = reserve(4 * unit)
print(unit, taken() // unit, place % unit, fill(place, 1))
print(
    map_to(place, 2 * unit, handle),
    map_to(place + unit, unit, handle),
    map_to(place + 2 * unit, unit, handle, unit),
)
print(fill(place, 1), open_to(place, 3 * unit), fill(place, 3 * unit), fill(place, 3 * unit + 1))
# The second half of the first mapping and the second mapping are the same memory.
must("cuMemsetD8_v2", address(place + unit), 9, c_size_t(1))
print(bytes_at(place + 2 * unit, 2).hex())
again = new(c_uint64, "cuMemRetainAllocationHandle", c_void_p(place))
print(
    again == handle,
    call("cuMemRelease", c_uint64(handle)),
    call("cuMemRelease", c_uint64(handle)),
    call("cuMemRelease", c_uint64(handle)),
)
print(taken() // unit, call("cuMemAddressFree", address(place), c_size_t(4 * unit)))
print(
    call("cuMemUnmap", address(place), c_size_t(unit)),
    call("cuMemUnmap", address(place), c_size_t(3 * unit)),
    taken(),
)
print(fill(place, 1), call("cuMemAddressFree", address(place), c_size_t(4 * unit)))
print(
    call("cuMemCreate", byref(c_uint64()), c_size_t(unit + 1), byref(prop), c_uint64(0)),
    call("cuMemCreate", byref(c_uint64()), c_size_t(1 << 30), byref(prop), c_uint64(0)),
)
""",
        "mem=1073741823",
    ) == [
        f"{2 << 20} 2 0 INVALID_VALUE",
        "SUCCESS INVALID_VALUE SUCCESS",
        "INVALID_VALUE SUCCESS SUCCESS INVALID_VALUE",
        "0907",
        "True SUCCESS SUCCESS INVALID_VALUE",
        "2 INVALID_VALUE",
        "INVALID_VALUE SUCCESS 0",
        "INVALID_VALUE SUCCESS",
        "INVALID_VALUE OUT_OF_MEMORY",
    ]


def test_physical_memory_goes_to_another_process_as_a_file_and_counts_once(tmp_path: Path) -> None:
    child = (
        "from tests.standin.calls import *\n"
        + VIRTUAL
        + """
import sys

handle = new(c_uint64, "cuMemImportFromShareableHandle", c_void_p(int(sys.argv[1])), 1)
place = reserve(unit)
print(map_to(place, unit, handle), open_to(place, unit), bytes_at(place, 3), taken() // unit, flush=True)
must("cuMemcpyHtoD_v2", address(place), b"def", c_size_t(3))
wait()
print(call("cuMemImportFromShareableHandle", byref(c_uint64()), c_void_p(0), 1))
"""
    )
    assert on_driver(
        VIRTUAL
        + f"""
import subprocess, sys
handle = create(unit)
place = reserve(unit)
print(map_to(place, unit, handle), open_to(place, unit))
must("cuMemcpyHtoD_v2", address(place), b"abc", c_size_t(3))
file = c_int()
must("cuMemExportToShareableHandle", byref(file), c_uint64(handle), 1, c_uint64(0))
command = [sys.executable, "-c", {child!r}, str(file.value)]
done = subprocess.run(command, pass_fds=[file.value], capture_output=True, text=True)
print(done.stdout + done.stderr, end="")
print(bytes_at(place, 3), taken() // unit)
""",
        f"state={tmp_path / 'device'}",
    ) == ["SUCCESS SUCCESS", "SUCCESS SUCCESS b'abc' 1", "INVALID_VALUE", "b'def' 1"]


def test_allocations_are_opened_by_other_processes_and_count_once(tmp_path: Path) -> None:
    child = (
        "from tests.standin.calls import *\n"
        + """
import sys

start()
handle = (ctypes.c_char * 64).from_buffer_copy(bytes.fromhex(sys.argv[1]))


class Handle(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char * 64),)


handle = Handle.from_buffer_copy(bytes.fromhex(sys.argv[1]))
place, again = c_uint64(), c_uint64()
must("cuIpcOpenMemHandle_v2", byref(place), handle, 1)
must("cuIpcOpenMemHandle_v2", byref(again), handle, 1)
print(place.value == again.value, bytes_at(place.value, 3), taken(), call("cuMemFree_v2", place))
must("cuMemsetD8_v2", place, 0x64, c_size_t(3))
wait()
print(*[call("cuIpcCloseMemHandle", place) for _ in range(3)])
print(call("cuIpcOpenMemHandle_v2", byref(place), Handle(), 1))
"""
    )
    assert on_driver(
        f"""
        import subprocess, sys
        start()
        alloc(100)
        place = alloc(5000)
        must("cuMemcpyHtoD_v2", address(place), b"abc", c_size_t(3))
        handle = ctypes.create_string_buffer(64)
        must("cuIpcGetMemHandle", handle, address(place))
        done = subprocess.run([sys.executable, "-c", {child!r}, handle.raw.hex()], capture_output=True, text=True)
        print(done.stdout + done.stderr, end="")
        print(bytes_at(place, 3), taken())
        """,
        f"state={tmp_path / 'device'}",
    ) == ["True b'abc' 5632 INVALID_VALUE", "SUCCESS SUCCESS INVALID_VALUE", "INVALID_HANDLE", "b'ddd' 5632"]
