"""M7 on a device: going over the cap is the driver's own error, and every kind of allocation counts."""

from __future__ import annotations

from pathlib import Path

from tests.hook.calls import CAP, CUDA, MIB, OUT_OF_MEMORY, run
from tests.hook.children import PRELUDE, Holder


def test_the_cap_is_exact_and_going_over_it_is_the_drivers_own_error(holder: Holder) -> None:
    told = run(
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
    told = run(
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
    assert run(holder, "for _ in range(100): alloc(1)\ntell(used=used())")["used"] == 100 * 512


def test_threads_that_allocate_at_once_never_exceed_the_cap_together(holder: Holder) -> None:
    told = run(
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


def test_rows_count_with_their_pitch(holder: Holder) -> None:
    told = run(
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
    told = run(
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
    told = run(
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
    told = run(
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


def test_a_context_that_ends_gives_back_what_was_allocated_in_it(holder: Holder) -> None:
    told = run(
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
    told = run(
        holder,
        f"""
import subprocess, time
alloc(CAP // 2)
subprocess.run([sys.executable, "-I", "-S", "{script}"], check=True)
give_up = time.monotonic() + 10
while used() > CAP // 2 and time.monotonic() < give_up:  # until the daemon has heard of its end
    os.sched_yield()
tell(alone=used())
""",
    )

    assert told == {"over": OUT_OF_MEMORY, "together": CAP * 3 // 4, "alone": CAP // 2}


def test_a_child_that_forks_and_goes_on_begins_with_nothing(holder: Holder) -> None:
    told = run(
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
    told = run(
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
