"""Real runtime processes, seen from the cluster's end of their socket."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fastgshare.dispatch.frames import Batch, Decoder, Frame, Result, Stop, encode
from fastgshare.domain.requests import Reply, Request
from fastgshare.domain.shares import Share

SHARE = Share(50, 0.5, 0.5)


@dataclass
class RunningInstance:
    """A real runtime process, seen from the cluster's end of its socket."""

    process: subprocess.Popen[str]
    peer: socket.socket
    decoder: Decoder = field(default_factory=Decoder)
    frames: list[Frame] = field(default_factory=list)
    batches: int = 0

    def receive(self) -> Frame:
        while not self.frames:
            data = self.peer.recv(2**16)
            if not data:
                raise EOFError("the instance has gone")
            self.frames += self.decoder.feed(data)
        return self.frames.pop(0)

    def send(self, *bodies: bytes, timeout_s: float = 60.0) -> None:
        self.batches += 1
        now_s = time.monotonic()
        requests = tuple(Request(n, "f", body, now_s, now_s + timeout_s) for n, body in enumerate(bodies))
        self.peer.sendall(encode(Batch(self.batches, requests)))

    def ask(self, *bodies: bytes, timeout_s: float = 60.0) -> tuple[Reply, ...]:
        self.send(*bodies, timeout_s=timeout_s)
        result = self.receive()
        assert isinstance(result, Result)
        assert result.batch_id == self.batches
        return result.replies

    def stop(self) -> int:
        self.peer.sendall(encode(Stop()))
        return self.process.wait(timeout=20)

    def log(self) -> str:
        return self.process.communicate(timeout=20)[0]


Starter = Callable[..., RunningInstance]


class running:
    """A runtime process that has not been greeted yet; ended on leaving."""

    def __enter__(self) -> RunningInstance:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "fastgshare.runtime", "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        ours.settimeout(30)
        self.instance = RunningInstance(process, ours)
        return self.instance

    def __exit__(self, *_: object) -> None:
        self.instance.peer.close()
        self.instance.process.kill()
        self.instance.process.wait(timeout=20)
        if self.instance.process.stdout is not None:
            self.instance.process.stdout.close()
