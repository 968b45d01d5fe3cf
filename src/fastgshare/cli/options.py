"""Options that several verbs have."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Final

import click

from fastgshare.cli.gateways import Gateway
from fastgshare.domain.errors import InvalidValue

DEFAULT_GATEWAY: Final = "http://127.0.0.1:8080"


class FiniteRange(click.FloatRange):
    """A range of numbers that nan and the infinities are not in; `click.FloatRange` takes nan, for any bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Raises `click.BadParameter`."""
        converted = super().convert(value, param, ctx)
        if not math.isfinite(converted):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return converted


def _gateway(context: click.Context, parameter: click.Parameter, url: str) -> Gateway:
    return Gateway(url)


gateway = click.option(
    "-g",
    "--gateway",
    metavar="URL",
    callback=_gateway,
    envvar=["FASTGSHARE_GATEWAY", "OPENFAAS_URL"],
    default=DEFAULT_GATEWAY,
    show_default=True,
    show_envvar=True,
    help="The platform's gateway, http or https; user:password@ before the host is sent as basic authentication.",
)


def state_directory() -> Path:
    """Where a user's programs keep what they must not forget."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "fastgshare"


def _state(context: click.Context, parameter: click.Parameter, directory: Path | None) -> Path:
    return (directory or state_directory()).expanduser().absolute()


state = click.option(
    "--state",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FASTGSHARE_STATE",
    metavar="DIR",
    callback=_state,
    help="Where profiles are kept; in your home's state directory (XDG) unless said otherwise.",
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

no_wait = click.option("--no-wait", is_flag=True, help="Return at once instead of waiting until instances are ready.")

timeout_s = click.option(
    "--timeout",
    "timeout_s",
    type=FiniteRange(min=0, min_open=True),
    default=180.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until instances are ready.",
)


partitioner = click.option(
    "--partitioner",
    type=click.Choice(["auto", "mps", "none"]),
    default="auto",
    show_default=True,
    help="What divides a GPU's SMs: MPS, a cap; or nothing, so that all take turns. auto: MPS if its program is there.",
)


def _library(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """What the dynamic linker could preload; it would ignore anything else, with a line for every program."""
    if path is not None and not path.read_bytes()[:4] == b"\x7fELF":
        raise InvalidValue("--preload", str(path), "a shared library")
    return path


preload = click.option(
    "--preload",
    callback=_library,
    type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
    metavar="LIBRARY",
    help="On trial: this library instead of our own hook.",
)
