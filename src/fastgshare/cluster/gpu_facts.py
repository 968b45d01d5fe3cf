"""Prints what the CUDA driver says of its GPUs, as JSON. Run by its path, as a program of its own.

A process that has called cuInit holds the driver, and is one more process of MPS, for as long as it lives.
"""

from __future__ import annotations

import ctypes
import json
from typing import Any, Final

_SM_COUNT: Final = 16
"""CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT."""


class _Uuid(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * 16)]


def _call(driver: ctypes.CDLL, name: str, *arguments: Any) -> None:
    status = getattr(driver, name)(*arguments)
    if status != 0:
        raise OSError(f"{name} failed with status {status}")


def _facts(driver: ctypes.CDLL, index: int) -> dict[str, object]:
    device, sms, mem_bytes = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    uuid, name = _Uuid(), ctypes.create_string_buffer(256)
    _call(driver, "cuDeviceGet", ctypes.byref(device), index)
    _call(driver, "cuDeviceGetUuid", ctypes.byref(uuid), device)
    _call(driver, "cuDeviceGetName", name, len(name), device)
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(sms), _SM_COUNT, device)
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(mem_bytes), device)
    text = bytes(uuid.bytes).hex()
    written = "-".join(text[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
    return {
        "index": index,
        "uuid": f"GPU-{written}",
        "name": name.value.decode(errors="replace"),
        "sm_count": sms.value,
        "mem_bytes": mem_bytes.value,
    }


def main() -> None:
    """One document: ``gpus``, or why there is none as ``problem``."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        _call(driver, "cuInit", 0)
        count = ctypes.c_int()
        _call(driver, "cuDeviceGetCount", ctypes.byref(count))
        found = [_facts(driver, index) for index in range(count.value)]
        document: dict[str, object] = {"gpus": found, "problem": "" if found else "the driver shows no GPU"}
    except (OSError, AttributeError) as error:
        document = {"gpus": [], "problem": str(error)}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
