"""Handlers: from a reference to something that can be called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from fastgshare.domain.errors import InvalidValue
from fastgshare.runtime.handlers import Context, Request, Result
from fastgshare.runtime.replies import describe

_FIELD: Final = "handler"


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler, constructed. Either `single` or `batchwise` is there.

    sample: the body of a typical request, None if the handler gives none.
    """

    single: Callable[[Request], Result] | None
    batchwise: Callable[[Sequence[Request]], Sequence[Result]] | None
    sample: bytes | None


def load_handler(ref: str, context: Context) -> Handler:
    """Import and construct the handler behind ``path.py:attribute`` or ``module:attribute``.

    Raises `InvalidValue` naming the reference and what is wrong with it.
    """
    source, _, attribute = ref.rpartition(":")
    if not source or not attribute.isidentifier():
        raise InvalidValue(_FIELD, ref, "path.py:attribute or module:attribute")
    found: Any = getattr(_import(ref, source), attribute, None)
    if not callable(found):
        raise InvalidValue(_FIELD, ref, f"a class or function that {source} defines (no {attribute} there)")
    if not isinstance(found, type):
        return _handler(ref, found)
    try:
        made = found(context)
    except Exception as error:
        context.logger.exception("the handler cannot be constructed")
        raise InvalidValue(_FIELD, ref, f"a class that can be constructed ({describe(error)})") from error
    return _handler(ref, made)


def _import(ref: str, source: str) -> ModuleType:
    try:
        return _import_file(ref, Path(source)) if source.endswith(".py") else import_module(source)
    except InvalidValue:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidValue(_FIELD, ref, f"code that can be imported ({describe(error)})") from error


def _import_file(ref: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise InvalidValue(_FIELD, ref, "a Python file that exists")
    sys.path.insert(0, str(path.parent.absolute()))  # so that it finds the modules beside it
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InvalidValue(_FIELD, ref, "a Python file")
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _handler(ref: str, found: Any) -> Handler:
    batchwise = getattr(found, "handle", None)
    if batchwise is None and not callable(found):
        raise InvalidValue(_FIELD, ref, "a class whose objects have handle(requests) or can be called with a request")
    return Handler(None if batchwise is not None else found, batchwise, _sample(ref, found))


def _sample(ref: str, found: Any) -> bytes | None:
    sample = getattr(found, "sample", None)
    try:
        body = sample() if callable(sample) else sample
    except Exception as error:
        raise InvalidValue(_FIELD, ref, f"a sample that can be made ({describe(error)})") from error
    if body is not None and not isinstance(body, bytes):
        raise InvalidValue(_FIELD, ref, f"a sample of bytes ({type(body).__name__} found)")
    return body
