"""An instance that does what the variable `do` in its function's environment says. Run by the tests of the cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from fastgshare.dispatch.frames import Batch, Decoder, Failed, Frame, Hello, Ready, Result, Stop, encode
from fastgshare.domain.requests import Reply


def frames(peer: socket.socket) -> Iterator[Frame]:
    decoder = Decoder()
    while data := peer.recv(65536):
        yield from decoder.feed(data)


def answer(do: str, batch: Batch, hello: dict[str, object]) -> bytes:
    if do == "garbage":
        return b"GET / HTTP/1.1\r\n\r\n" * 10
    if do == "wrong replies":
        return encode(Result(batch.batch_id, ()))
    if do == "unknown batch":
        return encode(Result(batch.batch_id + 7, ()))
    if do == "ready again":
        return encode(Ready(0.0))
    if do == "describe":
        body = json.dumps({**hello, "cores": sorted(os.sched_getaffinity(0))}).encode()
        return encode(Result(batch.batch_id, tuple(Reply(r.id, 200, body) for r in batch.requests)))
    if do == "fail":
        return encode(Result(batch.batch_id, tuple(Reply(r.id, 500, b"") for r in batch.requests)))
    return encode(Result(batch.batch_id, tuple(Reply(r.id, 200, r.body, r.headers) for r in batch.requests)))


def main() -> None:
    peer = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
    received = frames(peer)
    first = next(received)
    assert isinstance(first, Hello)
    hello = dict(first.document)
    do = hello["function"]["env"].get("do", "")  # type: ignore[index]
    print(f"doing {do}", flush=True)
    if do == "refuse":
        peer.sendall(encode(Failed("the model is corrupt")))
        sys.exit(1)
    if do == "die":
        sys.exit("cannot find my feet")
    if do == "never ready":
        time.sleep(1000)
    if do == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if do == "leave a child":
        print(subprocess.Popen(["sleep", "1000"]).pid, flush=True)
    peer.sendall(encode(Ready(0.004)))
    if do == "let go":
        peer.close()
        time.sleep(1000)
    for frame in received:
        if isinstance(frame, Stop) and do != "deaf":
            sys.exit(0)
        if isinstance(frame, Batch):
            print("batch", flush=True)
            if do in ("hang", "deaf"):
                time.sleep(1000)
            if do == "slow":
                time.sleep(0.3)
            peer.sendall(answer(do, frame, hello))


main()
