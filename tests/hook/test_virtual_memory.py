"""Physical memory counts while a handle, a mapping or a descriptor of it is left."""

from __future__ import annotations

from tests.hook.calls import MIB, OUT_OF_MEMORY, run
from tests.hook.children import Holder

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
    told = run(
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
    told = run(
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
    told = run(
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
