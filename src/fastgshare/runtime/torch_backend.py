"""The backend of torch: programs of torch.export (``.pt2``) and TorchScript (``.pt``), on the CPU or on a GPU.

torch is optional, and imported by name: its types are not needed to check these lines, nor itself to install them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastgshare.runtime.models import DeviceFailed, Outline, Session, Tensor
from fastgshare.runtime.torch_networks import DATATYPES, UNTOLD, Network, of_program, of_script
from fastgshare.spec.frameworks import SCRIPTED

if TYPE_CHECKING:
    from fastgshare.runtime.models import Array

_OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "bad_alloc")
_DEVICE_FAILURE: Final = "CUDA error"


class TorchBackend:
    """Sessions of torch. device: ``cpu``, or ``cuda:0``, the only GPU that an instance sees."""

    def __init__(self, device: str) -> None:
        """Raises `ImportError` if torch is not there, or cannot use such a device."""
        self._torch: Any = import_module("torch")
        self._device = device
        if device.startswith("cuda") and not self._torch.cuda.is_available():
            raise ImportError(f"torch {self._torch.__version__} finds no GPU that it can use")

    def open(self, path: Path, *, threads: int, spin: bool) -> Session:
        """See `Backend.open`. spin changes nothing: torch's threads wait as OpenMP's do."""
        self._torch.set_num_threads(threads)
        load = self._script if path.suffix.lower() == SCRIPTED.suffix else self._program
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript; it still loads
                network = load(path)
        except Exception as error:  # whatever unpacking something else leads to
            _raise_if_of_device(self._torch, error)
            raise ValueError(_first_line(error)) from error
        return TorchSession(self._torch, self._device, network)

    def _program(self, path: Path) -> Network:
        program = import_module("torch.export").load(path)
        if self._device != "cpu":
            program = import_module("torch.export.passes").move_to_device_pass(program, self._device)
        return of_program(program)

    def _script(self, path: Path) -> Network:
        module = self._torch.jit.load(str(path), map_location=self._device)
        return of_script(module.eval())


class TorchSession:
    """One loaded network of torch."""

    def __init__(self, torch: Any, device: str, network: Network) -> None:
        self._torch = torch
        self._device = device
        self._network = network
        self.inputs = network.inputs
        self.outputs = network.outputs
        self.metadata: Mapping[str, str] = {}

    def outline(self) -> Outline:
        """See `Session.outline`."""
        return self._network.outline

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """See `Session.run`. Raises `ValueError` for inputs or outputs that the network does not have."""
        _check(inputs, outputs, self._network)
        try:
            with self._torch.inference_mode():
                return self._compute(inputs, outputs)
        except Exception as error:
            _raise_if_of_device(self._torch, error)
            raise

    def _compute(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        results = self._network.call([self._given(tensor, inputs[tensor.name]) for tensor in self.inputs])
        if self._device != "cpu":
            self._torch.cuda.synchronize(self._device)
        found = dict(zip((tensor.name for tensor in self.outputs), results, strict=True))
        return [self._array(found[name]) for name in outputs]

    def _given(self, tensor: Tensor, array: Array) -> Any:
        plain = np.ascontiguousarray(array) if array.ndim else array  # which would give it a dimension
        shared = self._torch.from_numpy(plain if plain.flags.writeable else plain.copy())
        return shared.to(self._device, self._network.dtypes[tensor.name])

    def _array(self, result: Any) -> Array:
        result = result.float() if result.dtype == self._torch.bfloat16 else result
        array: Array = result.cpu().numpy()
        return array


def _check(inputs: Mapping[str, Array], outputs: Sequence[str], network: Network) -> None:
    """What torch would take as it comes, or refuse in words that name nothing."""
    _check_names("input", inputs, network.inputs)
    _check_names("output", outputs, network.outputs)
    for tensor in network.inputs:
        if tensor.name not in inputs:
            raise ValueError(f"input {tensor.name!r} is missing")
        dtype = inputs[tensor.name].dtype.name
        datatype = DATATYPES.get(dtype, dtype)
        if tensor.datatype not in (UNTOLD, datatype):
            raise ValueError(f"input {tensor.name!r}: {datatype} is not allowed; allowed: {tensor.datatype}")


def _check_names(what: str, named: Mapping[str, Array] | Sequence[str], known: Sequence[Tensor]) -> None:
    names = [tensor.name for tensor in known]
    if unknown := [name for name in named if name not in names]:
        raise ValueError(f"{what} {unknown[0]!r} is not allowed; allowed: {', '.join(names)}")


def _raise_if_of_device(torch: Any, error: Exception) -> None:
    """Raise `MemoryError` or `DeviceFailed` if that is what an error of torch means."""
    if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
        raise MemoryError(_first_line(error)) from error
    if _DEVICE_FAILURE in str(error):
        raise DeviceFailed(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
