"""The default backend: ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import onnxruntime as ort

from fastgshare.runtime.models import Session, Tensor

if TYPE_CHECKING:
    from fastgshare.runtime.models import Array

_DATATYPES: Final = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
    **{f"tensor(int{bits})": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"tensor(uint{bits})": f"UINT{bits}" for bits in (8, 16, 32, 64)},
}
_OUT_OF_MEMORY: Final = ("bad_alloc", "Failed to allocate memory", "bad allocation")
_ERRORS_ONLY: Final = 3


class OnnxBackend:
    """Sessions of ONNX Runtime's CPU provider."""

    def open(self, path: Path, *, threads: int, spin: bool) -> Session:
        """See `Backend.open`."""
        try:
            session = ort.InferenceSession(str(path), _options(threads, spin), providers=["CPUExecutionProvider"])
        except Exception as error:  # ORT's exceptions have no common base of their own
            _raise_out_of_memory(error)
            raise ValueError(_first_line(error)) from error
        return OnnxSession(session)


class OnnxSession:
    """One loaded ONNX model."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.inputs = tuple(map(_tensor, session.get_inputs()))
        self.outputs = tuple(map(_tensor, session.get_outputs()))
        self.metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """See `Session.run`."""
        try:
            arrays: list[Array] = self._session.run(outputs, inputs)
        except Exception as error:
            _raise_out_of_memory(error)
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


def _raise_out_of_memory(error: Exception) -> None:
    if any(words in str(error) for words in _OUT_OF_MEMORY):
        raise MemoryError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
