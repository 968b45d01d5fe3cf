"""The hook's own declarations of the driver's ABI say what a real cuda.h says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path

from tests.hook.drivers import HOOKS, LIST, ROOT, USED, compile_cpp

MINIMAL = ROOT / "native" / "hook" / "minimal"
TEXT = (MINIMAL / "cuda.h").read_text()
FIELDS = {
    "CUlaunchConfig": "gridDimX gridDimY gridDimZ blockDimX sharedMemBytes hStream attrs numAttrs",
    "CUDA_LAUNCH_PARAMS": "function gridDimX gridDimY gridDimZ blockDimX sharedMemBytes hStream kernelParams",
    "CUmemLocation": "type id",
    "CUmemAllocationProp": "type requestedHandleTypes location win32HandleMetaData allocFlags",
    "CUmemPoolProps": "allocType handleTypes location win32SecurityAttributes maxSize",
    "CUDA_MEM_ALLOC_NODE_PARAMS": "poolProps accessDescs accessDescCount bytesize dptr",
    "CUDA_ARRAY_DESCRIPTOR_v1": "Width Height Format NumChannels",
    "CUDA_ARRAY_DESCRIPTOR": "Width Height Format NumChannels",
    "CUDA_ARRAY3D_DESCRIPTOR_v1": "Width Height Depth Format NumChannels Flags",
    "CUDA_ARRAY3D_DESCRIPTOR": "Width Height Depth Format NumChannels Flags",
    "CUDA_ARRAY_MEMORY_REQUIREMENTS": "size alignment reserved",
    "CUarrayMapInfo": "resourceType resource subresourceType subresource subresource.sparseLevel.layer"
    " subresource.sparseLevel.offsetX subresource.sparseLevel.offsetZ subresource.sparseLevel.extentDepth"
    " subresource.miptail.layer subresource.miptail.offset memOperationType memHandleType memHandle offset flags",
}


def _real_header() -> Path | None:
    """The folder of a cuda.h, where the build would look for one."""
    wheel = importlib.util.find_spec("nvidia")
    folders = [Path(place) / "cu13" / "include" for place in (wheel.submodule_search_locations or [])] if wheel else []
    folders += [Path("/usr/local/cuda/include"), Path(os.environ.get("CUDA_HOME", "/nowhere")) / "include"]
    return next((folder for folder in folders if (folder / "cuda.h").is_file()), None)


def _facts(folder: Path, tmp_path: Path) -> str:
    """Every signature, value, size and offset that one header gives, in lines."""
    lines = [f'text("{name}", typeid(decltype(::{name})));' for name in [row.name for row in HOOKS] + USED]
    values = sorted(set(re.findall(r"^\s*(CU\w+) = ", TEXT, re.M)) | set(re.findall(r"{ (CU\w+) = ", TEXT)))
    values += re.findall(r"#define (CU\w+) (?:0x|\d)", TEXT)
    lines += [f'number("{name}", (long){name});' for name in values]
    lines += [f'number("{name}", (long)(uintptr_t){name});' for name in ("CU_STREAM_LEGACY", "CU_STREAM_PER_THREAD")]
    for structure, fields in FIELDS.items():
        lines.append(f'number("{structure}", sizeof({structure}));')
        lines += [f'number("{structure}.{field}", offsetof({structure}, {field}));' for field in fields.split()]
    source = "\n".join(
        [
            "#define __CUDA_API_VERSION_INTERNAL",
            "#include <cuda.h>",
            "#include <cstddef>\n#include <cstdint>\n#include <cstdio>\n#include <cxxabi.h>\n#include <typeinfo>",
            "void text(const char* name, const std::type_info& type) {",
            '  printf("%s %s\\n", name, abi::__cxa_demangle(type.name(), nullptr, nullptr, nullptr));\n}',
            'void number(const char* name, long value) { printf("%s %ld\\n", name, value); }',
            "int main() {",
            *lines,
            "}",
        ]
    )
    program = compile_cpp(tmp_path / f"facts-{folder.name}", source, "-isystem", str(folder), "-Wno-invalid-offsetof")
    return subprocess.run([str(program)], check=True, capture_output=True, text=True, timeout=60).stdout


def test_signatures_values_and_layouts_are_those_of_a_real_header(tmp_path: Path) -> None:
    minimal = _facts(MINIMAL, tmp_path).splitlines()
    real = _real_header()

    assert len(minimal) > 200
    if real is not None:  # else the hook was built with ours
        assert minimal == _facts(real, tmp_path).splitlines()


def test_both_headers_declare_every_row_of_the_list() -> None:
    """Rows may depend on CUDA_VERSION: none is missing with ours."""
    assert "#define CUDA_VERSION 13000" in TEXT
    versions = [int(found) for found in re.findall(r"CUDA_VERSION >= (\d+)", LIST.read_text())]
    assert max(versions) <= 13000


def test_the_hook_compiles_with_the_minimal_header() -> None:
    flags = ["-std=c++20", "-fsyntax-only", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra", "-Werror"]
    includes = ["-DFASTGATE_INSIDE", "-I", str(ROOT / "native" / "gate"), "-isystem", str(MINIMAL)]
    sources = sorted(str(path) for path in (ROOT / "native" / "hook").glob("*.cpp"))
    done = subprocess.run(
        ["g++", *flags, *includes, *sources], check=False, capture_output=True, text=True, timeout=120
    )

    assert (done.returncode, done.stderr) == (0, "")
