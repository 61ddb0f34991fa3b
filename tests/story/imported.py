"""The command line in a process that has imported what commands import: of most runs in tests that is the larger part.

    python -m tests.story.imported SOCKET

A line on a connection is a call: {arguments, folder, environment, out, err}; its exit code comes back. Each is a fork
of this process, with a folder, environment, output, threads and an end of its own. A call whose connection is closed is
killed, and with its stdin this process ends.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

COMMANDS = ("cli.ask", "cli.run", "lifecycle.run", "wiring.opening", "workloads.chatbot.workload")
ADAPTERS = ("engine_local", "registry_mlflow", "registry_mlflow_model", "tables_delta")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def call(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of the command line would give."""
    with tempfile.TemporaryDirectory() as spare, socket.socket(socket.AF_UNIX) as connection:
        out, err = Path(spare) / "out", Path(spare) / "err"
        asked = {"arguments": arguments, "folder": str(folder), "environment": dict(environment)}
        connection.settimeout(150)
        connection.connect(_server())
        connection.sendall(json.dumps({**asked, "out": str(out), "err": str(err)}).encode() + b"\n")
        code = int(connection.makefile().readline())
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


@cache
def _server() -> str:
    folder = tempfile.TemporaryDirectory()
    path = f"{folder.name}/socket"
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **ONE_THREAD},
    )
    atexit.register(folder.cleanup)
    atexit.register(server.communicate)
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    return path


def _serve(path: str) -> None:
    """Comes back in the process that is to be the command, as it."""
    before = set(os.environ)
    for name in (*COMMANDS, *(f"adapters.{each}" for each in ADAPTERS)):
        importlib.import_module(f"modelyard.{name}")
    importlib.import_module("mlflow.pyfunc")
    added = {name: value for name, value in os.environ.items() if name not in before}
    gc.freeze()  # to look through it would copy it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        # Only the thread that forks goes on in a fork; jemalloc starts its own again.
        tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
        assert {(task / "comm").read_text() for task in tasks} <= {"jemalloc_bg_thd\n"}
        print("ready", flush=True)
        while True:
            if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
                os._exit(0)
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection, connection.makefile("rb") as lines:
        asked = json.loads(lines.readline())
        if (command := os.fork()) != 0:
            _watch(command, connection)
    os.environ.clear()
    os.environ.update(added | asked["environment"])
    os.chdir(asked["folder"])
    streams = [os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("out", "err")]
    for number, stream in enumerate([os.open(os.devnull, os.O_RDONLY), *streams]):
        os.dup2(stream, number)
        os.close(stream)
    sys.argv, sys.path[0] = ["modelyard", *asked["arguments"]], asked["folder"]


def _watch(command: int, connection: socket.socket) -> None:
    if connection in select.select([connection, os.pidfd_open(command)], [], [])[0]:
        os.kill(command, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    with suppress(OSError):
        connection.sendall(b"%d\n" % code)
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1])
    from modelyard.cli.main import main

    main()
