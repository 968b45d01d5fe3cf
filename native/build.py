"""Build the native code with g++ alone, where there is no CMake: ``python3 native/build.py [--into DIRECTORY]``.

What is built and from what is read out of the CMakeLists.txt files, so that there is one list; how a library of each
sort is compiled and linked is said here once more, in `SORTS`. The result is a package that runs without being
installed: DIRECTORY/fastgshare, a copy of src/fastgshare with its libraries. What has not changed is not built again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
NATIVE: Final = ROOT / "native"
LISTS: Final = (NATIVE / "CMakeLists.txt", NATIVE / "probes" / "CMakeLists.txt")
HEADERS: Final = "CUDA_HEADERS"
ALSO_NEEDS: Final = {"standin_runtime": "crt/host_defines.h"}
"""Targets that include a header of the compiler's beside cuda.h."""

NEEDED: Final = frozenset({"fastgate", "fasthook"})
"""Without these there is nothing to check; what goes without another, says so itself."""

COMPILER: Final = os.environ.get("CXX", "g++")
FLAGS: Final = (
    *("-std=c++20", "-fPIC", "-fvisibility=hidden"),
    *("-DNDEBUG", "-O2", "-Wall", "-Wextra", "-Werror"),
)
_COMMAND: Final = re.compile(r"(\w+)\s*\(([^()]*)\)")
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")


class CannotBuild(Exception):
    """What is missing, or what the compiler had to say."""


@dataclass(frozen=True, slots=True)
class Sort:
    """How targets of a CMake function are built. named: whether its second argument is the file's name."""

    compile: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    folder: str = "lib"
    shared: bool = True
    needs_headers: bool = False
    named: bool = False


SORTS: Final[Mapping[str, Sort]] = {
    "add_lean": Sort(
        ("-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fwrapv"),
        ("-nodefaultlibs", "-Wl,-z,defs", "-Wl,-z,now"),
        ("-lpthread", "-ldl", "-lc", "-lgcc"),
    ),
    "add_standin": Sort(
        (),
        ("-static-libstdc++", "-static-libgcc", "-Wl,-z,defs", "-Wl,--exclude-libs,ALL"),
        ("-lpthread", "-ldl"),
        "lib/standin",
        needs_headers=True,
        named=True,
    ),
    "add_standin_program": Sort(
        (),
        ("-static-libstdc++", "-static-libgcc"),
        ("-lpthread",),
        "lib/standin/bin",
        shared=False,
    ),
    "add_probe": Sort(
        (),
        ("-static-libstdc++", "-static-libgcc"),
        ("-lpthread", "-ldl"),
        "lib/probes",
        shared=False,
        needs_headers=True,
    ),
    "add_library": Sort(),
    "add_executable": Sort(shared=False),
}


@dataclass(slots=True)
class Target:
    """One library or program. uses: other targets that it is linked to."""

    name: str
    sort: Sort
    file: str
    sources: list[str]
    folder: str
    compile: list[str] = field(default_factory=list)
    link: list[str] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)


# --- what the lists say ----------------------------------------------------------------------------------------------


class Lists:
    """Reads CMakeLists.txt files, as far as ours go. headers: the folder of a cuda.h, None for none."""

    def __init__(self, headers: Path | None) -> None:
        self.targets: dict[str, Target] = {}
        self._headers = headers
        self._variables: dict[str, list[str]] = {HEADERS: [str(headers)] if headers else []}
        self._here = NATIVE

    def read(self, path: Path) -> None:
        """Take in one file. What is conditional is taken as said; a sanitizer never is."""
        self._here = path.parent
        self._variables["CMAKE_CURRENT_SOURCE_DIR"] = [str(self._here)]
        text = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())
        for command, words in _COMMAND.findall(text):
            arguments = shlex.split(words)
            if arguments and not any("SANITIZER" in word for word in arguments):
                self._take(command, arguments)

    def _take(self, command: str, arguments: list[str]) -> None:
        name, *rest = arguments
        if command == "set":
            self._variables[name] = self._expanded(rest)
        elif command == "file" and name == "GLOB":
            self._variables[rest[0]] = [
                str(found) for pattern in rest[2:] for found in sorted(self._here.glob(pattern))
            ]
        elif command in SORTS and "${" not in name:
            self._add(SORTS[command], name, rest)
        elif name in self.targets:
            self._refine(self.targets[name], command, self._expanded(rest))
        elif command == "install" and name == "TARGETS":
            self._place(rest)

    def _add(self, sort: Sort, name: str, rest: list[str]) -> None:
        words = [word for word in self._expanded(rest) if word not in ("SHARED", "PRIVATE")]
        file = words.pop(0) if sort.named else f"lib{name}.so" if sort.shared else name
        sources = [str(self._here / word) for word in words]
        if not sources or (sort.needs_headers and not self._has(name)):
            return
        target = Target(name, sort, file, sources, sort.folder)
        target.compile += sort.compile + (("-isystem", str(self._headers)) if sort.needs_headers else ())
        target.link += [*sort.link, *([f"-Wl,-soname,{file}"] if sort.shared else [])]
        self.targets[name] = target

    def _has(self, name: str) -> bool:
        """Whether the headers are there that a target includes."""
        return self._headers is not None and (self._headers / ALSO_NEEDS.get(name, "cuda.h")).is_file()

    def _refine(self, target: Target, command: str, words: list[str]) -> None:
        words = [word for word in words if word not in ("PRIVATE", "PUBLIC", "BEFORE")]
        match command:
            case "target_sources":
                target.sources += [str(self._here / word) for word in words]
            case "target_compile_options":
                target.compile += words
            case "target_compile_definitions":
                target.compile += [f"-D{word}" for word in words]
            case "target_include_directories":
                option = "-isystem" if "SYSTEM" in words else "-I"
                target.compile += [p for word in words if word != "SYSTEM" for p in (option, str(self._here / word))]
            case "target_link_options":
                target.link += words
            case "target_link_libraries":
                self._link(target, words)

    def _link(self, target: Target, words: list[str]) -> None:
        for word in words:
            if word.startswith("-"):
                target.link.append(word)
            elif word in self.targets:
                target.uses.append(word)
            else:
                target.libraries.append(f"-l{word}")

    def _place(self, words: list[str]) -> None:
        names, where = words[: words.index("DESTINATION") - 1], words[words.index("DESTINATION") + 1]
        for name in names:
            if name in self.targets:
                self.targets[name].folder = where.removeprefix("fastgshare/")

    def _expanded(self, words: Iterable[str]) -> list[str]:
        found: list[str] = []
        for word in words:
            whole = _VARIABLE.fullmatch(word)
            if whole:
                found += self._variables.get(whole[1], [])
            else:
                found.append(_VARIABLE.sub(lambda match: " ".join(self._variables.get(match[1], [])), word))
        return found


def find_headers() -> Path | None:
    """The folder of a cuda.h: of this Python's packages, or of a toolkit; None if there is none."""
    packages = importlib.util.find_spec("nvidia")
    places = packages.submodule_search_locations if packages else None
    folders = [Path(place) / "cu13" / "include" for place in places or ()]
    folders += [Path(home) / "include" for home in (os.environ.get("CUDA_HOME", ""), "/usr/local/cuda") if home]
    compiler = shutil.which("nvcc")
    if compiler:
        folders.append(Path(compiler).resolve().parents[1] / "include")
    return next((folder for folder in folders if (folder / "cuda.h").is_file()), None)


def read_lists(headers: Path | None) -> dict[str, Target]:
    """All targets that can be built with these headers, by name."""
    lists = Lists(headers)
    for path in LISTS:
        lists.read(path)
    return lists.targets


# --- building --------------------------------------------------------------------------------------------------------


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotBuild(f"{shlex.join(command)}\n{done.stderr}")


def _compile(command: Sequence[str]) -> None:
    """What a compiler that was never tried warns of is told, and is no reason to go without figures."""
    try:
        _run(command)
    except CannotBuild as problem:
        _run([word for word in command if word != "-Werror"])
        print(f"warning: {problem}", file=sys.stderr)


class Objects:
    """Compiles each source once for each set of flags, several at a time."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.compiled = 0
        self._folder = folder
        self._pool = ThreadPoolExecutor(jobs)
        self._futures: dict[Path, Future[Path]] = {}

    def of(self, source: str, flags: Sequence[str]) -> Future[Path]:
        """The object of a source, as soon as it is there."""
        command = [COMPILER, *FLAGS, *flags, "-c", source]
        key = hashlib.sha256("\0".join(command).encode()).hexdigest()[:12]
        path = self._folder / f"{Path(source).stem}-{key}.o"
        if path not in self._futures:
            self._futures[path] = self._pool.submit(self._compile, command, path)
        return self._futures[path]

    def _compile(self, command: list[str], path: Path) -> Path:
        if not _is_current(path, _noted(path.with_suffix(".d"))):
            unfinished = path.with_suffix(".tmp")
            _compile([*command, "-o", str(unfinished), "-MMD", "-MF", str(path.with_suffix(".d"))])
            unfinished.replace(path)
            self.compiled += 1
        return path

    def close(self) -> None:
        """Begin nothing more, and wait for what has begun."""
        self._pool.shutdown(cancel_futures=True)


def _noted(dependencies: Path) -> list[Path]:
    """What a compiler noted that an object depends on; nothing if it noted nothing."""
    try:
        text = dependencies.read_text()
    except FileNotFoundError:
        return []
    return [Path(name) for name in text.replace("\\\n", " ").partition(":")[2].split()]


def _is_current(made: Path, of: Sequence[Path]) -> bool:
    try:
        return bool(of) and all(path.stat().st_mtime_ns <= made.stat().st_mtime_ns for path in of)
    except FileNotFoundError:
        return False


def _link(target: Target, objects: Sequence[Path], into: Path, targets: Mapping[str, Target]) -> None:
    path = into / target.folder / target.file
    used = [into / targets[name].folder / targets[name].file for name in target.uses]
    command = [COMPILER, *(("-shared",) if target.sort.shared else ()), *target.link, *map(str, objects)]
    command += [*map(str, used), *target.sort.libraries, *target.libraries]
    note = into.parent / "objects" / f"{target.name}.link"
    said = shlex.join(command)
    if _is_current(path, [*objects, *used]) and note.is_file() and note.read_text() == said:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    _run([*command, "-o", str(unfinished)])
    unfinished.replace(path)  # never in place: somebody may have it loaded
    note.write_text(said)


class Progress:
    """Says on stderr which target is done: on few cores a build takes minutes."""

    def __init__(self, count: int) -> None:
        self._began_s = time.monotonic()
        self._count = count
        self._done = 0

    def built(self, target: Target) -> None:
        """One is there."""
        self._say(f"{target.folder}/{target.file}")

    def failed(self, target: Target) -> None:
        """One could not be built; why, is said at the end."""
        self._say(f"{target.name} was not built")

    def _say(self, text: str) -> None:
        self._done += 1
        took_s = time.monotonic() - self._began_s
        print(f"[{took_s:5.0f} s, build] {self._done} of {self._count}: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Built:
    """What a build gave. compiled: how many sources. problems: target -> why it was not built."""

    targets: Sequence[Target]
    compiled: int
    problems: Mapping[str, str]


def build(into: Path, *, headers: Path | None, jobs: int = 0, names: Sequence[str] = ()) -> Built:
    """Build targets (none named: all) into the package at `into`. One that cannot be built is no longer there.

    Raises `CannotBuild` for a name that is none.
    """
    targets = read_lists(headers)
    if unknown := [name for name in names if name not in targets]:
        raise CannotBuild(f"no such target: {', '.join(unknown)}; there are: {', '.join(targets)}")
    wanted = [target for name, target in targets.items() if not names or name in names]
    folder = into.parent / "objects"
    folder.mkdir(parents=True, exist_ok=True)
    objects = Objects(folder, jobs or len(os.sched_getaffinity(0)))
    problems: dict[str, str] = {}
    tell = Progress(len(wanted))
    try:
        waits = [(target, [objects.of(source, target.compile) for source in target.sources]) for target in wanted]
        for target, futures in sorted(waits, key=lambda wait: len(wait[0].uses)):
            try:
                _link(target, [future.result() for future in futures], into, targets)
                tell.built(target)
            except CannotBuild as problem:
                problems[target.name] = str(problem)
                tell.failed(target)
                (into / target.folder / target.file).unlink(missing_ok=True)
    finally:
        objects.close()
    return Built([target for target in wanted if target.name not in problems], objects.compiled, problems)


# --- the package -----------------------------------------------------------------------------------------------------


def lay_out(into: Path) -> Path:
    """Copy src/fastgshare into a directory, but for its libraries, with what tells its version; where it is now."""
    package = into / "fastgshare"
    for old in package.iterdir() if package.is_dir() else ():
        if old.name != "lib":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    ignored = shutil.ignore_patterns("__pycache__", "lib")
    shutil.copytree(ROOT / "src" / "fastgshare", package, ignore=ignored, dirs_exist_ok=True)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    facts = into / f"fastgshare-{version}.dist-info"
    facts.mkdir(exist_ok=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fastgshare\nVersion: {version}\n")
    return package


def main() -> int:
    """Build, and say what was built. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "gpu-check", metavar="DIRECTORY")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="so many at a time (default: by cores)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="build these alone")
    asked = parser.parse_args()
    began = time.monotonic()
    headers = find_headers()
    try:
        if shutil.which(COMPILER) is None:
            raise CannotBuild(f"no C++ compiler: {COMPILER} is not on the PATH")
        built = build(lay_out(asked.into), headers=headers, jobs=asked.jobs, names=asked.targets)
    except CannotBuild as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    took_s = time.monotonic() - began
    where = headers or "none: the stand-in and the probes are left out"
    for name, why in built.problems.items():
        print(f"error: {name} was not built: {why}", file=sys.stderr)
    counts = f"{len(built.targets)} targets in {took_s:.1f} s, {built.compiled} sources compiled"
    print(f"{counts}; cuda.h: {where}", file=sys.stderr)
    return 1 if NEEDED & set(built.problems) else 0


if __name__ == "__main__":
    sys.exit(main())
