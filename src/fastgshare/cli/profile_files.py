"""Pictures of profiles, in files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import click

from fastgshare.cli.profile_words import DIGEST
from fastgshare.domain.errors import FastGShareError, InvalidValue
from fastgshare.report.profiles import Profile, profile_page, profile_picture
from fastgshare.report.rasters import png

_KINDS: Final = (".html", ".png", ".svg")


def check(file: Path) -> None:
    """Raise `InvalidValue` for a file whose name does not say what to draw."""
    if file.suffix.lower() not in _KINDS:
        raise InvalidValue("--picture", str(file), f"a name that ends in {', '.join(_KINDS)}")


def draw(file: Path, views: Sequence[Profile]) -> None:
    """Draw profiles into a file; several only as .html. Raises `InvalidValue` and `FastGShareError`."""
    kind = file.suffix.lower()
    if kind != ".html" and len(views) > 1:
        allowed = f"an .html page for {len(views)} profiles ({_names(views)}), or --device-type, --model"
        raise InvalidValue("--picture", str(file), allowed)
    write(file, _content(kind, views))
    click.echo(f"drawn in {file}", err=True)


def write(file: Path, content: bytes) -> None:
    """The whole file, or a `FastGShareError` that says why not."""
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_bytes(content)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FastGShareError(f"{file} cannot be written ({error.strerror})") from None


def _content(kind: str, views: Sequence[Profile]) -> bytes:
    if kind == ".html":
        return profile_page(views).encode()
    picture = profile_picture(views[0])
    return png(picture) if kind == ".png" else f"{picture}\n".encode()


def _names(views: Iterable[Profile]) -> str:
    return ", ".join(f"{one.subject.device_type} {one.subject.model_digest[:DIGEST]}".strip() for one in views)
