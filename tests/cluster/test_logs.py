from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.cluster import logs
from fastgshare.cluster.logs import LogBook


def texts(book: LogBook, count: int = 100, function: str = "f") -> list[str]:
    return [line.text for line in book.tail(function, count)]


def book(directory: Path | None = None) -> LogBook:
    times = iter(range(1_700_000_000, 1_800_000_000))
    return LogBook(directory, now_unix_s=lambda: float(next(times)))


def test_lines_carry_their_instance_and_time() -> None:
    lines = book()
    lines.write("f", "f-1", "one")
    lines.write("g", "g-1", "other")
    lines.write("f", "f-2", "two")
    assert [(line.instance_id, line.unix_s, line.text) for line in lines.tail("f", 9)] == [
        ("f-1", 1_700_000_000.0, "one"),
        ("f-2", 1_700_000_002.0, "two"),
    ]


@given(st.lists(st.text(max_size=3)), st.integers(0, 5))
def test_the_tail_is_the_end(written: list[str], count: int) -> None:
    lines = book()
    for text in written:
        lines.write("f", "f-1", text)
    assert texts(lines, count) == (written[-count:] if count else [])


def test_lines_outlive_the_process(tmp_path: Path) -> None:
    before = book(tmp_path)
    before.write("f", "f-1", "with  spaces and ünicode ")
    before.write("f", "f-1", "")
    before.write("f", "f-1", "10%\r20%")
    after = LogBook(tmp_path)
    assert list(after.tail("f", 10)) == list(before.tail("f", 10))
    after.write("f", "f-2", "more")
    assert texts(LogBook(tmp_path)) == ["with  spaces and ünicode ", "", "10%\r20%", "more"]


def test_memory_and_disk_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FILE_BYTES", 2000)
    monkeypatch.setattr(logs, "_LINES", 50)
    lines = book(tmp_path)
    for n in range(500):
        lines.write("f", "f-1", f"line {n}")
    lines.write("f", "f-1", "x" * 100_000)
    assert len(texts(lines, 10_000)) == 50
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * (2000 + 9000)
    lines.close()
    kept = texts(LogBook(tmp_path), 10_000)
    assert kept[-2] == "line 499"
    assert len(kept) > 10


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "f.log").write_bytes(b"2023-11-14T22:13:20.000+00:00 f-1 whole\n2023-11-14T22:1")
    assert texts(LogBook(tmp_path)) == ["whole"]


def test_a_directory_that_cannot_be_costs_the_files_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lines = book(tmp_path / "file")
    lines.write("f", "f-1", "one")
    lines.write("f", "f-1", "two")
    assert texts(lines) == ["one", "two"]


def test_last_words_are_the_last_that_say_something() -> None:
    lines = book()
    lines.write("f", "f-1", "I am ill")
    lines.write("f", "f-1", "  ")
    lines.write("f", "f-2", "not me")
    assert lines.last_words("f", "f-1") == "I am ill"
    assert lines.last_words("f", "f-3") == ""
