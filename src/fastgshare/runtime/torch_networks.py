"""Networks of torch as a session needs them: what they take and give, and one way to call them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastgshare.runtime.models import Outline, Tensor

UNTOLD: Final = "ANY"
"""The datatype of what a TorchScript file does not describe."""
DATATYPES: Final = {
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "FP32",  # numpy has no such numbers: they are converted on the way
    "bool": "BOOL",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
}
_TENSOR: Final = "TensorType"


@dataclass(frozen=True, slots=True)
class Network:
    """A network of torch. call: from tensors in the order of `inputs` to tensors in that of `outputs`.

    dtypes: torch's own, of inputs by name; None where anything will do.
    """

    call: Callable[[Sequence[Any]], Sequence[Any]]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    dtypes: Mapping[str, Any]
    outline: Outline


def of_program(program: Any) -> Network:
    """A program of torch.export. Raises `ValueError` if it takes numbers that are no tensors."""
    signature, values = program.graph_signature, {node.name: node.meta.get("val") for node in program.graph.nodes}
    slots = [spec.arg for spec in signature.input_specs if spec.kind.name == "USER_INPUT"]
    results = [spec.arg for spec in signature.output_specs if spec.kind.name == "USER_OUTPUT"]
    for arg in slots:
        if not _is_tensor(arg) and not hasattr(arg, "value"):
            raise ValueError(f"its input {arg.name} is no tensor")
    names = _output_names(program.call_spec.out_spec.unflatten(list(range(len(results)))), len(results))
    inputs = {arg.name: values[arg.name] for arg in slots if _is_tensor(arg)}
    outputs = {names[place]: values[arg.name] for place, arg in enumerate(results) if _is_tensor(arg)}
    operations = sum(node.op == "call_function" for node in program.graph.nodes)
    return Network(
        _caller(program, slots, results),
        tuple(_described(name, value) for name, value in inputs.items()),
        tuple(_described(name, value) for name, value in outputs.items()),
        {name: value.dtype for name, value in inputs.items()},
        Outline(operations, _bytes_of([*program.state_dict.values(), *program.constants.values()])),
    )


def _caller(program: Any, slots: Sequence[Any], results: Sequence[Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """Puts tensors where the program's arguments have them, beside constants, and takes them from what it gives."""
    module, spec = program.module(), program.call_spec
    constants = [getattr(arg, "value", None) for arg in slots]
    given = [place for place, arg in enumerate(slots) if _is_tensor(arg)]
    taken = [place for place, arg in enumerate(results) if _is_tensor(arg)]

    def call(tensors: Sequence[Any]) -> list[Any]:
        leaves = list(constants)
        for place, tensor in zip(given, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = spec.in_spec.unflatten(leaves)
        flat = spec.out_spec.flatten_up_to(module(*args, **kwargs))
        return [flat[place] for place in taken]

    return call


def of_script(module: Any) -> Network:
    """A TorchScript module. Its file says how many tensors it takes and gives, and not what is in them.

    Raises `ValueError` if ``forward`` takes or gives anything else.
    """
    schema = module.forward.schema
    required = [arg for arg in schema.arguments[1:] if not arg.has_default_value()]
    given = schema.returns[0].type
    parts = list(given.elements()) if given.kind() == "TupleType" else [given]
    if {part.kind() for part in (*parts, *(arg.type for arg in required))} != {_TENSOR}:
        raise ValueError(f"its forward takes or gives other things than tensors ({schema})")
    names = _output_names(0 if given.kind() == _TENSOR else list(range(len(parts))), len(parts))

    def call(tensors: Sequence[Any]) -> list[Any]:
        found = module(*tensors)
        return list(found) if isinstance(found, tuple) else [found]

    operations = sum(not node.kind().startswith("prim::") for node in module.inlined_graph.nodes())
    return Network(
        call,
        tuple(Tensor(arg.name, UNTOLD, ()) for arg in required),
        tuple(Tensor(name, UNTOLD, ()) for name in names),
        {arg.name: None for arg in required},
        Outline(operations, _bytes_of([*module.parameters(), *module.buffers()])),
    )


def _is_tensor(argument: Any) -> bool:
    return type(argument).__name__ == "TensorArgument"


def _described(name: str, value: Any) -> Tensor:
    dtype = str(value.dtype).removeprefix("torch.")
    return Tensor(
        name, DATATYPES.get(dtype, dtype), tuple(size if isinstance(size, int) else None for size in value.shape)
    )


def _bytes_of(tensors: Sequence[Any]) -> int:
    """Memory of tensors; what several of them share counts once, and what is none of them not at all."""
    found = [tensor.untyped_storage() for tensor in tensors if hasattr(tensor, "untyped_storage")]
    return sum({storage.data_ptr(): storage.nbytes() for storage in found}.values())


def _output_names(tree: object, count: int) -> list[str]:
    """Names for outputs by where they stand in what a network gives: keys of mappings, ``output`` with numbers."""
    found = {leaf: _joined(path) for leaf, path in _leaves(tree, ())}
    return [found.get(number, f"output_{number}") for number in range(count)]


def _joined(path: tuple[str, ...]) -> str:
    return "_".join(path if path and not path[0].isdigit() else ("output", *path))


def _leaves(tree: object, path: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    if isinstance(tree, int):
        yield tree, path
    elif isinstance(tree, Mapping):
        for key, part in tree.items():
            yield from _leaves(part, (*path, str(key)))
    elif isinstance(tree, list | tuple):
        for index, part in enumerate(tree):
            yield from _leaves(part, (*path, str(index)))
