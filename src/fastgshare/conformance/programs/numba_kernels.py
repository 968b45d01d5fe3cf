"""A program on numba-cuda. ``python -m fastgshare.conformance.programs.numba_kernels``."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

from fastgshare.conformance.programs.saturation import saturate, say, time_of, wait_until_admitted

cuda: Final[Any] = import_module("numba.cuda")  # which has no types

_ROUNDS: Final = 200_000  # about a millisecond of dependent arithmetic
_SECONDS: Final = 0.4
_PARTS: Final = 8


class Events:
    """Events on the default stream."""

    def record(self) -> Any:
        """Mark what has been started so far."""
        event = cuda.event()
        event.record()
        return event

    def wait(self, event: Any) -> None:
        """Until it has happened."""
        event.synchronize()

    def elapsed_ns(self, first: Any, then: Any) -> int:
        """Between two that have happened."""
        return int(1e6 * first.elapsed_time(then))


def work(out: Any, rounds: int) -> None:
    """Arithmetic of which each step needs the one before."""
    total = 0
    for i in range(rounds):
        total = (total * 1664525 + i) & 0xFFFFFFFF
    out[0] = total


def fill(cap_bytes: int) -> None:
    """Take eighths of the cap until one is refused, and give all back."""
    blocks: list[Any] = []
    refusal = 0
    while not refusal and len(blocks) < 2 * _PARTS:
        try:
            blocks.append(cuda.device_array(cap_bytes // _PARTS - 4096, dtype="uint8"))
        except cuda.cudadrv.driver.CudaAPIError as error:
            refusal = int(error.code)
    say({"name": "over the cap", "status": "ran", "blocks": len(blocks), "refusal": refusal})


def main(cap_bytes: int) -> None:
    """Launch a compiled kernel, then fill the memory."""
    wait_until_admitted()
    out = cuda.device_array(1, dtype="int64")
    kernel = cuda.jit(work)
    kernel[1, 1](out, 1)
    cuda.synchronize()
    events = Events()

    def start() -> None:
        kernel[1, 1](out, _ROUNDS)

    saturate("kernels", start, events, time_of(start, events), _SECONDS)
    fill(cap_bytes)


if __name__ == "__main__":
    main(int(sys.argv[1]))
