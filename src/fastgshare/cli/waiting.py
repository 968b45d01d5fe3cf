"""Waiting until functions are ready, with a bar for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fastgshare.cli.gateways import Gateway
from fastgshare.cli.output import stderr
from fastgshare.domain.errors import InvalidValue, NotFound
from fastgshare.domain.functions import Function
from fastgshare.scheduler.reconcile import can_serve
from fastgshare.spec.openfaas import load_deployment

_POLL_S: Final = 0.1
_OLD_NEWS_S: Final = 2.0
"""How long a problem from before a change may still be shown after it."""
_QUOTA_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Before:
    """A function as it was before a change: instances that the change will replace, and the problem there was."""

    stale: frozenset[str] = frozenset()
    problem: str = ""

    @classmethod
    def of(cls, status: Mapping[str, Any] | None, function: Function | None = None) -> Before:
        """Before `function` is deployed, or, without one, before the function is scaled."""
        if status is None:
            return cls()
        if function is None or not _replaces(status, function) or not _is_settled(status):
            return cls(problem=_problem(status))
        return cls(frozenset(str(instance.get("id")) for instance in _instances(status)), _problem(status))


@dataclass(frozen=True, slots=True)
class Readiness:
    """How far a function is: replicas that answer as wanted, replicas wanted, why others will not come ("": none)."""

    name: str
    available: int
    wanted: int
    problem: str = ""

    @property
    def ready(self) -> bool:
        """Whether all wanted replicas answer."""
        return self.available >= self.wanted and not self.problem

    @classmethod
    def of(cls, status: Mapping[str, Any], before: Before) -> Readiness:
        """What a FunctionStatus says. Instances that a change has yet to replace or to resize do not count."""
        ready = [i for i in _instances(status) if i.get("state") == "ready" and i.get("id") not in before.stale]
        as_wanted = sum(_has_its_quota(instance, status) for instance in ready)
        return cls(str(status.get("name")), as_wanted, int(status.get("replicas", 0)), _problem(status))


def wait_until_ready(
    gateway: Gateway, functions: Mapping[str, Before], timeout_s: float, *, poll_s: float = _POLL_S
) -> list[Readiness]:
    """Wait until every function is ready or has a problem, at most `timeout_s`; how far each is then."""
    start_s = time.monotonic()
    found: dict[str, Readiness] = {}
    with _bars(list(functions)) as show:
        while True:
            elapsed_s = time.monotonic() - start_s
            for name, before in functions.items():
                if name not in found or not _decided(found[name], before, elapsed_s):
                    found[name] = _look(gateway, name, before)
                    show(found[name])
            if all(_decided(found[name], before, elapsed_s) for name, before in functions.items()):
                return list(found.values())
            if elapsed_s > timeout_s:
                return [_explained(readiness, timeout_s) for readiness in found.values()]
            time.sleep(poll_s)


def status_or_none(gateway: Gateway, name: str) -> dict[str, Any] | None:
    """The status of a function, if there is one of that name."""
    try:
        return gateway.function(name)
    except NotFound:
        return None


def _decided(readiness: Readiness, before: Before, elapsed_s: float) -> bool:
    if readiness.problem and readiness.problem == before.problem:
        return elapsed_s > _OLD_NEWS_S
    return readiness.ready or bool(readiness.problem)


def _look(gateway: Gateway, name: str, before: Before) -> Readiness:
    status = status_or_none(gateway, name)
    if status is None:
        return Readiness(name, 0, 0, "it was removed meanwhile")
    return Readiness.of(status, before)


def _explained(readiness: Readiness, timeout_s: float) -> Readiness:
    if readiness.ready or readiness.problem:
        return readiness
    missing = f"{readiness.available} of {readiness.wanted} replicas are ready after {timeout_s:g} s"
    return Readiness(readiness.name, readiness.available, readiness.wanted, missing)


def _instances(status: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return list(status.get("fastgshare", {}).get("instances", ()))


def _problem(status: Mapping[str, Any]) -> str:
    return str(status.get("fastgshare", {}).get("problem", ""))


def _is_settled(status: Mapping[str, Any]) -> bool:
    """Whether the instances are those of the function as the status has it: not in the midst of another change."""
    states = [instance.get("state") for instance in _instances(status)]
    return states == ["ready"] * int(status.get("replicas", 0))


def _replaces(status: Mapping[str, Any], function: Function) -> bool:
    """Whether instances of the function in a status cannot serve as `function`."""
    try:
        return not can_serve(_function(status), function)
    except InvalidValue:
        return True


def _has_its_quota(instance: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    try:
        wanted = _function(status).share.quota_request
    except InvalidValue:
        return True
    return abs(float(instance.get("quota", 0.0)) - wanted) < _QUOTA_TOLERANCE


def _function(status: Mapping[str, Any]) -> Function:
    return load_deployment({**status, "service": status.get("name")})


@contextmanager
def _bars(names: Sequence[str]) -> Iterator[Callable[[Readiness], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = stderr()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        tasks = {name: progress.add_task(name, total=None) for name in names}
        yield lambda r: progress.update(tasks[r.name], completed=r.available, total=r.wanted or None)
