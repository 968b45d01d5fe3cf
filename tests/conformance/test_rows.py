"""Rows and reports."""

from __future__ import annotations

from fastgshare.conformance.gating import gated
from fastgshare.conformance.rows import Report, Verdict, judged, not_applicable


def test_a_report_counts_its_rows() -> None:
    report = Report([judged("a: one", True, "1 s"), judged("a: two", False, "2 s"), not_applicable("b: three", "none")])
    assert report.document() == {
        "rows": [
            {"name": "a: one", "result": "pass", "figure": "1 s"},
            {"name": "a: two", "result": "fail", "figure": "2 s"},
            {"name": "b: three", "result": "not applicable", "figure": "none"},
        ],
        "passed": 1,
        "failed": 1,
        "not_applicable": 1,
    }
    assert report.rows[2].topic == "b"


def test_who_is_busy_beyond_its_quota_fails() -> None:
    held = {"status": "ran", "error": 0, "from_ns": 0, "until_ns": 1000}
    verdicts = [gated("x", held | {"busy": [(0, end, end)]}).result for end in (50, 200, 500, 1000)]
    assert verdicts == [Verdict.FAIL, Verdict.PASS, Verdict.FAIL, Verdict.FAIL]


def test_what_the_driver_lacks_does_not_apply() -> None:
    assert gated("x", {"status": "absent"}).result is Verdict.NOT_APPLICABLE
    refused = {"status": "ran", "error": 801, "error_call": "cuLaunch"}
    assert gated("x", refused).result is Verdict.NOT_APPLICABLE
    assert gated("x", refused | {"error": 1}).result is Verdict.FAIL
