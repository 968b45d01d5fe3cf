from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from fastgshare.cli.profile_views import agreements, view
from fastgshare.domain.profiles import Configuration, Outcome, Trial
from fastgshare.state.profiles import FILE, ProfileStore
from fastgshare.testing.profiles import SUBJECT, trial

SMS, QUOTAS = (6, 12, 24, 50, 100), (0.2, 0.6, 1.0)


def rps(sm: float, quota: float) -> float:
    """A function that 24% of the SMs are enough for."""
    return 60 * quota * min(1.0, sm / 24)


SOME = tuple(trial(sm, quota, rps(sm, quota)) for sm in SMS for quota in QUOTAS if (sm, quota) != (12, 0.6))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTGSHARE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def keep(state: Path, trials: Sequence[Trial]) -> None:
    with ProfileStore(state / FILE) as store:
        for one in trials:
            store.add(one)


def kept(state: Path) -> list[Trial]:
    with ProfileStore(state / FILE) as store:
        return [one for subject in store.subjects() for one in store.trials(subject)]


# --- ls --------------------------------------------------------------------------------------------------------------


def test_without_profiles_ls_says_how_to_make_one_and_makes_nothing(run: Run, state: Path) -> None:
    result = run("profiles", "ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "fastgshare profile FUNCTION" in result.stderr
    assert run("profiles", "ls", "--json").stdout == "[]\n"
    assert not state.exists()


def test_ls_has_a_line_a_subject_with_the_best_that_was_measured(run: Run, state: Path) -> None:
    hour_ago = time.time() - 3700
    keep(state, [trial(12, 0.5, 30.0, started_unix_s=hour_ago), trial(50, 0.5, 60.0, batch=4), trial(6, 0.2, None)])
    keep(state, [trial(6, rps=None, subject=replace(SUBJECT, function="speech", model_digest=""))])
    header, first, second = run("profiles", "ls").stdout.splitlines()
    assert header.split() == ["FUNCTION", "DEVICE", "TYPE", "MODEL", "TRIALS", "BEST", "RPR", "AT", "AGE"]
    assert first.split()[0] == "ocr"
    assert "d1d1d1d1d1d1 " in first
    assert " 3 " in first
    assert "500       12% SMs x 50% time  1 h" in first
    assert second.split()[-3:] == ["-", "-", "-"]


def test_ls_as_json(run: Run, state: Path) -> None:
    keep(state, [trial(12, 0.5, 30.0, started_unix_s=5.0)])
    assert json.loads(run("profiles", "ls", "--json").stdout) == [
        {
            "function": "ocr",
            "device_type": SUBJECT.device_type,
            "model_digest": SUBJECT.model_digest,
            "trials": 1,
            "best": {"sm": 12.0, "quota": 0.5, "batch": 1, "rps": 30.0, "rpr": 500.0},
            "last_unix_s": 5.0,
        }
    ]


# --- show ------------------------------------------------------------------------------------------------------------


def test_show_has_what_was_measured_and_predicts_the_rest(run: Run, state: Path) -> None:
    keep(state, SOME)
    result = run("profiles", "show", "ocr")
    assert result.exit_code == 0
    rows = {tuple(line.split()[:2]): line for line in result.stdout.splitlines()[2:]}
    assert "36 +-0.36" in rows["24", "0.6"]
    assert rows["12", "0.6"].split()[3] == "-"
    assert "~" in rows["12", "0.6"]
    assert "highest RPR: " in result.stdout


def test_show_as_json_has_the_points_with_intervals_and_the_trials(run: Run, state: Path) -> None:
    keep(state, SOME)
    (document,) = json.loads(run("profiles", "show", "ocr", "--json").stdout)
    assert len(document["trials"]) == len(SOME)
    (hole,) = (p for p in document["points"] if (p["sm"], p["quota"]) == (12, 0.6))
    assert hole["rps"] is None
    assert hole["predicted"]["low"] < hole["predicted"]["value"] < hole["predicted"]["high"]
    assert hole["predicted"]["value"] == pytest.approx(rps(12, 0.6), rel=0.25)
    assert document["slo_s"] is None
    assert "within their interval" in document["agreement"]


def test_profiles_of_other_models_and_devices_are_shown_apart(run: Run, state: Path) -> None:
    other = replace(SUBJECT, model_digest="e2" * 32, device_type="NVIDIA A100")
    keep(state, [trial(12, 0.5, 30.0), trial(12, 0.5, 90.0, subject=other)])
    assert run("profiles", "show", "ocr").stdout.count("1 trial\n") == 2
    for chosen in (["--device-type", "a100"], ["--model", "e2e2"]):
        (document,) = json.loads(run("profiles", "show", "ocr", "--json", *chosen).stdout)
        assert document["best"]["rps"] == 90.0
    result = run("profiles", "show", "ocr", "--device-type", "V100")
    assert (result.exit_code, result.stderr) == (1, "error: profile 'ocr on V100' does not exist\n")


def test_the_slo_is_that_of_the_latest_trial_unless_said_otherwise(run: Run, state: Path) -> None:
    keep(state, [*SOME, trial(24, 0.6, 21.0, offered_rps=21.0, within_s=0.08)])
    found = {}
    for said in ([], ["--slo-ms", "0"], ["--slo-ms", "200"]):
        (document,) = json.loads(run("profiles", "show", "ocr", "--json", *said).stdout)
        (point,) = (p for p in document["points"] if (p["sm"], p["quota"]) == (24, 0.6))
        found[document["slo_s"]] = point["within_slo_rps"]
    assert found[0.08] == 21.0
    assert found[None] == pytest.approx(36.0)
    assert found[0.2] < 36.0
    assert "WITHIN 80 ms" in run("profiles", "show", "ocr").stdout


def test_only_failures_are_shown_too(run: Run, state: Path) -> None:
    keep(state, [trial(12, 0.5, None), trial(6, 0.5, None, outcome=Outcome.OUT_OF_MEMORY)])
    result = run("profiles", "show", "ocr")
    assert result.exit_code == 0
    assert "crashed" in result.stdout
    assert "out of memory" in result.stdout
    assert "highest RPR" not in result.stdout


def test_what_does_not_exist_is_one_line(run: Run, state: Path) -> None:
    result = run("profiles", "show", "nope")
    assert (result.exit_code, result.stderr) == (1, "error: profile 'nope' does not exist\n")


def test_pictures_are_drawn_by_their_names(run: Run, state: Path, tmp_path: Path) -> None:
    keep(state, SOME)
    files = [tmp_path / name for name in ("a.png", "a.svg", "a.HTML")]
    arguments = [word for file in files for word in ("--picture", str(file))]
    result = run("profiles", "show", "ocr", *arguments)
    assert result.exit_code == 0, result.stderr
    assert [file.read_bytes()[:5] for file in files] == [b"\x89PNG\r", b"<svg ", b"<!doc"]
    assert "Predicted beside measured" in files[1].read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.HTML", "a.png", "a.svg", "state"]


def test_a_picture_of_another_kind_or_place_is_one_line(run: Run, state: Path, tmp_path: Path) -> None:
    keep(state, [trial(12, 0.5, 30.0), trial(12, 0.5, 90.0, subject=replace(SUBJECT, device_type="A100"))])
    other = run("profiles", "show", "ocr", "--picture", "a.pdf")
    assert (other.exit_code, other.stdout) == (2, "")
    assert "'a.pdf' is not allowed; allowed: a name that ends in .html, .png, .svg" in other.stderr
    nowhere = run("profiles", "show", "ocr", "--picture", str(tmp_path / "none" / "a.html"))
    assert nowhere.exit_code == 1
    assert "cannot be written (No such file or directory)" in nowhere.stderr
    several = run("profiles", "show", "ocr", "--picture", str(tmp_path / "a.png"))
    assert several.exit_code == 2
    assert "an .html page for 2 profiles (A100 d1d1d1d1d1d1, NVIDIA H100 80GB HBM3 d1d1d1d1d1d1)" in several.stderr


# --- export and import -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "csv"])
def test_what_is_exported_can_be_imported_elsewhere_once(
    run: Run, state: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(state, [*SOME, trial(rps=None, reason="a, b\n", histogram=b"\x00\xff", versions={"python": "3.11"})])
    before, file = kept(state), str(tmp_path / f"out.{form}")
    assert run("profiles", "export", "ocr", "-o", file).stderr == f"{len(before)} trials in {file}\n"
    monkeypatch.setenv("FASTGSHARE_STATE", str(tmp_path / "elsewhere"))
    assert run("profiles", "import", file).stdout == f"{len(before)} new trials from {file}, of 1 profile\n"
    assert json.loads(run("profiles", "import", file, "--json").stdout) == {
        "file": file,
        "trials": len(before),
        "new": 0,
        "known": len(before),
    }
    assert kept(tmp_path / "elsewhere") == before


def test_export_goes_to_stdout_in_the_format_that_was_asked_for(run: Run, state: Path) -> None:
    keep(state, [trial(), trial(subject=replace(SUBJECT, function="speech"))])
    assert len(json.loads(run("profiles", "export", "--all").stdout)["trials"]) == 2
    assert len(json.loads(run("profiles", "export", "speech", "--json").stdout)["trials"]) == 1
    assert run("profiles", "export", "--all", "--format", "csv").stdout.startswith("function,model_digest,")


@pytest.mark.parametrize("arguments", [[], ["ocr", "--all"], ["ocr", "--json", "--format", "csv"]])
def test_export_that_is_asked_for_wrongly_is_status_2(run: Run, state: Path, arguments: list[str]) -> None:
    result = run("profiles", "export", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_file_with_one_bad_row_is_not_imported_at_all(run: Run, state: Path, tmp_path: Path) -> None:
    file = tmp_path / "published.csv"
    file.write_text("gpuName,model,quota,sm,qps\nV100,resnet,0.2,12,5\nV100,resnet,0.4,120,9\n")
    result = run("profiles", "import", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{file}, line 3: sm: '120' is not allowed; allowed: percent of SMs, above 0 up to 100" in result.stderr
    assert not state.exists()


def test_a_published_profile_is_one_like_any_other(run: Run, state: Path, tmp_path: Path) -> None:
    file = tmp_path / "published.csv"
    rows = [f"V100,resnet,{100 * quota:g},{sm},{rps(sm, quota):g}" for sm in SMS for quota in QUOTAS]
    file.write_text("\n".join(["gpuName,model,quota,sm,qps", *rows]))
    assert run("profiles", "import", str(file)).stdout == f"15 new trials from {file}, of 1 profile\n"
    (entry,) = json.loads(run("profiles", "ls", "--json").stdout)
    assert (entry["function"], entry["device_type"], entry["model_digest"]) == ("resnet", "V100", "")
    assert entry["best"]["rpr"] == pytest.approx(250)
    assert "model not known" in run("profiles", "show", "resnet").stdout


# --- views -----------------------------------------------------------------------------------------------------------


def test_every_capacity_is_compared_with_what_others_predict() -> None:
    found = agreements([*SOME, trial(24, 0.6, 20.0, offered_rps=20.0)])
    assert [a.configuration for a in found] == sorted(t.given for t in SOME)
    assert agreements([trial(12, 0.4, None)]) == []
    assert agreements([trial(12, 0.4, 5.0)]) == []  # there is no other to predict it


def test_configurations_that_failed_are_not_predicted() -> None:
    profile = view(SUBJECT, [*SOME, trial(12, 0.6, None)], None, thorough=False)
    assert Configuration(12, 0.6) not in profile.capacities
    assert profile.notes == ["Not used: 12% SMs, quota 0.6, batch 1: crashed."]


def test_latencies_are_predicted_where_rates_were_tried_or_of_the_best() -> None:
    loaded = view(SUBJECT, [*SOME, trial(50, 0.6, 20.0, offered_rps=20.0)], None, thorough=True)
    assert set(loaded.latencies) == {Configuration(50, 0.6)}
    alone = view(SUBJECT, SOME, None, thorough=True)
    assert alone.best is not None
    assert set(alone.latencies) == {alone.best.configuration}
