"""The reference of the command line, written from its commands: ``python -m fastgshare.cli.reference``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import cleandoc

import click

from fastgshare.cli.group import main

_OPENING = """# The command line

Written by `python -m fastgshare.cli.reference` from the commands themselves; a test fails when it is stale.

Results go to stdout, everything else to stderr. An error is one line on stderr that begins with `error:`. The exit
status is 0, 1 if it failed, or 2 if it was asked wrongly (a verb, an option, a field of a file).
"""


def reference() -> str:
    """All verbs with their arguments and options, as Markdown."""
    return "\n".join([_OPENING, *_command(main, ("fastgshare",))])


def _command(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(path))
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"{'#' * min(len(path) + 1, 6)} {' '.join(path)}\n"
    yield f"```text\n{' '.join(path)} {pieces}\n```\n"
    yield f"{cleandoc(command.help or '')}\n"
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if options:
        yield "| option | what it does |\n|---|---|"
        yield from (_row(option) for option in options)
        yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _command(inner, (*path, name))


def _row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kind = "" if option.is_flag or option.count else f" {option.metavar or option.type.name.upper()}"
    said = []
    if option.required:
        said.append("required")
    if option.show_default:
        said.append(f"default: `{option.default}`")
    if option.envvar:
        said.append(f"from {' or '.join(f'`{name}`' for name in _listed(option.envvar))}")
    note = f" ({'; '.join(said)})" if said else ""
    cells = (f"{names}{kind}", f"{' '.join((option.help or '').split())}{note}")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _listed(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


if __name__ == "__main__":
    click.echo(reference(), nl=False)
