from __future__ import annotations

import os
import subprocess
import sys
import time

from fastgshare.runtime.clocks import WorkClock

SLACK_S = 0.02


def test_waiting_for_a_core_takes_no_time() -> None:
    """Two processes on one core: this one's work lasts as long as it computes, which is less than it takes."""
    cores = os.sched_getaffinity(0)
    rival = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(rival.pid, {min(cores)})
        os.sched_setaffinity(0, {min(cores)})
        clock = WorkClock()
        wall_s, work_s, computed_s = time.monotonic(), clock(), time.thread_time()
        while time.thread_time() - computed_s < 0.1:
            pass
        work_s, computed_s, wall_s = clock() - work_s, time.thread_time() - computed_s, time.monotonic() - wall_s
    finally:
        os.sched_setaffinity(0, cores)
        rival.kill()
        rival.wait()
    assert computed_s - SLACK_S <= work_s <= wall_s + SLACK_S


def test_waiting_for_anything_else_takes_its_time() -> None:
    clock = WorkClock()
    began_s, wall_s = clock(), time.monotonic()
    subprocess.run([sys.executable, "-c", ""], check=True)
    assert clock() - began_s >= 0.1 * (time.monotonic() - wall_s)


def test_without_the_kernels_figures_it_is_monotonic_time() -> None:
    clock = WorkClock()
    clock._fd = None
    before_s = time.monotonic()
    assert before_s <= clock() <= time.monotonic()
