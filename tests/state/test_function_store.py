from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastgshare.domain.deployments import Deployment
from fastgshare.domain.errors import NotFound
from fastgshare.domain.functions import Function
from fastgshare.domain.ports import Functions
from fastgshare.domain.shares import Share
from fastgshare.spec import functions as documents
from fastgshare.state.errors import StateUnavailable
from fastgshare.state.functions import FunctionStore
from fastgshare.state.schemas import VERSION


def function(name: str = "ocr", sm: float = 50) -> Function:
    return Function(name, Share(sm, 0.5, 0.5), "/m.onnx")


def store(path: Path, now: Callable[[], float] = lambda: 7.0) -> FunctionStore:
    return FunctionStore(path, encode=documents.dump, decode=documents.load, now_unix_s=now)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "functions.sqlite"


def test_what_is_put_is_there_after_a_restart(path: Path) -> None:
    kept: Functions = store(path)
    kept.put(function("b"), 2)
    kept.put(function("a"), 1)
    assert store(path).all() == [Deployment(function("a"), 1, 7.0), Deployment(function("b"), 2, 7.0)]
    assert store(path).get("b") == Deployment(function("b"), 2, 7.0)


def test_replacing_keeps_the_creation_time(path: Path) -> None:
    times = iter([1.0, 2.0])
    kept = store(path, lambda: next(times))
    kept.put(function(sm=50), 1)
    kept.put(function(sm=100), 3)
    assert kept.all() == [Deployment(function(sm=100), 3, 1.0)]


def test_what_is_not_there_is_not_found(path: Path) -> None:
    kept = store(path)
    with pytest.raises(NotFound, match="'ocr'"):
        kept.get("ocr")
    with pytest.raises(NotFound, match="'ocr'"):
        kept.remove("ocr")


class Stores(RuleBasedStateMachine):
    """A store, closed and opened at any moment, against a dictionary."""

    names = st.sampled_from("abc")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = self.open()
        self.expected: dict[str, Deployment] = {}

    def open(self) -> FunctionStore:
        return store(Path(self.folder.name) / "functions.sqlite")

    @rule(name=names, replicas=st.integers(0, 9), sm=st.sampled_from([50.0, 100.0]))
    def put(self, name: str, replicas: int, sm: float) -> None:
        self.store.put(function(name, sm), replicas)
        self.expected[name] = Deployment(function(name, sm), replicas, 7.0)

    @rule(name=names)
    def remove(self, name: str) -> None:
        if self.expected.pop(name, None) is None:
            with pytest.raises(NotFound):
                self.store.remove(name)
        else:
            self.store.remove(name)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.open()

    @invariant()
    def all_are_there(self) -> None:
        assert self.store.all() == [self.expected[name] for name in sorted(self.expected)]

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


WRITER = """
import sys
from pathlib import Path
from fastgshare.domain.functions import Function
from fastgshare.domain.shares import Share
from fastgshare.spec import functions as documents
from fastgshare.state.functions import FunctionStore

store = FunctionStore(Path(sys.argv[1]), encode=documents.dump, decode=documents.load)
for n in range(100000):
    store.put(Function("even", Share(50, 0.5, 0.5), "/m.onnx", env={"n": str(n)}), 1)
    store.put(Function(f"f{n}", Share(50, 0.5, 0.5), "/m.onnx", env={"n": "x" * 5000}), n % 1000)
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
    kept = store(path)
    found = {deployment.function.name for deployment in kept.all()}
    assert found >= {"even", *(f"f{n}" for n in range(last + 1))}
    assert int(kept.get("even").function.env["n"]) >= last
    kept.put(function(), 1)


FILLER = """
import resource, signal, sys
from pathlib import Path
from fastgshare.domain.functions import Function
from fastgshare.domain.shares import Share
from fastgshare.spec import functions as documents
from fastgshare.state.errors import StateUnavailable
from fastgshare.state.functions import FunctionStore

store = FunctionStore(Path(sys.argv[1]), encode=documents.dump, decode=documents.load)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
accepted = 0
try:
    while accepted < 10_000:
        store.put(Function(f"f{accepted}", Share(50, 0.5, 0.5), "/m.onnx", env={"n": "x" * 5000}), 1)
        accepted += 1
except StateUnavailable as error:
    assert len(store.all()) == accepted
    print(accepted, error)
"""


def test_a_full_disk_is_a_clear_error_and_what_was_there_stays(path: Path) -> None:
    command = [sys.executable, "-c", FILLER, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    accepted, reason = run.stdout.split(maxsplit=1)
    assert str(path) in reason
    assert "disk" in reason
    assert len(store(path).all()) == int(accepted) > 0


def test_a_locked_database_is_a_clear_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgshare.state.functions._BUSY_S", 0.01)
    kept = store(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateUnavailable, match="locked"):
        kept.put(function(), 1)
    other.execute("ROLLBACK")
    kept.put(function(), 1)


def test_a_newer_layout_is_refused_and_untouched(path: Path) -> None:
    store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StateUnavailable, match="newer FaST-GShare"):
        store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE letters (text TEXT)")
    with pytest.raises(StateUnavailable, match="another program"):
        store(path)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StateUnavailable, match="not a database"):
        store(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateUnavailable, match="cannot be opened"):
        store(tmp_path / "none" / "functions.sqlite")


@pytest.mark.parametrize("document", ["{", '{"name": "ocr"}', "[]"])
def test_a_function_that_cannot_be_read_is_named(path: Path, document: str) -> None:
    kept = store(path)
    kept.put(function(), 1)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE deployments SET function = ?", (document,))
    with pytest.raises(StateUnavailable, match="function 'ocr' cannot be read"):
        kept.all()
