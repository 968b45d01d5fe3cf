"""A control program that does what a file says: for what MPS may do wrong. Run as nvidia-cuda-mps-control.

It is no MPS: a daemon without servers' work, which keeps its one server's state in a file that tests write.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PIPES = Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
SCRIPT = Path(os.environ["SCRIPTED_MPS"])
SLEEP = "import time; time.sleep(600)"


def told(word: str) -> bool:
    """Whether the script has that word."""
    return word in SCRIPT.read_text().split()


def daemon() -> None:
    """Serves until it is told to quit, or as the script has it."""
    if told("dies"):
        print("no device was found")
        sys.exit(3)
    if told("unready"):
        time.sleep(600)
    if told("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(socket.AF_UNIX)
    control.bind(str(PIPES / "control"))
    control.listen()
    (PIPES / "nvidia-cuda-mps-control.pid").write_text(str(os.getpid()))
    servers: list[subprocess.Popen[bytes]] = []
    while True:
        peer, _ = control.accept()
        with peer:
            command = peer.recv(4096).decode().split()
            peer.sendall(answer(command, servers).encode())
        if command[:1] == ["quit"] and not told("stubborn"):
            for server in servers:
                server.kill()
            return


def answer(command: list[str], servers: list[subprocess.Popen[bytes]]) -> str:
    """What a command prints."""
    living = [server for server in servers if server.poll() is None]
    if command[:1] == ["start_server"] and not told("serverless"):
        # Named as the real one is, by which it is found.
        servers.append(subprocess.Popen(["nvidia-cuda-mps-server", "-Sc", SLEEP], executable=sys.executable))
        (PIPES / "state").write_text("ACTIVE")
    if command[:1] == ["get_server_list"]:
        return "".join(f"{server.pid}\n" for server in living)
    if command[:1] == ["get_server_status"]:
        return (PIPES / "state").read_text() + "\n"
    if command[:1] == ["shutdown_server"] and not told("immortal"):
        for server in living:
            server.kill()
            server.wait()
    return ""


def shell() -> None:
    """Passes commands on to the daemon."""
    for line in sys.stdin:
        if told("hangs"):
            time.sleep(600)
        if told("refuses"):
            print("not today", file=sys.stderr)
            sys.exit(1)
        if told("garbles"):
            print("\x00what?")
            continue
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(PIPES / "control"))
            peer.sendall(line.encode())
            while data := peer.recv(4096):
                sys.stdout.write(data.decode())


daemon() if "-f" in sys.argv else shell()
