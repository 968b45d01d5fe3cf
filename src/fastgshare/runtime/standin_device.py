"""The stand-in for a GPU, a test double, as a backend uses it: its driver, through ctypes, and one kernel of ours."""

from __future__ import annotations

import ctypes
import logging
from typing import Any, Final

from fastgshare.domain.errors import InvalidValue
from fastgshare.runtime.models import DeviceFailed

DRIVER: Final = "libcuda.so.1"
NODE_NS: Final = 10_000
"""What is assumed of a node of a network: that the whole device computes it in so many nanoseconds."""
_BLOCKS: Final = 4096
"""Many waves of blocks, so that half of the SMs take twice as long."""
_THREADS: Final = 256
_KERNEL: Final = f"""
.version 7.0
.target sm_70
.address_size 64
//.standin full_ns={NODE_NS} blocks_per_sm=2 bandwidth=300
.visible .entry node()
{{ ret; }}
\0""".encode()
_OUT_OF_MEMORY: Final = 2
_LOGGER: Final = logging.getLogger(__name__)


class StandinDevice:
    """A context on the stand-in. Belongs to the thread that makes it.

    All methods raise `MemoryError` if there is no more memory, `DeviceFailed` in the driver's words for anything else.
    """

    def __init__(self) -> None:
        """Raises `InvalidValue` if there is no stand-in here: these kernels would compute nothing on a GPU."""
        try:
            self._cuda: Any = ctypes.CDLL(DRIVER)
        except OSError as error:
            raise InvalidValue("device", "standin", f"a stand-in whose driver is found ({error})") from None
        device, context, module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._kernel = ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._check_name(device)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuModuleLoadData", ctypes.byref(module), _KERNEL)
        self._call("cuModuleGetFunction", ctypes.byref(self._kernel), module, b"node")

    def allocate(self, size_bytes: int) -> int:
        """The address of so much of the device's memory."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def launch(self, nodes: int) -> None:
        """Launch a kernel for every node of a network; each waits for the share's time on the device, as on a GPU."""
        launch, kernel = self._cuda.cuLaunchKernel, self._kernel
        for _ in range(nodes):
            if status := launch(kernel, _BLOCKS, 1, 1, _THREADS, 1, 1, 0, None, None, None):
                self._fail("cuLaunchKernel", status)

    def synchronise(self) -> None:
        """Wait until all is done."""
        self._call("cuCtxSynchronize")

    def _check_name(self, device: ctypes.c_int) -> None:
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, len(text), device)
        name = text.value.decode(errors="replace")
        if "Stand-in" not in name:
            raise InvalidValue("device", "standin", f"a stand-in ({DRIVER} offers {name})")
        _LOGGER.warning("on a stand-in for a GPU, a test double (%s): networks are computed on the CPU", name)

    def _call(self, function: str, *arguments: object) -> None:
        if status := getattr(self._cuda, function)(*arguments):
            self._fail(function, status)

    def _fail(self, function: str, status: int) -> None:
        if status == _OUT_OF_MEMORY:
            raise MemoryError("the stand-in's memory for this share is full")
        text = ctypes.c_char_p()
        self._cuda.cuGetErrorString(status, ctypes.byref(text))
        said = (text.value or b"an unknown error").decode(errors="replace")
        raise DeviceFailed(f"{function} of the stand-in failed: {said} ({status})")
