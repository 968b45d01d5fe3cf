"""Which worker runs on a device, and what it is told at its start."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.findings import NotThere
from fastgshare.gpucheck.names import LAUNCHES


def worker_words(bench: Bench, models: Sequence[str] = ()) -> list[str]:
    """The worker's module in this room, and its arguments. models: that it loads (none named: all of the bench).

    Raises `NotThere` where it cannot run.
    """
    chosen = [model for model in models or bench.models if model != LAUNCHES]
    if bench.is_standin:
        return ["replay_worker", *chosen]
    if find_spec("torch") is None:
        raise NotThere("torch is not installed for this Python, and nothing else runs these models")
    return ["torch_worker", "--device", "cuda:0", *chosen]
