"""The process around one release: `python -m modelyard.worker --release DIR --socket PATH`.

It opens the release, listens on a unix domain socket and speaks `modelyard.serving.wire`. The release's code, its
memory and its crashes stay in here. Imports neither mlflow nor pandas. Not covered: the socket has no password, so it
must lie in a folder that only its user can enter.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from modelyard.clock import SystemClock
from modelyard.errors import ModelyardError
from modelyard.serving.jobs import QUEUE, Opened, Server
from modelyard.wiring import open_release

_PR_SET_PDEATHSIG = 1


class Opener(Protocol):
    """Opens a release: `wiring.open_release`."""

    def __call__(self, folder: Path, *, project: Path | None, target: str | None) -> Opened: ...


class _Stop(BaseException):
    """SIGTERM arrived. Raised in the main thread, wherever that is."""


def _stop(signum: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Stop


def die_with(parent: int) -> None:
    """End this process when its parent ends, however that ends: at once on Linux, within a second elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main(argv: Sequence[str] | None = None, opener: Opener = open_release) -> int:
    """Open, listen, answer, until SIGTERM. A release that does not open is one line on stderr and the error's code."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, _stop)
    try:
        if args.parent is not None:
            die_with(args.parent)
        opened = opener(args.release, project=args.project, target=args.target)
        gc.freeze()  # the model is there to stay: looking through it again and again would free nothing
        return _serve(opened, args)
    except _Stop:
        return 0
    except ModelyardError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _serve(opened: Opened, args: argparse.Namespace) -> int:
    server = Server(opened, args.threads, SystemClock(), args.queue, discreet=args.discreet)
    path: Path = args.socket
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        try:
            server.serve(listener)
        except _Stop:
            path.unlink(missing_ok=True)
    if not server.drain(args.drain):
        os._exit(1)  # a thread that does not come back would keep the interpreter from ending
    opened.close()
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m modelyard.worker", description="Serve one release on a socket.")
    parser.add_argument("--release", type=Path, required=True, help="the release's folder")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen; less than 100 bytes long")
    parser.add_argument("--project", type=Path, help="the project it is served from")
    parser.add_argument("--target", help="the target it is served from")
    parser.add_argument("--threads", type=int, default=8, help="requests answered at a time")
    parser.add_argument("--discreet", action="store_true", help="log nothing of what was asked, also where it failed")
    parser.add_argument("--queue", type=int, default=QUEUE, help="requests that may wait beyond those")
    parser.add_argument("--drain", type=float, default=30.0, help="seconds for requests under way when it is stopped")
    parser.add_argument("--parent", type=int, help="process id to end with")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
