"""Which backend opens a model: by how its file's name ends, and by what the device is made of."""

from __future__ import annotations

from functools import cache

from fastgshare.domain.devices import DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.runtime.models import Backend
from fastgshare.spec.frameworks import ONNX, Format, check_framework


def choose_backend(ref: str, kind: DeviceKind) -> tuple[Backend, Format]:
    """What opens a model on a device of that kind, and what kind of file it is.

    Raises `InvalidValue` naming the reference for a file of no known kind, or whose framework is missing.
    """
    form = check_framework(ref, kind, f"a device of kind {kind}")
    try:
        return _backend(form.module, kind), form
    except (ImportError, OSError) as error:  # the latter where a library of it is missing
        allowed = f"{form.suffix} where {form.module} can compute on a {kind} device ({' '.join(str(error).split())})"
        raise InvalidValue("model", ref, allowed) from error


@cache
def _backend(module: str, kind: DeviceKind) -> Backend:
    """Imported when the first model is opened: plain handlers do without, and numpy reads its thread settings then."""
    if kind is DeviceKind.STANDIN:
        from fastgshare.runtime.standin_backend import StandinBackend

        return StandinBackend(_backend(module, DeviceKind.CPU))
    if module == ONNX.module:
        from fastgshare.runtime.onnx_backend import OnnxBackend

        return OnnxBackend(on_gpu=kind is DeviceKind.GPU)
    from fastgshare.runtime.torch_backend import TorchBackend

    return TorchBackend("cuda:0" if kind is DeviceKind.GPU else "cpu")
