"""A handler that uses the device by its driver: a millisecond for every request; ``fault`` writes to address 0."""

from __future__ import annotations

import ctypes

PTX = b""".version 7.0
.target sm_70
.address_size 64
//.standin full_ns=@0 blocks_per_sm=2 bandwidth=100
.visible .entry spin(.param .u64 ns)
{ ret; }
//.standin full_ns=1000 fault=700
.visible .entry wild(.param .u64 ns)
{ ret; }
\0"""


def ok(status: int) -> None:
    if status:
        raise RuntimeError(f"the driver says {status}")


class Uuid(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * 16)]


class Spinner:
    sample = b""

    def __init__(self, context: object) -> None:
        self.cuda = cuda = ctypes.CDLL("libcuda.so.1")
        device, current, module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        ok(cuda.cuInit(0))
        ok(cuda.cuDeviceGet(ctypes.byref(device), 0))
        ok(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(current), device))
        ok(cuda.cuCtxSetCurrent(current))
        ok(cuda.cuModuleLoadData(ctypes.byref(module), PTX))
        self.kernels = {name: ctypes.c_void_p() for name in ("spin", "wild")}
        for name, kernel in self.kernels.items():
            ok(cuda.cuModuleGetFunction(ctypes.byref(kernel), module, name.encode()))

    def __call__(self, request) -> bytes:  # type: ignore[no-untyped-def]
        self._launch("wild" if request.body == b"fault" else "spin")
        ok(self.cuda.cuCtxSynchronize())
        return bytes(request.body)

    def _launch(self, name: str) -> None:
        ns = ctypes.c_uint64(1_000_000)
        arguments = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(ns), ctypes.c_void_p))
        ok(self.cuda.cuLaunchKernel(self.kernels[name], 264, 1, 1, 256, 1, 1, 0, None, arguments, None))


def echo(request) -> bytes:  # type: ignore[no-untyped-def]
    return bytes(request.body)
