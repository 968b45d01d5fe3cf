"""The group of all verbs, loaded when they are used, and what their errors become."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from importlib import import_module
from typing import Any, Final

import click

from fastgshare.domain.errors import FastGShareError, InvalidValue

VERBS: Final = {
    "up": "fastgshare.cli.up:up",
    "deploy": "fastgshare.cli.deploy:deploy",
    "ls": "fastgshare.cli.ls:ls",
    "invoke": "fastgshare.cli.invoke:invoke",
    "scale": "fastgshare.cli.scale:scale",
    "rm": "fastgshare.cli.rm:rm",
    "logs": "fastgshare.cli.logs:logs",
    "run": "fastgshare.cli.run:run",
    "ps": "fastgshare.cli.ps:ps",
    "resize": "fastgshare.cli.resize:resize",
    "profile": "fastgshare.cli.profile:profile",
    "profiles": "fastgshare.cli.profiles:profiles",
    "devices": "fastgshare.cli.devices:devices",
    "conformance": "fastgshare.cli.conformance:conformance",
    "doctor": "fastgshare.cli.doctor:doctor",
    "demo": "fastgshare.cli.demo:demo",
    "bench": "fastgshare.cli.bench:bench",
}
"""Verb -> where its command is. A verb is a file and a line here."""

FAILED: Final = 1
ASKED_WRONGLY: Final = 2


class Verbs(MutableMapping[str, click.Command]):
    """Commands by name, each imported when it is first asked for, so that one verb does not pay for another."""

    def __init__(self, references: dict[str, str]) -> None:
        self._references = references
        self._commands: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._commands:
            module, _, attribute = self._references[name].partition(":")
            self._commands[name] = getattr(import_module(module), attribute)
        return self._commands[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._references[name] = name
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._references[name]
        self._commands.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._references)

    def __len__(self) -> int:
        return len(self._references)


class Group(click.Group):
    """A group whose errors are one line each: exit status 1 if it failed, 2 if it was asked wrongly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order of their registry: the order in which people need them."""
        return list(self.commands)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line, as click does, and exit with its status."""
        extra["standalone_mode"] = False
        sys.exit(exit_status(lambda: super(Group, self).main(*args, **extra)))


def exit_status(run: Callable[[], object]) -> int:
    """Run a command; print its error, if any; return what the process is to exit with."""
    try:
        result = run()
        sys.stdout.flush()
    except click.UsageError as error:
        hint = f" (try {error.ctx.command_path} --help)" if error.ctx else ""
        return _fail(f"{error.format_message()}{hint}", ASKED_WRONGLY)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except InvalidValue as error:
        return _fail(str(error), ASKED_WRONGLY)
    except FastGShareError as error:
        return _fail(str(error), FAILED)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter's last flush goes there
        return FAILED
    return result if isinstance(result, int) else 0


def _fail(text: str, status: int) -> int:
    click.echo(f"error: {' '.join(text.split())}", err=True)
    return status


@click.group(cls=Group, commands=Verbs(dict(VERBS)), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fastgshare", prog_name="fastgshare", message="%(prog)s %(version)s")
def main() -> None:
    """Serve models as functions, each on its own share of a device: in space, in time and in memory."""
