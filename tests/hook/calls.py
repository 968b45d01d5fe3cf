"""What tests of the memory cap have in common: calls of the driver through ctypes, and a cap to make them under."""

from __future__ import annotations

from tests.hook.children import Holder

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


def run(holder: Holder, code: str, cap: int = CAP) -> dict[str, object]:
    """Run code under a cap, after CUDA; returns what it told."""
    return holder.run(f"CAP = {cap}\n{CUDA}\n{code}", mem_bytes=cap).facts
