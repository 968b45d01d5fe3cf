"""What a handler is made of: the public interface for those who write functions.

A handler is named ``path.py:attribute`` or ``module:attribute``. It is one of

- a plain function ``request -> result``;
- a class, constructed once per instance with a `Context`, whose objects either are called with one `Request`, or
  have ``handle(self, requests: Sequence[Request]) -> Sequence[Result]`` and get whole batches.

A class or function may have ``sample``, bytes or a method without arguments that returns bytes: the body of a typical
request. An instance runs it before it takes requests, to warm up and to learn how long its work takes.

A handler that raises answers the request with status 500 and the exception's type and text; with `BadRequest`, 400. In
``handle``, an exception may also stand in the place of a result, for that request alone. A ``handle`` that raises on a
batch of several is called again with each request alone, so that only the one at fault fails.

All work runs in one thread, the one that constructed the handler. `Model.run` belongs there: every run is a burst that
waits for the instance's turn on the device.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fastgshare.domain.errors import FastGShareError
from fastgshare.domain.requests import Request
from fastgshare.runtime.resources import locate

if TYPE_CHECKING:
    from fastgshare.runtime.models import Model

__all__ = ["BadRequest", "Context", "Request", "Response", "Result"]


class BadRequest(FastGShareError):
    """The request is not one that this function can answer; the text says what is wrong with it. Status 400."""


@dataclass(frozen=True, slots=True)
class Response:
    """A result with everything said.

    status: HTTP status, 200 to 599. content_type: None for ``application/octet-stream``, or ``text/plain`` if body
    is a str. headers: further headers.
    """

    status: int = 200
    body: bytes | str = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Result = Response | Exception | bytes | str | Mapping[str, object] | Sequence[object] | float | bool | None
"""bytes and str are the body as it is; mappings, sequences, numbers, bools and None are written as JSON, arrays and
numbers of numpy in them too."""


class OpenModel(Protocol):
    """Opens the model behind a reference."""

    def __call__(self, ref: str) -> Model:
        """Raises `InvalidValue` naming the reference."""


@dataclass(frozen=True, slots=True)
class Context:
    """What an instance gives its handler.

    model: the function's model; None if it names none. env: the function's environment, also in ``os.environ``.
    threads: how many threads a model computes with. logger: its lines go to the instance's log.
    """

    model: Model | None
    env: Mapping[str, str]
    threads: int
    logger: logging.Logger
    opener: OpenModel

    def open_model(self, ref: str) -> Model:
        """Open a further model: an absolute path or ``package:resource``. Its runs count like those of `model`.

        Raises `InvalidValue` naming the reference if there is no such file, or it is no model that can be opened here.
        """
        return self.opener(ref)

    def resource(self, ref: str) -> Path:
        """The file behind an absolute path or ``package:resource``; the package is not imported.

        Raises `InvalidValue` naming the reference if there is no such file.
        """
        return locate("resource", ref)
