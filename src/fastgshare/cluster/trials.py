"""Trials: the real function on a share of a device, under load, measured.

The instance is started, held to its share and counted as in production: by a node daemon, a local cluster, a
partitioner and the runtime. Only who asks is another: LoadGen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fastgshare.cluster.attempts import Attempt, Result
from fastgshare.cluster.attempts import Conditions as Conditions
from fastgshare.cluster.grounds import Ground
from fastgshare.cluster.loads import load_generator
from fastgshare.cluster.versions import versions
from fastgshare.domain.devices import Device
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance
from fastgshare.domain.profiles import Configuration, Outcome, Subject, Trial
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share
from fastgshare.profiler.grids import snapped


class DeviceRunner:
    """`profiler.experiments.Runner` on a device of this machine, as long as entered.

    function: what of it the trial does not set, such as the memory of its share, stays. also: is told of the trials at
    the rates that are tried beside capacity. directory: for sockets, short enough for them.
    Raises `InvalidValue` where LoadGen is not installed.
    """

    def __init__(
        self,
        function: Function,
        device: Device,
        directory: Path,
        conditions: Conditions,
        *,
        partitioner: str = "auto",
        env: Mapping[str, str] = os.environ,
        also: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        self.device: Final = device
        self._function = function
        self._conditions = conditions
        self._partitioner = partitioner
        self._directory = directory
        self._env = env
        self._also = also
        self._ground: Ground | None = None
        self._stack = AsyncExitStack()
        self._count = 0
        self._versions = versions(device, function)
        load_generator()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def run(self, subject: Subject, configuration: Configuration, *, seed: int) -> Trial:
        """One trial at capacity; `also` hears of those at other rates before it returns.

        Raises `InvalidValue` if there is nothing to ask the function for, `DaemonUnavailable` and
        `PartitionerUnavailable`: these are not of this configuration.
        """
        started_unix_s = time.time()
        ground = await self._ready_ground()
        (given,) = snapped(ground.device, [configuration])
        attempt = Attempt(self._instance(given), ground, self._conditions, seed)
        try:
            await attempt.run()
        finally:
            if any(result.outcome is not Outcome.MEASURED for result in attempt.results):
                await self._close_ground()  # what is wrong with one must not be wrong with the next
        blank = Trial(
            *(subject, configuration, given, Outcome.MEASURED, None),
            seed=seed,
            started_unix_s=started_unix_s,
            versions=self._versions,
        )
        capacity, *rated = (self._filled(blank, result) for result in attempt.results)
        for trial in rated:
            self._also(trial)
        return capacity

    @staticmethod
    def _filled(blank: Trial, result: Result) -> Trial:
        return replace(
            blank,
            outcome=result.outcome,
            figures=result.figures,
            reason=result.reason,
            took_s=result.took_s,
            histogram=result.histogram,
            offered_rps=result.offered_rps,
            within_s=result.within_s,
        )

    async def _ready_ground(self) -> Ground:
        if self._ground is None:
            ground = Ground(self.device, self._directory, self._env, partitioner=self._partitioner)
            self._ground = await self._stack.enter_async_context(ground)
        return self._ground

    async def _close_ground(self) -> None:
        self._ground = None
        await self._stack.aclose()

    def _instance(self, given: Configuration) -> Instance:
        self._count += 1
        name = f"{self._function.name}-{self._count}"
        share = Share(given.sm, given.quota, given.quota, self._function.share.mem_bytes)
        batch = replace(self._function.batch, max_size=given.batch)
        function = replace(self._function, share=share, batch=batch)
        return Instance(name, function, Placement(name, self.device.id, Rect(0.0, 0.0, given.sm, given.quota)))
