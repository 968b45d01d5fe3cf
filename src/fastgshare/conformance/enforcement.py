"""What if it cannot enforce? Without a daemon, with another version's, without configuration: never open in silence."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from fastgshare.conformance.allocations import CAP_BYTES
from fastgshare.conformance.busy import fraction
from fastgshare.conformance.gating import busy, ran, spans
from fastgshare.conformance.ground import Ground, Line, Probe, capped, share
from fastgshare.conformance.rows import Row, judged
from fastgshare.manager import layout

_OTHER_VERSION: Final = layout.VERSION + 90
_ALL_THE_TIME: Final = 0.8


async def rows(ground: Ground) -> list[Row]:
    """Refuses or passes, as configured, and says so."""
    return [
        *await _cannot_enforce(ground, "no daemon", str(ground.directory / "nobody.sock")),
        *await _other_version(ground),
        await _unconfigured(ground),
    ]


async def _cannot_enforce(ground: Ground, situation: str, path: str) -> list[Row]:
    env = ground.environment(capped(CAP_BYTES), "nobody") | {"FASTGSHARE_SOCKET": path}
    words = ground.program("dlsym", "try", "wait=0")
    found = []
    for setting in ("refuse", "pass"):
        probe = await ground.start_alone("nobody", words, env | {"FASTGSHARE_IF_UNENFORCED": setting})
        await probe.finish()
        found.append(_judge(f"enforcement: {situation}, told to {setting}", probe, refuses=setting == "refuse"))
    return found


def _judge(name: str, probe: Probe, *, refuses: bool) -> Row:
    line: Line = probe.lines[-1] if probe.lines else {}
    said = [text for text in probe.errors.splitlines() if text.strip()]
    launched = line.get("cuLaunchKernel")
    holds = bool(said) and probe.status == 0 and launched is not None and bool(launched) is refuses
    spoken = f"said {said[0][:80]!r}" if said else "said nothing"
    return judged(name, holds, f"a launch returns {launched}, exit status {probe.status}, {spoken}")


async def _other_version(ground: Ground) -> list[Row]:
    path = ground.directory / "other.sock"
    with _daemon_of_another_version(path):
        return await _cannot_enforce(ground, "a daemon of another version", str(path))


@contextmanager
def _daemon_of_another_version(path: Path) -> Iterator[None]:
    """Answers every hello in a version that nobody knows."""
    loop = asyncio.get_running_loop()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()
    listener.setblocking(False)
    answer = layout.ANSWER.pack(layout.HELLO_MAGIC, _OTHER_VERSION, 0, layout.WELCOME, 0, b"")

    async def serve() -> None:
        while True:
            peer, _ = await loop.sock_accept(listener)
            with peer, suppress(OSError):
                peer.setblocking(False)
                await loop.sock_recv(peer, 4096)
                await loop.sock_sendall(peer, answer)
                await asyncio.sleep(0.05)

    task = loop.create_task(serve())
    try:
        yield
    finally:
        task.cancel()
        listener.close()


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


# --- death of the daemon ---------------------------------------------------------------------------------------------

_QUOTA: Final = 0.3
_LIMIT: Final = 0.9
_OUTAGE_S: Final = 0.9
_LOAN_ENDS_S: Final = 0.3  # how long loans hold after a daemon's last sign of life, and a little more


async def death(ground: Ground) -> list[Row]:
    """The daemon is killed, again and again for a while, under an instance that lives on loans too."""
    probe = await ground.start(share(_QUOTA, _LIMIT), "dlsym", "load", "seconds=5")
    await probe.line()
    await asyncio.sleep(0.8)
    loop = asyncio.get_running_loop()
    killed = loop.time()
    while loop.time() - killed < _OUTAGE_S:
        if ground.daemon.pid:
            with suppress(ProcessLookupError):
                os.kill(ground.daemon.pid, signal.SIGKILL)
        await asyncio.sleep(0.02)
    await probe.finish()
    line = ran(probe)
    names = ["death: goes on in its own slots", "death: says so once", "death: comes back when the daemon does"]
    if line is None or line["error"]:
        return [judged(name, False, probe.what_went_wrong()) for name in names]
    return _judge_death(names, line, round(killed * 1e9), probe.errors)


def _judge_death(names: list[str], line: Line, killed_ns: int, errors: str) -> list[Row]:
    alone = killed_ns + round(_LOAN_ENDS_S * 1e9), killed_ns + round(_OUTAGE_S * 1e9)
    during = fraction(spans(line), *alone)
    after = fraction(spans(line), line["until_ns"] - 10**9, line["until_ns"])
    gone = [text for text in errors.splitlines() if "daemon" in text.lower()]
    return [
        judged(names[0], 0.6 * _QUOTA <= during <= 1.3 * _QUOTA, f"busy {during:.1%} of the time on {_QUOTA:.0%}"),
        judged(names[1], len(gone) == 1, f"{len(gone)} lines on standard error{': ' + gone[0][:80] if gone else ''}"),
        judged(names[2], after >= _LIMIT - 0.15, f"busy {after:.1%} of the last second, on a limit of {_LIMIT:.0%}"),
    ]
