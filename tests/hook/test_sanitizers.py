"""The hook under the thread, address and undefined-behaviour sanitizers, launching and allocating in every way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastgshare.conformance.ground import Ground, Place, share, slices
from fastgshare.domain.devices import Device, DeviceKind

NATIVE = Path(__file__).parents[2] / "native"
STANDIN = Device("standin", DeviceKind.STANDIN, sm_count=132, mem_bytes=80 << 30)
PROGRAMS = (
    ("load", "seconds=1", "threads=8", "kind=default", "bursts=20000,200000"),
    ("load", "seconds=1", "threads=8", "kind=per-thread", "bursts=50000"),
    ("load", "seconds=1", "threads=4", "kind=destroyed", "bursts=100000"),
    ("load", "seconds=1", "threads=4", "contexts=2", "kind=default", "bursts=100000"),
    ("launches", "seconds=0.05"),
    ("allocations",),
)


RUNTIMES = {"thread": "libtsan.so", "address,undefined": "libasan.so"}


@dataclass(frozen=True, slots=True)
class Sanitized:
    """The hook built for a sanitizer, and the sanitizer's runtime, which has to be loaded with it."""

    hook: Path
    runtime: Path


@pytest.fixture(scope="module", params=list(RUNTIMES))
def sanitized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sanitized:
    folder = tmp_path_factory.mktemp("sanitized")
    cmake = str(Path(sys.executable).with_name("cmake"))
    configure = [cmake, "-S", str(NATIVE), "-B", str(folder), f"-DSANITIZER={request.param}"]
    build = [cmake, "--build", str(folder), "--target", "fasthook", "-j2"]
    for command in (configure, build):
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    ask = ["g++", f"-print-file-name={RUNTIMES[request.param]}"]
    found = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    return Sanitized(folder / "libfasthook.so", Path(found).resolve())


async def run(ground: Ground, place: Place, words: tuple[str, ...]) -> tuple[int, str]:
    probe = await ground.start(place, "dlsym", *words)
    await probe.finish()
    return probe.status, probe.errors


async def test_nothing_is_found(
    sanitized: Sanitized, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSAN_OPTIONS", "exitcode=66")
    monkeypatch.setenv("UBSAN_OPTIONS", "exitcode=66:halt_on_error=1")
    # The hook is preloaded, so before the sanitizer; a program that exits gives nothing back.
    monkeypatch.setenv("ASAN_OPTIONS", "exitcode=66:detect_leaks=0:verify_asan_link_order=0")
    places = []
    for sm, sm_at in slices(len(PROGRAMS)):
        asked, rect = share(0.5, 0.9, sm=sm, sm_at=sm_at)
        places.append((type(asked)(asked.sm_partition, 0.5, 0.9, 256 << 20), rect))
    async with Ground(STANDIN, tmp_path_factory.mktemp("d"), sanitized.hook) as ground:
        monkeypatch.setenv("LD_PRELOAD", str(sanitized.runtime))  # the daemon runs without
        runs = (run(ground, place, words) for place, words in zip(places, PROGRAMS, strict=True))
        ended = await asyncio.gather(*runs)
    assert list(ended) == [(0, "")] * len(PROGRAMS)
