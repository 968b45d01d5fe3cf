"""A program of the CUDA driver API that does what its input says, line by line, and answers each with a line.

``info``: what it sees. ``alloc BYTES``: the status of an allocation, which it keeps. ``spin MS TIMES``: kernels, and
their status. ``spinning``: kernels until the next line; answered only if one fails. ``fault``: a kernel that writes to
address 0, and its status.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import sys

PTX = b""".version 7.0
.target sm_70
.address_size 64
//.standin full_ns=@0 blocks_per_sm=2 bandwidth=100
.visible .entry spin(.param .u64 ns)
{ ret; }
//.standin full_ns=1000 fault=700
.visible .entry wild()
{ ret; }
\0"""
cuda = ctypes.CDLL("libcuda.so.1")
kernel, wild = ctypes.c_void_p(), ctypes.c_void_p()


def begin() -> int:
    device, context, module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
    return int(
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
        or cuda.cuCtxSetCurrent(context)
        or cuda.cuModuleLoadData(ctypes.byref(module), PTX)
        or cuda.cuModuleGetFunction(ctypes.byref(kernel), module, b"spin")
        or cuda.cuModuleGetFunction(ctypes.byref(wild), module, b"wild")
    )


def info() -> dict[str, object]:
    free, total, name = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.create_string_buffer(100)
    cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    cuda.cuDeviceGetName(name, 100, 0)
    told = {key: os.environ.get(key) for key in ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")}
    return {"free": free.value, "total": total.value, "name": name.value.decode(), "pid": os.getpid(), **told}


def alloc(count: str) -> int:
    return int(cuda.cuMemAlloc_v2(ctypes.byref(ctypes.c_uint64()), ctypes.c_size_t(int(count))))


def spin(ms: str, times: str) -> int:
    ns = ctypes.c_uint64(int(float(ms) * 1e6))
    arguments = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(ns), ctypes.c_void_p))
    for _ in range(int(times)):
        if status := cuda.cuLaunchKernel(kernel, 264, 1, 1, 256, 1, 1, 0, None, arguments, None):
            return int(status)
    return int(cuda.cuCtxSynchronize())


def spinning() -> int:
    while not select.select([0], [], [], 0)[0]:
        if status := spin("1", "1"):
            return status
    return 0


def fault() -> int:
    return int(cuda.cuLaunchKernel(wild, 1, 1, 1, 1, 1, 1, 0, None, None, None) or cuda.cuCtxSynchronize())


def main() -> int:
    if status := begin():
        print(json.dumps(status), flush=True)
        return 1
    print(json.dumps("ready"), flush=True)
    commands = {"info": info, "alloc": alloc, "spin": spin, "spinning": spinning, "fault": fault}
    while line := os.read(0, 4096).decode():  # unbuffered, so that `spinning` sees what is there
        word, *arguments = line.split()
        answer = commands[word](*arguments)  # type: ignore[operator]
        if word != "spinning" or answer:
            print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
