"""The stand-in's driver: images of every kind, functions and what they say, every way to launch, and bodies."""

from __future__ import annotations

import struct
import subprocess
import textwrap
from pathlib import Path

import pytest
from tests.standin.compilers import compile_cubin
from tests.standin.programs import on_driver

PTX = b".version 8.7\n.target sm_90\n"


def test_ptx_says_what_is_in_it() -> None:
    assert on_driver(
        '''
        start()
        image = module(b"""
        .version 8.7  // .entry hidden() {}
        .target sm_90a, debug
        .address_size 64 /* .entry hidden() {} */
        .visible .global .align 4 .u32 table[4] = {1, -2, 0x3};
        .extern .shared .align 16 .b8 buffer[];
        .visible .const .align 8 .f64 limit = 0d3FF0000000000000;
        .global .align 1 .b8 text[] = {104, 105, 0};
        .func (.param .b32 out) called(.param .b64 in) { .reg .b32 %r<2>; { call hidden, (.entry); } ret; }
        .weak .entry first(.param .u8 a, .param .u64 .ptr .global .align 16 b, .param .align 4 .b8 c[6])
        .maxntid 128, 2, 1
        { .shared .align 4 .b8 scratch[64]; { } .shared .f32 more[4]; ret; }
        .visible .entry second() { ret; }
        """)
        count = c_uint()
        must("cuModuleGetFunctionCount", byref(count), image)
        print(count.value, call("cuModuleGetFunction", byref(c_void_p()), image, b"hidden"))
        first = function(b"first", image)
        offset, size = c_size_t(), c_size_t()
        found = []
        while call("cuFuncGetParamInfo", first, c_size_t(len(found)), byref(offset), byref(size)) == "SUCCESS":
            found.append((offset.value, size.value))
        print(*found)
        print(*[new(c_int, "cuFuncGetAttribute", attribute, first) for attribute in (0, 1, 4)])
        for name in b"table", b"limit", b"text":
            place, size = c_uint64(), c_size_t()
            must("cuModuleGetGlobal_v2", byref(place), byref(size), image, name)
            print(bytes_at(place.value, size.value).hex())
        print(call("cuModuleGetGlobal_v2", byref(c_uint64()), None, image, b"buffer"))
        must("cuModuleUnload", image)
        print(taken(), call("cuFuncGetAttribute", byref(c_int()), 0, first), call("cuModuleUnload", image))
        '''
    ) == [
        "2 NOT_FOUND",
        "(0, 1) (8, 8) (16, 6)",
        "256 80 32",
        "01000000feffffff0300000000000000",
        "000000000000f03f",
        "686900",
        "NOT_FOUND",
        "0 INVALID_HANDLE INVALID_HANDLE",
    ]


@pytest.mark.parametrize(
    ("directive", "complaint"),
    [
        ("full_ns=soon", "full_ns=soon: allowed is 0 to 3600000000000, or @PARAMETER"),
        ("full_ns=5 blocks_per_sm=33", "blocks_per_sm=33: allowed is 1 to 32"),
        ("full_ns=5 colour=red", "colour=red: allowed is the keys full_ns, blocks_per_sm, bandwidth and fault"),
        ("bandwidth=5", "full_ns is missing: allowed is 0 to 3600000000000, or @PARAMETER"),
    ],
)
def test_a_wrong_directive_is_named(directive: str, complaint: str) -> None:
    image = f".version 8.0\n//.standin {directive}\n.entry odd() {{ ret; }}\n".encode()
    assert on_driver(
        f"""
        import os, sys
        start()
        os.dup2(1, 2)
        print(call("cuModuleLoadData", byref(c_void_p()), {image!r}))
        """
    ) == [f"stand-in libcuda: odd: .standin: {complaint}", "INVALID_PTX"]


def test_what_is_no_image_is_refused() -> None:
    assert (
        on_driver(
            r"""
        start()
        for image in b"", b"nonsense", b"\x7fELF" + bytes(100), b"\x50\xed\x55\xba" + bytes(100):
            print(
                call("cuModuleLoadData", byref(c_void_p()), image),
                call("cuModuleLoad", byref(c_void_p()), b"/nowhere"),
            )
        """
        )
        == ["INVALID_IMAGE FILE_NOT_FOUND"] * 4
    )


SOURCE = """
extern "C" __global__ void __launch_bounds__(512) scale(float* values, float by, int count) {
  __shared__ float scratch[32];
  scratch[threadIdx.x % 32] = by;
  if (threadIdx.x < count) values[threadIdx.x] *= scratch[threadIdx.x % 32];
}
__device__ int counters[3] = {1, 2, 3};
"""


def lz4(data: bytes) -> bytes:
    """The simplest block there is: literals."""
    length, token = len(data), min(len(data), 15) << 4
    more = b"" if length < 15 else b"\xff" * ((length - 15) // 255) + bytes([(length - 15) % 255])
    return bytes([token]) + more + data


def fatbin(kind: int, data: bytes, flags: int, unpacked: int) -> bytes:
    entry = struct.pack("<HHIQIIHHIIIQQQ", kind, 257, 64, len(data), len(data), 0, 8, 1, 90, 0, 0, flags, 0, unpacked)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entry) + len(data)) + entry + data


@pytest.fixture(scope="module")
def cubin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cubin")
    source = place / "scale.cu"
    source.write_text(SOURCE)
    return compile_cubin(source, place / "scale.cubin")


FOUND = """
kernel = function(b"scale", image)
offset, size, threads = c_size_t(), c_size_t(), c_int()
must("cuFuncGetParamInfo", kernel, c_size_t(2), byref(offset), byref(size))
must("cuFuncGetAttribute", byref(threads), 0, kernel)
place = c_uint64()
must("cuModuleGetGlobal_v2", byref(place), None, image, b"counters")
other = call("cuModuleGetFunction", byref(c_void_p()), image, b"other")
print(offset.value, size.value, threads.value, *bytes_at(place.value, 12)[::4], other)
"""


def test_cubins_and_fat_binaries_say_the_same(cubin: Path, tmp_path: Path) -> None:
    data = cubin.read_bytes()
    images = {"plain": data, "fat": fatbin(2, data, 0x11, 0), "packed": fatbin(2, lz4(data), 0x2011, len(data))}
    for name, image in images.items():
        (tmp_path / name).write_bytes(image)
    assert (
        on_driver(
            f"start()\nfor name in {list(images)}:\n"
            + textwrap.indent(f"image = new(c_void_p, 'cuModuleLoad', f'{tmp_path}/{{name}}'.encode())\n{FOUND}", " ")
        )
        == ["12 4 512 1 2 3 NOT_FOUND"] * 3
    )


PACKED = "device code is packed in a way that it cannot unpack; nvcc --compress-mode=none keeps it readable"
"""Said once by a program, however many such images it loads."""


def test_what_cannot_be_unpacked_is_believed(cubin: Path, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(fatbin(2, b"(\xb5/\xfd" + bytes(60), 0x8011, 5000))
    assert on_driver(
        f"""
        start()
        image = new(c_void_p, "cuModuleLoad", b"{tmp_path}/image")
        anything = function(b"anything", image)
        print(launch(anything, c_uint64(1)), call("cuFuncGetParamInfo", anything, c_size_t(0), byref(c_size_t()), None))
        """,
        complains=f"stand-in libcuda: {PACKED}\n",
    ) == ["SUCCESS INVALID_VALUE"]


def test_broken_images_crash_nobody(cubin: Path, tmp_path: Path) -> None:
    """Cut and bent at many places, an image is refused or read, never more."""
    (tmp_path / "cubin").write_bytes(cubin.read_bytes())
    (tmp_path / "fat").write_bytes(fatbin(2, cubin.read_bytes(), 0x11, 0))
    assert on_driver(
        f"""
        import random
        start()
        chance = random.Random(1)
        results = set()
        for name in "cubin", "fat":
            whole = open(f"{tmp_path}/{{name}}", "rb").read()
            for i in range(300):
                data = bytearray(whole)
                for _ in range(chance.randrange(1, 5)):
                    data[chance.randrange(4, len(data))] = chance.randrange(256)
                open("{tmp_path}/bent", "wb").write(data[: chance.choice([len(data), chance.randrange(4, len(data))])])
                made = c_void_p()
                results.add(call("cuModuleLoad", byref(made), b"{tmp_path}/bent"))
                if made.value:
                    must("cuModuleUnload", made)
        print(results <= {{"SUCCESS", "INVALID_IMAGE", "OUT_OF_MEMORY", "INVALID_VALUE"}}, taken())
        """,
        complains=f"stand-in libcuda: {PACKED}\n",
    ) == ["True 0"]


def test_libraries_belong_to_no_context() -> None:
    assert on_driver(
        """
        start()
        library = new(c_void_p, "cuLibraryLoadData", PTX, None, None, 0, None, None, 0)
        kernel = new(c_void_p, "cuLibraryGetKernel", library, b"spin")
        count, text = c_uint(), ctypes.c_char_p()
        must("cuLibraryGetKernelCount", byref(count), library)
        must("cuKernelGetName", byref(text), kernel)
        print(count.value, text.value.decode(), launch(kernel, c_uint64(1)))
        def of_context():
            return new(c_void_p, "cuKernelGetFunction", kernel)
        here = of_context()
        must("cuFuncGetName", byref(text), here)
        print(text.value.decode(), launch(here, c_uint64(1)), of_context().value == here.value)
        context = new(c_void_p, "cuCtxCreate_v2", 0, 0)
        print(of_context().value != here.value)
        must("cuCtxDestroy_v2", context)
        part = new(c_void_p, "cuLibraryGetModule", library)
        print(part.value is not None, call("cuLibraryGetKernel", byref(c_void_p()), library, b"none"))
        must("cuLibraryUnload", library)
        print(launch(kernel, c_uint64(1)), launch(here, c_uint64(1)))
        """
    ) == ["2 spin SUCCESS", "spin SUCCESS True", "True", "True NOT_FOUND", "INVALID_HANDLE INVALID_HANDLE"]


def test_managed_variables_are_one_in_all_contexts() -> None:
    assert on_driver(
        """
        start()
        image = b".version 8.0\\n.global .attribute(.managed) .align 4 .u32 number = 7;\\n.entry any() { ret; }"
        library = new(c_void_p, "cuLibraryLoadData", image, None, None, 0, None, None, 0)
        place, size = c_uint64(), c_size_t()
        must("cuLibraryGetManaged", byref(place), byref(size), library, b"number")
        print(size.value, c_uint.from_address(place.value).value)
        here = c_uint64()
        must("cuLibraryGetGlobal", byref(here), None, library, b"number")
        new(c_void_p, "cuCtxCreate_v2", 0, 0)
        there = c_uint64()
        must("cuLibraryGetGlobal", byref(there), None, library, b"number")
        print(here.value == there.value == place.value)
        print(call("cuLibraryGetManaged", byref(place), None, library, b"other"))
        """
    ) == ["4 7", "True", "NOT_FOUND"]


def test_pieces_are_linked() -> None:
    assert on_driver(
        """
        start()
        state = new_state = c_void_p()
        must("cuLinkCreate_v2", 0, None, None, byref(state))
        print(call("cuLinkComplete", state, byref(c_void_p()), None))
        for name in b"one", b"two":
            text = b".version 8.0\\n.target sm_90\\n.visible .entry " + name + b"() { ret; }"
            must("cuLinkAddData_v2", state, 1, text, c_size_t(len(text)), name, 0, None, None)
        image, size = c_void_p(), c_size_t()
        must("cuLinkComplete", state, byref(image), byref(size))
        loaded = new(c_void_p, "cuModuleLoadData", image)
        must("cuLinkDestroy", state)
        print(function(b"one", loaded).value != function(b"two", loaded).value, size.value > 0)
        print(call("cuLinkDestroy", state))
        """
    ) == ["NO_BINARY_FOR_GPU", "True True", "INVALID_HANDLE"]


def test_every_way_to_launch_launches() -> None:
    assert on_driver(
        """
        start()
        line, kernel, duration = stream(), function(b"spin"), c_uint64(1_000_000)
        given = arguments(duration)
        config = LaunchConfig(grid=(1, 1, 1), block=(32, 1, 1), stream=line)
        ways = {
            "cuLaunchKernel": (kernel, 1, 1, 1, 32, 1, 1, 0, line, given, None),
            "cuLaunchKernel_ptsz": (kernel, 1, 1, 1, 32, 1, 1, 0, line, given, None),
            "cuLaunchKernelEx": (byref(config), kernel, given, None),
            "cuLaunchKernelEx_ptsz": (byref(config), kernel, given, None),
            "cuLaunchCooperativeKernel": (kernel, 1, 1, 1, 32, 1, 1, 0, line, given),
            "cuLaunchCooperativeKernel_ptsz": (kernel, 1, 1, 1, 32, 1, 1, 0, line, given),
            "cuLaunchGridAsync": (kernel, 1, 1, line),
        }
        must("cuParamSetSize", kernel, 8)
        must("cuParamSetv", kernel, 0, byref(duration), 8)
        must("cuFuncSetBlockShape", kernel, 32, 1, 1)
        for way, given_to_it in ways.items():
            spin(kernel, 2, line)
            before = recorded(line)
            must(way, *given_to_it)
            after = recorded(line)
            must("cuStreamSynchronize", line)
            print(way, round(elapsed_ms(before, after), 3))
        duration.value = 100_000_000
        must("cuParamSetv", kernel, 0, byref(duration), 8)
        for way in ("cuLaunch", kernel), ("cuLaunchGrid", kernel, 1, 1):
            must(*way)
            print(way[0], call("cuStreamQuery", None))
            wait()
        size = c_size_t(8)
        extra = (c_void_p * 5)(1, ctypes.addressof(duration), 2, ctypes.addressof(size), 0)
        must("cuLaunchKernel", kernel, 1, 1, 1, 32, 1, 1, 0, line, None, extra)
        print(call("cuStreamQuery", line))
        """
    ) == [
        *[
            f"{way} 1.0"
            for way in (
                "cuLaunchKernel",
                "cuLaunchKernel_ptsz",
                "cuLaunchKernelEx",
                "cuLaunchKernelEx_ptsz",
                "cuLaunchCooperativeKernel",
                "cuLaunchCooperativeKernel_ptsz",
                "cuLaunchGridAsync",
            )
        ],
        "cuLaunch NOT_READY",
        "cuLaunchGrid NOT_READY",
        "NOT_READY",
    ]


def test_impossible_launches_are_refused() -> None:
    assert on_driver(
        """
        start()
        spin_kernel, plain = function(b"spin"), function(b"plain")
        one = c_uint64(1)
        given = arguments(one)
        def tried(blocks, threads, shared=0, kernel=spin_kernel):
            return call("cuLaunchKernel", kernel, blocks, 1, 1, threads, 1, 1, shared, None, given, None)
        print(tried(0, 1), tried(1, 0), tried(1, 1025), tried(1, 1, 50 << 10), tried(1, 1, 0, c_void_p(8)))
        print(call("cuLaunchKernel", plain, 1, 1, 1, 512, 1, 1, 0, None, arguments(one, one, one), None))
        print(call("cuLaunchKernel", spin_kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None))
        must("cuFuncSetAttribute", spin_kernel, 8, 100 << 10)
        print(tried(1, 1, 50 << 10), call("cuFuncSetAttribute", spin_kernel, 8, 1 << 20))
        blocks = c_int()
        must("cuOccupancyMaxActiveBlocksPerMultiprocessor", byref(blocks), spin_kernel, 1024, c_size_t(0))
        fit = blocks.value * 20
        def together(count):
            return call("cuLaunchCooperativeKernel", spin_kernel, count, 1, 1, 1024, 1, 1, 0, None, given)
        print(blocks.value, together(fit), together(fit + 1))
        """,
        "sms=20",
    ) == [
        "INVALID_VALUE INVALID_VALUE INVALID_VALUE INVALID_VALUE INVALID_HANDLE",
        "LAUNCH_OUT_OF_RESOURCES",
        "INVALID_VALUE",
        "SUCCESS INVALID_VALUE",
        "2 SUCCESS COOPERATIVE_LAUNCH_TOO_LARGE",
    ]


def test_occupancy_follows_threads_and_shared_memory() -> None:
    assert on_driver(
        """
        start()
        kernel = function(b"spin")


        def fit(threads, shared=0):
            blocks = c_int()
            must("cuOccupancyMaxActiveBlocksPerMultiprocessor", byref(blocks), kernel, threads, c_size_t(shared))
            return blocks.value


        print(fit(1024), fit(256), fit(32), fit(33), fit(32, 48 << 10))
        grid, block = c_int(), c_int()
        must("cuOccupancyMaxPotentialBlockSize", byref(grid), byref(block), kernel, None, c_size_t(0), 0)
        print(grid.value, block.value)
        """,
        "sms=20",
    ) == ["2 8 32 32 4", "40 1024"]


@pytest.mark.parametrize(
    ("image", "blocks", "threads", "ms"),
    [
        # 20 SMs with 8 blocks of 256 threads each: one wave, then two; 100 us a wave.
        (b".entry any() { ret; }", 160, 256, 0.1),
        (b".entry any() { ret; }", 161, 256, 0.2),
        (b".entry any() { ret; }", 1, 1024, 0.1),
        (b"//.standin full_ns=3000000 blocks_per_sm=2\n.entry any() { ret; }", 40, 32, 3),
        (b"//.standin full_ns=3000000 blocks_per_sm=2\n.visible .entry any() { ret; }", 41, 32, 3),
    ],
)
def test_kernels_take_what_the_model_says(image: bytes, blocks: int, threads: int, ms: float) -> None:
    (took,) = on_driver(
        f"""
        start()
        lead, kernel = function(b"spin"), function(b"any", module({PTX + image!r}))
        spin(lead, 5)
        before = recorded()
        launch(kernel, blocks={blocks}, threads={threads})
        after = recorded()
        wait()
        print(elapsed_ms(before, after))
        """,
        "sms=20,kernel_ns=100000",
    )
    assert float(took) == pytest.approx(ms, abs=1e-3)


def test_bodies_run_with_the_arguments_of_the_launch() -> None:
    assert on_driver(
        """
        from tests.standin.bodies import register

        start()
        plain = function(b"plain")


        def body(launch):
            print(
                launch.kernel.decode(),
                *launch.grid,
                *launch.block,
                launch.shared_bytes,
                launch.params,
                launch.number(0, c_uint),
                ctypes.string_at(launch.param[1], 12),
                launch.number(2, c_uint64),
            )


        register("plain", body)
        given = arguments(c_uint(5), (ctypes.c_char * 12)(*b"twelve bytes"), c_uint64(6))
        must("cuLaunchKernel", plain, 2, 3, 4, 8, 2, 1, 16, None, given, None)
        print("launched")
        must("cuLaunchKernelEx_ptsz", byref(LaunchConfig(grid=(1, 1, 1), block=(1, 1, 1))), plain, given, None)
        print(cuda.standin_register_body(None, None), cuda.standin_register_body(b"plain", None))
        must("cuLaunchKernel", plain, 2, 3, 4, 8, 2, 1, 16, None, given, None)
        """
    ) == [
        "plain 2 3 4 8 2 1 16 3 5 b'twelve bytes' 6",
        "launched",
        "plain 1 1 1 1 1 1 0 3 5 b'twelve bytes' 6",
        "-1 0",
    ]


def test_bodies_run_in_the_order_of_submission_and_behind_the_host() -> None:
    assert on_driver(
        """
        import threading
        from tests.standin.bodies import register

        start()
        seen, go = [], threading.Event()
        register("spin", lambda launch: seen.append(launch.number(0, c_uint64)))
        kernel, line, other = function(b"spin"), stream(1), stream(1)
        launch(kernel, c_uint64(1), stream=line)
        Function = ctypes.CFUNCTYPE(None, c_void_p)
        hold = Function(lambda data: go.wait() and seen.append("host"))
        must("cuLaunchHostFunc", line, hold, None)
        launch(kernel, c_uint64(2), stream=line)
        launch(kernel, c_uint64(3), stream=other)
        print(seen)
        go.set()
        wait()
        print(seen)
        """
    ) == ["[1, 3]", "[1, 3, 'host', 2]"]


def test_the_header_is_c(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    source = tmp_path / "uses.c"
    source.write_text('#include "standin.h"\nint main(void) { return sizeof(standin_launch) == 48 ? 0 : 1; }\n')
    subprocess.run(
        ["cc", "-Wall", "-Werror", f"-I{root / 'native/standin'}", "-o", tmp_path / "uses", source], check=True
    )
    assert subprocess.run([tmp_path / "uses"], check=False).returncode == 0
