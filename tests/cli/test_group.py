from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.cli.conftest import Run

from fastgshare import __version__
from fastgshare.cli import main
from fastgshare.cli.group import VERBS, exit_status
from fastgshare.domain.errors import FastGShareError, InvalidValue, NotFound


def raising(error: BaseException) -> object:
    def run() -> object:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (NotFound("function", "ocr"), 1, "error: function 'ocr' does not exist"),
        (FastGShareError("first line\n  second"), 1, "error: first line second"),
        (InvalidValue("sm", 3, "50 or 100"), 2, "error: sm: 3 is not allowed; allowed: 50 or 100"),
        (click.UsageError("no"), 2, "error: no"),
        (click.FileError("x.bin", "not there"), 1, "error: Could not open file"),
        (KeyboardInterrupt(), 1, "error: interrupted"),
        (click.Abort(), 1, "error: interrupted"),
    ],
)
def test_an_error_is_one_line_and_a_status(
    error: BaseException, status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(raising(error)) == status  # type: ignore[arg-type]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(text)
    assert captured.err.count("\n") == 1


def test_a_defect_is_not_disguised() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda: 1 // 0)


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["ls", "--nonsense"], ["scale", "ocr"], ["scale", "ocr", "many"], ["rm"], ["ls", "-g", "ftp://x"]],
)
def test_asking_wrongly_is_one_line_and_status_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version").stdout == f"fastgshare {__version__}\n"


def test_help_lists_all_verbs(run: Run) -> None:
    text = run("--help").stdout
    assert all(f"\n  {verb} " in text for verb in VERBS)
    assert list(main.commands) == list(VERBS)


def test_a_verb_does_not_pay_for_the_others() -> None:
    code = "import sys; from fastgshare.cli import main; main.commands['ls']; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "fastgshare.cli.ls" in loaded
    assert not {"aiohttp", "numpy", "onnxruntime", "fastgshare.cli.up", "fastgshare.cli.doctor"} & set(loaded)


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'from fastgshare.cli import main; main()' doctor --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{", "")
