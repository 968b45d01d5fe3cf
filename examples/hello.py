"""A function without a model: says hello to whom the body names."""

from __future__ import annotations

from fastgshare.runtime.handlers import BadRequest, Request


def hello(request: Request) -> str:
    """A greeting."""
    try:
        name = request.body.decode().strip()
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8") from None
    return f"Hello, {name or 'world'}!\n"
