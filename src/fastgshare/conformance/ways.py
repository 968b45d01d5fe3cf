"""The ways in which programs find the driver's calls, as the probes know them and as people read them."""

from __future__ import annotations

from typing import Final

WAYS: Final = {
    "linked": "linking",
    "next": "dlsym(RTLD_NEXT)",
    "plugin": "a linked plugin, RTLD_LOCAL",
    "dlsym": "dlsym",
    "default": "dlsym(RTLD_DEFAULT)",
    "proc:11030": "cuGetProcAddress 11.3",
    "proc:12000": "cuGetProcAddress 12.0",
    "proc:13000": "cuGetProcAddress 13.0",
    "proc2:11030": "cuGetProcAddress_v2 11.3",
    "proc2:12000": "cuGetProcAddress_v2 12.0",
    "proc2:13000": "cuGetProcAddress_v2 13.0",
    "proc-of-proc": "cuGetProcAddress of cuGetProcAddress",
    "runtime": "cudaGetDriverEntryPointByVersion",
    "deepbind": "a linked plugin, RTLD_DEEPBIND",
}
"""What `find_calls` of native/probes takes -> in words."""

BEYOND_PRELOAD: Final = "deepbind"
"""What looks into its own libraries first sees nothing that is preloaded: a limit, if the interposer has no remedy."""
