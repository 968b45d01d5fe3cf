from __future__ import annotations

import copy
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from fastgshare.domain.errors import InvalidValue
from fastgshare.report.colours import colours
from fastgshare.report.demo import demo_page

DOCUMENT: dict[str, Any] = {
    "throughput": {
        "time_sharing_rps": {"ocr": 20.0, "files": 800.0},
        "fast_rps": {"ocr": 36.0, "files": 1000.0},
        "ratio": 1.5,
        "rounds": 3,
        "baseline": {"ocr": {"threads": 2, "spin": True}, "files": {"threads": 1, "spin": False}},
    },
    "quota": {
        "max_error_pp": 0.42,
        "seconds": 10.0,
        "instances": [
            {"id": "ocr-1", "request": 0.5, "received": 0.504, "limit": 0.6, "error_pp": 0.4, "backlogged": True},
            {"id": "files-1", "request": 0.4, "received": 0.2, "error_pp": -20.0, "backlogged": False},
        ],
    },
    "answers": {
        "ocr": {"input": "<receipt>.png", "answer": "TOTAL & more", "latency_ms": 41.23},
        "files": {"input": "main.rs", "answer": "Rust", "latency_ms": 2.0},
    },
    "device": {"id": "cpu", "sm_count": 2, "sm_ids": [0, 1]},
    "placements": [
        {"instance_id": "ocr-1", "sm_offset": 0, "quota_offset": 0.0, "sm": 50, "quota": 0.5},
        {"instance_id": "files-1", "sm_offset": 50, "quota_offset": 0.0, "sm": 50, "quota": 0.4},
    ],
    "timeline": {"window_s": 0.1, "rows": [{"instance": "ocr-1", "holds": [[0.0, 0.05, "own"], [0.06, 0.07, "loan"]]}]},
    "machine": {"cores": 2, "governor": None},
    "versions": {"onnxruntime": "1.32.0"},
}
VOID = {"meta", "br"}


class Balanced(HTMLParser):
    """Fails on tags that do not nest; collects what a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.seen.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def read(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_shows_every_figure() -> None:
    seen = read(demo_page(DOCUMENT)).seen

    shown = {
        "1.50×",
        "0.42 pp",
        "1.80×",
        "1.25×",
        "20/s",
        "41.2 ms",
        "0.40 pp",
        "60.0 %",
        "2 threads, spinning on",
        "1.32.0",
    }
    assert shown <= set(seen)
    assert any("files-1" in words and "Not counted" in words for words in seen)


def test_what_people_sent_is_escaped() -> None:
    page = demo_page(DOCUMENT)

    assert "<receipt>.png" in read(page).seen
    assert "<receipt>" not in page


def test_the_page_takes_nothing_from_outside() -> None:
    page = demo_page(DOCUMENT)

    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) == {"http://www.w3.org/2000/svg"}  # the namespace
    assert not re.search(r"<(script|link|img|iframe)|@import|url\((?!#)", page)


def test_a_function_has_one_colour_on_the_whole_page() -> None:
    hues = colours(["ocr", "files"])
    page = demo_page(DOCUMENT)

    assert page.count(hues["ocr"]) >= 4
    assert page.count(f"background:{hues['ocr']}") == 3  # answers, throughput, quota


def test_parts_that_are_not_there_are_left_out() -> None:
    document = {name: DOCUMENT[name] for name in ("throughput", "quota", "answers")}

    assert read(demo_page(document)).headings == [
        "What they answered",
        "What sharing in space and time brings",
        "What each was promised, and received",
    ]
    assert len(read(demo_page(DOCUMENT)).headings) == 6


@pytest.mark.parametrize("part", ["throughput", "quota", "answers"])
def test_a_report_without_a_part_that_must_be_there_is_refused_by_name(part: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    del document[part]

    with pytest.raises(InvalidValue, match=part):
        demo_page(document)


def test_a_run_in_which_nobody_was_backlogged_has_no_error() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["quota"]["max_error_pp"] = math.nan

    page = demo_page(document)

    assert "nan" not in page
    assert "–" in read(page).seen


def test_an_answer_in_json_is_shown_field_by_field() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["answers"]["ocr"]["answer"] = (
        '{"type": "a<b", "score": 0.5, "spans": [{"from": 1, "to": 2}], "box": [1, 2]}'
    )

    page = demo_page(document)

    assert "<i>type</i> a&lt;b<br><i>score</i> 0.5<br><i>spans</i> from 1, to 2<br><i>box</i> 1 2" in page
    read(page)


def test_long_answers_are_cut_and_say_so() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["answers"]["ocr"]["answer"] = "word " * 500

    assert any(words.endswith(" …") and len(words) < 500 for words in read(demo_page(document)).seen)
