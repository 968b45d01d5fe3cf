"""How long is a token check while the token is valid, beside a clock read and a system call in the same run?

At the end the check runs under a seccomp filter: if it made any system call, the process would be killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from fastgshare import native
from fastgshare.domain.rects import Rect
from fastgshare.domain.shares import Share
from fastgshare.manager.node import NodeDaemon
from fastgshare.manager.trial import ABSTRACT

_SOURCE = Path(__file__).with_suffix(".cpp")
_WINDOW_S = 2.0


def build(directory: Path) -> Path:
    """Compile the program against the library that is installed."""
    library = native.library("libfastgate.so")
    program = directory / "token_check"
    flags = ["-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", f"-Wl,-rpath,{library.parent}"]
    subprocess.run(["g++", *flags, str(_SOURCE), str(library), "-o", str(program)], check=True)
    return program


async def measure(directory: Path, rounds: int) -> dict[str, Any]:
    """Run the program as the only instance of a device, whose token is valid for as long as a window."""
    program = await asyncio.to_thread(build, directory)
    daemon = NodeDaemon([ABSTRACT], directory / "node", window_s=_WINDOW_S)
    await daemon.start()
    try:
        process = await asyncio.create_subprocess_exec(
            *(str(program), str(daemon.socket_path), "probe", str(rounds)), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        await daemon.admit("probe", process.pid, Share(100, 1, 1), Rect(0, 0, 100, 1))
        output = await asyncio.wait_for(process.stdout.read(), 120)
        await process.wait()
    finally:
        await daemon.stop()
    if process.returncode != 0:
        raise SystemExit(f"error: the program ended with status {process.returncode}")
    result: dict[str, Any] = json.loads(output)
    return result


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21, help="rounds of a million checks; medians are printed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastgshare-bench-") as directory:
        result = asyncio.run(measure(Path(directory), arguments.rounds))
    result["check_over_clock"] = round(result["check_ns"] / result["clock_ns"], 2)
    result["system_call_over_check"] = round(result["system_call_ns"] / result["check_ns"], 1)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"a token check while the token is valid   {result['check_ns']:6.1f} ns")
    print(f"reading the clock                        {result['clock_ns']:6.1f} ns")
    print(f"a system call (getppid)                  {result['system_call_ns']:6.1f} ns")
    print(f"system calls in a million checks         {result['system_calls']:6}")


if __name__ == "__main__":
    main()
