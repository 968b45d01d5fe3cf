"""Deadlines that hold even for what does not let itself be ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

CLEANING_UP_S: Final = 8.0
"""What is over its time has so long to end what it started; then it is left alone."""

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What comes of work that has so many seconds. Raises TimeoutError once they are over; else as the work does."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=max(0.0, seconds))
        if task.done():
            return task.result()
    finally:  # its time is over, or whoever waits is told to end
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CLEANING_UP_S)
    if task.done() and not task.cancelled():
        task.exception()  # whatever it is: time was over before
    raise TimeoutError(f"its {seconds:.0f} s were over")
