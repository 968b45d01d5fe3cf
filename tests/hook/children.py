"""Processes under the hook: Python code that calls the driver through ctypes, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.shares import Share
from fastgshare.manager.environments import environment
from fastgshare.manager.node import NodeDaemon
from fastgshare.native import library

HOOK = library("libfasthook.so")
PRELUDE = """
import ctypes, ctypes.util, json, os, sys
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p

class Where(ctypes.Structure):
    _fields_ = [("file", c_char_p), ("base", c_void_p), ("symbol", c_char_p), ("address", c_void_p)]

_libc = ctypes.CDLL(None)
_libc.dladdr.argtypes = [c_void_p, c_void_p]

def where(address):
    "The name of the library that an address lies in."
    found = Where()
    return os.path.basename(found.file.decode()) if _libc.dladdr(address, byref(found)) else ""

def address(function):
    return ctypes.cast(function, c_void_p).value

def tell(**facts):
    print(json.dumps(facts), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: what it told, and what stood on stderr."""

    facts: dict[str, Any]
    stderr: str

    def __getitem__(self, name: str) -> Any:
        return self.facts[name]


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **extra}


def _result(returncode: int, stdout: str, stderr: str) -> Ended:
    assert returncode == 0, (returncode, stdout, stderr)
    facts: dict[str, Any] = {}
    for line in stdout.splitlines():
        facts |= json.loads(line)
    return Ended(facts, stderr)


def run_program(command: Sequence[str], env: Mapping[str, str]) -> Ended:
    """Run any program to its end; every line that it prints is a JSON object."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=_environment(env), timeout=60)
    return _result(done.returncode, done.stdout, done.stderr)


def run_python(code: str, env: Mapping[str, str]) -> Ended:
    """Run Python code after PRELUDE."""
    return run_program([sys.executable, "-I", "-S", "-c", PRELUDE + code], env)


class Holder:
    """A node daemon for one stand-in device, and processes on shares of it."""

    def __init__(self, folder: Path, device: Device) -> None:
        self.device = device
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.daemon = NodeDaemon([device], folder)
        self._await(self.daemon.start())
        self._admitted = 0

    def close(self) -> None:
        self._await(self.daemon.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, code: str, *, mem_bytes: int, options: str = "") -> Ended:
        """Run Python code under the hook with a memory cap. `options`: of the stand-in."""
        self._admitted += 1
        name = f"instance-{self._admitted}"
        share = Share(100.0, 1.0, 1.0, mem_bytes)
        env = environment(
            self.device,
            share,
            socket_path=self._folder / "daemon.sock",
            instance_id=name,
            state=self._folder / f"{name}.state",
            base={"FASTGSHARE_STANDIN": options} if options else {},
        )
        # It does nothing before it hears that it was admitted.
        command = [sys.executable, "-I", "-S", "-c", PRELUDE + "exec(sys.stdin.read())"]
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=_environment(env))
        try:
            self._await(self.daemon.admit(name, child.pid, share, None))
            stdout, stderr = child.communicate(code, timeout=60)
        finally:
            child.kill()
            child.wait()
            self._await(self.daemon.remove(name))
        return _result(child.returncode, stdout, stderr)

    def _await(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)


@contextmanager
def held(folder: Path, mem_bytes: int = 16 << 30) -> Iterator[Holder]:
    """A Holder for as long as the block lasts."""
    holder = Holder(folder, Device("standin", DeviceKind.STANDIN, 132, mem_bytes))
    try:
        yield holder
    finally:
        holder.close()
