from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.gpucheck.conformity import goal
from fastgshare.gpucheck.findings import Goal, Outcome, Status, Table
from fastgshare.gpucheck.results import Check, page, picture_of, write

BEGAN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
GPU = Device("GPU-1", DeviceKind.GPU, 132, 80 * 2**30, type="NVIDIA H100 80GB HBM3")
STANDIN = Device("standin", DeviceKind.STANDIN, 132, 80 * 2**30)


def _outcome() -> Outcome:
    outcome = Outcome("throughput", "Throughput", Status.CUT_OFF, "its 3 s were over", 3.04)
    table = outcome.findings.table("Rates", {"model": "model", "rps": "requests/s", "why": ""})
    table.rows += [{"model": "bert | base", "rps": 123.456, "each": [1, 2]}, {"model": "vit", "rps": None}]
    outcome.findings.table("Every one", {"model": "model"}, shown=False).rows.append({"model": "hidden"})
    outcome.findings.goals.append(Goal("ratio", "3.2x", ">= 3.15x", True))
    outcome.findings.bars["bert"] = (10.0, 32.0)
    return outcome


@pytest.mark.parametrize(
    ("device", "partial", "stem"),
    [
        (GPU, False, "gpu-h100-80gb-hbm3-2026-03-04"),
        (STANDIN, False, "gpu-standin-2026-03-04"),
        (STANDIN, True, "gpu-standin-2026-03-04-partial"),
    ],
)
def test_files_are_called_by_device_and_day(device: Device, partial: bool, stem: str) -> None:
    assert Check(device, BEGAN, 480, partial).stem == stem


def test_no_run_takes_the_place_of_another(tmp_path: Path) -> None:
    stems = []
    for _ in range(3):
        check = Check(STANDIN, BEGAN, 480).beside(tmp_path)
        write(check, [], 0.0, tmp_path)
        stems.append(check.stem)

    assert stems == ["gpu-standin-2026-03-04", "gpu-standin-2026-03-04-2", "gpu-standin-2026-03-04-3"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"passed": 3, "failed": 0}], "yes"),
        ([{"passed": 3, "failed": 1}, {"why": "not run"}], "**no**"),
        ([{"passed": 3, "failed": 0}, {"why": "not finished within 45 s"}], "not finished"),
    ],
)
def test_conformance_that_was_not_finished_is_not_judged(rows: list[dict[str, object]], said: str) -> None:
    outcome = Outcome("conformance", "Conformance")
    outcome.findings.goals.append(goal(Table("Topics", {}, list(rows))))

    assert f"| no row fails | {said} |" in page(Check(GPU, BEGAN, 480), [outcome], 7.0)


def test_the_document_has_everything(tmp_path: Path) -> None:
    path = write(Check(GPU, BEGAN, 480, version="1.2", commit="abc"), [_outcome()], 7.0, tmp_path / "new")

    document = json.loads(path.read_text())
    section = document["sections"]["throughput"]
    assert (document["stand_in"], document["note"], document["took_s"], document["commit"]) == (False, "", 7.0, "abc")
    assert document["began"] == "2026-03-04T05:06:07+00:00"
    assert (section["status"], section["why"], section["took_s"]) == ("cut off", "its 3 s were over", 3.0)
    assert section["tables"][0]["rows"][0]["each"] == [1, 2]
    assert section["tables"][1]["rows"] == [{"model": "hidden"}]
    assert section["goals"] == [{"what": "ratio", "figure": "3.2x", "aim": ">= 3.15x", "met": True, "instead": "-"}]
    assert sorted(each.suffix for each in path.parent.iterdir()) == [".json", ".md", ".svg"]


def test_the_page_shows_tables_goals_and_what_went_wrong() -> None:
    text = page(Check(GPU, BEGAN, 480), [_outcome()], 7.0)

    assert "| model | requests/s |\n|---|---|\n| bert \\| base | 123.5 |\n| vit |  |" in text
    assert "| ratio | 3.2x | >= 3.15x | yes |" in text
    assert "Cut off: its 3 s were over" in text
    assert "hidden" not in text and "stand-in" not in text


def test_the_stand_in_is_called_what_it_is(tmp_path: Path) -> None:
    path = write(Check(STANDIN, BEGAN, 480), [], 0.0, tmp_path)

    assert json.loads(path.read_text())["stand_in"] is True
    assert "test double: no GPU was used" in json.loads(path.read_text())["note"]
    assert "test double: no GPU was used" in path.with_suffix(".md").read_text()


def test_places_of_the_machine_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = Outcome("a", "A", why=f"{tmp_path}/lib/x is missing, {sys.prefix}/bin/python is there, /usr/bin/y too")

    path = write(Check(GPU, BEGAN, 480), [outcome], 0.0, tmp_path)

    said = "./lib/x is missing, PYTHON/bin/python is there, /usr/bin/y too"
    assert json.loads(path.read_text())["sections"]["a"]["why"] == said
    assert said in path.with_suffix(".md").read_text()


def test_there_is_a_picture_once_there_is_something_to_draw() -> None:
    assert picture_of([Outcome("a", "A")], standin=False) == ""
    assert picture_of([Outcome("a", "A"), _outcome()], standin=False).startswith("<svg")
    assert "bert, stand-in" in picture_of([_outcome()], standin=True)
