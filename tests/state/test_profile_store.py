from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.profiles import Configuration, Figures, Subject, Trial
from fastgshare.state.errors import StateUnavailable
from fastgshare.state.profiles import FILE, ProfileStore
from fastgshare.state.schemas import FUNCTIONS, PROFILES
from fastgshare.testing.profiles import SUBJECT, trial, trials


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / FILE


def test_what_is_added_is_there_after_a_restart_in_the_order_in_which_it_came(path: Path) -> None:
    with ProfileStore(path) as store:
        store.add(trial(100, 1.0, 80.0))
        store.add(trial(6, 0.2, None, reason="exit status 1"))
    with ProfileStore(path) as store:
        assert store.trials(SUBJECT) == [trial(100, 1.0, 80.0), trial(6, 0.2, None, reason="exit status 1")]


@settings(max_examples=30, deadline=None)
@given(st.lists(trials, max_size=4))
def test_any_trial_comes_back_as_it_was(kept: list[Trial]) -> None:
    with tempfile.TemporaryDirectory() as folder, ProfileStore(Path(folder) / FILE) as store:
        for one in kept:
            store.add(one)
        assert [found for subject in store.subjects() for found in store.trials(subject)] == sorted(
            kept, key=lambda t: (t.subject.function, t.subject.device_type, t.subject.model_digest)
        )


@pytest.mark.parametrize(
    "other",
    [
        replace(SUBJECT, function="speech"),
        replace(SUBJECT, model_digest="d2" * 32),
        replace(SUBJECT, model_digest=""),
        replace(SUBJECT, device_type="NVIDIA A100-SXM4-80GB"),
        replace(SUBJECT, device_type=SUBJECT.device_type.lower()),
    ],
)
def test_trials_of_another_function_model_or_device_type_are_never_given(path: Path, other: Subject) -> None:
    with ProfileStore(path) as store:
        store.add(trial(rps=1.0))
        store.add(trial(rps=2.0, subject=other))
        assert store.trials(SUBJECT) == [trial(rps=1.0)]
        assert store.trials(other) == [trial(rps=2.0, subject=other)]
        assert set(store.subjects()) == {SUBJECT, other}


def test_a_store_without_trials_knows_no_subject(path: Path) -> None:
    with ProfileStore(path) as store:
        assert store.subjects() == []
        assert store.trials(SUBJECT) == []


def test_only_what_is_not_here_yet_is_new(path: Path) -> None:
    with ProfileStore(path) as store:
        store.add(trial(rps=1.0))
        assert store.add_new([trial(rps=1.0), trial(rps=2.0), trial(rps=2.0, seed=7), trial(rps=2.0)]) == 2
        assert store.add_new([trial(6, rps=None)]) == 1
        assert store.add_new([trial(6, rps=None)]) == 0
        assert len(store.trials(SUBJECT)) == 4


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (trial(rps=float("nan")), "rps"),
        (trial(figures=Figures(1.0, p99_s=float("inf"))), "p99_s"),
        (trial(took_s=float("nan")), "took_s"),
        (trial(seed=2**63), "seed"),
    ],
)
def test_numbers_that_cannot_be_kept_are_refused_and_nothing_of_their_company_is_kept(
    path: Path, bad: Trial, field: str
) -> None:
    with ProfileStore(path) as store:
        with pytest.raises(InvalidValue, match=f"^{field}: "):
            store.add(bad)
        with pytest.raises(InvalidValue, match=f"^{field}: "):
            store.add_new([trial(), bad])
        assert store.subjects() == []


def test_words_of_a_process_that_are_no_text_are_kept_readable(path: Path) -> None:
    with ProfileStore(path) as store:
        store.add(trial(rps=None, reason="broke \udcff off"))
        assert store.trials(SUBJECT)[0].reason == "broke \\udcff off"


WRITER = """
import sys
from pathlib import Path
from fastgshare.state.profiles import ProfileStore
from fastgshare.testing.profiles import trial

store = ProfileStore(Path(sys.argv[1]))
for n in range(100000):
    store.add(trial(rps=1.0, seed=n, histogram=b"x" * 5000))
    store.add_new([trial(rps=2.0, seed=n), trial(rps=3.0, seed=n, histogram=b"x" * 9000), trial(rps=4.0, seed=n)])
    print(n, flush=True)
"""


@pytest.mark.parametrize("writes", [1, 7, 30])
def test_kill_9_in_the_middle_of_writing_loses_nothing_that_was_accepted(path: Path, writes: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(writes):
            last = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        last = max([last, *map(int, writer.stdout.read().split())])
    with ProfileStore(path) as store:
        found = [(t.figures.rps if t.figures else 0, t.seed) for t in store.trials(SUBJECT)]
        assert set(found) >= {(rps, n) for rps in (1.0, 2.0, 3.0, 4.0) for n in range(last + 1)}
        together = {rps: {n for r, n in found if r == rps} for rps in (2.0, 3.0, 4.0)}
        assert together[2.0] == together[3.0] == together[4.0]
        store.add(trial())


FILLER = """
import resource, signal, sys
from pathlib import Path
from fastgshare.state.errors import StateUnavailable
from fastgshare.state.profiles import ProfileStore
from fastgshare.testing.profiles import SUBJECT, trial

store = ProfileStore(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
accepted = 0
try:
    while accepted < 10_000:
        store.add_new([trial(seed=2 * accepted, histogram=b"x" * 4000), trial(seed=2 * accepted + 1)])
        accepted += 1
except StateUnavailable as error:
    assert len(store.trials(SUBJECT)) == 2 * accepted
    print(accepted, error)
"""


def test_a_full_disk_is_a_clear_error_and_what_was_there_stays(path: Path) -> None:
    command = [sys.executable, "-c", FILLER, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    accepted, reason = run.stdout.split(maxsplit=1)
    assert str(path) in reason
    assert "disk" in reason
    with ProfileStore(path) as store:
        assert len(store.trials(SUBJECT)) == 2 * int(accepted) > 0


ADDER = """
import sys
from pathlib import Path
from fastgshare.state.profiles import ProfileStore
from fastgshare.testing.profiles import trial

print("ready", flush=True)
sys.stdin.readline()
store = ProfileStore(Path(sys.argv[1]))
for n in range(40):
    store.add(trial(rps=float(sys.argv[2]), seed=n))
    store.add_new([trial(rps=9.0, seed=n)])
"""


def test_several_processes_open_a_new_file_and_add_at_once(path: Path) -> None:
    commands = [[sys.executable, "-c", ADDER, str(path), str(n)] for n in range(1, 4)]
    adders = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for command in commands]
    for adder in adders:
        assert adder.stdout is not None
        adder.stdout.readline()
    for adder in adders:
        assert adder.stdin is not None
        adder.stdin.write(b"\n")
        adder.stdin.flush()
    assert [adder.communicate(timeout=60) and adder.returncode for adder in adders] == [0, 0, 0]
    with ProfileStore(path) as store:
        found = sorted((t.figures.rps if t.figures else 0, t.seed) for t in store.trials(SUBJECT))
    assert found == [(rps, n) for rps in (1.0, 2.0, 3.0, 9.0) for n in range(40)]


def test_a_locked_database_is_a_clear_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgshare.state.profiles._BUSY_S", 0.01)
    with ProfileStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable, match="locked"):
            store.add(trial())
        with pytest.raises(StateUnavailable, match="locked"):
            store.add_new([trial()])
        other.execute("ROLLBACK")
        store.add(trial())


def test_a_newer_layout_is_refused_and_untouched(path: Path) -> None:
    ProfileStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {PROFILES.version + 1}")
    with pytest.raises(StateUnavailable, match="newer FaST-GShare"):
        ProfileStore(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (PROFILES.version + 1,)


def test_an_older_layout_is_brought_up_to_date_with_what_it_has(path: Path) -> None:
    with ProfileStore(path) as store:
        store.add(trial())
    with sqlite3.connect(path) as connection:
        connection.execute("DROP INDEX trials_of_subject")
        connection.execute("PRAGMA user_version = 1")
    with ProfileStore(path) as store:
        assert store.trials(SUBJECT) == [trial()]
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (PROFILES.version,)


def test_the_functions_database_and_other_peoples_are_refused(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE deployments (name TEXT)")
        connection.execute(f"PRAGMA application_id = {FUNCTIONS.application_id}")
    with pytest.raises(StateUnavailable, match="another program"):
        ProfileStore(path)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StateUnavailable, match="not a database"):
        ProfileStore(path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnavailable, match="cannot be made"):
        ProfileStore(tmp_path / "file" / FILE)


@pytest.mark.parametrize(
    ("column", "value"), [("outcome", "dreamt"), ("versions", "{"), ("given_sm", -1.0), ("asked_batch", 0)]
)
def test_a_trial_that_cannot_be_read_is_named(path: Path, column: str, value: object) -> None:
    with ProfileStore(path) as store:
        store.add(trial())
        with sqlite3.connect(path) as connection:
            connection.execute(f"UPDATE trials SET {column} = ?", (value,))
        with pytest.raises(StateUnavailable, match="trial 1 cannot be read"):
            store.trials(SUBJECT)


def test_every_field_of_a_trial_has_its_column(path: Path) -> None:
    with ProfileStore(path) as store:
        store.add(trial(6, 0.2, 5.0, asked=Configuration(12, 0.25, 8)))
    with sqlite3.connect(path) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(trials)")}
        row = connection.execute("SELECT asked_sm, asked_quota, asked_batch, given_sm, rps FROM trials").fetchone()
    assert row == (12.0, 0.25, 8, 6.0, 5.0)
    nested = {"subject", "asked", "given", "figures"}
    assert columns >= (set(Trial.__dataclass_fields__) | set(Figures.__dataclass_fields__)) - nested
