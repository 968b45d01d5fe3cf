"""Models: networks that an instance has open, and the little that a backend must offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastgshare.domain.errors import FastGShareError
from fastgshare.runtime.turns import Turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class DeviceFailed(FastGShareError):
    """The device failed while it computed, whatever the inputs were; the text is the framework's."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model.

    datatype: as the Open Inference Protocol writes it (FP32, INT64, BYTES ...); the framework's own name for what the
    protocol does not know. shape: None where any size is allowed.
    """

    name: str
    datatype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """What a network is made of. nodes: its operations. weight_bytes: its parameters and constants."""

    nodes: int
    weight_bytes: int

    def __add__(self, other: Outline) -> Outline:
        return Outline(self.nodes + other.nodes, self.weight_bytes + other.weight_bytes)


class Session(Protocol):
    """A network, loaded and ready to run on a fixed number of threads."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, str]

    def outline(self) -> Outline:
        """What the network is made of. It may take a look into the file."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Compute the named outputs, in order.

        Raises `MemoryError` if the memory cap does not allow it, `DeviceFailed`, or the backend's own error if the
        inputs do not fit.
        """


class Backend(Protocol):
    """Makes sessions of model files."""

    def open(self, path: Path, *, threads: int, spin: bool) -> Session:
        """Load a model. spin: whether idle threads wait busily for the next piece of work within a run.

        Raises `ValueError` with one sentence if the file is no model, `MemoryError` if it does not fit, `DeviceFailed`.
        """


class Model:
    """A network. Every run is one burst: it waits for the instance's turn on the device."""

    def __init__(self, ref: str, session: Session, turn: Turn) -> None:
        self.ref = ref
        self._session = session
        self._turn = turn

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What `run` takes."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What `run` returns, in this order."""
        return self._session.outputs

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the model's makers wrote into it."""
        return self._session.metadata

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str] = ()) -> list[Array]:
        """Compute the named outputs (all, if none is named), in order, from arrays by input name.

        Raises the backend's own error if the inputs do not fit the model, `MemoryError` beyond the memory cap,
        `DeviceFailed`, and `RuntimeError` outside the thread that constructed the handler.
        """
        self._turn.next_run(self.ref, sum(array.size for array in inputs.values()))
        return self._session.run(inputs, outputs or [output.name for output in self.outputs])
