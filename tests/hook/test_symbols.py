"""Whichever way a program finds the driver's functions, it finds the hook's wrappers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.hook.children import HOOK, Ended, run_program, run_python
from tests.hook.drivers import (
    CALLED,
    HOOKS,
    NEWER,
    NVML,
    OTHER,
    OWN,
    build_hollow_driver,
    compile_cpp,
)

HOOK_NAME = HOOK.name
DRIVER_NAME = "libcuda.so.1"
# Configured, so that wrappers are handed out; but so that nothing can be enforced, and everything passes.
PASSING = {"FASTGSHARE_SOCKET": "/nowhere", "FASTGSHARE_INSTANCE": "", "FASTGSHARE_IF_UNENFORCED": "pass"}
NAMES = [row.name for row in HOOKS]
ZEROS = ", ".join(["None"] * 12)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_hollow_driver(tmp_path_factory.mktemp("driver"))


def _env(
    driver: Path, *behind: Path, before: tuple[Path, ...] = (), extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    preload = ":".join(str(path) for path in (*before, HOOK, *behind))
    return {"LD_PRELOAD": preload, "LD_LIBRARY_PATH": str(driver.parent), **PASSING, **(extra or {})}


def _run(driver: Path, code: str, **extra: str) -> Ended:
    return run_python(f'driver = ctypes.CDLL("{DRIVER_NAME}")\n{code}', _env(driver, extra=extra))


# --- what the library is ---------------------------------------------------------------------------------------------


def test_the_hook_exports_what_it_wraps_and_nothing_else() -> None:
    table = subprocess.run(["objdump", "-T", str(HOOK)], check=True, capture_output=True, text=True).stdout
    exported = {line.split()[-1] for line in table.splitlines() if " g " in line and "*UND*" not in line}

    assert exported == {*NAMES, *NVML, "dlsym", "dlvsym"}


def test_the_hook_needs_libc_alone_and_no_newer_one_than_2_34() -> None:
    headers = subprocess.run(["objdump", "-p", str(HOOK)], check=True, capture_output=True, text=True).stdout
    needed = re.findall(r"NEEDED\s+(\S+)", headers)
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", headers)}

    assert needed == ["libc.so.6"]
    assert max(versions) <= (2, 34)


def test_a_process_that_never_uses_a_device_pays_few_relocations() -> None:
    listed = subprocess.run(["objdump", "-R", str(HOOK)], check=True, capture_output=True, text=True).stdout

    assert len(re.findall(r"^[0-9a-f]+ R_", listed, re.M)) < 90


# --- dlsym -----------------------------------------------------------------------------------------------------------


def test_every_function_is_found_wrapped_by_name_and_calls_its_own(driver: Path) -> None:
    told = _run(
        driver,
        f"""
for name in {[row.name for row in CALLED]}:
    function = driver[name]
    tell(**{{name: [where(address(function)), function({ZEROS})]}})
""",
    )

    assert told.facts == {row.name: [HOOK_NAME, OWN + index] for index, row in enumerate(CALLED)}


def test_what_is_not_wrapped_is_the_drivers(driver: Path) -> None:
    told = _run(driver, 'tell(found=where(address(driver["cuInit"])), missing=hasattr(driver, "cuNoSuchFunction"))')

    assert told.facts == {"found": DRIVER_NAME, "missing": False}


def test_without_configuration_nothing_is_wrapped(driver: Path) -> None:
    env = {"LD_PRELOAD": str(HOOK), "LD_LIBRARY_PATH": str(driver.parent)}
    told = run_python(
        f"""
driver = ctypes.CDLL("{DRIVER_NAME}")
function = c_void_p()
driver["cuGetProcAddress"](b"cuLaunchKernel", byref(function), 12000, c_uint64(0))
tell(by_name=where(address(driver["cuLaunchKernel"])), by_question=where(function))
""",
        env,
    )

    assert told.facts == {"by_name": DRIVER_NAME, "by_question": DRIVER_NAME}
    assert told.stderr == ""


def test_functions_of_the_linker_itself_are_found_wrapped(driver: Path) -> None:
    """Else a program could ask for dlsym by name, and go on asking it."""
    told = _run(
        driver,
        """
libc = ctypes.CDLL("libc.so.6")
tell(dlsym=where(address(libc["dlsym"])), dlvsym=where(address(libc["dlvsym"])))
libc.dlvsym.restype = libc.dlsym.restype = c_void_p
libc.dlvsym.argtypes = [c_void_p, c_char_p, c_char_p]
tell(by_version=where(libc.dlvsym(libc._handle, b"dlsym", b"GLIBC_2.34")),
     real=where(libc.dlvsym(libc._handle, b"dlopen", b"GLIBC_2.34")))
""",
    )

    assert told.facts == {"dlsym": HOOK_NAME, "dlvsym": HOOK_NAME, "by_version": HOOK_NAME, "real": "libc.so.6"}


def test_dlerror_is_as_the_programs_own_look_ups_left_it(driver: Path) -> None:
    told = _run(
        driver,
        """
libc = ctypes.CDLL(None)
libc.dlsym.argtypes = [c_void_p, c_char_p]
libc.dlsym.restype = c_void_p
libc.dlerror.restype = c_char_p
found = libc.dlsym(driver._handle, b"cuLaunchKernel") is not None
after_success = libc.dlerror()
missed = libc.dlsym(driver._handle, b"cuNoSuchFunction") is None
tell(found=found, after_success=after_success, missed=missed, after_failure=b"cuNoSuch" in libc.dlerror())
""",
    )

    assert told.facts == {"found": True, "after_success": None, "missed": True, "after_failure": True}


# --- linking, and others in the chain --------------------------------------------------------------------------------

LINKED = """
#include <cstdio>
#include <dlfcn.h>
extern "C" int cuLaunchKernel(...);
extern "C" int cuMemAlloc_v2(...);
int main() {
  Dl_info linked, over_all, next;
  dladdr((void*)&cuLaunchKernel, &linked);
  dladdr(dlsym(RTLD_DEFAULT, "cuLaunchKernel"), &over_all);
  dladdr(dlsym(RTLD_NEXT, "cuLaunchKernel"), &next);
  auto* handle = dlopen(nullptr, RTLD_LAZY);
  Dl_info by_handle;
  dladdr(dlsym(handle, "cuLaunchKernel"), &by_handle);
  printf("{\\"linked\\": \\"%s\\", \\"over_all\\": \\"%s\\", \\"next\\": \\"%s\\", \\"by_handle\\": \\"%s\\", "
         "\\"launch\\": %d, \\"allocate\\": %d}\\n",
         linked.dli_fname, over_all.dli_fname, next.dli_fname, by_handle.dli_fname,
         cuLaunchKernel(nullptr, 0, 0, 0, 0, 0, 0, 0, nullptr, nullptr, nullptr), cuMemAlloc_v2(nullptr, 0L));
}
"""


def _number(name: str) -> int:
    return OWN + [row.name for row in CALLED].index(name)


@pytest.fixture(scope="module")
def linked(driver: Path) -> Path:
    return compile_cpp(driver.with_name("linked"), LINKED, f"-L{driver.parent}", "-l:libcuda.so.1")


def test_a_program_linked_to_the_driver_finds_the_wrappers_first(driver: Path, linked: Path) -> None:
    told = run_program([str(linked)], _env(driver))

    assert {Path(told[way]).name for way in ("linked", "over_all", "next", "by_handle")} == {HOOK_NAME}
    assert told["launch"] == _number("cuLaunchKernel")


def test_a_library_that_is_opened_later_and_linked_to_the_driver_finds_them_too(driver: Path) -> None:
    plugin = compile_cpp(
        driver.with_name("plugin.so"),
        'extern "C" int cuLaunchKernel(...);\nextern "C" void* launch() { return (void*)&cuLaunchKernel; }',
        *("-shared", f"-L{driver.parent}", "-l:libcuda.so.1"),
    )
    told = run_python(
        f"""
plugin = ctypes.CDLL("{plugin}")
plugin.launch.restype = c_void_p
tell(linked=where(plugin.launch()), through_it=where(address(plugin["cuMemAlloc_v2"])))
""",
        _env(driver),
    )

    assert told.facts == {"linked": HOOK_NAME, "through_it": HOOK_NAME}


ANSWER = """
#include <dlfcn.h>
extern "C" int answer() {
  auto* next = (int (*)())dlsym(RTLD_NEXT, "answer");
  return (next ? 10 * next() : 0) + NUMBER;
}
"""


@pytest.mark.parametrize("order", ["hook first second", "first hook second", "first second hook"])
def test_other_interposers_find_what_comes_next_after_themselves(driver: Path, order: str) -> None:
    """dlsym(RTLD_NEXT) depends on who calls it: it must not look as if the hook did."""
    folder = driver.parent
    libraries = {"hook": HOOK}
    for number, name in enumerate(("first", "second"), 1):
        libraries[name] = folder / f"{name}.so"
        if not libraries[name].exists():
            compile_cpp(libraries[name], ANSWER, "-shared", f"-DNUMBER={number}")
    env = _env(driver) | {"LD_PRELOAD": ":".join(str(libraries[name]) for name in order.split())}

    assert run_python('tell(answer=_libc["answer"]())', env)["answer"] == 21


SHIM = """
#include <cstdio>
#include <dlfcn.h>
extern "C" int cuMemAlloc_v2(void* out, unsigned long bytes) {
  auto* next = dlsym(RTLD_NEXT, "cuMemAlloc_v2");
  Dl_info found;
  dladdr(next, &found);
  printf("{\\"shim\\": \\"%s\\"}\\n", found.dli_fname);
  return ((int (*)(void*, unsigned long))next)(out, bytes);
}
"""


def test_an_interposer_in_front_reaches_the_hook_and_one_behind_does_not_recurse(driver: Path, linked: Path) -> None:
    shim = compile_cpp(driver.with_name("shim.so"), SHIM, "-shared")
    in_front = run_program([str(linked)], _env(driver, before=(shim,)))
    behind = run_program([str(linked)], _env(driver, shim))

    assert (Path(in_front["shim"]).name, in_front["allocate"]) == (HOOK_NAME, _number("cuMemAlloc_v2"))
    assert ("shim" in behind.facts, behind["allocate"]) == (False, _number("cuMemAlloc_v2"))


def test_rtld_deepbind_is_a_limit_for_that_library_alone(driver: Path) -> None:
    """What it is linked to, it then finds before everybody's; nothing else changes. docs/limits.md says so."""
    deep = compile_cpp(
        driver.with_name("deep.so"),
        """
#include <dlfcn.h>
extern "C" int cuLaunchKernel(...);
extern "C" void* launch() { return (void*)&cuLaunchKernel; }
extern "C" void* search(void* handle) { return dlsym(handle, "cuLaunchKernel"); }
""",
        *("-shared", f"-L{driver.parent}", "-l:libcuda.so.1"),
    )
    told = _run(
        driver,
        f"""
RTLD_DEEPBIND = 8
deep = ctypes.CDLL("{deep}", mode=os.RTLD_NOW | RTLD_DEEPBIND)
deep.launch.restype = deep.search.restype = c_void_p
deep.search.argtypes = [c_void_p]
tell(linked=where(deep.launch()), searched=where(deep.search(driver._handle)),
     others=where(address(driver["cuLaunchKernel"])))
""",
    )

    assert told.facts == {"linked": DRIVER_NAME, "searched": DRIVER_NAME, "others": HOOK_NAME}


# --- cuGetProcAddress ------------------------------------------------------------------------------------------------

ASK = """
def ask(name, base, version, flags):
    function = c_void_p()
    arguments = [base.encode(), byref(function), version, c_uint64(flags)]
    result = driver[name](*arguments, *([None] if name.endswith("v2") else []))
    return function.value if result == 0 else None
"""


@pytest.mark.parametrize("way", ["cuGetProcAddress", "cuGetProcAddress_v2"])
def test_every_form_is_handed_out_wrapped_in_its_version(driver: Path, way: str) -> None:
    told = _run(
        driver,
        f"""{ASK}
for name, base, since, per_thread in {[(r.name, r.base, r.since, r.per_thread) for r in HOOKS]}:
    found = ask("{way}", base, since, 2 if per_thread else 1)
    tell(**{{name: found == address(driver[name]) and where(found)}})
""",
    )

    assert told.facts == dict.fromkeys(NAMES, HOOK_NAME)


def test_a_function_that_only_cugetprocaddress_knows_is_told_by_name_version_and_stream(driver: Path) -> None:
    told = _run(
        driver,
        f"""{ASK}
for name, base, since, per_thread in {[(r.name, r.base, r.since, r.per_thread) for r in CALLED]}:
    found = ask("cuGetProcAddress_v2", base, since, 2 if per_thread else 0)
    call = ctypes.CFUNCTYPE(c_int, *[c_void_p] * 12)(found)
    again = ask("cuGetProcAddress", base, since, 2 if per_thread else 0)
    tell(**{{name: [where(found), call({ZEROS}), found == again]}})
""",
        HOLLOW_OTHER="1",
    )

    assert told.facts == {row.name: [HOOK_NAME, OTHER + index, True] for index, row in enumerate(CALLED)}


@pytest.mark.parametrize(("choice", "answer"), [("refuse", 800), ("pass", NEWER)])
def test_a_form_newer_than_the_hook_never_passes_in_silence(driver: Path, choice: str, answer: int) -> None:
    told = _run(
        driver,
        f"""{ASK}
found = ask("cuGetProcAddress_v2", "cuLaunchKernel", 14000, 0)
unknown = ask("cuGetProcAddress_v2", "cuLaunchKernel", 13000, 0)
tell(answer=ctypes.CFUNCTYPE(c_int)(found)(), known=where(unknown))
""",
        HOLLOW_NEWER="1",
        FASTGSHARE_IF_UNENFORCED=choice,
    )

    assert told.facts == {"answer": answer, "known": HOOK_NAME}
    assert "newer form" in told.stderr and "cuLaunchKernel" in told.stderr


def test_a_newer_version_with_the_same_function_is_the_same_function(driver: Path) -> None:
    told = _run(
        driver,
        f"""{ASK}
found = ask("cuGetProcAddress_v2", "cuLaunchKernel", 14000, 0)
tell(same=found == address(driver["cuLaunchKernel"]))
""",
    )

    assert told["same"]
    assert "newer" not in told.stderr


# --- processes -------------------------------------------------------------------------------------------------------


def test_the_child_of_a_fork_goes_on(driver: Path) -> None:
    told = _run(
        driver,
        f"""
before = driver["cuMemAlloc_v2"]({ZEROS})
child = os.fork()
if child == 0:
    tell(in_child=driver["cuMemAlloc_v2"]({ZEROS}))
    os._exit(0)
tell(status=os.waitpid(child, 0)[1], before=before)
""",
    )

    number = _number("cuMemAlloc_v2")
    assert told.facts == {"in_child": number, "status": 0, "before": number}
