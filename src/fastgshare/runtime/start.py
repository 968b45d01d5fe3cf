"""The start contract: what HELLO says, and an instance built from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from fastgshare.domain.devices import DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Function
from fastgshare.manager.gate import Gate
from fastgshare.runtime.backends import choose_backend
from fastgshare.runtime.bursts import Bursts
from fastgshare.runtime.clocks import WorkClock
from fastgshare.runtime.handlers import Context
from fastgshare.runtime.loading import Handler, load_handler
from fastgshare.runtime.models import Model
from fastgshare.runtime.resources import locate
from fastgshare.runtime.turns import Turn
from fastgshare.spec import functions

_T = TypeVar("_T")
_KINDS: Final = (DeviceKind.CPU, DeviceKind.GPU, DeviceKind.STANDIN)


@dataclass(frozen=True, slots=True)
class Start:
    """What an instance is and has.

    threads: of a model. spin: whether they wait busily. mem_bytes: how far the process's own memory may grow (0: no
    cap, as on a GPU, where the hook caps the device's memory). device: what kind of device it is on.
    wants_sample: whether the cluster wants to know the body of a typical request.
    """

    instance_id: str
    function: Function
    threads: int
    spin: bool
    daemon_socket: Path | None
    mem_bytes: int
    device: DeviceKind = DeviceKind.CPU
    wants_sample: bool = False


def parse_start(document: Mapping[str, object]) -> Start:
    """What the document of a HELLO says. Raises `InvalidValue` naming the field."""
    socket_path = document.get("daemon_socket")
    threads = _typed(document, "threads", int)
    if threads < 1:
        raise InvalidValue("threads", threads, "1 or more")
    return Start(
        instance_id=_typed(document, "instance_id", str),
        function=functions.load(_typed(document, "function", dict)),
        threads=threads,
        spin=_typed(document, "spin", bool),
        daemon_socket=None if socket_path is None else Path(_typed(document, "daemon_socket", str)),
        mem_bytes=_typed(document, "mem_bytes", int),
        device=_kind(document.get("device", DeviceKind.CPU)),
        wants_sample=document.get("wants_sample") is True,
    )


def _kind(value: object) -> DeviceKind:
    for kind in _KINDS:
        if kind == value:
            return kind
    raise InvalidValue("device", value, ", ".join(_KINDS))


def _typed(document: Mapping[str, object], field: str, expected: type[_T]) -> _T:
    value = document.get(field)
    if type(value) is not expected:
        raise InvalidValue(field, value, f"a value of type {expected.__name__}")
    return value


def open_gate(start: Start) -> Gate | None:
    """The gate to the device, if the start names a node daemon. Raises `DaemonUnavailable`."""
    return None if start.daemon_socket is None else Gate(start.daemon_socket, start.instance_id)


def build(start: Start, logger: logging.Logger) -> tuple[Handler, Turn]:
    """Load the model and construct the handler. Raises `InvalidValue` in one clear sentence."""
    function = start.function
    turn = Turn(Bursts(function.burst_s), WorkClock())
    opener = _Opener(start, turn)
    model = None if function.model is None else opener(function.model)
    if function.handler is not None:
        context = Context(model, function.env, start.threads, logger, opener)
        return load_handler(function.handler, context), turn
    from fastgshare.runtime.tensors import TensorHandler

    assert model is not None  # a function has a model, a handler, or both
    tensors = TensorHandler(model)
    return Handler(None, tensors.handle, tensors.sample), turn


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens models for one instance: on its threads, under its turn."""

    start: Start
    turn: Turn

    def __call__(self, ref: str) -> Model:
        path = locate("model", ref)
        backend, form = choose_backend(ref, self.start.device)
        try:
            session = backend.open(path, threads=self.start.threads, spin=self.start.spin)
        except MemoryError as error:
            raise InvalidValue("model", ref, f"{self._fitting} ({error})") from error
        except ValueError as error:
            raise InvalidValue("model", ref, f"a valid {form.words} ({error})") from error
        return Model(ref, session, self.turn)

    @property
    def _fitting(self) -> str:
        mem_bytes = self.start.function.share.mem_bytes
        where = (
            f"the share's mem of {mem_bytes} bytes" if mem_bytes else f"the memory of the {self.start.device} device"
        )
        return f"a model that fits into {where}"
