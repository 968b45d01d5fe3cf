from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.profiles import Configuration, Figures, Outcome, Subject, Trial
from fastgshare.spec.json_lines import line_of
from fastgshare.spec.profiles import COLUMNS, load_file, to_csv, to_json
from fastgshare.testing.profiles import trial, trials

Write = Callable[[Iterable[Trial]], str]
both = pytest.mark.parametrize("write", [to_json, to_csv])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "profiles"


def put(file: Path, text: str) -> Path:
    file.write_bytes(text.encode())
    return file


@both
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(trials, max_size=3))
def test_what_is_written_and_read_is_the_same(file: Path, write: Write, kept: list[Trial]) -> None:
    assert load_file(put(file, write(kept))) == kept


@both
def test_the_largest_seed_and_bytes_that_are_no_text_come_back(file: Path, write: Write) -> None:
    kept = [trial(seed=2**63 - 1, histogram=bytes(range(256)), versions={"a,b": '"'}), trial(histogram=b"x" * 200_000)]
    assert load_file(put(file, write(kept))) == kept


def test_a_csv_is_a_header_and_a_row_a_trial() -> None:
    header, row, *rest = to_csv([trial(50, 0.4, 100.0, reason="a, b", histogram=b"x")]).splitlines()
    assert header.split(",") == list(COLUMNS)
    assert rest == []
    assert row.startswith(f"ocr,{'d1' * 32},NVIDIA H100 80GB HBM3,50,0.4,1,50,0.4,1,measured,100.0,1.0,0.01,")
    assert row.endswith(',0.0,0.0,0,0.0,0.0,"a, b",trial,{},eA==')


def test_columns_may_stand_in_any_order_and_most_may_be_missing(file: Path) -> None:
    text = "\ufeffrps,outcome,given_batch,given_quota,given_sm,asked_batch,asked_quota,asked_sm,device_type,function\n"
    assert load_file(put(file, text + "9.5,measured,1,.5,100,1,0.5,100,cpu,ocr\r\n\n")) == [
        Trial(Subject("ocr", "", "cpu"), *[Configuration(100, 0.5)] * 2, Outcome.MEASURED, Figures(9.5))
    ]


def row(**cells: str) -> str:
    """A CSV of one good row and one with these cells."""
    names = list(COLUMNS)
    good = to_csv([trial(50, 0.4, 100.0)]).splitlines()[1].split(",")
    bad = [cells.get(name, cell) for name, cell in zip(names, good, strict=True)]
    return "\n".join([",".join(names), ",".join(good), ",".join(bad)]) + "\n"


@pytest.mark.parametrize(
    ("column", "cell", "allowed"),
    [
        ("asked_sm", "0", "above 0 up to 100"),
        ("given_quota", "1.5", "above 0 up to 1"),
        ("given_batch", "1.5", "whole number from 1 to 1024"),
        ("function", "", "name of a function"),
        ("outcome", "dreamt", "measured, crashed, out of memory"),
        ("outcome", "", "measured, crashed, out of memory"),
        ("rps", "nan", "at least 0"),
        ("rps", "", "requests a second"),
        ("p99_s", "-1", "seconds, at least 0"),
        ("sm_utilisation", "3", "0 to 1"),
        ("mem_bytes", "1.5", "bytes"),
        ("seed", "9223372036854775808", r"2\^63"),
        ("seed", "1e3", r"2\^63"),
        ("source", "hearsay", "trial, production, import"),
        ("versions", "[]", "names to text"),
        ("versions", "{", "names to text"),
        ("histogram", "?", "base64"),
    ],
)
def test_a_bad_cell_names_file_line_column_value_and_what_is_allowed(
    file: Path, column: str, cell: str, allowed: str
) -> None:
    with pytest.raises(InvalidValue, match=rf"profiles, line 3: {column}: .* is not allowed; allowed: .*{allowed}"):
        load_file(put(file, row(**{column: cell})))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: header"),
        ("rps,rps\n", "line 1: header: 'rps'"),
        ("gpuName,model,quota,sm\n", "line 1: header: 'gpuName'.*or gpuName,model,quota,sm,qps"),
        ("gpuName,model,quota,sm,qps\nV100,resnet,0.2,12\n", "line 2: row: 'V100,resnet,0.2,12'.*5 cells"),
        ('gpuName,model,quota,sm,qps\nV100,"resnet,0.2,12,3\n', "line 2.*CSV: unexpected end of data"),
        ("{", "line 1.*JSON"),
        ('{"format": "fastgshare-profiles",\n "version": 2, "trials": []}', "line 2: version: 2.*allowed: 1"),
        ('{"trials": []}', "line 1: format: None"),
        ('{"format": "fastgshare-profiles", "version": 1, "trial": []}', "line 1: trial: .*nearest: trials"),
        ("[" * 100_000, "nested less deeply"),
        ("[1]", "format, version and trials"),
    ],
)
def test_a_file_of_another_shape_says_so(file: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        load_file(put(file, text))


def test_lines_are_those_of_the_file_where_cells_have_several(file: Path) -> None:
    good = to_csv([trial(rps=None, reason="three\nlines\nof words")])
    bad = to_csv([trial(rps=None)]).splitlines()[1].replace("crashed", "dreamt")
    with pytest.raises(InvalidValue, match="line 5: outcome: 'dreamt'"):
        load_file(put(file, good + bad))


def test_a_bad_value_in_json_names_its_line_and_its_place(file: Path) -> None:
    document = json.loads(to_json([trial(), trial()]))
    document["trials"][1]["asked"]["sm"] = 101
    text = json.dumps(document, indent=1)
    (line,) = (n for n, words in enumerate(text.splitlines(), 1) if '"sm": 101' in words)
    with pytest.raises(InvalidValue, match=rf"line {line}: trials\[1\]\.asked\.sm: 101 .*up to 100"):
        load_file(put(file, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="a file that can be read"):
        load_file(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidValue, match="UTF-8"):
        load_file(tmp_path / "bytes")


def published(file: Path, *rows: str) -> list[tuple[float, float, float]]:
    found = load_file(put(file, "\n".join(["gpuName,model,quota,sm,qps", *rows])))
    assert {t.source for t in found} == {"import"}
    return [(t.given.sm, t.given.quota, t.figures.rps if t.figures else -1) for t in found]


def test_the_published_shape_is_understood(file: Path) -> None:
    (first, _) = load_file(put(file, "gpuName,model,quota,sm,qps\nV100,resnet,0.2,12,35.5\nV100,bert,1,100,9\n"))
    configuration = Configuration(12, 0.2)
    assert first == Trial(
        Subject("resnet", "", "V100"), configuration, configuration, Outcome.MEASURED, Figures(35.5), source="import"
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["V100,m,0.2,12,5", "V100,m,1,100,50"], [(12, 0.2, 5), (100, 1, 50)]),
        (["V100,m,20,12,5", "V100,m,1,100,50"], [(12, 0.2, 5), (100, 0.01, 50)]),
        (["V100,m,100,6,5"], [(6, 1, 5)]),
        (["V100,m,0.4,0.07,5", "V100,m,1,1,7"], [(7, 0.4, 5), (100, 1, 7)]),
    ],
)
def test_quotas_and_sms_are_fractions_unless_any_is_above_1(
    file: Path, rows: list[str], expected: list[tuple[float, float, float]]
) -> None:
    assert published(file, *rows) == expected


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("V100,m,120,12,5", "line 3: quota: '120'.*above 0 up to 1"),
        ("V100,m,0,12,5", "line 3: quota: '0'"),
        ("V100,m,0.2,many,5", "line 3: sm: 'many'.*percent"),
        ("V100,m,0.2,12,-5", "line 3: qps: '-5'.*at least 0"),
        (",m,0.2,12,5", "line 3: gpuName: ''.*device type"),
    ],
)
def test_a_bad_published_row_is_named_and_nothing_of_the_file_is_given(file: Path, bad: str, said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        published(file, "V100,m,0.2,12,5", bad)


@pytest.mark.parametrize(
    ("path", "line"),
    [((), 1), (("a",), 2), (("b",), 3), (("b", 1), 5), (("b", 1, "c"), 6), (("b", 7), 3), (("x",), 1), (("a", 0), 2)],
)
def test_the_line_of_a_value_in_json(path: tuple[str | int, ...], line: int) -> None:
    assert line_of('{\n"a": "}]",\n"b": [\n1, \n{\n"c" : 1}\n]}', path) == line
