"""How exactly are quotas held? Several sets of saturated instances under the real daemon, one after the other.

Each set is cut from a device, so that it fits: exactly full, or with 5% of the time free. Prints the largest distance
of an instance from its request in percentage points, the largest sum of SMs held at once, and the daemon's cost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.trial import Contender, run_trial

_Column = tuple[float, Sequence[float]]


@dataclass(frozen=True, slots=True)
class MixOfShares:
    """Columns of SMs, each divided in time; bursts in seconds, given to the instances in turn."""

    name: str
    columns: Sequence[_Column]
    bursts_s: Sequence[float]
    stretch: float = 1.0

    def contenders(self) -> list[Contender]:
        """One per part of a column."""
        found: list[Contender] = []
        sm_offset = 0.0
        for sm, quotas in self.columns:
            at = 0.0
            for quota in quotas:
                rect = Rect(sm_offset, at * self.stretch, sm, quota * self.stretch)
                burst_s = self.bursts_s[len(found) % len(self.bursts_s)]
                found.append(Contender(f"i{len(found)}", Share(sm, rect.quota, rect.quota), rect, burst_s))
                at += quota
            sm_offset += sm
        return found


_EIGHTH = 0.125
_TWO_COLUMNS: Sequence[_Column] = ((50, (0.4, 0.6)), (50, (0.3, 0.25, 0.45)))
_PAPER: Sequence[_Column] = ((12, (0.4, 0.6)), (24, (0.4, 0.6)), (50, (0.6, 0.4)), (14, (1.0,)))
SETS = (
    MixOfShares("8 in turn, can stop, full", ((100, (_EIGHTH,) * 8),), (0,)),
    MixOfShares("2 columns, can stop, full", _TWO_COLUMNS, (0,)),
    MixOfShares("4 columns, can stop, full", _PAPER, (0,)),
    MixOfShares("8 in turn, 2 ms bursts, 5% free", ((100, (_EIGHTH,) * 8),), (0.002,), 0.95),
    MixOfShares("2 columns, 2 ms bursts, 5% free", _TWO_COLUMNS, (0.002,), 0.95),
    MixOfShares("4 columns, 0 and 2 ms bursts, 5% free", _PAPER, (0, 0.002), 0.95),
    MixOfShares("8 in turn, 2 ms bursts, full", ((100, (_EIGHTH,) * 8),), (0.002,)),
    MixOfShares("2 columns, 2 ms bursts, full", _TWO_COLUMNS, (0.002,)),
    MixOfShares("4 columns, 0 and 2 ms bursts, full", _PAPER, (0, 0.002)),
)


def measure(mix: MixOfShares, seconds: float) -> dict[str, object]:
    """Run one set."""
    with tempfile.TemporaryDirectory(prefix="fastgshare-bench-") as directory:
        result = asyncio.run(run_trial(mix.contenders(), seconds, Path(directory), window_s=0.04))
    errors = [100 * (o.held - o.share.quota_request) for o in result.outcomes]
    worst: float = max(errors, key=abs)
    return {
        "set": mix.name,
        "worst_error_pp": round(worst, 2),
        "peak_sm_sum": result.peak_sm_sum,
        "share_over_100": result.share_over_100,
        "daemon_cpu_share": round(result.daemon_cpu_share, 4),
        "grant_p50_us": round(result.grant_p50_us),
        "grant_p99_us": round(result.grant_p99_us),
    }


def main() -> None:
    """Print one line per set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to count for each set")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    rows = []
    for mix in SETS:
        row = measure(mix, arguments.seconds)
        rows.append(row)
        if not arguments.json:
            print(
                f"{mix.name:40} error {row['worst_error_pp']:+6} pp   SM sum {row['peak_sm_sum']:5}   "
                f"daemon {100 * float(str(row['daemon_cpu_share'])):.2f}%   grant p99 {row['grant_p99_us']} us",
                flush=True,
            )
    if arguments.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
