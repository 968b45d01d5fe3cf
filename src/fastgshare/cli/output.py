"""What verbs print: results to stdout, what goes on meanwhile to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

_UNBOUNDED: int = 10_000
"""Columns of a table that goes into a file or a pipe: nothing is cut there."""


def print_json(document: object) -> None:
    """One document, for people and programs."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_json_line(document: object) -> None:
    """One document of several, on a line."""
    click.echo(json.dumps(document, ensure_ascii=False))


def stdout() -> Console:
    """For tables; as wide as they are unless it is a terminal."""
    return Console(width=None if sys.stdout.isatty() else _UNBOUNDED, highlight=False)


def stderr() -> Console:
    """For progress."""
    return Console(stderr=True, highlight=False)


def table(columns: Sequence[str]) -> Table:
    """A plain table."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        found.add_column(column, overflow="fold")
    return found
