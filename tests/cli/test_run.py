"""`fastgshare run` as its users know it from `nice` and `taskset`."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.cluster.hosts import FASTGSHARE, QUARTER, Host, eventually, running_host

WHOLE_CPU = ("--device", "cpu", "--share", "sm=100,request=1")
COUNTS_INTERRUPTS = """
import signal, time
count = 0
def on_interrupt(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, on_interrupt)
print("ready", flush=True)
while not count:
    time.sleep(0.01)
time.sleep(0.3)
print("interrupts", count, flush=True)
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with running_host() as found:
        yield found


def test_input_output_and_status_are_the_program_s(host: Host) -> None:
    found = host.verb("run", *QUARTER, "--", "sh", "-c", "cat; echo no >&2; exit 7", text="hello")
    assert (found.returncode, found.stdout) == (7, "hello")
    assert found.stderr.splitlines()[-1] == "no"


def test_nothing_is_said_when_nothing_is_wrong(host: Host) -> None:
    found = host.verb("run", *WHOLE_CPU, "true")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_the_dashes_are_optional_and_the_program_s_options_its_own(host: Host) -> None:
    assert host.verb("run", *QUARTER, "echo", "--name", "-h", "--", "x").stdout == "--name -h -- x\n"
    assert host.verb("run", *QUARTER, "--", "echo", "--", "x").stdout == "-- x\n"


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        (("no-such-command",), 127, "error: no-such-command: no such command was found\n"),
        (("/no/such/command",), 127, "error: /no/such/command: no such command was found\n"),
        (("/etc/passwd",), 126, "error: /etc/passwd: it is not an executable file\n"),
        (("/etc",), 126, "error: /etc: it is not an executable file\n"),
        (("sh", "-c", "kill -KILL $$"), 137, ""),
        (("sh", "-c", "kill -TERM $$"), 143, ""),
    ],
)
def test_statuses_are_those_of_a_shell(host: Host, command: tuple[str, ...], status: int, text: str) -> None:
    found = host.verb("run", *WHOLE_CPU, "--", *command)
    assert (found.returncode, found.stderr) == (status, text)


def test_scripts_run_as_they_would_in_a_shell(host: Host, tmp_path: Path) -> None:
    plain, broken = tmp_path / "plain", tmp_path / "broken"
    plain.write_text("echo script $1\n")
    broken.write_text("#!/no/such/interpreter\n")
    plain.chmod(0o755)
    broken.chmod(0o755)
    assert host.verb("run", *QUARTER, str(plain), "one").stdout == "script one\n"
    assert host.verb("run", *QUARTER, str(broken)).returncode == 127
    assert host.programs() == {}


def test_signals_sent_to_it_reach_the_program(host: Host) -> None:
    script = "trap 'echo usr1' USR1; trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done"
    run = host.start("run", *QUARTER, "sh", "-c", script)
    assert run.stdout is not None
    assert run.stdout.readline() == "ready\n"
    run.send_signal(signal.SIGUSR1)
    assert run.stdout.readline() == "usr1\n"
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 3


def test_programs_meet_the_signals_they_would_have_met_without_it(host: Host) -> None:
    masks = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status"
    plain = subprocess.run(["sh", "-c", masks], capture_output=True, text=True, check=True)
    assert host.verb("run", *QUARTER, "sh", "-c", masks).stdout == plain.stdout


class Terminal:
    """A command that has a terminal to itself; what it writes is read from a pipe."""

    def __init__(self, host: Host, *command: str) -> None:
        self.keys, theirs = pty.openpty()
        leads = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", leads, *command],
            env=host.env,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            start_new_session=True,
            text=True,
        )
        os.close(theirs)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def press(self, key: bytes) -> None:
        os.write(self.keys, key)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.keys)


def test_an_interrupt_at_the_terminal_reaches_the_program_once(host: Host) -> None:
    terminal = Terminal(host, *FASTGSHARE, "run", *QUARTER, sys.executable, "-c", COUNTS_INTERRUPTS)
    try:
        assert terminal.line() == "ready\n"
        terminal.press(b"\x03")
        assert terminal.line() == "interrupts 1\n"
        assert terminal.process.wait() == 0
    finally:
        terminal.close()


def test_a_shell_can_stop_it_and_go_on_with_it(host: Host) -> None:
    # Not a shell that starts `sleep`: one that is stopped between its vfork and the exec never stops itself.
    waits = "import time; print('ready', flush=True); time.sleep(0.3); raise SystemExit(5)"
    run = shlex.join([*FASTGSHARE, "run", *QUARTER, sys.executable, "-c", waits])
    terminal = Terminal(host, "bash", "-mc", f"{run}; echo stopped $?; fg >/dev/null; echo over $?")
    try:
        assert terminal.line() == "ready\n"
        terminal.press(b"\x1a")
        assert terminal.line() == f"stopped {128 + signal.SIGTSTP}\n"
        assert terminal.line() == "over 5\n"
    finally:
        terminal.close()


def test_where_there_is_no_room_it_says_who_is_there(host: Host) -> None:
    holder = host.start("run", *WHOLE_CPU, "--name", "holder", "cat")
    eventually(lambda: "holder" in host.admitted())
    found = host.verb("run", *QUARTER, "--name", "late", "echo", "never")
    assert (found.returncode, found.stdout) == (1, "")
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("error:")]
    assert "no room for late" in line
    assert f"holder (process {host.admitted()['holder']}: 100% SM x 1)" in line
    taken = host.verb("run", *QUARTER, "--name", "holder", "true")
    assert (taken.returncode, "'holder' is not allowed" in taken.stderr) == (2, True)
    holder.communicate("")
    assert host.verb("run", *WHOLE_CPU, "echo", "now").stdout == "now\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--device", "cpu", "--share", "sm=100"), "request of share sm=100: None"),
        (("--device", "cpu", "--share", "sm=100,request=0.5"), "1 on device cpu"),
        (("--device", "cpu", "--share", "sm=0.1,request=1"), "sm: 0.1 is not allowed"),
        (("--device", "tpu", "--share", "sm=100,request=1"), "cpu, cuda:N or standin"),
        (("--device", "cuda:0", "--share", "sm=100,request=1"), "a GPU that is there, standin"),
        (("--share", "sm=100,request=1"), "standin (a stand-in for a GPU) or cpu"),
        (("--device", "cpu", "--share", "sm=100,request=1", "--name", "a b"), "name: 'a b' is not allowed"),
    ],
)
def test_what_is_asked_wrongly_is_named(host: Host, arguments: tuple[str, ...], text: str) -> None:
    host.env["LD_LIBRARY_PATH"] = ""
    found = host.verb("run", *arguments, "true")
    assert (found.returncode, found.stdout) == (2, "")
    assert text in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_share_that_is_not_enforced_is_said_once(host: Host) -> None:
    found = host.verb("run", *QUARTER, "true")
    assert found.returncode == 0
    assert found.stderr == "fastgshare: on device cpu, request and limit are not enforced (--if-unenforced pass)\n"


def test_json_says_where_it_was_and_how_it_ended(host: Host) -> None:
    found = host.verb("run", *WHOLE_CPU, "--json", "--name", "job", "sh", "-c", "exit 4")
    placed, ended = map(json.loads, found.stderr.splitlines())
    assert (placed["event"], placed["name"], placed["place"]["sm"]) == ("placed", "job", 100.0)
    assert ended == {"event": "ended", "status": 4}


def test_a_program_has_its_cores_and_its_memory_limit(host: Host) -> None:
    step = 100 / len(os.sched_getaffinity(0))
    code = "import os, resource; print(len(os.sched_getaffinity(0)), *resource.getrlimit(resource.RLIMIT_DATA))"
    share = ("--device", "cpu", "--share", f"sm={step},request=1,mem=1GiB")
    assert host.verb("run", *share, sys.executable, "-c", code).stdout == f"1 {2**30} {2**30}\n"


def test_it_is_on_the_cores_of_today_not_on_those_of_who_was_there_before(host: Host) -> None:
    cores = os.sched_getaffinity(0)
    program = (*WHOLE_CPU, "--", sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))")
    for usable in ({min(cores)}, cores):
        found = host.verb("run", *program, preexec_fn=partial(os.sched_setaffinity, 0, usable))
        assert (found.stdout, found.stderr) == (f"{len(usable)}\n", "")


def test_a_run_inside_a_run_counts_for_itself(host: Host) -> None:
    inner = (*FASTGSHARE, "run", *QUARTER, "--name", "inner", "printenv", "FASTGSHARE_INSTANCE")
    assert host.verb("run", *QUARTER, "--name", "outer", "--", *inner).stdout == "inner\n"


def test_ps_lists_and_resize_changes(host: Host) -> None:
    run = host.start("run", *QUARTER, "--name", "job", "cat", "-")
    eventually(lambda: "job" in host.admitted())
    before = host.programs()["job"]
    assert before["command"] == ["cat", "-"]
    assert before["share"] == {"sm": 100.0, "request": 0.25, "limit": 0.25, "mem_bytes": 0}
    assert "job" in host.verb("ps").stdout
    after = json.loads(host.verb("resize", "job", "--share", "request=0.5,limit=0.75", "--json").stdout)
    assert after["share"] == {"sm": 100.0, "request": 0.5, "limit": 0.75, "mem_bytes": 0}
    with host.daemon() as visit:
        share, rect = visit.present()["job"]
    assert (share.quota_request, share.quota_limit) == (0.5, 0.75)
    assert rect is not None
    assert rect.quota == 0.5
    for change, text in (
        ("sm=50", "fixed when it starts"),
        ("mem=1GiB", "fixed when it starts"),
        ("limit=2", "up to 1"),
    ):
        refused = host.verb("resize", "job", "--share", change)
        assert (refused.returncode, text in refused.stderr) == (2, True), refused.stderr
    assert host.verb("resize", "nobody", "--share", "limit=1").returncode == 1
    run.communicate("")
    assert host.programs() == {}
