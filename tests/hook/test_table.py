"""The hook's table of allocations holds what was put into it, whatever the order and however many threads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.hook.drivers import ROOT

SOURCES = [Path(__file__).with_name("check_table.cpp"), ROOT / "native" / "hook" / "table.cpp"]
INCLUDES = ["-I", str(ROOT / "native" / "hook"), "-I", str(ROOT / "native" / "gate")]


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_it_is_as_a_plain_map(sanitizers: str, tmp_path: Path) -> None:
    program = tmp_path / "check_table"
    flags = ["-std=c++20", "-O1", "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-pthread"]
    command = ["g++", *flags, *INCLUDES, *map(str, SOURCES), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    run = subprocess.run([str(program)], check=False, capture_output=True, text=True, timeout=60)

    assert (run.returncode, run.stdout, run.stderr) == (0, "as it should be\n", "")
