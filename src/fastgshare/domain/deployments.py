"""Deployments: functions as the platform keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from fastgshare.domain.functions import Function
from fastgshare.domain.instances import InstanceState, InstanceStatus


@dataclass(frozen=True, slots=True)
class Deployment:
    """A function, how many replicas of it are wanted, and when it was first deployed (unix seconds)."""

    function: Function
    replicas: int
    created_unix_s: float


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """A deployment beside the instances that are there.

    problem: why wanted replicas are not there, in one sentence; empty if they are or are still starting.
    """

    deployment: Deployment
    instances: tuple[InstanceStatus, ...]
    problem: str = ""

    @property
    def available(self) -> int:
        """Number of instances that answer requests."""
        return sum(i.state is InstanceState.READY for i in self.instances)
