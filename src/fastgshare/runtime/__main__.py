"""``python -m fastgshare.runtime --fd N``: one instance, started by a cluster over an inherited socket."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys

from fastgshare.domain.errors import WireError
from fastgshare.runtime.connection import Connection
from fastgshare.runtime.instance import run
from fastgshare.runtime.process import die_with_parent, give_way, leave_interrupts_to_parent, log_to_stderr


def main(arguments: list[str] | None = None) -> int:
    """Run the instance behind a file descriptor; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m fastgshare.runtime", description="Started by a cluster.")
    parser.add_argument("--fd", type=int, required=True, help="a connected stream socket, inherited")
    fd = parser.parse_args(arguments).fd
    die_with_parent()
    leave_interrupts_to_parent()
    give_way()
    log_to_stderr()
    try:
        os.set_inheritable(fd, False)
        peer = socket.socket(fileno=fd)
    except OSError as error:
        parser.error(f"--fd: {fd} is not an inherited socket: {error}")
    try:
        return run(Connection(peer))
    except WireError as error:
        logging.getLogger(__name__).error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
