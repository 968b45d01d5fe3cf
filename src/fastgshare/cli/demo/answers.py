"""One real input per function, through the front door."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastgshare.cli.gateways import Gateway
from fastgshare.domain.errors import FastGShareError, InvalidValue
from fastgshare.domain.functions import Function

SAMPLE: Final = "demo/input"
"""Annotation that names a file with an input for the function, relative to its functions.yaml."""

_QUOTED_CHARACTERS: Final = 60
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Answered:
    """What went in, what came out, and how long it took."""

    input: str
    answer: str
    latency_ms: float


def read_samples(functions: Sequence[Function], base: Path) -> dict[str, Path]:
    """The sample file of every function. Raises `InvalidValue` if a function has none that can be read."""
    found = {}
    for function in functions:
        name = function.annotations.get(SAMPLE)
        path = base / name if name else None
        if path is None or not path.is_file():
            raise InvalidValue(f"{function.name}: annotation {SAMPLE}", name, f"a file with an input, beside {base}")
        found[function.name] = path
    return found


def ask(gateway: Gateway, name: str, sample: Path) -> Answered:
    """Call a function once. Raises `FastGShareError` if it does not answer with 200."""
    body = sample.read_bytes()
    start_s = time.monotonic()
    answer = gateway.invoke(name, body, {}, _TIMEOUT_S)
    latency_ms = 1000 * (time.monotonic() - start_s)
    if answer.status != 200:
        raise FastGShareError(f"{name} answered {answer.status}: {answer.text}")
    return Answered(_shown(sample, body), answer.text, latency_ms)


def _shown(sample: Path, body: bytes) -> str:
    """A sentence as it is, anything else by its file's name."""
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        return sample.name
    return f"“{text}”" if "\n" not in text and len(text) <= _QUOTED_CHARACTERS else sample.name
