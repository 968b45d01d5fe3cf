"""What is installed: metadata, entry point, the native library and what it asks of a system."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

import fastgshare
from fastgshare import native
from fastgshare.domain.errors import NotFound

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def dynamic_symbols() -> str:
    command = ["objdump", "--dynamic-syms", "--private-headers", str(native.library("libfastgate.so"))]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_version_is_the_project_s() -> None:
    assert fastgshare.__version__ == PROJECT["project"]["version"]


def test_the_command_says_its_version_outside_the_checkout(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "fastgshare"), "--version"]

    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert fastgshare.__version__ in said


def test_the_licence_is_apache_2() -> None:
    assert distribution("fastgshare").metadata["License-Expression"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_the_native_library_is_found_wherever_the_package_lies(tmp_path: Path) -> None:
    code = "from fastgshare import native; print(native.library('libfastgate.so'))"

    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert Path(said.strip()).is_file()


def test_a_library_that_was_not_built_is_named() -> None:
    with pytest.raises(NotFound, match=r"libnothing\.so"):
        native.library("libnothing.so")


def test_the_native_library_needs_libc_and_nothing_else() -> None:
    needed = re.findall(r"NEEDED\s+(\S+)", dynamic_symbols())

    assert {name for name in needed if not name.startswith("ld-linux")} == {"libc.so.6"}


def test_the_native_library_runs_on_glibc_2_34() -> None:
    versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_(\d+(?:\.\d+)+)", dynamic_symbols())}

    assert max(versions) <= (2, 34)


def test_the_native_library_exports_its_own_names_only() -> None:
    exported = re.findall(r"^[0-9a-f]+ g.+\.text.+ (\S+)$", dynamic_symbols(), re.MULTILINE)

    assert exported
    assert all(name.startswith("fg_") for name in exported)


def test_the_wheel_is_for_every_python() -> None:
    assert PROJECT["tool"]["scikit-build"]["wheel"]["py-api"] == "py3"
