"""Does an MPS static partition change while instances run?"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fastgshare.domain.errors import FastGShareError, PartitionerUnavailable
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.questions.answers import Answer, ranges
from fastgshare.gpucheck.questions.places import Line, PlacesFailed, places, say
from fastgshare.manager.mps import log_directory, pipe_directory
from fastgshare.manager.mps_programs import LOGS, PIPES, Child, end_all, find_control, left_behind, mps_runs, wait_until
from fastgshare.manager.mps_shell import MpsShell, in_a_line

QUESTION: Final = "Does an MPS static partition change while instances run?"
LIMIT_S: Final = 9.0
_WAYS: Final = (("-f", "-S"), ("-d", "-S"), ("-S",))
"""In the foreground it ends with us; where that does not go with -S, in the background, or as it likes."""
_START_S: Final = 3.0
_BACKGROUND_S: Final = 0.3
"""After the program that put it into the background has ended."""
_LISTEN_S: Final = 1.0
_QUIT_S: Final = 1.0
_PARTITION: Final = "CUDA_MPS_SM_PARTITION"
_ID: Final = re.compile(r"([\w-]+)/(\S+)")
_FEW, _MORE = 2, 4
"""Of NVIDIA's units, of 8 SMs each on Hopper."""


class Refused(FastGShareError):
    """The control program does not start with static partitions. said: the options that were tried -> its words."""

    def __init__(self, program: str, said: Mapping[str, str]) -> None:
        words, last = list(said.items())[-1]
        super().__init__(f"`{program} {words}` says: {last}")
        self.said = dict(said)


@dataclass(slots=True)
class Log:
    """What was done, in order, and what came of it."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, step: str, said: str) -> str:
        """Note an answer in words, and give it back."""
        self.rows.append({"step": step, "said": said or "nothing"})
        return said

    def add_look(self, step: str, line: Line) -> Line:
        """Note on which SMs a process was."""
        self.rows.append({"step": step, "sms": line["sms"], "which_sms": ranges(line["seen"])})
        return line


async def answer(bench: Bench) -> Answer:
    """Add a partition, look from inside, take it away and add another while a process is in it, and look again."""
    log = Log()
    try:
        async with _static_mps(bench) as shell:
            found = await _try(bench, shell, log)
    except Refused as refusal:
        return Answer(QUESTION, f"there are none to change: {refusal}.", {"refusals": refusal.said})
    except PlacesFailed as error:
        found = f"no process can be in a partition: {error}"
    return Answer(QUESTION, f"{found}.", {"steps": log.rows})


# --- the control daemon ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def _static_mps(bench: Bench) -> AsyncIterator[MpsShell]:
    """A control daemon with static partitions, and its servers; all have ended when the block has. Raises `Refused`."""
    env = bench.of_programs()
    program = find_control(bench.device, env)
    pipes = pipe_directory(bench.folder())
    shell = MpsShell(program, {**env, PIPES: str(pipes), LOGS: str(log_directory(pipes))})
    try:
        await asyncio.to_thread(_start, shell, pipes)
        yield shell
    finally:
        await asyncio.to_thread(_end, shell, pipes)


def _start(shell: MpsShell, pipes: Path) -> None:
    said: dict[str, str] = {}
    for number, words in enumerate(_WAYS):
        output = pipes / f"{number}.out"
        for directory in (pipes, log_directory(pipes)):
            directory.mkdir(parents=True, exist_ok=True)
        if _starts(shell, words, output):
            return
        end_all(left_behind(pipes))
        said[" ".join(words)] = in_a_line(output.read_text(errors="replace")) or "nothing, and it does not run"
    raise Refused(shell.program.name, said)


def _starts(shell: MpsShell, words: Sequence[str], output: Path) -> bool:
    child = Child([str(shell.program), *words], shell.env, output, stays=False)
    wait_until(lambda: child.has_ended() or mps_runs(shell.env), _START_S)
    patience_s = _BACKGROUND_S if child.has_ended() else _LISTEN_S
    return wait_until(lambda: mps_runs(shell.env) and _answers(shell), patience_s)


def _answers(shell: MpsShell) -> bool:
    with suppress(PartitionerUnavailable):
        shell.servers()
        return True
    return False


def _end(shell: MpsShell, pipes: Path) -> None:
    if mps_runs(shell.env):
        with suppress(PartitionerUnavailable):
            shell.ask("quit", _QUIT_S)
        wait_until(lambda: not left_behind(pipes), _QUIT_S)
    end_all(left_behind(pipes))


# --- partitions ------------------------------------------------------------------------------------------------------


async def _try(bench: Bench, shell: MpsShell, log: Log) -> str:
    first = await _add(bench, shell, log, _FEW)
    if not first:
        return f"none can be added: {log.rows[-2]['said']}"
    env = bench.of_programs() | {name: shell.env[name] for name in (PIPES, LOGS)}
    env.pop("CUDA_VISIBLE_DEVICES", None)  # the control daemon shows one device alone
    async with places({**env, _PARTITION: first}, "seen", "again=1") as run:
        before = log.add_look("look from inside the partition", await run.line())
        gone = await _remove(shell, log, first)
        second = await _add(bench, shell, log, _MORE)
        beside = await _look(log, "look from inside the second, from a new process", {**env, _PARTITION: second})
        run.tell()
        after = await _again(log, run.line())
    await _look(log, "look from inside the first, from a new process", {**env, _PARTITION: first})
    await _remove(shell, log, first)
    return summary(before, after, gone=gone, beside=beside)


async def _ask(shell: MpsShell, log: Log, command: str) -> str:
    try:
        said = await asyncio.to_thread(shell.ask, command)
    except PartitionerUnavailable as error:
        said = str(error)
    return log.add(command, " / ".join(line.strip() for line in said.splitlines() if line.strip()))


async def _add(bench: Bench, shell: MpsShell, log: Log, units: int) -> str:
    """What it is called, for processes; "" if there is none."""
    said = await _ask(shell, log, f"sm_partition add {bench.device.id} {units}")
    await _ask(shell, log, "lspart")
    return partition_id(bench.device.id, said)


def partition_id(device_id: str, said: str) -> str:
    """The partition's name in what the control daemon says: the device's, a slash, and what may have slashes too."""
    return next((match[0] for match in _ID.finditer(said) if match[1] == device_id), "")


async def _remove(shell: MpsShell, log: Log, partition: str) -> bool:
    """Whether it is gone."""
    device_id, _, short = partition.partition("/")
    await _ask(shell, log, f"sm_partition rm {device_id} {short}")
    return short not in await _ask(shell, log, "lspart")


async def _look(log: Log, step: str, env: Mapping[str, str]) -> Line | None:
    try:
        return log.add_look(step, await say(env, "seen"))
    except PlacesFailed as error:
        log.add(step, str(error))
        return None


async def _again(log: Log, line: Any) -> Line | None:
    step = "look again from inside the partition, from the process that was there"
    try:
        return log.add_look(step, await line)
    except PlacesFailed as error:
        log.add(step, str(error))
        return None


def summary(before: Line, after: Line | None, *, gone: bool, beside: Line | None) -> str:
    """One sentence. before, after: what a process in the partition saw; gone: whether it could be taken away meanwhile;
    beside: what one in a partition saw that was added meanwhile."""
    taken = "can be taken away" if gone else "cannot be taken away"
    if after is None:
        went = "the process failed then"
    elif set(after["seen"]) == set(before["seen"]) and after["sms"] == before["sms"]:
        went = f"it kept its {before['sms']} SMs"
    else:
        went = f"it had {before['sms']} SMs before and {after['sms']} after, on {_common(before, after)} of the same"
    another = f"one of {beside['sms']} SMs can" if beside else "none can"
    return f"a partition {taken} while a process is in it, and {went}; {another} be added meanwhile"


def _common(before: Line, after: Line) -> int:
    return len(set(before["seen"]) & set(after["seen"]))
