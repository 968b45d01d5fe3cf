"""M7 on a device: every way to allocate counts against the cap, exactly as long as the memory is in use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hook.children import PRELUDE, Holder, held

MIB = 1 << 20
CAP = 64 * MIB
OUT_OF_MEMORY = 2

# Every child begins with a context; free() is what is left of the cap, ok() calls and insists.
CUDA = """
MIB = 1 << 20
cu = ctypes.CDLL("libcuda.so.1")

def ok(name, *arguments):
    result = cu[name](*arguments)
    assert result == 0, (name, result)

def free():
    left, total = c_size_t(), c_size_t()
    ok("cuMemGetInfo_v2", byref(left), byref(total))
    assert total.value == CAP, total.value
    return left.value

def used():
    return CAP - free()

def alloc(size, name="cuMemAlloc_v2", *more):
    out = c_uint64()
    ok(name, byref(out), c_size_t(size), *more)
    return out

def give(pointer, name="cuMemFree_v2", *more):
    ok(name, pointer, *more)

class Location(ctypes.Structure):
    _fields_ = [("type", c_int), ("id", c_int)]

class Properties(ctypes.Structure):  # of cuMemCreate
    _fields_ = [("type", c_int), ("handles", c_int), ("location", Location), ("win32", c_void_p), ("flags", c_uint64)]

class Pool(ctypes.Structure):
    _fields_ = [("type", c_int), ("handles", c_int), ("location", Location), ("win32", c_void_p), ("most", c_size_t),
                ("rest", ctypes.c_ubyte * 56)]

class Node(ctypes.Structure):
    _fields_ = [("pool", Pool), ("accesses", c_void_p), ("count", c_size_t), ("bytes", c_size_t), ("out", c_uint64)]

class Array(ctypes.Structure):
    _fields_ = [("width", c_size_t), ("height", c_size_t), ("depth", c_size_t), ("format", c_int), ("channels", c_uint),
                ("flags", c_uint)]

ok("cuInit", 0)
context = c_void_p()
ok("cuDevicePrimaryCtxRetain", byref(context), 0)
ok("cuCtxSetCurrent", context)
stream = c_void_p()
ok("cuStreamCreate", byref(stream), 1)
"""


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holder]:
    with held(tmp_path_factory.mktemp("holder")) as holder:
        yield holder


def _run(holder: Holder, code: str, cap: int = CAP) -> dict[str, object]:
    return holder.run(f"CAP = {cap}\n{CUDA}\n{code}", mem_bytes=cap).facts


# --- the cap -------------------------------------------------------------------------------------------------


def test_the_cap_is_exact_and_going_over_it_is_the_drivers_own_error(holder: Holder) -> None:
    told = _run(
        holder,
        """
tell(empty=used())
most = alloc(CAP)
out = c_uint64()
tell(full=used(), over=cu.cuMemAlloc_v2(byref(out), c_size_t(1)))
give(most)
tell(freed=used(), huge=cu.cuMemAlloc_v2(byref(out), c_size_t(2**64 - 1)))
give(alloc(CAP))
total = c_size_t()
ok("cuDeviceTotalMem_v2", byref(total), 0)
tell(again=used(), total=total.value)
""",
    )

    assert told == {"empty": 0, "full": CAP, "over": 2, "freed": 0, "huge": OUT_OF_MEMORY, "again": 0, "total": CAP}


def test_without_a_cap_memory_is_what_it_is_and_counted_still(holder: Holder) -> None:
    code = CUDA.replace("assert total.value == CAP", "assert total.value == 16 << 30") + "alloc(CAP)\ntell(left=free())"
    told = holder.run(f"CAP = {CAP}\n{code}", mem_bytes=0).facts

    assert told["left"] == (16 << 30) - CAP


def test_a_failure_of_the_driver_costs_nothing(holder: Holder) -> None:
    told = _run(
        holder,
        """
out, pitch = c_uint64(), c_size_t()
tell(zero=cu.cuMemAlloc_v2(byref(out), c_size_t(0)),
     no_out=cu.cuMemAlloc_v2(None, c_size_t(MIB)),
     element=cu.cuMemAllocPitch_v2(byref(out), byref(pitch), c_size_t(100), c_size_t(100), 3),
     unknown=cu.cuMemFree_v2(c_uint64(12345)), twice=[give(p := alloc(MIB)), cu.cuMemFree_v2(p)][1], used=used())
""",
    )

    assert 0 not in [told[name] for name in ("zero", "no_out", "element", "unknown", "twice")]
    assert told["used"] == 0


def test_however_small_each_takes_the_drivers_unit(holder: Holder) -> None:
    assert _run(holder, "for _ in range(100): alloc(1)\ntell(used=used())")["used"] == 100 * 512


def test_threads_that_allocate_at_once_never_exceed_the_cap_together(holder: Holder) -> None:
    told = _run(
        holder,
        """
import threading
refused, most = [], []
def churn(seed):
    mine = []
    ok("cuCtxSetCurrent", context)
    for step in range(400):
        out = c_uint64()
        size = (1 + (seed * 7 + step * 13) % 5) * MIB
        result = cu.cuMemAlloc_v2(byref(out), c_size_t(size))
        assert result in (0, 2)
        if result == 0:
            mine.append(out)
        if result == 2 or len(mine) > 30:
            refused.append(result)
            give(mine.pop(seed % len(mine))) if mine else None
        if step % 50 == 0:
            most.append(used())
    for pointer in mine:
        give(pointer)
threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
tell(most=max(most), refused=2 in refused, left=used())
""",
    )

    assert told["most"] <= CAP  # type: ignore[operator]
    assert (told["refused"], told["left"]) == (True, 0)


# --- kinds ---------------------------------------------------------------------------------------------------


def test_rows_count_with_their_pitch(holder: Holder) -> None:
    told = _run(
        holder,
        """
out, pitch = c_uint64(), c_size_t()
ok("cuMemAllocPitch_v2", byref(out), byref(pitch), c_size_t(1000), c_size_t(1000), 4)
tell(right=used() == pitch.value * 1000 + (-pitch.value * 1000) % 512)
give(out)
tell(over=cu.cuMemAllocPitch_v2(byref(out), byref(pitch), c_size_t(513), c_size_t(CAP // 1024 + 1), 4), left=used())
""",
    )

    assert told == {"right": True, "over": OUT_OF_MEMORY, "left": 0}


def test_what_is_shared_by_others_or_lies_on_the_host_does_not_count(holder: Holder) -> None:
    told = _run(
        holder,
        """
host = c_void_p()
ok("cuMemHostAlloc", byref(host), c_size_t(MIB), 0)
ok("cuMemAllocHost_v2", byref(host), c_size_t(MIB))
managed = alloc(MIB, "cuMemAllocManaged", 1)
tell(managed=used())
give(managed)
tell(left=used())
""",
    )

    assert told == {"managed": MIB, "left": 0}


def test_arrays_count_until_they_are_destroyed(holder: Holder) -> None:
    told = _run(
        holder,
        """
flat = Array(1024, 256, 0, 0x20, 4, 0)
array, mipmap = c_void_p(), c_void_p()
ok("cuArray3DCreate_v2", byref(array), byref(flat))
one = used()
ok("cuMipmappedArrayCreate", byref(mipmap), byref(flat), 3)
tell(one=one, both=used())
ok("cuArrayDestroy", array)
ok("cuMipmappedArrayDestroy", mipmap)
large = Array(1 << 13, 1 << 13, 0, 0x20, 4, 0)
tell(left=used(), over=cu.cuArray3DCreate_v2(byref(array), byref(large)), still=used())
""",
    )

    one = 1024 * 256 * 16
    assert told["one"] == one
    assert told["both"] >= one + one + one // 4 + one // 16  # type: ignore[operator]
    assert (told["left"], told["over"], told["still"]) == (0, OUT_OF_MEMORY, 0)


def test_what_a_context_is_told_to_set_aside_counts(holder: Holder) -> None:
    told = _run(
        holder,
        """
HEAP, before = 2, c_size_t()
ok("cuCtxGetLimit", byref(before), HEAP)
ok("cuCtxSetLimit", HEAP, c_size_t(before.value + 10 * MIB))
grown = used()
over = cu.cuCtxSetLimit(HEAP, c_size_t(before.value + CAP + MIB))
tell(grown=grown, over=over, same=used())
ok("cuCtxSetLimit", HEAP, before)
tell(left=used())
""",
    )

    assert told == {"grown": 10 * MIB, "over": OUT_OF_MEMORY, "same": 10 * MIB, "left": 0}


# --- pools ---------------------------------------------------------------------------------------------------


def test_what_a_pool_keeps_counts_until_it_lets_go(holder: Holder) -> None:
    told = _run(
        holder,
        """
pool, keep = c_void_p(), c_uint64(2**64 - 1)
ok("cuDeviceGetDefaultMemPool", byref(pool), 0)
ok("cuMemPoolSetAttribute", pool, 4, byref(keep))  # CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
block = alloc(32 * MIB, "cuMemAllocAsync", stream)
give(block, "cuMemFreeAsync", stream)
ok("cuStreamSynchronize", stream)
kept = used()
block = alloc(32 * MIB, "cuMemAllocAsync", stream)
reused = used()
give(block, "cuMemFreeAsync", stream)
ok("cuStreamSynchronize", stream)
ok("cuMemPoolTrimTo", pool, c_size_t(0))
tell(kept=kept, reused=reused, trimmed=used())
""",
    )

    assert told == {"kept": 32 * MIB, "reused": 32 * MIB, "trimmed": 0}


def test_what_pools_keep_makes_room_before_anything_is_refused(holder: Holder) -> None:
    told = _run(
        holder,
        """
pool, keep = c_void_p(), c_uint64(2**64 - 1)
ok("cuDeviceGetDefaultMemPool", byref(pool), 0)
ok("cuMemPoolSetAttribute", pool, 4, byref(keep))
give(alloc(48 * MIB, "cuMemAllocAsync", stream), "cuMemFreeAsync", stream)
ok("cuStreamSynchronize", stream)
give(alloc(48 * MIB))
tell(left=used())
""",
    )

    assert told["left"] == 0


def test_own_pools_count_and_those_on_the_host_do_not(holder: Holder) -> None:
    told = _run(
        holder,
        """
own, on_host = c_void_p(), c_void_p()
ok("cuMemPoolCreate", byref(own), byref(Pool(1, 0, Location(1, 0), None, 0)))
block = alloc(8 * MIB, "cuMemAllocFromPoolAsync", own, stream)
tell(own=used(), over=cu.cuMemAllocFromPoolAsync_ptsz(byref(c_uint64()), c_size_t(CAP), own, stream))
give(block, "cuMemFreeAsync", stream)
ok("cuStreamSynchronize", stream)
ok("cuMemPoolDestroy", own)
tell(destroyed=used())
if cu.cuMemPoolCreate(byref(on_host), byref(Pool(1, 0, Location(2, 0), None, 0))) == 0:
    alloc(8 * MIB, "cuMemAllocFromPoolAsync", on_host, stream)
tell(on_host=used())
""",
    )

    assert told == {"own": 8 * MIB, "over": OUT_OF_MEMORY, "destroyed": 0, "on_host": 0}


# --- virtual memory ------------------------------------------------------------------------------------------

VIRTUAL = """
device = Properties(1, 1, Location(1, 0), None, 0)

def create(size):
    handle = c_uint64()
    ok("cuMemCreate", byref(handle), c_size_t(size), byref(device), c_uint64(0))
    return handle

def reserve(size):
    address = c_uint64()
    ok("cuMemAddressReserve", byref(address), c_size_t(size), c_size_t(0), c_uint64(0), c_uint64(0))
    return address.value

def map_at(address, size, handle):
    ok("cuMemMap", c_uint64(address), c_size_t(size), c_size_t(0), handle, c_uint64(0))
"""


def test_physical_memory_is_in_use_while_a_handle_or_a_mapping_is_left(holder: Holder) -> None:
    told = _run(
        holder,
        VIRTUAL
        + """
size = 4 * MIB
handle, address = create(size), reserve(4 * size)
map_at(address, size, handle)
map_at(address + size, size, handle)
created = used()
ok("cuMemRelease", handle)
mapped = used()
again = c_uint64()
ok("cuMemRetainAllocationHandle", byref(again), c_void_p(address + MIB))
ok("cuMemUnmap", c_uint64(address), c_size_t(2 * size))
retained = used()
ok("cuMemRelease", again)
tell(created=created, mapped=mapped, retained=retained, left=used())
""",
    )

    assert told == {"created": 4 * MIB, "mapped": 4 * MIB, "retained": 4 * MIB, "left": 0}


def test_unmapping_takes_all_mappings_of_its_range_also_after_a_gap(holder: Holder) -> None:
    told = _run(
        holder,
        VIRTUAL
        + """
size = 2 * MIB
address = reserve(8 * size)
for place in (0, 1, 3, 6):
    handle = create(size)
    map_at(address + place * size, size, handle)
    ok("cuMemRelease", handle)
before = used()
for start, count in ((0, 2), (3, 1), (6, 1)):
    ok("cuMemUnmap", c_uint64(address + start * size), c_size_t(count * size))
over = cu.cuMemCreate(byref(c_uint64()), c_size_t(CAP + size), byref(device), c_uint64(0))
tell(before=before, left=used(), over=over)
""",
    )

    assert told == {"before": 8 * MIB, "left": 0, "over": OUT_OF_MEMORY}


def test_what_was_exported_counts_once_and_until_its_descriptor_is_closed(holder: Holder) -> None:
    """Else memory could be hidden: exported, released, and imported again."""
    told = _run(
        holder,
        VIRTUAL
        + """
handle, fd, imported = create(8 * MIB), c_int(), c_uint64()
ok("cuMemExportToShareableHandle", byref(fd), handle, 1, c_uint64(0))
ok("cuMemRelease", handle)
exported = used()
ok("cuMemImportFromShareableHandle", byref(imported), c_void_p(fd.value), 1)
both = used()
ok("cuMemRelease", imported)
os.close(fd.value)
tell(exported=exported, both=both, left=used())
""",
    )

    assert told == {"exported": 8 * MIB, "both": 8 * MIB, "left": 0}


# --- graphs --------------------------------------------------------------------------------------------------

GRAPHS = """
def allocating(size, count=1):
    graph, node = c_void_p(), c_void_p()
    ok("cuGraphCreate", byref(graph), 0)
    for _ in range(count):
        wanted = Node(Pool(1, 0, Location(1, 0), None, 0), None, 0, size, 0)
        ok("cuGraphAddMemAllocNode", byref(node), graph, None, c_size_t(0), byref(wanted))
    return graph, wanted
"""


def test_graphs_count_what_they_allocate_from_their_instantiation_on(holder: Holder) -> None:
    told = _run(
        holder,
        GRAPHS
        + """
graph, _ = allocating(4 * MIB, 2)
first, second = c_void_p(), c_void_p()
before = used()
ok("cuGraphInstantiateWithFlags", byref(first), graph, c_uint64(0))
instantiated = used()
large, _ = allocating(CAP)
over = cu.cuGraphInstantiateWithFlags(byref(second), large, c_uint64(0))
ok("cuGraphExecDestroy", first)
tell(before=before, instantiated=instantiated, over=over, left=used())
""",
    )

    assert told == {"before": 0, "instantiated": 8 * MIB, "over": OUT_OF_MEMORY, "left": 0}


def test_what_a_graph_left_allocated_counts_after_the_graph_is_gone(holder: Holder) -> None:
    told = _run(
        holder,
        GRAPHS
        + """
graph, wanted = allocating(4 * MIB)
instance = c_void_p()
ok("cuGraphInstantiateWithFlags", byref(instance), graph, c_uint64(0))
ok("cuGraphLaunch", instance, stream)
ok("cuStreamSynchronize", stream)
ok("cuGraphExecDestroy", instance)
destroyed = used()
give(c_uint64(wanted.out))
ok("cuGraphDestroy", graph)
ok("cuDeviceGraphMemTrim", 0)
tell(destroyed=destroyed, left=used())
""",
    )

    assert told == {"destroyed": 4 * MIB, "left": 0}


def test_a_captured_allocation_counts_with_its_graph(holder: Holder) -> None:
    told = _run(
        holder,
        """
ok("cuStreamBeginCapture_v2", stream, 2)
block = alloc(4 * MIB, "cuMemAllocAsync", stream)
give(block, "cuMemFreeAsync", stream)
graph, instance = c_void_p(), c_void_p()
ok("cuStreamEndCapture", stream, byref(graph))
captured = used()
ok("cuGraphInstantiateWithFlags", byref(instance), graph, c_uint64(0))
instantiated = used()
ok("cuGraphExecDestroy", instance)
tell(captured=captured, instantiated=instantiated, left=used())
""",
    )

    assert told == {"captured": 0, "instantiated": 4 * MIB, "left": 0}


# --- ends ----------------------------------------------------------------------------------------------------


def test_a_context_that_ends_gives_back_what_was_allocated_in_it(holder: Holder) -> None:
    told = _run(
        holder,
        """
mine = alloc(MIB)
other, popped = c_void_p(), c_void_p()
ok("cuCtxCreate_v2", byref(other), 0, 0)
alloc(8 * MIB)
array = c_void_p()
ok("cuArray3DCreate_v2", byref(array), byref(Array(1024, 256, 0, 0x20, 4, 0)))
both = used()
ok("cuCtxDestroy_v2", other)
ok("cuCtxSetCurrent", context)
first = used()
ok("cuDevicePrimaryCtxReset_v2", 0)
ok("cuDevicePrimaryCtxRetain", byref(context), 0)
ok("cuCtxSetCurrent", context)
tell(both=both, first=first, left=used())
""",
    )

    assert told == {"both": 13 * MIB, "first": MIB, "left": 0}


def test_processes_of_one_instance_share_its_cap(holder: Holder, tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(
        f"""{PRELUDE}
CAP = {CAP}
{CUDA}
out = c_uint64()
over = cu.cuMemAlloc_v2(byref(out), c_size_t(CAP // 2 + 512))
alloc(CAP // 4)
tell(over=over, together=used())
"""
    )
    told = _run(
        holder,
        f"""
import subprocess
alloc(CAP // 2)
subprocess.run([sys.executable, "-I", "-S", "{script}"], check=True)
while used() > CAP // 2:  # until the daemon has heard of its end
    os.sched_yield()
tell(alone=used())
""",
    )

    assert told == {"over": OUT_OF_MEMORY, "together": CAP * 3 // 4, "alone": CAP // 2}


def test_a_child_that_forks_and_goes_on_begins_with_nothing(holder: Holder) -> None:
    told = _run(
        holder,
        """
alloc(MIB)
child = os.fork()
if child == 0:
    os._exit(0)
tell(status=os.waitpid(child, 0)[1], used=used())
""",
    )

    assert told == {"status": 0, "used": MIB}


def test_nvml_shows_the_cap_and_this_process_alone(holder: Holder) -> None:
    told = _run(
        holder,
        """
nvml = ctypes.CDLL("libnvidia-ml.so.1")
handle, count = c_void_p(), c_uint(0)
class Memory(ctypes.Structure):
    _fields_ = [("total", c_uint64), ("free", c_uint64), ("used", c_uint64)]
class Process(ctypes.Structure):
    _fields_ = [("pid", c_uint), ("used", c_uint64), ("gpu", c_uint), ("compute", c_uint)]
alloc(5 * MIB)
memory, processes = Memory(), (Process * 4)()
assert nvml.nvmlInit_v2() == 0
assert nvml.nvmlDeviceGetHandleByIndex_v2(0, byref(handle)) == 0
assert nvml.nvmlDeviceGetMemoryInfo(handle, byref(memory)) == 0
tell(total=memory.total, free=memory.free, used=memory.used)
tell(too_few=nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle, byref(count), None), needs=count.value)
count.value = 4
assert nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle, byref(count), processes) == 0
tell(count=count.value, own=processes[0].pid == os.getpid(), counted=processes[0].used)
""",
    )

    assert (told["total"], told["free"], told["used"]) == (CAP, CAP - 5 * MIB, 5 * MIB)
    assert (told["too_few"], told["needs"]) == (7, 1)
    assert (told["count"], told["own"], told["counted"]) == (1, True, 5 * MIB)
