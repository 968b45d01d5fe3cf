"""``fastgshare bench standin``: its tables and its document."""

from __future__ import annotations

import json
from functools import partial

import pytest
from click.testing import CliRunner

from fastgshare.cli.bench_standin import standin
from fastgshare.sim import calibration, predictions
from fastgshare.sim.calibration import Fit
from fastgshare.sim.published import CALIBRATION, PREDICTED
from fastgshare.sim.traces import Scales


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study of a moment: what it prints is tried here, what it finds elsewhere."""
    monkeypatch.setattr(predictions, "study", partial(predictions.study, seconds=0.3))
    fits = {"resnet50": Scales(device=2, host=1.1), "rnnt": Scales(device=1.3)}
    monkeypatch.setattr(calibration, "fit", lambda network, _: Fit(network, fits[network], 0.0123, 42))


def _printed(*arguments: str) -> str:
    result = CliRunner().invoke(standin, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_first_line_says_that_it_is_a_stand_in_and_every_point_has_its_row() -> None:
    lines = _printed().splitlines()
    assert "stand-in, not a GPU" in lines[0]
    assert sum(line.startswith(("resnet50", "rnnt")) for line in lines) == len(CALIBRATION) + len(PREDICTED)
    assert any("24% each, ours" in line and "at most 96%" in line for line in lines)


def test_the_document_has_every_point_with_its_residual() -> None:
    document = json.loads(_printed("--json"))
    assert document["standin"] is True and "not a GPU" in document["about"]
    assert len(document["calibration"]) == len(CALIBRATION)
    assert len(document["predictions"]) == 12 * 2 + 8 * 3
    for point in document["calibration"] + document["predictions"]:
        assert point["residual"] == pytest.approx(point["modelled_rps"] / point["published_rps"] - 1, abs=1e-3)
    assert set(document["beyond_goal"]) == {"partitions", "reference", "ours"}
    assert {g["sm"] for g in document["gain"]["modelled"]} == {12, 24}


def test_a_fit_is_shown_beside_what_is_shipped() -> None:
    text = _printed("--fit")
    assert text.startswith("This is a stand-in")
    assert "resnet50: scale device=2 host=1.1" in text and "shipped:" in text
    document = json.loads(_printed("--fit", "--json"))
    assert [f["network"] for f in document["fits"]] == ["resnet50", "rnnt"]
    assert document["fits"][1]["scales"]["device"] == 1.3
