"""The build without CMake makes what CMake makes."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fastgshare import native

ROOT = Path(__file__).parents[2]
BOTH = ("-std=", "-f", "-D", "-O", "-W")
"""What flags of the compiler begin with that have to be the same."""


def _builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("native_build", ROOT / "native" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BUILDER = _builder()


def _exports(library: Path) -> set[str]:
    command = ["nm", "--dynamic", "--defined-only", "--format=posix", str(library)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in said.splitlines()}


def _of_cmake(folder: Path) -> dict[tuple[str, str], set[str]]:
    """(target, source) -> flags, as CMake would compile it."""
    command = ["cmake", "-S", str(ROOT / "native"), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release"]
    cmake = Path(sys.executable).parent / "cmake"
    command[0] = str(cmake) if cmake.exists() else shutil.which("cmake") or "cmake"
    subprocess.run([*command, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"], check=True, capture_output=True, timeout=120)
    found = {}
    for entry in json.loads((folder / "compile_commands.json").read_text()):
        words = entry["command"].split()
        target = words[words.index("-o") + 1].partition("CMakeFiles/")[2].partition(".dir/")[0]
        found[target, entry["file"]] = {word for word in words if word.startswith(BOTH)}
    return found


def test_the_same_sources_are_compiled_with_the_same_flags(tmp_path: Path) -> None:
    cmake = _of_cmake(tmp_path)

    targets = BUILDER.read_lists(BUILDER.find_headers())

    ours = {}
    for target in targets.values():
        for source in target.sources:
            words = [*BUILDER.FLAGS, *target.compile]
            ours[target.name, source] = {word for word in words if word.startswith(BOTH)}
    assert set(ours) == set(cmake)
    ignored = {"-O3", "-fPIE", "-fPIC", "-fno-sanitize=all"}  # the last -O counts; nothing is sanitized
    for key, flags in ours.items():
        missing = {flag for flag in cmake[key] - flags - ignored if "_EXPORTS" not in flag}
        assert (key, missing, flags - cmake[key] - ignored) == (key, set(), set())


def test_both_builds_export_the_same(tmp_path: Path) -> None:
    into = tmp_path / "package" / "fastgshare"

    built = BUILDER.build(into, headers=BUILDER.find_headers(), names=("fastgate", "fastgate_virtual"))

    assert (built.compiled > 0, built.problems, len(built.targets)) == (True, {}, 2)
    for target in built.targets:
        assert _exports(into / target.folder / target.file) == _exports(native.library(target.file))


def test_what_has_not_changed_is_not_built_again(tmp_path: Path) -> None:
    into = tmp_path / "package" / "fastgshare"
    source = tmp_path / "one.cpp"
    source.write_text('extern "C" __attribute__((visibility("default"))) int one() { return 1; }\n')
    objects = [BUILDER.Objects(tmp_path, 1) for _ in range(3)]

    for number, each in enumerate(objects):
        if number == 2:
            source.write_text(source.read_text() + "// changed\n")
        each.of(str(source), []).result()
        each.close()

    assert [each.compiled for each in objects] == [1, 0, 1]
    assert not into.exists()


def test_the_package_it_lays_out_says_its_version(tmp_path: Path) -> None:
    BUILDER.lay_out(tmp_path)

    code = "import fastgshare; print(fastgshare.__version__, fastgshare.__file__)"
    command = [sys.executable, "-S", "-c", code]
    said = subprocess.run(command, check=True, env={"PYTHONPATH": str(tmp_path)}, capture_output=True)

    assert said.stdout.decode().split()[1].startswith(str(tmp_path))


def test_without_a_header_the_hook_is_built_with_our_own() -> None:
    targets = BUILDER.read_lists(None)

    assert {"fastgate", "fasthook", "standin_virtual"} <= set(targets)
    assert not {"probe", "standin_driver"} & set(targets)
    assert str(ROOT / "native" / "hook" / "minimal") in targets["fasthook"].compile


def test_a_warning_is_told_and_a_target_that_cannot_be_built_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, code in {"warned": "int unused(int x) { int y = x; return 0; }", "wrong": "int x = nothing;"}.items():
        (tmp_path / f"{name}.cpp").write_text(code + "\n")
    (tmp_path / "CMakeLists.txt").write_text(
        "add_library(warned SHARED warned.cpp)\nadd_library(wrong SHARED wrong.cpp)\n"
    )
    monkeypatch.setattr(BUILDER, "LISTS", (tmp_path / "CMakeLists.txt",))
    stale = tmp_path / "package" / "lib" / "libwrong.so"
    stale.parent.mkdir(parents=True)
    stale.touch()

    built = BUILDER.build(tmp_path / "package", headers=None)

    assert [target.name for target in built.targets] == ["warned"]
    assert "nothing" in built.problems["wrong"]
    assert not stale.exists()
    assert "warning: " in capfd.readouterr().err
    assert (tmp_path / "package" / "lib" / "libwarned.so").is_file()


def test_an_unknown_target_is_named(tmp_path: Path) -> None:
    with pytest.raises(BUILDER.CannotBuild, match="no such target: nothing; there are: fastgate"):
        BUILDER.build(tmp_path / "fastgshare", headers=None, names=("nothing",))
