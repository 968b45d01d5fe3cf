"""The controller: the platform behind the gateway. Takes wishes, checks and keeps them; the loop fulfils them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fastgshare.domain.deployments import Deployment, DeploymentStatus
from fastgshare.domain.errors import FastGShareError, InvalidValue, NoPlacement, NotFound
from fastgshare.domain.functions import Function
from fastgshare.domain.logs import LogLine
from fastgshare.domain.ports import Clock, Cluster, Functions
from fastgshare.scheduler.books import Backoff, number_of
from fastgshare.scheduler.foresight import foresee
from fastgshare.scheduler.layouts import Check, check_fits_some, check_share
from fastgshare.scheduler.loops import Loop
from fastgshare.scheduler.reconcile import settled


class Controller:
    """The platform behind the gateway: keeps the functions that are deployed, and their instances, as wished.

    functions: where deployments are kept; those found there are brought up by `run`.
    logs: gives the last lines of a function, by name and number of lines.
    backoff: when failed instances get a successor. check: what can be on which device at all.
    """

    def __init__(
        self,
        cluster: Cluster,
        functions: Functions,
        clock: Clock,
        *,
        logs: Callable[[str, int], Sequence[LogLine]] | None = None,
        backoff: Backoff | None = None,
        check: Check = check_share,
    ) -> None:
        self._check = check
        self._cluster = cluster
        self._functions = functions
        self._deployments = {d.function.name: d for d in functions.all()}
        self._clock = clock
        self._logs = logs
        self._loop = Loop(cluster, clock, backoff or Backoff(), self._deployments, check)

    async def run(self) -> None:
        """Keep instances as wished until cancelled. Instances are left to the cluster then."""
        await self._loop.run()

    async def deploy(self, function: Function) -> None:
        """Create a function, or replace the one of that name; returns before its instances are ready.

        Raises `InvalidValue` or `NoPlacement`, and then nothing has changed.
        """
        await self.deploy_all([function])

    async def deploy_all(self, functions: Sequence[Function]) -> None:
        """Deploy several functions, all or none, placed together. Raises as `deploy` does."""
        names = [f.name for f in functions]
        for name in names:
            if names.count(name) > 1:
                raise InvalidValue("name", name, "every function once")
        for function in functions:
            check_fits_some(self._cluster.devices(), function, self._check)
        changes = {f.name: self._as_deployment(f) for f in functions}
        self._check_room(changes)
        self._store(changes)

    async def remove(self, name: str) -> None:
        """Forget a function; its instances finish what they work on, then end. Raises `NotFound`."""
        self._functions.remove(name)
        self._deployments.pop(name, None)
        self._loop.forgive(name)

    async def scale(self, name: str, replicas: int) -> None:
        """Want this many instances of a function, or none.

        Raises `NotFound`, `InvalidValue` beyond its bounds, `NoPlacement` where they do not fit; then nothing changed.
        """
        old = self._get(name)
        bounds = old.function.replicas
        if replicas != 0 and not max(1, bounds.minimum) <= replicas <= bounds.maximum:
            raise InvalidValue(
                "replicas", replicas, f"0, or {max(1, bounds.minimum)} to {bounds.maximum} (the bounds of {name})"
            )
        changes = {name: replace(old, replicas=replicas)}
        if replicas > old.replicas:
            self._check_room(changes)
        self._store(changes)

    def deployments(self) -> Sequence[DeploymentStatus]:
        """All functions, by name, beside their instances."""
        return [self._status(d) for _, d in sorted(self._deployments.items())]

    def deployment(self, name: str) -> DeploymentStatus:
        """One function beside its instances. Raises `NotFound`."""
        return self._status(self._get(name))

    def logs(self, name: str, tail: int) -> Sequence[LogLine]:
        """The last `tail` lines that a function's instances wrote. Raises `NotFound`."""
        self._get(name)
        return self._logs(name, tail) if self._logs is not None else ()

    async def settled(self, name: str, timeout_s: float) -> DeploymentStatus:
        """Wait until exactly the wanted instances of a function are ready, or it has a problem, or the time is over.

        Returns its status then: still without a problem and not ready if the time is over. Raises `NotFound`.
        """
        until_s = self._clock.now() + timeout_s
        async with asyncio.TaskGroup() as tasks:
            timer = tasks.create_task(self._clock.sleep_until(until_s))
            timer.add_done_callback(lambda _: self._loop.changed.ring())
            try:
                while not self._is_settled(name) and self._clock.now() < until_s:
                    await self._loop.changed.wait()
            finally:
                timer.cancel()
        return self.deployment(name)

    def _as_deployment(self, function: Function) -> Deployment:
        """A function as it will be stored: with the replicas it had, within its bounds, and at least one."""
        old = self._deployments.get(function.name)
        bounds = function.replicas
        lowest = max(1, bounds.minimum)
        if old is None:
            return Deployment(function, lowest, 0.0)
        return Deployment(function, min(bounds.maximum, max(lowest, old.replicas)), old.created_unix_s)

    def _get(self, name: str) -> Deployment:
        if name not in self._deployments:
            raise NotFound("function", name)
        return self._deployments[name]

    def _store(self, changes: Mapping[str, Deployment]) -> None:
        """Store deployments, all or, if the store fails, none."""
        old = {name: self._deployments.get(name) for name in changes}
        done: list[str] = []
        try:
            for name, deployment in changes.items():
                self._functions.put(deployment.function, deployment.replicas)
                done.append(name)
            stored = {name: self._functions.get(name) for name in changes}
        except FastGShareError:
            self._restore({name: old[name] for name in done})
            raise
        self._deployments |= stored
        for name in changes:
            self._loop.forgive(name)

    def _restore(self, old: Mapping[str, Deployment | None]) -> None:
        for name, deployment in old.items():
            if deployment is None:
                self._functions.remove(name)
            else:
                self._functions.put(deployment.function, deployment.replicas)

    def _check_room(self, changes: Mapping[str, Deployment]) -> None:
        """Raise `NoPlacement` if, with these changes, any function would newly have no place."""
        problems = self._foresee({**self._deployments, **changes})
        if not problems:
            return
        known = self._foresee(self._deployments)
        for name, problem in problems.items():
            if name in changes:
                raise NoPlacement(f"function {name}: {problem}")
            if name not in known:
                raise NoPlacement(f"function {name} would lose its place to {', '.join(changes)}: {problem}")

    def _foresee(self, wanted: Mapping[str, Deployment]) -> dict[str, str]:
        view, devices = self._loop.view(), self._cluster.devices()
        return dict(foresee(list(wanted.values()), view, self._loop.book, devices, check=self._check))

    def _status(self, deployment: Deployment) -> DeploymentStatus:
        name = deployment.function.name
        instances = sorted((s for s in self._loop.view() if s.function_name == name), key=lambda s: number_of(s.id))
        return DeploymentStatus(deployment, tuple(instances), self._loop.problems.get(name, ""))

    def _is_settled(self, name: str) -> bool:
        deployment = self._deployments.get(name)
        if deployment is None or name in self._loop.problems:
            return True
        return settled(deployment, self._loop.view(), self._loop.book, self._cluster.devices())
