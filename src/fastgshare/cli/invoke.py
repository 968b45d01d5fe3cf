"""``fastgshare invoke``."""

from __future__ import annotations

import base64
import sys
from typing import BinaryIO

import click

from fastgshare.cli import options
from fastgshare.cli.gateways import Answer, Gateway
from fastgshare.cli.output import print_json
from fastgshare.domain.errors import FastGShareError, NotFound

_ERROR = 400


class FunctionFailed(FastGShareError):
    """A function answered with an error status."""


@click.command()
@click.argument("name")
@click.option("-d", "--data", help="The body, as text.")
@click.option("-F", "--file", type=click.File("rb"), help="The body, from a file; - is stdin.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header; may be repeated.")
@click.option(
    "--timeout",
    "timeout_s",
    type=options.FiniteRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
@options.gateway
@options.as_json
def invoke(
    name: str,
    data: str | None,
    file: BinaryIO | None,
    headers: tuple[str, ...],
    timeout_s: float,
    gateway: Gateway,
    as_json: bool,
) -> None:
    """Call the function NAME and print its answer as it is.

    The body is --data or --file, else stdin unless that is a terminal. An answer with an error status is an error.
    With --json, status, headers and body are printed as JSON, whatever the status; a body that is not UTF-8 as base64.
    """
    answer = gateway.invoke(name, _body(data, file), _headers(headers), timeout_s)
    if as_json:
        print_json(_document(answer))
        return
    if answer.status >= _ERROR:
        if answer.status == 404 and not _is_known(gateway, name):
            raise NotFound("function", name)
        raise FunctionFailed(f"{name} answered {answer.status}: {answer.text}")
    sys.stdout.buffer.write(answer.body)
    sys.stdout.buffer.flush()
    if sys.stdout.isatty() and not answer.body.endswith(b"\n"):
        click.echo()


def _body(data: str | None, file: BinaryIO | None) -> bytes:
    if data is not None and file is not None:
        raise click.UsageError("--data and --file exclude each other")
    if data is not None:
        return data.encode()
    if file is not None:
        return file.read()
    return b"" if sys.stdin.isatty() else sys.stdin.buffer.read()


def _headers(texts: tuple[str, ...]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or "\n" in text or "\r" in text:
            raise click.BadParameter(f"{text!r} is not NAME:VALUE", param_hint="--header")
        headers[name.strip()] = value.strip()
    return headers


def _is_known(gateway: Gateway, name: str) -> bool:
    """Whether a 404 is the function's own."""
    try:
        gateway.function(name)
    except NotFound:
        return False
    return True


def _document(answer: Answer) -> dict[str, object]:
    try:
        body, encoding = answer.body.decode(), "utf-8"
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(answer.body).decode(), "base64"
    return {"status": answer.status, "headers": dict(answer.headers), "body": body, "encoding": encoding}
