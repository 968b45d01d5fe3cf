"""References to models and handlers: their forms, where they lie, and whether they are there.

A model is a path or ``package:resource``; a handler is ``path.py:attribute`` or ``module:attribute``. Packages are
found without being imported, so that nothing of them runs where a function is only checked.
"""

from __future__ import annotations

import re
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Final

from fastgshare.domain.functions import Function
from fastgshare.spec.frameworks import check_content
from fastgshare.spec.problems import Problem

_NAME: Final = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_RESOURCE: Final = re.compile(rf"({_NAME}):([^:]+)")
_HANDLER: Final = re.compile(rf"(.+):({_NAME})", re.DOTALL)
_MODEL_FORMS: Final = "path of a model file, or package:resource"
_HANDLER_FORMS: Final = "path.py:attribute or module:attribute"


def resolve_model(model: str, base: Path | None) -> str:
    """A model reference with its path, if it is one, resolved against `base`. Raises `InvalidValue`."""
    if not model.strip() or "\0" in model:
        raise Problem(("model",), model, _MODEL_FORMS)
    if base is None or _RESOURCE.fullmatch(model):
        return model
    return str((base / model).resolve())


def is_absolute(model: str) -> bool:
    """Whether a model reference means the same from every folder."""
    return _RESOURCE.fullmatch(model) is not None or Path(model).is_absolute()


def resolve_handler(handler: str, base: Path | None) -> str:
    """A handler reference with its path, if it has one, resolved against `base`. Raises `InvalidValue`."""
    source, attribute = split_handler(handler)
    if base is None or not source.endswith(".py"):
        return handler
    return f"{(base / source).resolve()}:{attribute}"


def split_handler(handler: str) -> tuple[str, str]:
    """Path or module of a handler, and the attribute in it. Raises `InvalidValue`."""
    match = _HANDLER.fullmatch(handler)
    if match is None or "\0" in handler or not (match[1].endswith(".py") or re.fullmatch(_NAME, match[1])):
        raise Problem(("handler",), handler, _HANDLER_FORMS)
    return match[1], match[2]


def model_path(model: str) -> Path:
    """The file behind a model reference. Raises `InvalidValue` if the package or the file is not there."""
    match = _RESOURCE.fullmatch(model)
    paths = [Path(model)] if match is None else [folder / match[2] for folder in _folders(match[1], model)]
    for path in paths:
        if path.is_file():
            return path
    raise Problem(("model",), model, f"{_MODEL_FORMS}; there is no file {' or '.join(map(str, paths))}")


def handler_path(handler: str) -> Path:
    """The file behind a handler reference. Raises `InvalidValue` if it is not there, or its module is in no file."""
    source, _ = split_handler(handler)
    _check_handler(handler)
    if source.endswith(".py"):
        return Path(source)
    spec = _find(source)
    if spec is None or not spec.has_location or spec.origin is None:
        raise Problem(("handler",), handler, f"{_HANDLER_FORMS}; module {source} is in no file")
    return Path(spec.origin)


def files(function: Function) -> tuple[Path, ...]:
    """The files of a function's model and of its handler, in this order. Raises `InvalidValue`."""
    model = () if function.model is None else (model_path(function.model),)
    handler = () if function.handler is None else (handler_path(function.handler),)
    return (*model, *handler)


def check(function: Function) -> None:
    """Raise `InvalidValue` unless the files behind a function's model and handler are there, and the former is one."""
    if function.model is not None:
        check_content(function.model, model_path(function.model))
    if function.handler is not None:
        _check_handler(function.handler)


def _check_handler(handler: str) -> None:
    source, _ = split_handler(handler)
    if source.endswith(".py"):
        if not Path(source).is_file():
            raise Problem(("handler",), handler, f"{_HANDLER_FORMS}; there is no file {source}")
    elif _find(source) is None:
        raise Problem(("handler",), handler, f"{_HANDLER_FORMS}; module {source} is not installed")


def _folders(package: str, model: str) -> list[Path]:
    """Folders of a package (namespace packages have several)."""
    spec = _find(package)
    if spec is None:
        raise Problem(("model",), model, f"{_MODEL_FORMS}; package {package} is not installed")
    if spec.submodule_search_locations:
        return [Path(location) for location in spec.submodule_search_locations]
    return [Path(spec.origin or "").parent]


def _find(module: str) -> ModuleSpec | None:
    """The spec of a module, its parents found but not imported."""
    path: list[str] | None = None
    spec: ModuleSpec | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return spec
