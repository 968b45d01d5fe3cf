"""Trials for tests: plain ones, and any (Hypothesis)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from hypothesis import strategies as st

from fastgshare.domain.profiles import Configuration, Figures, Outcome, Subject, Trial

SUBJECT: Final = Subject("ocr", "d1" * 32, "NVIDIA H100 80GB HBM3")


def trial(sm: float = 50, quota: float = 0.4, rps: float | None = 100.0, *, batch: int = 1, **other: Any) -> Trial:
    """A trial that measured `rps` on a share, or one that crashed if that is None; other fields as named."""
    configuration = Configuration(sm, quota, batch)
    outcome = Outcome.CRASHED if rps is None else Outcome.MEASURED
    figures = None if rps is None else Figures(rps, rps / 100, 0.010, 0.018, 0.020, mem_bytes=300 * 2**20)
    return replace(Trial(SUBJECT, configuration, configuration, outcome, figures), **other)


_text = st.text(st.characters(codec="utf-8"), max_size=12)
_amount = st.floats(0, 1e9)
_fraction = st.none() | st.floats(0, 1)
configurations = st.builds(
    Configuration,
    st.floats(0, 100, exclude_min=True),
    st.floats(0, 1, exclude_min=True),
    st.integers(1, 1024),
)
subjects = st.builds(Subject, _text.filter(bool), _text, _text)
figures = st.builds(
    Figures,
    _amount,
    _amount,
    st.none() | _amount,
    st.none() | _amount,
    st.none() | _amount,
    _fraction,
    _fraction,
    st.none() | st.integers(0, 2**50),
    _fraction,
)
trials = st.builds(
    Trial,
    subjects,
    configurations,
    configurations,
    st.sampled_from(Outcome),
    st.none() | figures,
    offered_rps=_amount,
    within_s=_amount,
    seed=st.integers(0, 2**63 - 1),
    started_unix_s=st.floats(0, 1e10),
    took_s=_amount,
    reason=_text,
    source=st.sampled_from(["trial", "production", "import"]),
    versions=st.dictionaries(_text, _text, max_size=3),
    histogram=st.binary(max_size=40),
)
