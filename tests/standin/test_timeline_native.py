"""The stand-in's device under a debugger that kills, and under ThreadSanitizer."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMELINE = ROOT / "native" / "standin" / "timeline"


def _output(source: str, folder: Path, *arguments: str, flags: tuple[str, ...] = ()) -> list[str]:
    """Lines that a C++ program of this folder prints, built together with the timeline's sources."""
    program = folder / Path(source).stem
    sources = [str(Path(__file__).with_name(source)), *map(str, sorted(TIMELINE.glob("*.cpp")))]
    command = ["g++", "-std=c++20", "-O1", "-g", *flags, "-I", str(TIMELINE), *sources, "-pthread", "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    run = subprocess.run([str(program), *arguments], check=False, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    return run.stdout.splitlines()


def test_wherever_in_a_call_a_process_is_killed_it_was_made_wholly_or_not_at_all(tmp_path: Path) -> None:
    lines = _output("kill_points.cpp", tmp_path, "11")
    points = {call: int(number) for call, number in (line.split(": ") for line in lines)}
    assert len(points) == 18
    assert sum(points.values()) > 5000


def test_threads_that_use_it_at_once_do_not_race(tmp_path: Path) -> None:
    assert _output("race_timeline.cpp", tmp_path, flags=("-fsanitize=thread",)) == ["16000 pieces"]


def test_it_stays_within_its_memory(tmp_path: Path) -> None:
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    assert _output("race_timeline.cpp", tmp_path, flags=flags) == ["16000 pieces"]
