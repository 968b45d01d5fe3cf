"""The driver API by ctypes, for programs that run on the stand-in: what they print is what tests look at."""

from __future__ import annotations

import ctypes
import time
from ctypes import byref, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

cuda = ctypes.CDLL("libcuda.so.1")

PTX = b"""
.version 8.0
.target sm_90
.address_size 64
//.standin full_ns=@0 blocks_per_sm=1 bandwidth=0
.visible .entry spin(.param .u64 ns) { ret; }
.visible .entry plain(.param .u32 first, .param .align 8 .b8 second[12], .param .u64 third)
.maxntid 256, 1, 1
{ .shared .align 4 .b8 scratch[64]; ret; }
"""


def call(function: str, *arguments: Any) -> str:
    """Name of the result, without CUDA_ and ERROR_."""
    text = ctypes.c_char_p()
    result = getattr(cuda, function)(*arguments)
    assert cuda.cuGetErrorName(result, byref(text)) == 0, result
    assert text.value is not None
    return text.value.decode().removeprefix("CUDA_").removeprefix("ERROR_")


def must(function: str, *arguments: Any) -> None:
    result = call(function, *arguments)
    assert result == "SUCCESS", (function, result)


def new(kind: Any, function: str, *arguments: Any) -> Any:
    """What a function writes to its first parameter."""
    made = kind()
    must(function, byref(made), *arguments)
    return made if kind is c_void_p else made.value if hasattr(made, "value") else made


def start() -> c_void_p:
    """Initialises, and makes the primary context the thread's."""
    must("cuInit", 0)
    context = new(c_void_p, "cuDevicePrimaryCtxRetain", 0)
    must("cuCtxSetCurrent", context)
    assert isinstance(context, c_void_p)
    return context


def module(image: bytes = PTX) -> Any:
    return new(c_void_p, "cuModuleLoadData", image)


def function(name: bytes, of: Any = None) -> Any:
    return new(c_void_p, "cuModuleGetFunction", module() if of is None else of, name)


def arguments(*values: Any) -> Any:
    """As cuLaunchKernel takes them."""
    pointers = [ctypes.cast(ctypes.pointer(value), c_void_p) for value in values]
    return (c_void_p * max(len(pointers), 1))(*pointers)


def launch(kernel: Any, *values: Any, stream: Any = None, blocks: int = 1, threads: int = 32, form: str = "") -> str:
    given = arguments(*values)
    return call(f"cuLaunchKernel{form}", kernel, blocks, 1, 1, threads, 1, 1, 0, stream, given, None)


def spin(kernel: Any, ms: float, stream: Any = None, blocks: int = 1, form: str = "") -> None:
    result = launch(kernel, c_uint64(round(ms * 1e6)), stream=stream, blocks=blocks, form=form)
    assert result == "SUCCESS", result


def event(flags: int = 0) -> Any:
    return new(c_void_p, "cuEventCreate", flags)


def recorded(stream: Any = None, form: str = "") -> Any:
    made = event()
    must(f"cuEventRecord{form}", made, stream)
    return made


def elapsed_ms(first: Any, second: Any) -> float:
    return float(new(ctypes.c_float, "cuEventElapsedTime", first, second))


def timed_ms(kernel: Any, ms: float, stream: Any = None, blocks: int = 1) -> float:
    """How long it took on the device, without what the host needs between calls: something else runs before it."""
    spin(kernel, 5, stream, blocks)
    before = recorded(stream)
    spin(kernel, ms, stream, blocks)
    after = recorded(stream)
    wait()
    return elapsed_ms(before, after)


def stream(flags: int = 0) -> Any:
    return new(c_void_p, "cuStreamCreate", flags)


def alloc(size: int) -> int:
    return int(new(c_uint64, "cuMemAlloc_v2", c_size_t(size)))


def address(value: int) -> c_uint64:
    return c_uint64(value)


def taken() -> int:
    """Bytes of the device that are in use."""
    free, total = c_size_t(), c_size_t()
    must("cuMemGetInfo_v2", byref(free), byref(total))
    return total.value - free.value


def bytes_at(place: int, count: int) -> bytes:
    buffer = ctypes.create_string_buffer(count)
    must("cuMemcpyDtoH_v2", buffer, c_uint64(place), c_size_t(count))
    return buffer.raw


def wait() -> None:
    must("cuCtxSynchronize")


class Location(ctypes.Structure):
    _fields_ = (("type", c_int), ("id", c_int))


class AllocationProp(ctypes.Structure):
    _fields_ = (
        ("type", c_int),
        ("handle_types", c_int),
        ("location", Location),
        ("metadata", c_void_p),
        ("flags", ctypes.c_uint8 * 8),
    )


class AccessDesc(ctypes.Structure):
    _fields_ = (("location", Location), ("flags", c_int))


class PoolProps(ctypes.Structure):
    _fields_ = (
        ("type", c_int),
        ("handle_types", c_int),
        ("location", Location),
        ("security", c_void_p),
        ("max_size", c_size_t),
        ("usage", ctypes.c_uint16),
        ("reserved", ctypes.c_uint8 * 54),
    )


class LaunchConfig(ctypes.Structure):
    _fields_ = (
        ("grid", c_uint * 3),
        ("block", c_uint * 3),
        ("shared", c_uint),
        ("stream", c_void_p),
        ("attributes", c_void_p),
        ("count", c_uint),
    )


class KernelNode(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS of CUDA 12."""

    _fields_ = (
        ("function", c_void_p),
        ("grid", c_uint * 3),
        ("block", c_uint * 3),
        ("shared", c_uint),
        ("params", c_void_p),
        ("extra", c_void_p),
        ("kernel", c_void_p),
        ("context", c_void_p),
    )


DEVICE = Location(1, 0)
MIB = 1 << 20
WINDOW_S = 5.0


def until_true(condition: Any) -> bool:
    """Whether it came true before long."""
    end = time.monotonic() + WINDOW_S
    while time.monotonic() < end:
        if condition():
            return True
    return False
