"""``fastgshare up``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastgshare import __version__
from fastgshare.cli import options
from fastgshare.cli.output import print_json_line
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, NotFound
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import InstanceState, InstanceStatus
from fastgshare.spec.devices import ALLOWED, DeviceRequest, parse_device

if TYPE_CHECKING:
    from fastgshare.cli.platforms import RunningPlatform
    from fastgshare.manager.partitioners import Partitioner

_SETTLE_S = 86400.0


def _address(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{text!r} is not HOST:PORT with a port from 0 to 65535", context, parameter)
    return host, int(port)


def _devices(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> list[DeviceRequest]:
    return [parse_device(text) for text in texts]


@click.command()
@click.option("-f", "--file", type=click.Path(path_type=Path), help="Functions to deploy at the start.")
@click.option(
    "--listen",
    "address",
    metavar="HOST:PORT",
    default="127.0.0.1:8080",
    show_default=True,
    callback=_address,
    help="Where the gateway listens; port 0 takes a free one.",
)
@click.option(
    "--state",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FASTGSHARE_STATE",
    metavar="DIR",
    help="Where functions and logs are kept; in your home's state directory (XDG) unless said otherwise.",
)
@click.option(
    "--device",
    "requests",
    callback=_devices,
    multiple=True,
    default=("cpu",),
    show_default=True,
    metavar="DEVICE",
    help=f"A device to share: {ALLOWED}. May be given several times; they are filled in this order.",
)
@options.partitioner
@click.option("-v", "--verbose", is_flag=True, help="Say what is decided, and why.")
@options.as_json
def up(
    file: Path | None,
    address: tuple[str, int],
    directory: Path | None,
    requests: Sequence[DeviceRequest],
    partitioner: str,
    verbose: bool,
    as_json: bool,
) -> None:
    """Start the platform here, with all functions that it has had, and serve them until Ctrl-C.

    It says when it is ready. Ctrl-C or SIGTERM ends it in order: requests that are here are answered first (a second
    Ctrl-C hastens that), and nothing is left behind. With --json every message is a JSON object on a line of its own.
    """
    from fastgshare.cli.platforms import divide, partitioners_of
    from fastgshare.cluster.devices import find_devices

    where = (directory or options.state_directory()).expanduser().absolute()
    devices = find_devices(requests, os.environ)
    partitioners = partitioners_of(devices, partitioner, where, os.environ)
    functions = _read(file, divide(devices, partitioners)) if file is not None else []
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_serve(functions, address, where, devices, partitioners, Speaker(as_json)))


def _read(file: Path, devices: Sequence[Device]) -> list[Function]:
    """The functions of a file, checked before anything starts. Raises `InvalidValue` for what can never run here."""
    from fastgshare.cli.platforms import check_on
    from fastgshare.scheduler.layouts import check_fits_some
    from fastgshare.spec import references
    from fastgshare.spec.functions import load_file

    def check(function: Function) -> None:
        references.check(function)
        check_fits_some(devices, function, check_on)

    return load_file(file, check=check)


class Speaker:
    """Says what happens: to people in sentences, to programs in JSON lines."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def say(self, event: str, sentence: str, *, wrong: bool = False, **facts: Any) -> None:
        """One event. wrong: it is a failure, for stderr."""
        if self._as_json:
            print_json_line({"event": event, **facts})
        else:
            click.echo(f"error: {' '.join(sentence.split())}" if wrong else sentence, err=wrong)


async def _serve(
    functions: Sequence[Function],
    address: tuple[str, int],
    directory: Path,
    devices: Sequence[Device],
    partitioners: Mapping[str, Partitioner],
    speaker: Speaker,
) -> None:
    from fastgshare.cli.platforms import running_platform

    ending = Ending()
    try:
        async with running_platform(directory, *address, devices=devices, partitioner=partitioners) as running:
            ending.platform = running
            await _run(running, functions, ending, speaker)
    except asyncio.CancelledError:
        if not ending.asked:
            raise
    speaker.say("ended", "ended")


class Ending:
    """The end, by SIGINT, SIGTERM or SIGHUP: the first asks for it, the second hastens it, further ones force it."""

    def __init__(self) -> None:
        self.platform: RunningPlatform | None = None
        self.asked = 0
        self._event = asyncio.Event()
        self._task = asyncio.current_task()
        self._hastening: asyncio.Task[None] | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
                asyncio.get_running_loop().add_signal_handler(number, self._on_signal)

    async def wait(self) -> None:
        """Return once it is asked for."""
        await self._event.wait()

    def _on_signal(self) -> None:
        self.asked += 1
        self._event.set()
        if self.asked == 2 and self.platform is not None:
            self._hastening = asyncio.get_running_loop().create_task(self.platform.hasten_end())
        elif self.asked > 1 and self._task is not None:
            self._task.cancel()


async def _run(running: RunningPlatform, functions: Sequence[Function], ending: Ending, speaker: Speaker) -> None:
    """Say where it listens, bring functions up, and return when it is to end."""
    speaker.say(
        "listening",
        f"fastgshare {__version__} listens at {running.server.url}; "
        f"{', '.join(_described(device, running) for device in running.devices)}; state in {running.directory}",
        url=running.server.url,
        state=str(running.directory),
        version=__version__,
        devices=[_document(device, running) for device in running.devices],
    )
    running.cluster.watch(lambda status: _say_failure(status, speaker))
    running.cluster.watch_devices(lambda id, fate, reason: _say_closing(id, fate, reason, speaker))
    await _deploy(running, functions, speaker)
    async with asyncio.TaskGroup() as tasks:
        readiness = tasks.create_task(_say_when_ready(running, speaker), name="readiness")
        await ending.wait()
        readiness.cancel()
    speaker.say("ending", "ending")


def _described(device: Device, running: RunningPlatform) -> str:
    named = f"{device.id} (a stand-in, not a GPU)" if device.kind is DeviceKind.STANDIN else device.id
    way = running.partitionings.get(device.id)
    divided = f", divided by {way.name} ({way.guarantee})" if way is not None else ""
    return f"{device.sm_count} SMs on device {named}{divided}"


def _document(device: Device, running: RunningPlatform) -> dict[str, Any]:
    found: dict[str, Any] = {"id": device.id, "kind": str(device.kind), "sm_count": device.sm_count}
    if device.type:
        found["type"] = device.type
    if way := running.partitionings.get(device.id):
        found |= {"partitioner": way.name, "guarantee": str(way.guarantee), "grid": way.grid, "because": way.because}
    return found


async def _deploy(running: RunningPlatform, functions: Sequence[Function], speaker: Speaker) -> None:
    """Deploy functions together; if that cannot be, one by one, so that one at fault does not keep the others."""
    try:
        await running.platform.deploy_all(functions)
    except FastGShareError:
        for function in functions:
            try:
                await running.platform.deploy(function)
            except FastGShareError as error:
                sentence = f"{function.name} is not deployed: {error}"
                speaker.say("refused", sentence, wrong=True, name=function.name, problem=str(error))


async def _say_when_ready(running: RunningPlatform, speaker: Speaker) -> None:
    names = [status.deployment.function.name for status in running.platform.deployments()]
    async with asyncio.TaskGroup() as tasks:
        found = [tasks.create_task(_say_function(running, name, speaker)) for name in names]
    ready, count = sum(task.result() for task in found), len(names)
    sentence = f"ready: {ready} of {count} functions" if count else "ready: no functions yet"
    speaker.say("ready", sentence, functions=count, functions_ready=ready)


async def _say_function(running: RunningPlatform, name: str, speaker: Speaker) -> bool:
    """Say that a function is ready, or why not; whether it is."""
    try:
        status = await running.controller.settled(name, _SETTLE_S)
    except NotFound:
        return False
    available, wanted = status.available, status.deployment.replicas
    url = f"{running.server.url}/function/{name}"
    facts: dict[str, Any] = {
        "name": name,
        "available": available,
        "replicas": wanted,
        "problem": status.problem,
        "url": url,
    }
    if status.problem:
        speaker.say("function", f"{name} is not ready: {status.problem}", wrong=True, **facts)
    else:
        speaker.say("function", f"{name} ready ({available}/{wanted}) at {url}", **facts)
    return not status.problem


def _say_closing(device_id: str, fate: str, reason: str, speaker: Speaker) -> None:
    speaker.say(f"device-{fate}", reason, wrong=True, device=device_id, reason=reason)


def _say_failure(status: InstanceStatus, speaker: Speaker) -> None:
    if status.state is InstanceState.FAILED:
        sentence = f"instance {status.id} failed: {status.reason}"
        speaker.say(
            "failed", sentence, wrong=True, instance=status.id, function=status.function_name, reason=status.reason
        )
