"""The clock of the live system."""

from __future__ import annotations

import asyncio
import time


class MonotonicClock:
    """`domain.ports.Clock` in the machine's monotonic seconds."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    async def sleep_until(self, when_s: float) -> None:
        """Return at `when_s`, or at once if that is past."""
        await asyncio.sleep(max(0.0, when_s - time.monotonic()))
