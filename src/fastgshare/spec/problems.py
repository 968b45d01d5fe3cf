"""What is wrong with a document, as one `InvalidValue` that names the field as its author wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fastgshare.domain.errors import InvalidValue

Path = tuple[str | int, ...]
"""Where a value stands in a document: keys and list indices."""

Shape = TypeVar("Shape", bound=BaseModel)


class Problem(InvalidValue):
    """An `InvalidValue` that knows the path of its field, so that a caller can name a line or an annotation."""

    def __init__(self, path: Path, value: object, allowed: str) -> None:
        super().__init__(field_name(path), value, allowed)
        self.path = path

    def within(self, prefix: Path) -> Problem:
        """The same problem, seen from a document that holds this one at `prefix`."""
        return Problem(prefix + self.path, self.value, self.allowed)


def field_name(path: Path) -> str:
    """A path as people write it: ``functions[0].share.sm``; keys with dots or slashes as ``["a/b"]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "").replace("-", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text or "document"


def value_at(document: object, path: Path) -> object:
    """The value at a path, or None where the document has none."""
    for part in path:
        if isinstance(document, Mapping):
            document = document.get(part)
        elif isinstance(document, Sequence) and isinstance(part, int) and part < len(document):
            document = document[part]
        else:
            return None
    return document


def parse(shape: type[Shape], document: object) -> Shape:
    """Validate a document against a shape. Raises `Problem` for the first thing that is wrong with it."""
    try:
        return shape.model_validate(document)
    except ValidationError as error:
        raise _first(shape, document, error) from None


def allowed(shape: type[BaseModel], path: Path) -> str:
    """What a field may hold: the description of the deepest field on the path that has one."""
    for length in range(len(path), 0, -1):
        outer = _shape_at(shape, path[: length - 1])
        field = _fields(outer).get(path[length - 1]) if outer is not None else None
        if field is not None and field.description:
            return field.description
    return shape.__doc__ or ""


def _first(shape: type[BaseModel], document: object, error: ValidationError) -> Problem:
    """The first error of pydantic as ours; a misspelt field before the missing one that it stands for."""
    errors = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    detail = errors[0]
    path: Path = tuple(part for part in detail["loc"] if part != "[key]")
    value = None if detail["type"] == "missing" else value_at(document, path)
    if detail["type"] == "extra_forbidden":
        return Problem(path, value, _nearest(str(path[-1]), _shape_at(shape, path[:-1])))
    return Problem(path, value, allowed(shape, path))


def _nearest(name: str, shape: type[BaseModel] | None) -> str:
    known = [] if shape is None else [str(field) for field in _fields(shape)]
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    listed = f"the fields {', '.join(known)}"
    return f"{listed}; nearest: {near[0]}" if near else listed


def _fields(shape: type[BaseModel]) -> dict[str | int, FieldInfo]:
    """The fields of a shape by the names that documents use."""
    return {field.alias or name: field for name, field in shape.model_fields.items()}


def _shape_at(shape: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The shape that a path leads to, through nested shapes and lists of them."""
    current: type[BaseModel] | None = shape
    for part in path:
        if isinstance(part, int):
            continue
        field = None if current is None else _fields(current).get(part)
        current = None if field is None else _inner(field.annotation)
    return current


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The shape inside ``X | None`` or ``list[X]``, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_inner(argument) for argument in get_args(annotation))
    return next((shape for shape in inner if shape is not None), None)
