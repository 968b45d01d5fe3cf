from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Function
from fastgshare.domain.shares import Share
from fastgshare.spec import references


def function(model: str | None, handler: str | None = None) -> Function:
    return Function("f", Share(50, 0.5, 0.5), model, handler)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that must not be imported."""
    folder = tmp_path / "explosive"
    (folder / "inner" / "data").mkdir(parents=True)
    for init in (folder / "__init__.py", folder / "inner" / "__init__.py"):
        init.write_text("raise AssertionError('imported')")
    (folder / "model.onnx").write_bytes(b"\x08x")
    (folder / "inner" / "data" / "model.onnx").write_bytes(b"\x08y")
    (folder / "handler.py").write_text("raise AssertionError('imported')")
    (tmp_path / "single.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_resources_are_found_without_importing_their_package(package: Path) -> None:
    assert references.model_path("explosive:model.onnx") == package / "model.onnx"
    assert references.model_path("explosive.inner:data/model.onnx") == package / "inner/data/model.onnx"
    references.check(function("explosive:model.onnx", "explosive.handler:Handler"))
    references.check(function("single:explosive/model.onnx"))
    assert not any(name.startswith(("explosive", "single")) for name in sys.modules)


def test_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08")
    (tmp_path / "h.py").write_text("")
    references.check(function(f"{tmp_path}/m.onnx", f"{tmp_path}/h.py:Handler"))


@pytest.mark.parametrize(
    ("model", "handler", "reason"),
    [
        ("/none/m.onnx", None, "there is no file /none/m.onnx"),
        ("no_such_package:m.onnx", None, "package no_such_package is not installed"),
        ("explosive:none.onnx", None, "there is no file"),
        ("explosive.none:m.onnx", None, "package explosive.none is not installed"),
        ("explosive:inner", None, "there is no file"),
        (None, "/none/h.py:Handler", "there is no file /none/h.py"),
        (None, "no_such_module:Handler", "module no_such_module is not installed"),
        (None, "explosive.none:Handler", "module explosive.none is not installed"),
        (None, "single.inner:Handler", "module single.inner is not installed"),
    ],
)
def test_what_is_missing_is_named(package: Path, model: str | None, handler: str | None, reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason) as caught:
        references.check(function(model, handler))
    assert caught.value.field == ("model" if handler is None else "handler")
