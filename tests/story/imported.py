"""The command line in a process that has imported what commands import: of most runs in tests that is the larger part.

    python -m tests.story.imported SOCKET

A line on a connection is a call: {arguments, folder, environment, out, err}; its exit code comes back. Each is a fork
of this process, with a folder, environment, output, threads and an end of its own. Ends when its stdin is closed.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

COMMANDS = ("cli.ask", "cli.run", "lifecycle.run", "wiring.opening", "workloads.chatbot.workload")
ADAPTERS = ("engine_local", "registry_mlflow", "registry_mlflow_model", "tables_delta")


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
    path = tempfile.mkdtemp() + "/socket"
    command = [sys.executable, "-m", "tests.story.imported", path]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None and server.stdout is not None
    atexit.register(server.stdin.close)
    assert server.stdout.readline() == b"ready\n"
    return path


def _serve(path: str) -> None:
    """Comes back in the process that is to be the command, as it."""
    before = set(os.environ)
    for name in (*COMMANDS, *(f"adapters.{each}" for each in ADAPTERS)):
        importlib.import_module(f"modelyard.{name}")
    importlib.import_module("mlflow.pyfunc")
    gc.freeze()  # to look through it would copy it
    added = {name: value for name, value in os.environ.items() if name not in before}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
                os._exit(0)
            connection, _ = listener.accept()
            if (waits := os.fork()) == 0:
                break
            connection.close()
            os.waitpid(waits, 0)
    with connection, connection.makefile("rb") as lines:
        asked = json.loads(lines.readline())
        # Twice, so that this process has nobody to wait for.
        if os.fork() != 0:
            os._exit(0)
        if (command := os.fork()) != 0:
            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]))
            os._exit(0)
    _become(asked, added)


def _become(asked: Mapping[str, Any], added: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(added | asked["environment"])
    os.chdir(asked["folder"])
    streams = [os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("out", "err")]
    for number, stream in enumerate([os.open(os.devnull, os.O_RDONLY), *streams]):
        os.dup2(stream, number)
        os.close(stream)
    sys.argv, sys.path[0] = ["modelyard", *asked["arguments"]], asked["folder"]


if __name__ == "__main__":
    _serve(sys.argv[1])
    from modelyard.cli.main import main

    main()
