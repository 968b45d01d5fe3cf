"""A program on cuda-bindings' driver API. ``python -m fastgshare.conformance.programs.bindings``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from fastgshare.conformance.programs.saturation import saturate, say, wait_until_admitted

driver: Final[Any] = import_module("cuda.bindings.driver")  # which has no types

_SPIN: Final = b"""
.version 6.0
.target sm_60
.address_size 64

//.standin full_ns=@0 blocks_per_sm=1 bandwidth=0
.visible .entry spin(.param .u64 ns)
{
  .reg .u64 %now, %until;
  .reg .pred %more;
  ld.param.u64 %until, [ns];
  mov.u64 %now, %globaltimer;
  add.u64 %until, %until, %now;
again:
  mov.u64 %now, %globaltimer;
  setp.lt.u64 %more, %now, %until;
  @%more bra again;
  ret;
}
"""
_WORK_NS: Final = 1_000_000
_SECONDS: Final = 0.4
_PARTS: Final = 8


def done(answer: tuple[Any, ...]) -> Any:
    """What a call returned beside its error. Raises `RuntimeError` if it failed."""
    error, *rest = answer
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(str(error))
    return rest[0] if rest else None


class Events:
    """Events on a stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def record(self) -> Any:
        """Mark what has been started so far."""
        event = done(driver.cuEventCreate(0))
        done(driver.cuEventRecord(event, self._stream))
        return event

    def wait(self, event: Any) -> None:
        """Until it has happened."""
        done(driver.cuEventSynchronize(event))

    def elapsed_ns(self, first: Any, then: Any) -> int:
        """Between two that have happened."""
        return int(1e6 * done(driver.cuEventElapsedTime(first, then)))


def launches(function: Any, stream: Any) -> dict[str, Callable[[], object]]:
    """The launch calls, each with a piece of work."""
    arguments = ((_WORK_NS,), (ctypes.c_uint64,))
    config = driver.CUlaunchConfig()
    config.gridDimX = config.gridDimY = config.gridDimZ = 1
    config.blockDimX = config.blockDimY = config.blockDimZ = 1
    config.hStream = stream
    exec_ = _graph(function, stream, arguments)
    return {
        "cuLaunchKernel": lambda: done(driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, arguments, 0)),
        "cuLaunchKernelEx": lambda: done(driver.cuLaunchKernelEx(config, function, arguments, 0)),
        "cuGraphLaunch": lambda: done(driver.cuGraphLaunch(exec_, stream)),
    }


def _graph(function: Any, stream: Any, arguments: object) -> Any:
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    done(driver.cuStreamBeginCapture(stream, mode))
    done(driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, arguments, 0))
    return done(driver.cuGraphInstantiate(done(driver.cuStreamEndCapture(stream)), 0))


def fill(cap_bytes: int) -> None:
    """Take eighths of the cap until one is refused, and give all back."""
    blocks: list[Any] = []
    refusal = 0
    while not refusal and len(blocks) < 2 * _PARTS:
        error, address = driver.cuMemAlloc(cap_bytes // _PARTS)
        refusal = int(error)
        blocks += [] if refusal else [address]
    for address in blocks:
        done(driver.cuMemFree(address))
    say({"name": "over the cap", "status": "ran", "blocks": len(blocks), "refusal": refusal})


def main(cap_bytes: int) -> None:
    """Launch in all ways, then fill the memory."""
    wait_until_admitted()
    done(driver.cuInit(0))
    done(driver.cuCtxSetCurrent(done(driver.cuDevicePrimaryCtxRetain(done(driver.cuDeviceGet(0))))))
    function = done(driver.cuModuleGetFunction(done(driver.cuModuleLoadData(_SPIN + b"\0")), b"spin"))
    stream = done(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
    for name, start in launches(function, stream).items():
        saturate(name, start, Events(stream), _WORK_NS, _SECONDS)
    fill(cap_bytes)


if __name__ == "__main__":
    import sys

    main(int(sys.argv[1]))
