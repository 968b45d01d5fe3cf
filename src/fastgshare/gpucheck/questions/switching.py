"""What does it cost to create a green context, and to switch to another?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.questions.answers import Answer
from fastgshare.gpucheck.questions.places import Line, mps, say

QUESTION: Final = "What does it cost to create a green context, and to switch to another?"
LIMIT_S: Final = 7.0
_WORDS: Final = ("cost", "sms=16", "n=30", "launches=300")
_FIGURES: Final = {
    "create_ns": "create",
    "destroy_ns": "end",
    "same_ns": "launch_on_the_same",
    "switch_ns": "launch_on_another",
    "plain_streams_ns": "launch_on_another_plain_stream",
}


async def answer(bench: Bench) -> Answer:
    """Without MPS, and with it where it is there."""
    env = bench.of_programs()
    rows = [row("without MPS", await say(env, *_WORDS))]
    try:
        async with mps(bench) as control:
            rows.append(row("under an MPS server", await say(env | control.environment(), *_WORDS)))
    except FastGShareError as error:
        rows.append({"way": "under an MPS server", "why": str(error)})
    return Answer(QUESTION, f"{'; '.join(map(_said, rows))}.", {"costs": rows})


def row(way: str, line: Line) -> dict[str, Any]:
    """Medians and 99th percentiles in microseconds; a launch is one of an empty kernel, and the wait for its end."""
    found: dict[str, Any] = {"way": way}
    for key, name in _FIGURES.items():
        p50_ns, p99_ns = line[key]
        found |= {f"{name}_p50_us": p50_ns / 1e3, f"{name}_p99_us": p99_ns / 1e3}
    more_ns = line["switch_ns"][0] - line["same_ns"][0]
    return found | {"switch_adds_us": more_ns / 1e3}


def _said(found: Mapping[str, Any]) -> str:
    if "why" in found:
        return f"{found['way']}: not known ({found['why']})"
    return (
        f"{found['way']}: creating one takes {found['create_p50_us']:.0f} us, ending it {found['end_p50_us']:.0f} us; "
        f"a launch on another one than before takes {found['switch_adds_us']:+.1f} us beside one on the same"
    )
