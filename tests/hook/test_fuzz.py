"""Nonsense on the shared pages: the gate inside every instance survives whatever is written there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GATE = ("accounts", "board", "expiry", "gate", "memory", "plan", "rules", "siblings", "sleep", "virtual")


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fuzzer with the gate's own sources, built for the address and undefined-behaviour sanitizers."""
    program = tmp_path_factory.mktemp("fuzz") / "fuzz_pages"
    sources = [str(ROOT / "native" / "gate" / f"{name}.cpp") for name in GATE]
    flags = ("-std=c++20", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fwrapv")
    command = ["g++", *flags, "-I", str(ROOT / "native" / "gate"), str(Path(__file__).with_name("fuzz_pages.cpp"))]
    subprocess.run([*command, *sources, "-pthread", "-o", str(program)], check=True, capture_output=True, timeout=120)
    return program


@pytest.mark.parametrize("seed", range(1, 3))
def test_no_page_however_wrong_harms_the_gate(fuzzer: Path, seed: int) -> None:
    run = subprocess.run([str(fuzzer), str(seed), "3000"], check=False, capture_output=True, text=True, timeout=60)

    assert (run.returncode, run.stdout, run.stderr) == (0, "3000 rounds\n", "")
