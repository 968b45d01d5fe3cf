"""The backend of ONNX files: ONNX Runtime, on the CPU and, with its CUDA provider, on a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import onnxruntime as ort

from fastgshare.runtime.models import DeviceFailed, Outline, Session, Tensor
from fastgshare.runtime.onnx_outlines import outline

if TYPE_CHECKING:
    from fastgshare.runtime.models import Array

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
CUDA_OPTIONS: Final = {
    "device_id": 0,  # the only one that an instance sees
    "arena_extend_strategy": "kSameAsRequested",  # by powers of two it would soon want more than the share's memory
    "cudnn_conv_algo_search": "HEURISTIC",  # trying all of them takes seconds a shape, and memory for the largest
}
_DATATYPES: Final = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
    **{f"tensor(int{bits})": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"tensor(uint{bits})": f"UINT{bits}" for bits in (8, 16, 32, 64)},
}
_OUT_OF_MEMORY: Final = ("bad_alloc", "Failed to allocate memory", "bad allocation", "out of memory")
_DEVICE_FAILURES: Final = ("CUDA failure", "CUDNN failure", "CUBLAS failure")
_ERRORS_ONLY: Final = 3


class OnnxBackend:
    """Sessions of ONNX Runtime's CPU provider, or of its CUDA provider: what that cannot compute, the CPU does."""

    def __init__(self, *, on_gpu: bool = False) -> None:
        self._on_gpu = on_gpu
        if on_gpu and hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA and cuDNN from NVIDIA's wheels, if they are there

    def open(self, path: Path, *, threads: int, spin: bool) -> Session:
        """See `Backend.open`."""
        providers = [(CUDA, CUDA_OPTIONS), CPU] if self._on_gpu else [CPU]
        try:
            # Without fallbacks: what the GPU cannot do shall be said, not done by the CPU in silence.
            session = ort.InferenceSession(str(path), _options(threads, spin), providers=providers, enable_fallback=0)
        except Exception as error:  # ORT's exceptions have no common base of their own
            _raise_if_of_device(error)
            raise ValueError(_first_line(error)) from error
        if self._on_gpu and CUDA not in session.get_providers():
            raise ValueError(
                "ONNX Runtime's CUDA provider cannot be loaded: are CUDA and cuDNN as it needs them there?"
            )
        return OnnxSession(session, path)


class OnnxSession:
    """One loaded ONNX model."""

    def __init__(self, session: ort.InferenceSession, path: Path) -> None:
        self._session = session
        self._path = path
        self.inputs = tuple(map(_tensor, session.get_inputs()))
        self.outputs = tuple(map(_tensor, session.get_outputs()))
        self.metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map

    def outline(self) -> Outline:
        """See `Session.outline`."""
        return outline(self._path)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """See `Session.run`."""
        try:
            arrays: list[Array] = self._session.run(outputs, inputs)
        except Exception as error:
            _raise_if_of_device(error)
            raise
        return arrays


def _options(threads: int, spin: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")  # the device is for others between runs
    return options


def _tensor(node: Any) -> Tensor:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return Tensor(node.name, _DATATYPES.get(node.type, node.type), shape)


def _raise_if_of_device(error: Exception) -> None:
    """Raise `MemoryError` or `DeviceFailed` if that is what an error of ONNX Runtime means."""
    if any(words in str(error) for words in _OUT_OF_MEMORY):
        raise MemoryError(_first_line(error)) from error
    if any(words in str(error) for words in _DEVICE_FAILURES):
        raise DeviceFailed(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
