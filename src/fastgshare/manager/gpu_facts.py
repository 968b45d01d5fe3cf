"""Prints what the CUDA driver says of its GPUs, as JSON. Run by its path, as a program of its own.

A process that has called cuInit holds the driver, and is one more process of MPS, for as long as it lives.
"""

from __future__ import annotations

import ctypes
import json
from typing import Any, Final

_SM_COUNT: Final = 16
_COMPUTE_MODE: Final = 20
_MAJOR: Final = 75
_MINOR: Final = 76
"""CU_DEVICE_ATTRIBUTE_ MULTIPROCESSOR_COUNT, COMPUTE_MODE, COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_SMS: Final = 1
"""CU_DEV_RESOURCE_TYPE_SM."""


class _Uuid(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * 16)]


class _Resource(ctypes.Structure):
    """The part of a CUdevResource that is about SMs, and more room than any of them needs."""

    _fields_ = [
        ("type", ctypes.c_uint),
        ("padding", ctypes.c_ubyte * 92),
        ("sm_count", ctypes.c_uint),
        ("least_sms", ctypes.c_uint),
        ("sm_step", ctypes.c_uint),
        ("room", ctypes.c_ubyte * 512),
    ]


def _call(driver: ctypes.CDLL, name: str, *arguments: Any) -> None:
    status = getattr(driver, name)(*arguments)
    if status != 0:
        raise OSError(f"{name} failed with status {status}")


def _attribute(driver: ctypes.CDLL, device: ctypes.c_int, number: int) -> int:
    value = ctypes.c_int()
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), number, device)
    return value.value


def _facts(driver: ctypes.CDLL, index: int) -> dict[str, object]:
    device, mem_bytes = ctypes.c_int(), ctypes.c_size_t()
    uuid, name = _Uuid(), ctypes.create_string_buffer(256)
    _call(driver, "cuDeviceGet", ctypes.byref(device), index)
    # The newer form tells a part of a GPU (MIG) from the GPU.
    form = "cuDeviceGetUuid_v2" if hasattr(driver, "cuDeviceGetUuid_v2") else "cuDeviceGetUuid"
    _call(driver, form, ctypes.byref(uuid), device)
    _call(driver, "cuDeviceGetName", name, len(name), device)
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(mem_bytes), device)
    text = bytes(uuid.bytes).hex()
    written = "-".join(text[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
    named = name.value.decode(errors="replace")
    return {
        "index": index,
        "uuid": f"{'MIG' if ' MIG ' in named else 'GPU'}-{written}",
        "name": named,
        "sm_count": _attribute(driver, device, _SM_COUNT),
        "mem_bytes": mem_bytes.value,
        "compute_mode": _attribute(driver, device, _COMPUTE_MODE),
        "capability": [_attribute(driver, device, _MAJOR), _attribute(driver, device, _MINOR)],
        "green": _green(driver, device),
    }


def _green(driver: ctypes.CDLL, device: ctypes.c_int) -> dict[str, object]:
    """What green contexts can be made of: the least SMs and the step (0: the driver does not say), or the problem."""
    resource = _Resource()
    try:
        driver.cuGreenCtxCreate  # noqa: B018  raises for a driver without it
        _call(driver, "cuDeviceGetDevResource", device, ctypes.byref(resource), _SMS)
    except AttributeError:
        return {"problem": "the driver has no functions for them (CUDA 12.4 and later have)"}
    except OSError as error:
        return {"problem": str(error)}
    return {"least_sms": resource.least_sms, "sm_step": resource.sm_step}


def _divided() -> dict[str, bool]:
    """By UUID, whether a GPU is divided by MIG; empty where NVML cannot say."""
    found: dict[str, bool] = {}
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint()
        _call(nvml, "nvmlInit_v2")
        _call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        for index in range(count.value):
            gpu, uuid = ctypes.c_void_p(), ctypes.create_string_buffer(96)
            now, later = ctypes.c_uint(), ctypes.c_uint()
            _call(nvml, "nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(gpu))
            _call(nvml, "nvmlDeviceGetUUID", gpu, uuid, len(uuid))
            if nvml.nvmlDeviceGetMigMode(gpu, ctypes.byref(now), ctypes.byref(later)) == 0:
                found[uuid.value.decode()] = now.value == 1
    except (OSError, AttributeError):
        pass  # what it has said before that counts
    return found


def main() -> None:
    """One document: ``gpus``, ``cuda_version`` (13010 for 13.1) and ``mig``, or why there is no GPU as ``problem``."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        version, count = ctypes.c_int(), ctypes.c_int()
        _call(driver, "cuDriverGetVersion", ctypes.byref(version))
        _call(driver, "cuInit", 0)
        _call(driver, "cuDeviceGetCount", ctypes.byref(count))
        found = [_facts(driver, index) for index in range(count.value)]
        problem = "" if found else "the driver shows no GPU"
        document: dict[str, object] = {"gpus": found, "cuda_version": version.value, "problem": problem}
    except (OSError, AttributeError) as error:
        document = {"gpus": [], "cuda_version": 0, "problem": str(error)}
    print(json.dumps(document | {"mig": _divided()}))


if __name__ == "__main__":
    main()
