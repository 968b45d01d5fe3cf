"""What if it cannot enforce? Without a daemon, with another version's, without configuration: never open in silence."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

from fastgshare.conformance.allocations import CAP_BYTES
from fastgshare.conformance.gating import busy, ran
from fastgshare.conformance.ground import Ground, Line, Probe, capped
from fastgshare.conformance.rows import Row, judged
from fastgshare.manager import layout
from fastgshare.manager.memory import DeviceMemory

_OTHER_VERSION: Final = layout.VERSION + 90
_ALL_THE_TIME: Final = 0.8


async def rows(ground: Ground) -> list[Row]:
    """Refuses or passes, as configured, and says so. All at once: an interposer may wait a while for its daemon."""
    other = ground.directory / "other.sock"
    pages = ground.directory / "pages.sock"
    situations = {
        "no daemon": ground.directory / "nobody.sock",
        "a daemon of another version": other,
        "pages of another version": pages,
    }
    async with AsyncExitStack() as stack:
        fds = stack.enter_context(_pages_of_another_version())
        for path, version, given in ((other, _OTHER_VERSION, []), (pages, layout.VERSION, fds)):
            await stack.enter_async_context(_daemon(path, version, given))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_cannot_enforce(ground, situation, path, refuses=refuses))
                for situation, path in situations.items()
                for refuses in (True, False)
            ]
    return [*(task.result() for task in tasks), await _unconfigured(ground)]


async def _cannot_enforce(ground: Ground, situation: str, path: Path, *, refuses: bool) -> Row:
    setting = "refuse" if refuses else "pass"
    env = ground.environment(capped(CAP_BYTES), "nobody")
    env |= {"FASTGSHARE_SOCKET": str(path), "FASTGSHARE_IF_UNENFORCED": setting}
    probe = await ground.start_alone("nobody", ground.program("dlsym", "try", "wait=0"), env)
    await probe.finish()
    return _judge(f"enforcement: {situation}, told to {setting}", probe, refuses=refuses)


def _judge(name: str, probe: Probe, *, refuses: bool) -> Row:
    line: Line = probe.lines[-1] if probe.lines else {}
    said = [text for text in probe.errors.splitlines() if text.strip()]
    launched = line.get("cuLaunchKernel")
    holds = bool(said) and probe.status == 0 and launched is not None and bool(launched) is refuses
    spoken = f"said {said[0][:80]!r}" if said else "said nothing"
    return judged(name, holds, f"a launch returns {launched}, exit status {probe.status}, {spoken}")


@asynccontextmanager
async def _daemon(path: Path, version: int, fds: list[int]) -> AsyncIterator[None]:
    """Welcomes everybody in that version, with these descriptors."""
    loop = asyncio.get_running_loop()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()
    listener.setblocking(False)
    answer = layout.ANSWER.pack(layout.HELLO_MAGIC, version, 0, layout.WELCOME, 0, b"")

    async def serve() -> None:
        while True:
            peer, _ = await loop.sock_accept(listener)
            with peer, suppress(OSError):
                peer.setblocking(False)
                await loop.sock_recv(peer, 4096)
                socket.send_fds(peer, [answer], fds)
                await asyncio.sleep(0.05)

    task = loop.create_task(serve())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task  # until then the loop watches the listener's number, which may become another file's
        listener.close()


@contextmanager
def _pages_of_another_version() -> Iterator[list[int]]:
    """Descriptors of a board and its pages, as a daemon hands them out, of a version that nobody knows."""
    memory = DeviceMemory.create(1)
    os.pwrite(memory.fds[0], struct.pack("@IH", layout.BOARD_MAGIC, _OTHER_VERSION), 0)
    fds = memory.descriptors_for(0)
    try:
        yield fds
    finally:
        for fd in {*fds, *memory.fds}:
            os.close(fd)


async def _unconfigured(ground: Ground) -> Row:
    env = _without_ours(ground.environment(capped(CAP_BYTES), "nobody"))
    words = ground.program("dlsym", "load", "wait=0", "seconds=0.3")
    probe = await ground.start_alone("nobody", words, env)
    await probe.finish()
    line = ran(probe)
    name = "enforcement: without configuration everything passes"
    if line is None or line["error"]:
        return judged(name, False, probe.what_went_wrong())
    said = "said nothing" if not probe.errors.strip() else f"said {probe.errors.strip()[:80]!r}"
    holds = busy(line) >= _ALL_THE_TIME and not probe.errors.strip()
    return judged(name, holds, f"busy {busy(line):.0%} of the time, {said}")


def _without_ours(env: Mapping[str, str]) -> dict[str, str]:
    ours = ("FASTGSHARE_SOCKET", "FASTGSHARE_INSTANCE", "FASTGSHARE_IF_UNENFORCED")
    return {name: value for name, value in env.items() if name not in ours}
