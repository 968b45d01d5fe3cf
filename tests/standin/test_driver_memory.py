"""The stand-in's driver: memory of every kind, what it counts, and copies in it."""

from __future__ import annotations

import pytest
from tests.standin.programs import on_driver

GIB = 1 << 30
SMALL = f"mem={GIB}"


def test_allocations_are_aligned_counted_and_given_back() -> None:
    assert on_driver(
        """
        start()
        places = [alloc(size) for size in (1, 512, 513, 1 << 20)]
        print(all(place % 512 == 0 for place in places), taken())
        base, size = c_uint64(), c_size_t()
        must("cuMemGetAddressRange_v2", byref(base), byref(size), address(places[2] + 512))
        print(base.value == places[2], size.value, call("cuMemGetAddressRange_v2", byref(base), None, address(1)))
        for place in places[1:]:
            must("cuMemFree_v2", address(place))
        print(taken(), call("cuMemFree_v2", address(places[1])), call("cuMemFree_v2", address(places[0] + 1)))
        print(call("cuMemAlloc_v2", byref(c_uint64()), c_size_t(0)), call("cuMemFree_v2", address(0)))
        """
    ) == [
        f"True {512 + 512 + 1024 + (1 << 20)}",
        "True 513 NOT_FOUND",
        "512 INVALID_VALUE INVALID_VALUE",
        "INVALID_VALUE SUCCESS",
    ]


def test_more_than_there_is_is_out_of_memory_and_the_program_goes_on() -> None:
    assert on_driver(
        """
        start()
        def tried(size):
            return call("cuMemAlloc_v2", byref(c_uint64()), c_size_t(size))
        whole = alloc(1 << 30)
        print(tried(1), taken() >> 20)
        must("cuMemFree_v2", address(whole))
        print(tried((1 << 30) + 1), tried(1 << 63))
        pieces = [alloc(1 << 20) for _ in range(1024)]
        for piece in pieces[::2]:
            must("cuMemFree_v2", address(piece))
        # Half of it is free, in pieces: what a GPU's page tables put together, our addresses must too.
        alloc(512 << 20)
        print(taken() >> 20)
        """,
        SMALL,
    ) == ["OUT_OF_MEMORY 1024", "OUT_OF_MEMORY OUT_OF_MEMORY", "1024"]


def test_ten_thousand_allocations_are_no_slower_to_free_than_ten() -> None:
    (distinct,) = on_driver(
        """
        start()
        places = [alloc(4096) for _ in range(10000)]
        print(len(set(places)))
        for place in places[::2] + places[1::2]:
            must("cuMemFree_v2", address(place))
        assert taken() == 0
        """
    )
    assert distinct == "10000"


def test_the_first_versions_of_the_calls_work_with_addresses_of_32_bits() -> None:
    assert on_driver(
        """
        start()
        place, pitch, free, total = c_uint(), c_uint(), c_uint(), c_uint()
        must("cuMemAlloc", byref(place), 1000)
        must("cuMemsetD8", place, 7, 1000)
        buffer = ctypes.create_string_buffer(1000)
        must("cuMemcpyDtoH", buffer, place, 1000)
        print(set(buffer.raw), 0 < place.value < 1 << 32, taken())
        rows = c_uint()
        must("cuMemAllocPitch", byref(rows), byref(pitch), 100, 10, 4)
        must("cuMemGetInfo", byref(free), byref(total))
        print(pitch.value, total.value - free.value)
        for one in place, rows:
            must("cuMemFree", one)
        print(taken())
        """,
        SMALL,
    ) == ["{7} True 1024", "512 6144", "0"]


def test_rows_are_pitched() -> None:
    assert on_driver(
        """
        start()
        place, pitch = c_uint64(), c_size_t()
        must("cuMemAllocPitch_v2", byref(place), byref(pitch), c_size_t(600), c_size_t(3), 8)
        print(pitch.value, taken())
        must("cuMemsetD2D32_v2", place, pitch, 0x01020304, c_size_t(2), c_size_t(3))
        print(bytes_at(place.value + pitch.value, 9).hex(), bytes_at(place.value + 2 * pitch.value, 8).hex())
        print(call("cuMemAllocPitch_v2", byref(place), byref(pitch), c_size_t(600), c_size_t(3), 5))
        """
    ) == ["1024 3072", "040302010403020100 0403020104030201", "INVALID_VALUE"]


def test_fills_and_copies_do_what_they_say() -> None:
    assert on_driver(
        """
        start()
        one, other = alloc(4096), alloc(4096)
        must("cuMemsetD8_v2", address(one), 1, c_size_t(10))
        must("cuMemsetD16_v2", address(one), 0x0203, c_size_t(2))
        must("cuMemsetD32Async", address(one + 8), 0x04050607, c_size_t(1), None)
        print(bytes_at(one, 12).hex())
        must("cuMemcpyDtoD_v2", address(other), address(one), c_size_t(12))
        must("cuMemcpy", address(other + 12), address(one), c_size_t(4))
        must("cuMemcpyHtoD_v2", address(other + 16), b"abcd", c_size_t(4))
        must("cuMemcpyAsync", address(other + 20), address(other + 16), c_size_t(4), None)
        print(bytes_at(other, 24).hex())
        buffer = ctypes.create_string_buffer(8)
        must("cuMemcpyDtoHAsync_v2", buffer, address(other + 16), c_size_t(8), None)
        wait()
        print(buffer.raw)
        """
    ) == ["030203020101010107060504", "030203020101010107060504" + "03020302" + b"abcdabcd".hex(), "b'abcdabcd'"]


def test_copies_beyond_an_allocation_are_refused() -> None:
    assert on_driver(
        """
        start()
        place = alloc(4096)
        buffer = ctypes.create_string_buffer(8192)
        for size in 4096, 4097:
            print(
                call("cuMemcpyDtoH_v2", buffer, address(place), c_size_t(size)),
                call("cuMemcpyHtoD_v2", address(place), buffer, c_size_t(size)),
            )
        print(
            call("cuMemcpyHtoD_v2", buffer, address(place), c_size_t(8)),
            call("cuMemsetD8_v2", address(5), 0, c_size_t(1)),
        )
        print(
            call("cuMemsetD32_v2", address(place + 2), 0, c_size_t(1)),
            call("cuMemcpyDtoH_v2", buffer, address(0), c_size_t(0)),
        )
        """
    ) == ["SUCCESS SUCCESS", "INVALID_VALUE INVALID_VALUE", "INVALID_VALUE INVALID_VALUE", "INVALID_VALUE SUCCESS"]


def test_copies_take_their_time_on_the_device() -> None:
    (to_device, within) = on_driver(
        """
        start()
        one, other = alloc(64 << 20), alloc(64 << 20)
        host = ctypes.create_string_buffer(5_000_000)
        kernel = function(b"spin")
        for copy, source in ("cuMemcpyHtoDAsync_v2", host), ("cuMemcpyDtoDAsync_v2", address(other)):
            spin(kernel, 150)
            before = recorded()
            must(copy, address(one), source, c_size_t(5_000_000), None)
            after = recorded()
            wait()
            print(elapsed_ms(before, after))
        """
    )
    # 50 and 1675 bytes a nanosecond, and a microsecond to start.
    assert float(to_device) == pytest.approx(0.101, abs=1e-3)
    assert float(within) == pytest.approx(0.004, abs=1e-3)


def test_pinned_memory_is_the_hosts() -> None:
    assert on_driver(
        """
        start()
        place, pointer, flags = c_void_p(), c_uint64(), c_uint()
        must("cuMemHostAlloc", byref(place), c_size_t(100), 1)
        must("cuMemHostGetDevicePointer_v2", byref(pointer), place, 0)
        must("cuMemHostGetFlags", byref(flags), place)
        print(pointer.value == place.value, flags.value, taken())
        must("cuMemsetD8_v2", pointer, 9, c_size_t(100))
        wait()
        print(ctypes.string_at(place, 3))
        must("cuMemFreeHost", place)
        print(call("cuMemFreeHost", place))
        mine = ctypes.create_string_buffer(5000)
        must("cuMemHostRegister_v2", mine, c_size_t(5000), 0)
        print(call("cuMemHostRegister_v2", mine, c_size_t(10), 0))
        must("cuMemHostUnregister", mine)
        print(call("cuMemHostUnregister", mine))
        """
    ) == ["True 3 0", "b'\\t\\t\\t'", "INVALID_VALUE", "HOST_MEMORY_ALREADY_REGISTERED", "HOST_MEMORY_NOT_REGISTERED"]


def test_managed_memory_is_both_and_may_be_more_than_there_is() -> None:
    assert on_driver(
        """
        start()
        place = new(c_uint64, "cuMemAllocManaged", c_size_t(1 << 20), 1)
        print(taken())
        ctypes.memset(place, 5, 10)
        print(bytes_at(place, 2).hex())
        must("cuMemPrefetchAsync_v2", address(place), c_size_t(1 << 20), DEVICE, 0, None)
        must("cuMemAdvise_v2", address(place), c_size_t(1 << 20), 1, DEVICE)
        new(c_uint64, "cuMemAllocManaged", c_size_t(3 << 30), 1)
        print(taken(), call("cuMemAllocManaged", byref(c_uint64()), c_size_t(1), 4))
        must("cuMemFree_v2", address(place))
        print(taken())
        """,
        SMALL,
    ) == [str(1 << 20), "0505", f"{1 << 20} INVALID_VALUE", "0"]


def test_an_address_can_be_asked_what_it_is() -> None:
    assert on_driver(
        """
        context = start()
        place = alloc(1000)
        pinned = new(c_void_p, "cuMemAllocHost_v2", c_size_t(100)).value
        pool = new(c_uint64, "cuMemAllocAsync", c_size_t(100), None)


        def asked(at, attribute, kind=c_uint64):
            value = kind()
            result = call("cuPointerGetAttribute", byref(value), attribute, address(at))
            return value.value if result == "SUCCESS" else result


        print(
            asked(place + 5, 1) == context.value,
            asked(place, 2),
            asked(pinned, 2),
            asked(place, 8),
            asked(place + 5, 11) == place,
            asked(place, 12),
        )
        print(
            asked(pinned, 4) == pinned,
            asked(place, 4),
            asked(12345, 2),
            asked(pool, 17) == new(c_uint64, "cuDeviceGetMemPool", 0),
        )
        types, ordinal = c_uint(7), c_int(7)
        data = (c_void_p * 2)(ctypes.addressof(types), ctypes.addressof(ordinal))
        for at in place, 12345:
            must("cuPointerGetAttributes", 2, (c_int * 2)(2, 9), data, address(at))
            print(types.value, ordinal.value)
        """
    ) == ["True 2 1 0 True 1000", "True INVALID_VALUE INVALID_VALUE True", "2 0", "0 -2"]


def test_pools_keep_what_they_are_told_to() -> None:
    assert on_driver(
        """
        start()
        pool = new(c_void_p, "cuDeviceGetDefaultMemPool", 0)


        def figures():
            values = [c_uint64() for _ in range(4)]
            for value, attribute in zip(values, (5, 6, 7, 8)):
                must("cuMemPoolGetAttribute", pool, attribute, byref(value))
            return [value.value >> 20 for value in values]


        def take(size):
            return new(c_uint64, "cuMemAllocAsync", c_size_t(size), None)


        one, other = take(8 << 20), take(4 << 20)
        print(*figures(), taken() >> 20)
        must("cuMemFreeAsync", address(one), None)
        print(*figures(), taken() >> 20)
        wait()
        print(*figures(), taken() >> 20)
        must("cuMemPoolSetAttribute", pool, 4, byref(c_uint64(6 << 20)))
        must("cuMemPoolSetAttribute", pool, 8, byref(c_uint64(0)))
        one = take(8 << 20)
        must("cuMemFreeAsync", address(one), None)
        must("cuMemFree_v2", address(other))
        wait()
        print(*figures(), taken() >> 20)
        must("cuMemPoolTrimTo", pool, c_size_t(1 << 20))
        print(*figures(), taken() >> 20, call("cuMemPoolSetAttribute", pool, 5, byref(c_uint64(1))))
        """
    ) == ["12 12 12 12 12", "12 12 4 12 12", "4 12 4 12 4", "6 12 0 12 6", "1 12 0 12 1 INVALID_VALUE"]


def test_a_pool_of_ones_own_has_a_limit_and_an_end() -> None:
    assert on_driver(
        """
        start()
        props = PoolProps(type=1, location=DEVICE, max_size=8 << 20)
        pool = new(c_void_p, "cuMemPoolCreate", byref(props))


        def take(size):
            return call("cuMemAllocFromPoolAsync", byref(c_uint64()), c_size_t(size), pool, None)


        print(take(6 << 20), take(4 << 20), taken() >> 20)
        must("cuDeviceSetMemPool", 0, pool)
        print(call("cuMemAllocAsync", byref(c_uint64()), c_size_t(4 << 20), None))
        must("cuMemPoolDestroy", pool)
        print(taken(), take(1), call("cuMemAllocAsync_ptsz", byref(c_uint64()), c_size_t(4 << 20), None))
        standard = new(c_void_p, "cuDeviceGetDefaultMemPool", 0)
        print(call("cuMemPoolDestroy", standard), new(c_void_p, "cuDeviceGetMemPool", 0).value == standard.value)
        """
    ) == ["SUCCESS OUT_OF_MEMORY 6", "OUT_OF_MEMORY", "0 INVALID_VALUE SUCCESS", "INVALID_VALUE True"]


def test_memory_that_a_pool_keeps_gives_way() -> None:
    assert on_driver(
        """
        start()
        pool = new(c_void_p, "cuDeviceGetDefaultMemPool", 0)
        must("cuMemPoolSetAttribute", pool, 4, byref(c_uint64(1 << 40)))
        must("cuMemFreeAsync", address(new(c_uint64, "cuMemAllocAsync", c_size_t(800 << 20), None)), None)
        wait()
        print(taken() >> 20)
        alloc(700 << 20)
        print(taken() >> 20)
        """,
        SMALL,
    ) == ["800", "700"]


def test_arrays_hold_rows() -> None:
    assert on_driver(
        """
        start()


        class Array(ctypes.Structure):
            _fields_ = (("width", c_size_t), ("height", c_size_t), ("format", c_int), ("channels", c_uint))


        class Solid(ctypes.Structure):
            _fields_ = (
                ("width", c_size_t),
                ("height", c_size_t),
                ("depth", c_size_t),
                ("format", c_int),
                ("channels", c_uint),
                ("flags", c_uint),
            )


        class Needs(ctypes.Structure):
            _fields_ = (("size", c_size_t), ("alignment", c_size_t), ("reserved", c_uint * 4))


        flat = new(c_void_p, "cuArrayCreate_v2", byref(Array(100, 10, 0x20, 1)))
        print(taken(), new(Array, "cuArrayGetDescriptor_v2", flat).height)
        must("cuMemcpyHtoA_v2", flat, c_size_t(4), b"abcdefgh", c_size_t(8))
        buffer = ctypes.create_string_buffer(8)
        must("cuMemcpyAtoH_v2", buffer, flat, c_size_t(8), c_size_t(4))
        print(buffer.raw, call("cuMemcpyHtoA_v2", flat, c_size_t(396), b"abcdefgh", c_size_t(8)))
        solid = new(c_void_p, "cuArray3DCreate_v2", byref(Solid(16, 16, 16, 1, 4, 0)))
        print(new(Needs, "cuArrayGetMemoryRequirements", solid, 0).size)
        levels = new(c_void_p, "cuMipmappedArrayCreate", byref(Solid(64, 64, 0, 0x20, 1, 0)), 9)
        level = new(c_void_p, "cuMipmappedArrayGetLevel", levels, 2)
        print(
            new(Array, "cuArrayGetDescriptor_v2", level).width,
            call("cuMipmappedArrayGetLevel", byref(c_void_p()), levels, 7),
        )
        for what, handle in ("Array", flat), ("Array", solid), ("MipmappedArray", levels):
            must(f"cu{what}Destroy", handle)
        print(
            taken(),
            call("cuArrayDestroy", flat),
            call("cuArrayCreate_v2", byref(c_void_p()), byref(Array(0, 1, 1, 1))),
        )
        """
    ) == [
        "4096 10",
        "b'efgh\\x00\\x00\\x00\\x00' INVALID_VALUE",
        str(16 * 16 * 16 * 4),
        "16 INVALID_VALUE",
        "0 INVALID_HANDLE INVALID_VALUE",
    ]


def test_boxes_are_copied() -> None:
    assert on_driver(
        """
        start()


        class Copy(ctypes.Structure):
            _fields_ = tuple(
                (f"{side}_{name}", kind)
                for side in ("src", "dst")
                for name, kind in (
                    ("x", c_size_t),
                    ("y", c_size_t),
                    ("z", c_size_t),
                    ("lod", c_size_t),
                    ("type", c_int),
                    ("host", c_void_p),
                    ("device", c_uint64),
                    ("array", c_void_p),
                    ("reserved", c_void_p),
                    ("pitch", c_size_t),
                    ("height", c_size_t),
                )
            ) + (("width", c_size_t), ("rows", c_size_t), ("depth", c_size_t))


        numbers = ctypes.create_string_buffer(bytes(range(60)), 60)  # 5 x 4 x 3
        place = alloc(4096)
        box = Copy(
            src_type=1,
            src_host=ctypes.addressof(numbers),
            src_pitch=5,
            src_height=4,
            src_x=1,
            src_y=1,
            src_z=1,
            dst_type=2,
            dst_device=place,
            dst_pitch=3,
            dst_height=2,
            width=3,
            rows=2,
            depth=2,
        )
        must("cuMemcpy3D_v2", byref(box))
        print(*bytes_at(place, 12))
        box.depth = 3000
        print(call("cuMemcpy3DAsync_v2", byref(box), None), call("cuMemcpy3D_v2", None))
        """
    ) == ["26 27 28 31 32 33 46 47 48 51 52 53", "INVALID_VALUE INVALID_VALUE"]


def test_many_copies_go_in_one_call() -> None:
    assert on_driver(
        """
        start()
        one, other, line = alloc(100), alloc(100), stream()
        must("cuMemsetD8_v2", address(one), 7, c_size_t(100))
        wait()
        attributes = ctypes.create_string_buffer(64)


        def batch(to, count=2):
            return call(
                "cuMemcpyBatchAsync_v2",
                (c_uint64 * 2)(other, other + 50),
                (c_uint64 * 2)(one, one + 10),
                (c_size_t * 2)(3, 4),
                c_size_t(count),
                attributes,
                (c_size_t * 1)(0),
                c_size_t(1),
                to,
            )


        print(batch(line), batch(None), batch(line, 0))
        must("cuStreamSynchronize", line)
        print(bytes_at(other, 4).hex(), bytes_at(other + 50, 4).hex())
        """
    ) == ["SUCCESS INVALID_VALUE INVALID_VALUE", "07070700 07070707"]
