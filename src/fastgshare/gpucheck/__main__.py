"""``python -m fastgshare.gpucheck``: every section in turn, within a time; figures to docs/results."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from fastgshare import __version__
from fastgshare.cluster.gpus import NoGpu, find_gpus
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import FastGShareError, InvalidValue
from fastgshare.gpucheck import conformity, costs, interference, machine, questioning, throughput
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.findings import Outcome, Status
from fastgshare.gpucheck.results import STANDIN, Check, discreet, write
from fastgshare.gpucheck.sections import Section, run_all

SECTIONS: Final = (
    Section("machine", "Machine", 25, machine.work),
    Section("throughput", "Throughput", 170, throughput.work),
    Section("interference", "Interference", 60, interference.work),
    Section("hook", "Cost of the hook", 55, costs.work),
    Section("conformance", "Conformance", 95, conformity.work),
    Section("questions", "Open questions", 70, questioning.work),
)
"""In order of worth; the weights are seconds, of 475."""

BUDGET_S: Final = 480.0
_TO_END_S: Final = 8.0
"""Kept back for ending what runs on, and for writing."""

_HARD_END_S: Final = 25.0
_STANDIN: Final = Device("standin", DeviceKind.STANDIN, 132, 80 * 2**30, type="Stand-in GPU (not real)")
_CUT_OFF: Final = 3


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu-check", description="Measure on a GPU what FaST-GShare promises of one; docs/gpu-check.md says how."
    )
    parser.add_argument(
        "--device", metavar="DEVICE", help="cuda:N, standin, or any: a GPU if there is one, else standin"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[section.name for section in SECTIONS],
        default=[],
        metavar="SECTION",
        help=f"this section alone; may be repeated: {', '.join(section.name for section in SECTIONS)}",
    )
    parser.add_argument("--budget-s", type=float, default=BUDGET_S, metavar="S", help="seconds in all (default: 480)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR", help="default: docs/results")
    parser.add_argument("--json", action="store_true", help="print the document too")
    return parser.parse_args(words)


def find_device(asked: str | None) -> tuple[Device, str]:
    """The device that is meant, None: the first GPU; and why it is no GPU where one would do, or "".

    Raises `InvalidValue`, `NoGpu`.
    """
    if asked == "standin":
        return _STANDIN, ""
    index = asked.removeprefix("cuda:") if asked and asked.startswith("cuda:") else "0"
    if (asked not in (None, "any") and not asked.startswith("cuda:")) or not index.isdecimal():
        raise InvalidValue("--device", asked, "cuda:N, standin or any")
    try:
        gpus = find_gpus(os.environ)
    except NoGpu as error:
        if asked == "any":
            return _STANDIN, str(error)
        raise NoGpu(f"{error}; --device standin runs the check on the stand-in, a test double") from None
    if int(index) >= len(gpus):
        raise InvalidValue("--device", asked, f"cuda:0 to cuda:{len(gpus) - 1}")
    gpu = gpus[int(index)]
    return Device(gpu.uuid, DeviceKind.GPU, gpu.sm_count, gpu.mem_bytes, type=gpu.name), ""


class _Run:
    """One check, from its first second to its last; written whenever something has changed."""

    def __init__(self, asked: argparse.Namespace, device: Device, no_gpu: str) -> None:
        self.began_s = time.monotonic()
        self.outcomes: Sequence[Outcome] = ()
        self.path = Path()
        self._asked = asked
        partial = bool(asked.only)
        now = datetime.now().astimezone()
        check = Check(device, now, asked.budget_s, partial, __version__, _commit(), no_gpu)
        self.check = check.beside(asked.out)

    @property
    def took_s(self) -> float:
        return time.monotonic() - self.began_s

    def say(self, text: str) -> None:
        """A line of progress."""
        where = "stand-in" if self.check.is_standin else "gpu"
        print(f"[{self.took_s:5.0f} s, {where}] {text}", file=sys.stderr, flush=True)

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Write what there is."""
        self.outcomes = outcomes
        self.path = write(self.check, outcomes, self.took_s, self._asked.out)

    async def go(self, directory: Path) -> None:
        """All sections that are asked for."""
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        assert this is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, this.cancel)
        bench = Bench(self.check.device, directory, os.environ, self.say)
        sections = [section for section in SECTIONS if not self._asked.only or section.name in self._asked.only]
        try:
            ends_s = self.began_s + max(1.0, self._asked.budget_s - _TO_END_S)
            await run_all(bench, sections, ends_s, self.write)
        finally:
            await bench.close()
            self.write(self.outcomes)

    def give_up(self) -> None:
        """Past all deadlines: something does not let itself be ended. What there is, is written."""
        self.say("something does not end; what was measured is written")
        self.write(self.outcomes)
        os._exit(_CUT_OFF)


def _commit() -> str:
    """Which commit this is of, where git can say so."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def main(words: Sequence[str] | None = None) -> int:
    """Run the check.

    0: every section reported, or said why not; 1: one failed; 2: it could not begin; 3: it was ended before its end.
    """
    asked = _arguments(words)
    try:
        if not asked.budget_s > 0:
            raise InvalidValue("--budget-s", asked.budget_s, "more than 0 seconds")
        device, no_gpu = find_device(asked.device)
    except FastGShareError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    run = _Run(asked, device, no_gpu)
    if run.check.is_standin:
        run.say(STANDIN)
    if no_gpu:
        run.say(f"no GPU is used: {no_gpu}")
    watchdog = threading.Timer(asked.budget_s + _HARD_END_S, run.give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        with tempfile.TemporaryDirectory(prefix="fastgshare-", ignore_cleanup_errors=True) as directory:
            asyncio.run(run.go(Path(directory)))
    except asyncio.CancelledError:
        run.say(f"told to end; what was measured is written to {run.path}")
        return _CUT_OFF
    except (FastGShareError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        watchdog.cancel()
    run.say(f"written to {run.path} and {run.path.with_suffix('.md').name}")
    if asked.json:
        print(discreet(json.dumps(run.check.document(run.outcomes, run.took_s), ensure_ascii=False)))
    return 1 if any(outcome.status is Status.FAILED for outcome in run.outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
