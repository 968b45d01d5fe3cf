from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastgshare.state.errors import StateUnavailable
from fastgshare.state.locks import StateLock

HOLDER = """
import sys, time
from pathlib import Path
from fastgshare.state.locks import StateLock
lock = StateLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_has_ended_by_any_means(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StateUnavailable, match=f"process {holder.pid}"):
            StateLock(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=10)
    with StateLock(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_the_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    with StateLock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnavailable, match="cannot be used as a directory"):
        StateLock(tmp_path / "file")


def test_it_can_be_taken_again_once_closed(tmp_path: Path) -> None:
    for _ in range(2):
        with StateLock(tmp_path):
            pass


def test_a_disk_that_takes_no_more_is_one_error(tmp_path: Path) -> None:
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom fastgshare.state.locks import StateLock\n"
        "from fastgshare.state.errors import StateUnavailable\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try:\n    StateLock(Path(sys.argv[1]))\nexcept StateUnavailable as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "new")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said == f"state in {tmp_path / 'new'}: it cannot be written (File too large)\n"
