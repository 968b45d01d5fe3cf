"""``python -m fastgshare.sim.replay TRACE [--seconds S | --requests N] [--seed N]``: a shipped trace, through a driver.

Becomes the native program ``replay``, which plays the trace on whatever device the driver that it finds has: under
``fastgshare run --device standin --share ... --`` the stand-in's. Without arguments it says which traces there are.
"""

from __future__ import annotations

import os
import sys

from fastgshare import native
from fastgshare.domain.errors import FastGShareError
from fastgshare.sim import traces


def main(arguments: list[str]) -> int:
    """Run the program in place of this one. Returns only if that fails: the exit status."""
    if not arguments:
        print("\n".join(f"{name}: {traces.load(name).title}" for name in traces.names()))
        return 0
    name, *options = arguments
    try:
        path = name if name.startswith("-") or "/" in name else str(traces.shipped(name))
        program = str(native.library("probes/replay"))
    except FastGShareError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.execv(program, [program, path, *options])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
