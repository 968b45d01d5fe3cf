"""Answers: what came of a question, or why there is no answer; whatever one does, the next one is asked."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fastgshare.domain.errors import FastGShareError
from fastgshare.gpucheck.benches import Bench
from fastgshare.gpucheck.deadlines import within


@dataclass(frozen=True, slots=True)
class Answer:
    """found: one sentence. details: figures, as JSON; lists of flat mappings are tables. missing: why nothing is."""

    question: str
    found: str
    details: Mapping[str, Any]
    missing: str = ""


class Question(Protocol):
    """A module that asks one thing. LIMIT_S: how many seconds it needs at most."""

    @property
    def QUESTION(self) -> str:
        """In words."""

    @property
    def LIMIT_S(self) -> float:
        """Seconds after which it is cut off."""

    def answer(self, bench: Bench) -> Coroutine[Any, Any, Answer]:
        """Find it out on the bench's device, and end what was started for that."""


async def ask(question: Question, bench: Bench, within_s: float) -> Answer:
    """Its answer, within that time; what goes wrong is the reason for which an answer is missing."""
    try:
        answer = await within(within_s, question.answer(bench))
    except TimeoutError as error:
        return Answer(question.QUESTION, "", {}, f"cut off: {error}")
    except Exception as error:  # whatever it is, the next question is asked
        return Answer(question.QUESTION, "", {}, in_words(error))
    if not bench.is_standin:
        return answer
    return Answer(answer.question, f"The stand-in, a test double: {answer.found}", answer.details, answer.missing)


def in_words(error: BaseException) -> str:
    """What went wrong; of several things, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, FastGShareError) else f"{type(error).__name__}: {error}"


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as ranges: 0, 1, 2 and 5 are "0-2, 5"; "" of none."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
