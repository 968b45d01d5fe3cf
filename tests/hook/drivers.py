"""A driver with nothing behind it, made from the list of what is hooked: every function answers with its own number."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = ROOT / "native" / "hook" / "hooked.def"


@dataclass(frozen=True, slots=True)
class Row:
    """One wrapped function: exported name, name for cuGetProcAddress, version from which it is handed out."""

    name: str
    base: str
    since: int
    per_thread: bool


def _rows(macro: str) -> list[list[str]]:
    found = re.findall(rf"^{macro}\((.*)\)$", LIST.read_text(), re.M)
    return [[part.strip() for part in row.split(",")] for row in found]


HOOKS = [Row(name, base, int(since), streams == "PER_THREAD") for name, base, since, streams in _rows("HOOK")]
USED = [name for (name,) in _rows("USED")]
NVML = [name for (name,) in _rows("NVML")]
OWN, OTHER, NEWER = 10_000, 20_000, 30_000
"""What the exported functions answer, the first being OWN; what others for the same answer; what the newer ones do."""
CALLED = [row for row in HOOKS if not row.name.startswith("cuGetProcAddress")]

_LOOKUP = """
struct Row { const char* name; const char* base; int since, per_thread; void *own, *other; };
static int newer() { return %(newer)d; }
static Row rows[] = { %(rows)s };
static int look_up(const char* base, void** out, int version, unsigned long flags) {
  const Row* best = nullptr;
  for (const Row& row : rows) {
    if (strcmp(row.base, base) != 0 || row.since > version) continue;
    if (row.per_thread && !(flags & 2)) continue;
    if (!best || row.per_thread > best->per_thread || (row.per_thread == best->per_thread && row.since > best->since))
      best = &row;
  }
  if (best == nullptr) return 500;
  *out = getenv("HOLLOW_OTHER") && best->other ? best->other : best->own;
  if (version > 13000 && getenv("HOLLOW_NEWER")) *out = (void*)&newer;
  return 0;
}
"""


def _source() -> str:
    lines = ["#include <cstdlib>", "#include <cstring>", 'extern "C" {', "int cuInit() { return 0; }"]
    lines += [f"int {name}() {{ return 801; }}" for name in USED]
    for index, row in enumerate(CALLED):
        lines.append(f"int {row.name}() {{ return {OWN + index}; }}")
        lines.append(f"static int other_{row.name}() {{ return {OTHER + index}; }}")
    given = "const char* name, void** out, int version, unsigned long flags"
    lines += [f"int cuGetProcAddress({given});", f"int cuGetProcAddress_v2({given}, void*);"]
    rows = ", ".join(
        f'{{"{row.name}", "{row.base}", {row.since}, {int(row.per_thread)}, (void*)&{row.name}, '
        + (f"(void*)&other_{row.name}}}" if row in CALLED else "nullptr}")
        for row in HOOKS
    )
    lines.append(_LOOKUP % {"newer": NEWER, "rows": rows})
    body = "{ return look_up(name, out, version, flags); }"
    lines += [f"int cuGetProcAddress({given}) {body}", f"int cuGetProcAddress_v2({given}, void*) {body}"]
    return "\n".join([*lines, "}"])


def compile_cpp(output: Path, source: str, *flags: str) -> Path:
    """Build a program or, with -shared, a library from C++ text."""
    file = output.with_name(output.name + ".cpp")
    file.write_text(source)
    command = ["g++", "-std=c++20", "-O1", "-fPIC", str(file), "-o", str(output), *flags]
    built = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    return output


def build_hollow_driver(folder: Path) -> Path:
    """Build libcuda.so.1 into a folder."""
    return compile_cpp(folder / "libcuda.so.1", _source(), "-shared", "-Wl,-soname,libcuda.so.1,-Bsymbolic")
