from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fastgshare.cli import main
from fastgshare.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))


ALL = dict(commands(main, ("fastgshare",)))


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text() == reference(), "stale: python -m fastgshare.cli.reference > docs/cli.md"


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_option_has_help_and_every_command_prints_json(name: str) -> None:
    command = ALL[name]
    assert command.help
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []
    if not isinstance(command, click.Group):
        assert "--json" in [switch for option in options for switch in option.opts]
