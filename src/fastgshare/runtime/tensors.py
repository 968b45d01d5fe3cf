"""Models without a handler: tensors in, tensors out, as JSON in the shape of the Open Inference Protocol."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastgshare.domain.errors import FastGShareError, InvalidValue
from fastgshare.runtime.handlers import BadRequest, Request, Result
from fastgshare.runtime.models import Model, Tensor

if TYPE_CHECKING:
    from fastgshare.runtime.models import Array

    Arrays = dict[str, Array]

_DTYPES: Final[Mapping[str, Any]] = {
    "BOOL": np.bool_,
    "BYTES": np.object_,
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}
_VALUES: Final[Mapping[str, tuple[type, ...]]] = {
    "b": (bool,),
    "O": (str,),
    "f": (int, float),
    "i": (int,),
    "u": (int,),
}
"""Kind of a numpy type -> what its values are in JSON."""
_SIZES_TO_TRY: Final = (1, 32, 224)
_LARGEST_SAMPLE: Final = 2**20


@dataclass(frozen=True, slots=True)
class _Call:
    """One request, parsed: its arrays, the outputs it wants, the id it brought."""

    arrays: Arrays
    outputs: tuple[str, ...]
    id: str | None

    @property
    def signature(self) -> tuple[object, ...]:
        """Equal for calls that can run as one: same outputs, same shapes behind the first dimension."""
        return self.outputs, *((name, array.shape[1:]) for name, array in sorted(self.arrays.items()))

    @property
    def rows(self) -> set[int]:
        return {array.shape[0] for array in self.arrays.values()}


class TensorHandler:
    """Serves a model as it is.

    Raises `InvalidValue` if it takes or gives tensors that the protocol does not know.
    Requests of one batch run as one where every input and output of the model has a first dimension of any size: then
    that is taken for the batch (who deploys such a model with ``batch.max_size`` above 1 says so).
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        _check_datatypes(model)
        self._stackable = all(t.shape and t.shape[0] is None for t in (*model.inputs, *model.outputs))
        self.sample = self._find_sample()

    def handle(self, requests: Sequence[Request]) -> list[Result]:
        """Run the model on requests such as ``{"inputs": [{"name", "shape", "datatype", "data"}]}``."""
        results: dict[int, Result] = {}
        calls: dict[int, _Call] = {}
        for position, request in enumerate(requests):
            try:
                calls[position] = self._parse(request.body)
            except BadRequest as error:
                results[position] = error
        for positions in self._groups(calls):
            group = [calls[position] for position in positions]
            results.update(zip(positions, self._run_or_blame(group), strict=True))
        return [results[position] for position in range(len(requests))]

    def _groups(self, calls: Mapping[int, _Call]) -> list[list[int]]:
        """Positions that run together."""
        together = [p for p, call in calls.items() if self._stackable and len(call.rows) == 1]
        alone = [[p] for p in calls if p not in together]
        together.sort(key=lambda p: repr(calls[p].signature))
        return alone + [list(group) for _, group in groupby(together, key=lambda p: calls[p].signature)]

    def _run_or_blame(self, group: Sequence[_Call]) -> list[Result]:
        try:
            return self._run(group)
        except BadRequest as error:
            return [error] if len(group) == 1 else [result for call in group for result in self._run_or_blame([call])]

    def _run(self, group: Sequence[_Call]) -> list[Result]:
        if len(group) == 1:
            return [self._answer(group[0], self._compute(group[0].arrays, group[0].outputs))]
        names = group[0].arrays
        stacked = {name: np.concatenate([call.arrays[name] for call in group]) for name in names}
        rows = [next(iter(call.rows)) for call in group]
        arrays = self._compute(stacked, group[0].outputs)
        if any(array.shape[0] != sum(rows) for array in arrays):
            raise ValueError("the model's first dimension is no batch; set batch.max_size to 1")
        parts = zip(*(np.split(array, np.cumsum(rows)[:-1]) for array in arrays), strict=True)
        return [self._answer(call, part) for call, part in zip(group, parts, strict=True)]

    def _compute(self, arrays: Arrays, outputs: Sequence[str]) -> list[Array]:
        try:
            return self._model.run(arrays, outputs)
        except (MemoryError, FastGShareError):
            raise
        except Exception as error:  # the checks passed, yet these sizes do not go together
            raise BadRequest(f"the model refuses these inputs: {str(error).strip().partition(chr(10))[0]}") from error

    def _answer(self, call: _Call, arrays: Sequence[Array]) -> Result:
        outputs = [_write(name, array) for name, array in zip(call.outputs, arrays, strict=True)]
        answer: dict[str, object] = {"model_name": self._model.ref, "outputs": outputs}
        return answer if call.id is None else {**answer, "id": call.id}

    def _parse(self, body: bytes) -> _Call:
        document = _mapping(_json(body), "the body")
        given: dict[str, Mapping[str, object]] = {}
        for item in _list(document.get("inputs"), "inputs"):
            row = _mapping(item, "an input")
            given[str(row.get("name"))] = row
        known = {tensor.name: tensor for tensor in self._model.inputs}
        if given.keys() != known.keys():
            raise BadRequest(f"inputs: {', '.join(given) or 'none'} given; needed: {', '.join(known)}")
        arrays = {name: _read(tensor, given[name]) for name, tensor in known.items()}
        id_ = document.get("id")
        return _Call(arrays, self._wanted(document), None if id_ is None else str(id_))

    def _wanted(self, document: Mapping[str, object]) -> tuple[str, ...]:
        known = [tensor.name for tensor in self._model.outputs]
        rows = _list(document.get("outputs", []), "outputs")
        wanted = tuple(str(_mapping(row, "an output").get("name")) for row in rows)
        for name in wanted:
            if name not in known:
                raise BadRequest(f"outputs: {name!r} is not one; allowed: {', '.join(known)}")
        return wanted or tuple(known)

    def _find_sample(self) -> bytes | None:
        """A body of zeros that the model accepts; None if no size that is tried does."""
        for size in _SIZES_TO_TRY:
            shapes = [_some_shape(tensor, size) for tensor in self._model.inputs]
            if sum(map(math.prod, shapes)) > _LARGEST_SAMPLE:
                break
            inputs = [_zeros(tensor, shape) for tensor, shape in zip(self._model.inputs, shapes, strict=True)]
            body = json.dumps({"inputs": inputs}).encode()
            if not isinstance(self.handle([Request(0, "", body, 0.0, 0.0)])[0], Exception):
                return body
        return None


def _json(body: bytes) -> object:
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON ({error})") from error
    return document


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BadRequest(f"{what} is not a JSON object")
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise BadRequest(f"{what}: a JSON array is needed")
    return value


def _read(tensor: Tensor, row: Mapping[str, object]) -> Array:
    """The array that a request gives for an input. Raises `BadRequest` naming the input and what is allowed."""
    what = f"input {tensor.name!r}"
    if row.get("datatype") != tensor.datatype:
        raise BadRequest(f"{what}: datatype {row.get('datatype')!r} is not allowed; allowed: {tensor.datatype}")
    shape = _shape(what, tensor, _list(row.get("shape"), f"{what}: shape"))
    data = _flat(_list(row.get("data"), f"{what}: data"))
    if len(data) != math.prod(shape):
        raise BadRequest(f"{what}: {len(data)} values in data; allowed: {math.prod(shape)}, as shape {shape} says")
    return _array(what, tensor, data).reshape(shape)


def _array(what: str, tensor: Tensor, data: list[Any]) -> Array:
    dtype = np.dtype(_DTYPES[tensor.datatype])
    allowed = _VALUES[dtype.kind]
    if not all(type(value) in allowed for value in data):
        raise BadRequest(f"{what}: data holds values that are not {tensor.datatype}")
    if dtype.kind in "iu" and data and not np.iinfo(dtype).min <= min(data) <= max(data) <= np.iinfo(dtype).max:
        raise BadRequest(f"{what}: data holds values beyond the range of {tensor.datatype}")
    try:
        return np.array(data, dtype=dtype)
    except OverflowError as error:
        raise BadRequest(f"{what}: data does not fit {tensor.datatype} ({error})") from error


def _shape(what: str, tensor: Tensor, given: list[object]) -> list[int]:
    sizes = [size for size in given if isinstance(size, int) and not isinstance(size, bool) and size >= 0]
    fits = len(sizes) == len(given) == len(tensor.shape)
    if not fits or any(want not in (None, size) for want, size in zip(tensor.shape, sizes, strict=True)):
        raise BadRequest(f"{what}: shape {given} is not allowed; allowed: {_written(tensor.shape)}")
    return sizes


def _written(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"


def _flat(data: list[object]) -> list[object]:
    """Data row by row, however deeply it is nested (the protocol allows both)."""
    while data and isinstance(data[0], list):
        if not all(isinstance(part, list) for part in data):
            raise BadRequest("data is nested unevenly")
        data = [value for part in data if isinstance(part, list) for value in part]
    return data


def _write(name: str, array: Array) -> dict[str, object]:
    datatype = next(name for name, dtype in _DTYPES.items() if np.dtype(dtype) == array.dtype)
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}


def _some_shape(tensor: Tensor, size: int) -> list[int]:
    shape = [size if allowed is None else allowed for allowed in tensor.shape]
    if shape and tensor.shape[0] is None:
        shape[0] = 1  # most often the batch
    return shape


def _zeros(tensor: Tensor, shape: list[int]) -> dict[str, object]:
    zero: object = {"BYTES": "", "BOOL": False}.get(tensor.datatype, 0)
    return {"name": tensor.name, "shape": shape, "datatype": tensor.datatype, "data": [zero] * math.prod(shape)}


def _check_datatypes(model: Model) -> None:
    for tensor in (*model.inputs, *model.outputs):
        if tensor.datatype not in _DTYPES:
            allowed = (
                f"without a handler, a model with tensors of {', '.join(_DTYPES)} ({tensor.name}: {tensor.datatype})"
            )
            raise InvalidValue("model", model.ref, allowed)
