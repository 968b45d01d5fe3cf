"""Rows and reports."""

from __future__ import annotations

from fastgshare.conformance.gating import exact, gated
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


def test_a_quota_is_exact_in_every_piece_of_time() -> None:
    assert exact("x", 0.3, [(0.29, 0), (0.31, 0)], 0.01).result is Verdict.PASS
    assert exact("x", 0.3, [(0.30, 0), (0.28, 0)], 0.01).result is Verdict.FAIL
    assert exact("x", 0.3, [(0.32, 0)], 0.02).figure == "+2.00 pp of 30%"


def test_what_a_stalled_machine_cost_is_excused_in_bounds() -> None:
    assert exact("x", 0.3, [(0.28, 0.015)], 0.01).result is Verdict.PASS
    assert exact("x", 0.3, [(0.25, 0.5)], 0.01).result is Verdict.FAIL
    assert exact("x", 0.3, [(0.32, 0.5)], 0.01).result is Verdict.FAIL


def test_only_too_little_work_can_be_a_disturbed_machine_s_fault() -> None:
    assert exact("x", 0.3, [(0.25, 0)], 0.01).disturbed
    assert not exact("x", 0.3, [(0.35, 0), (0.25, 0)], 0.01).disturbed
    assert not exact("x", 0.3, [(0.3, 0)], 0.01).disturbed
