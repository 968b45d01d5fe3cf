"""A store of functions in memory."""

from __future__ import annotations

from collections.abc import Sequence

from fastgshare.domain.deployments import Deployment
from fastgshare.domain.errors import FastGShareError, NotFound
from fastgshare.domain.functions import Function


class FakeFunctions:
    """`domain.ports.Functions` that forgets with the process. Functions are created at second 0, 1, 2 and so on."""

    def __init__(self) -> None:
        self._deployments: dict[str, Deployment] = {}
        self._created = 0
        self._errors: list[FastGShareError | None] = []

    def break_put(self, error: FastGShareError, after: int = 0) -> None:
        """Let a put raise, once `after` more have worked."""
        self._errors += [None] * after + [error]

    def put(self, function: Function, replicas: int) -> None:
        """Keep a function. Raises as told by `break_put`."""
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error
        old = self._deployments.get(function.name)
        created_unix_s = float(self._created) if old is None else old.created_unix_s
        self._created += old is None
        self._deployments[function.name] = Deployment(function, replicas, created_unix_s)

    def get(self, name: str) -> Deployment:
        """Raises `NotFound`."""
        if name not in self._deployments:
            raise NotFound("function", name)
        return self._deployments[name]

    def remove(self, name: str) -> None:
        """Raises `NotFound`."""
        self.get(name)
        del self._deployments[name]

    def all(self) -> Sequence[Deployment]:
        """All deployments, by name."""
        return [d for _, d in sorted(self._deployments.items())]
