"""``fastgshare run``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fastgshare.cli import options
from fastgshare.cli.guests import described, read_device
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import DEFAULT_GROUP
from fastgshare.spec.devices import ALLOWED, DeviceRequest
from fastgshare.spec.shares import EXAMPLE, parse_share

if TYPE_CHECKING:
    from fastgshare.cluster.guests import Guest
    from fastgshare.domain.shares import Share

INTERRUPTED: Final = 130
_GROUP: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_]{0,61}[A-Za-z0-9])?")
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def _read_share(context: click.Context, parameter: click.Parameter, text: str) -> Share:
    return parse_share(text)


def _read_name(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    if name is not None and not _NAME.fullmatch(name):
        raise InvalidValue("name", name, "1 to 63 letters, digits, '.', '_' and '-', a letter or digit at both ends")
    return name


def _read_group(context: click.Context, parameter: click.Parameter, group: str) -> str:
    if not _GROUP.fullmatch(group):
        allowed = "1 to 63 letters, digits, '-' and '_', no '-' or '_' at its ends"
        raise InvalidValue("group", group, allowed)
    return group


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--share",
    required=True,
    callback=_read_share,
    metavar="SHARE",
    help=f"The program's share, as {EXAMPLE}; limit is request unless given, mem no cap.",
)
@click.option(
    "--device",
    callback=read_device,
    metavar="DEVICE",
    help=f"The device: {ALLOWED}; the first GPU unless said otherwise.",
)
@click.option(
    "--name", callback=_read_name, metavar="NAME", help="What it is called; its command and process number if nothing."
)
@click.option(
    "--group",
    callback=_read_group,
    default=DEFAULT_GROUP,
    show_default=True,
    metavar="NAME",
    help="Its trust group: programs of different groups never use a GPU at the same time, and share no fault.",
)
@click.option(
    "--if-unenforced",
    type=click.Choice(["refuse", "pass"]),
    default="refuse",
    show_default=True,
    help="What happens where the share cannot be enforced: the program is refused the device, or passes.",
)
@options.partitioner
@click.option("--json", "as_json", is_flag=True, help="Say on stderr where it was placed and how it ended, in JSON.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] COMMAND [ARGUMENT]...")
def run(
    share: Share,
    device: DeviceRequest | None,
    name: str | None,
    group: str,
    if_unenforced: str,
    partitioner: str,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Run any program on a share of a device.

    Its input, output and terminal are yours, signals reach it, and its exit status is returned (128 and the number of
    the signal, if one ended it; 127 for a command that is not found, 126 for one that cannot be run). Nothing else is
    printed unless something is wrong. Programs on one device are placed beside each other; where there is no room, it
    is not run, and the exit status is 1.
    """
    from fastgshare.cluster.devices import find_device
    from fastgshare.cluster.homes import Home
    from fastgshare.cluster.launches import CannotRun
    from fastgshare.cluster.programs import Order, Stay

    speaker = Speaker(as_json)
    try:
        env = environment_of_this_process()
        found = find_device(device, env)
        order = Order(
            *(command, found, share, name or _name_for(command[0])),
            refuses=if_unenforced == "refuse",
            group=group,
            partitioner=partitioner,
        )
        stay = Stay(order, Home.of(found, env), env, say=speaker.note, placed=speaker.placed)
        status = stay.run()
    except CannotRun as error:
        click.echo(f"error: {error}", err=True)
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED
    speaker.ended(status)
    return status


class Speaker:
    """Says on stderr what has to be said, which mostly is nothing."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def note(self, text: str) -> None:
        """Something is not as it was asked for, and goes on."""
        if self._as_json:
            self._event("note", text=text)
        else:
            click.echo(f"fastgshare: {' '.join(text.split())}", err=True)

    def placed(self, guest: Guest) -> None:
        """The program has a place and runs now."""
        if self._as_json:
            self._event("placed", **described(guest))

    def ended(self, status: int) -> None:
        """The program has ended."""
        if self._as_json:
            self._event("ended", status=status)

    @staticmethod
    def _event(event: str, **facts: Any) -> None:
        import json

        click.echo(json.dumps({"event": event, **facts}), err=True)


def environment_of_this_process() -> dict[str, str]:
    """Our environment as it was at the start: in a C locale the interpreter adds an LC_CTYPE of its own."""
    env = dict(os.environ)
    try:
        said = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return env
    if env.get("LC_CTYPE") == "C.UTF-8" and not any(entry.startswith(b"LC_CTYPE=") for entry in said):
        del env["LC_CTYPE"]
    return env


def _name_for(command: str) -> str:
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(command).name).strip("._-")[:40].strip("._-")
    return f"{word or 'program'}-{os.getpid()}"
