"""Dividers: what divides a device's SMs between the programs that `fastgshare run` starts on it.

The first program of a trust group has it started in the device's home, the last one ends it. It outlives the first, so
a process of its own starts it, ``python -m fastgshare.cluster.dividers``: one that has neither blocked signals nor a
terminal to pass on.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from fastgshare.cluster.homes import Division, Home
from fastgshare.domain.devices import Device
from fastgshare.domain.errors import FastGShareError, InvalidValue, PartitionerUnavailable
from fastgshare.domain.partitions import Partitioning
from fastgshare.manager.daemon import parse_device
from fastgshare.manager.environments import without_share
from fastgshare.manager.mps_partitioners import MpsPartitioner, alone
from fastgshare.manager.partitioners import Partitioner, choose, divided

_PATIENCE_S: Final = 30.0


class Divider:
    """What divides the SMs of one device between programs.

    wanted: "auto", "mps" or "none"; as long as programs are on the device, it is what the first of them found. env: of
    this process. device: with the grid that this gives it.
    Raises `InvalidValue` for a wish that cannot be had.
    """

    def __init__(self, device: Device, home: Home, wanted: str, env: Mapping[str, str]) -> None:
        present = home.division().partitioner if home.guests() else ""
        if present and wanted not in ("auto", present):
            allowed = f"auto or {present}: that is how device {device.id} is divided while programs are on it"
            raise InvalidValue("partitioner", wanted, allowed)
        self._home = home
        self._env = env
        self._chosen = _choose(device, present or wanted, home, env)
        self.device = divided(device, self._chosen.partitioning)

    @property
    def partitioning(self) -> Partitioning:
        """What it guarantees, on which grid."""
        return self._chosen.partitioning

    def environment(self, group: str) -> dict[str, str]:
        """The environment of this process, with what a program of a trust group must be told."""
        return self._chosen.environment(group, self._env)

    def open(self, group: str) -> Division:
        """Have a trust group's processes let in, as is to be recorded then. Under the home's lock.

        Raises `PartitionerUnavailable`.
        """
        known = self._home.division().groups
        if self.partitioning.name == "none":
            return Division("none", known)
        if self._chosen.lone and (others := set(known) - {group}):
            raise PartitionerUnavailable(alone(self.device, group, others, self.partitioning))
        if group not in known or not self._is_well(group):
            self._start(group)
        return Division(self.partitioning.name, tuple(sorted({*known, group})))

    def close_all_but(self, groups: Sequence[str]) -> Division:
        """End what lets in the trust groups that nobody is of, as is to be recorded then. Under the home's lock."""
        known = self._home.division()
        for group in set(known.groups) - set(groups):
            self._end(group)
        return Division(known.partitioner, tuple(group for group in known.groups if group in groups))

    def _is_well(self, group: str) -> bool:
        if not isinstance(self._chosen, MpsPartitioner):
            return False
        control = self._chosen.control(group)
        return bool(control.pid) and not control.problem()

    def _end(self, group: str) -> None:
        mps = self._chosen
        if self.partitioning.name == "none":  # it is of programs that were there before
            mps = _choose(self.device, "mps", self._home, self._env)
        if isinstance(mps, MpsPartitioner):
            mps.control(group).quit()

    def _start(self, group: str) -> None:
        order = [json.dumps(asdict(self.device)), str(self._home.path), group]
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "fastgshare.cluster.dividers", *order],
                env=without_share(self._env),
                cwd=self._home.path,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise PartitionerUnavailable(f"MPS did not start within {_PATIENCE_S:g} s") from None
        if done.returncode:
            said = [line for line in done.stderr.split("\n") if line.strip()]
            raise PartitionerUnavailable(said[-1] if said else f"MPS did not start (status {done.returncode})")


def _choose(device: Device, wanted: str, home: Home, env: Mapping[str, str]) -> Partitioner:
    return choose(device, wanted, home.path / "partitioner", env, stays=True)


def main(arguments: Sequence[str]) -> int:
    """Have MPS let in a trust group's processes on a device: ``DEVICE HOME GROUP``. The exit status."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # `fastgshare run` blocks all, and that is inherited
    device, home, group = arguments
    try:
        partitioner = _choose(parse_device(device), "mps", Home(Path(home)), os.environ)
        asyncio.run(partitioner.open(group))
    except FastGShareError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
