"""Memory that is freed into a pool counts for as long as the pool keeps it."""

from __future__ import annotations

from tests.hook.calls import MIB, OUT_OF_MEMORY, run
from tests.hook.children import Holder


def test_what_a_pool_keeps_counts_until_it_lets_go(holder: Holder) -> None:
    told = run(
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
    told = run(
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
    told = run(
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
