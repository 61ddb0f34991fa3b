"""The worker process, spoken to over its socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.lifecycle.artifact import members, seal, workbench, write_snapshot
from modelyard.ports.records import Manifest, Snapshot
from modelyard.serving.wire import Decoder, Frame, encode


def echo(root: Path, prefix: str = "") -> Path:
    bench = workbench(root / "releases")
    (bench / "prefix.txt").write_text(prefix)
    write_snapshot(bench, Snapshot((), ""))
    manifest = Manifest("echo", 1, members(bench), "0" * 64, {"prefix": prefix})
    return seal(bench, manifest, root / "releases", root / "objects")


def asking(number: int, question: str, **more: Any) -> Frame:
    request = {"messages": [{"role": "user", "content": question}]}
    return {"id": number, "do": "predict", "request": request, "key": "k", "timeout": 30, "stream": False, **more}


class Running:
    """A worker process and connections to it."""

    def __init__(self, release: Path, *more: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="w-", dir="/tmp")
        self.socket = Path(self._folder.name) / "s"
        command = [sys.executable, "-m", "modelyard.worker", "--release", str(release), "--socket", str(self.socket)]
        self.process = subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True)
        self._decoders: dict[socket.socket, tuple[Decoder, list[Frame]]] = {}

    def connect(self) -> socket.socket:
        until = time.monotonic() + 60
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(self.socket))
                break
            except OSError:
                assert self.process.poll() is None and time.monotonic() < until
                time.sleep(0.01)
        sock.settimeout(30)
        self._decoders[sock] = (Decoder(), [])
        return sock

    def hear(self, sock: socket.socket) -> Frame:
        decoder, frames = self._decoders[sock]
        while not frames:
            data = sock.recv(1 << 16)
            if not data:
                raise EOFError
            frames += decoder.feed(data)
        return frames.pop(0)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        for sock in self._decoders:
            sock.close()
        self._folder.cleanup()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    worker = Running(echo(tmp_path, "echo: "))
    yield worker
    worker.close()


def test_it_says_what_it_is_and_answers_many_requests_on_one_connection(running: Running, tmp_path: Path) -> None:
    sock = running.connect()
    sock.sendall(encode({"id": 7, "do": "ping"}))
    about = running.hear(sock)["result"]
    assert about["accepts"] == ["messages"] and len(about["release"]) == 64
    assert about["search"] is False and about["picture"] is False
    sock.sendall(b"".join(encode(asking(n, f"question {n}")) for n in range(50)))
    answers = {frame["id"]: frame["response"]["text"] for frame in (running.hear(sock) for _ in range(50))}
    assert answers == {n: f"echo: question {n}" for n in range(50)}


def test_it_streams_when_asked_to(running: Running) -> None:
    sock = running.connect()
    sock.sendall(encode(asking(1, "one two", stream=True)))
    frames = [running.hear(sock)]
    while "delta" in frames[-1]:
        frames.append(running.hear(sock))
    assert "".join(f["delta"] for f in frames[:-1]) == frames[-1]["response"]["text"] == "echo: one two"
    assert len(frames) > 2


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (asking(1, " "), "RequestError"),
        (asking(1, "late", timeout=-1), "DeadlineExceeded"),
        ({"id": 1, "do": "search", "query": "q", "k": 3}, "NotFound"),
        ({"id": 1, "do": "picture", "document": "d", "page": 1, "quote": ""}, "NotFound"),
        ({"id": 1, "do": "dance"}, "ModelyardError"),
    ],
)
def test_errors_travel_with_their_kind(running: Running, frame: Frame, kind: str) -> None:
    sock = running.connect()
    sock.sendall(encode(frame))
    assert running.hear(sock)["error"]["kind"] == kind


def test_noise_on_one_connection_leaves_the_others_alone(running: Running) -> None:
    good, bad = running.connect(), running.connect()
    bad.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert bad.recv(10) == b""
    good.sendall(encode(asking(1, "still there?")))
    assert running.hear(good)["response"]["text"] == "echo: still there?"


def test_sigterm_ends_it_in_order(running: Running) -> None:
    running.connect()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0
    assert not running.socket.exists()


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    release = echo(tmp_path)
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as folder:
        path = Path(folder) / "s"
        worker = [sys.executable, "-m", "modelyard.worker", "--release", str(release), "--socket", str(path)]
        script = (
            "import os, subprocess, sys, time\n"
            f"child = subprocess.Popen({worker!r} + ['--parent', str(os.getpid())])\n"
            f"while not os.path.exists({str(path)!r}): time.sleep(0.01)\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.communicate()
        until = time.monotonic() + 30
        while _alive(child):
            assert time.monotonic() < until
            time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_release_that_does_not_open_is_one_line_and_its_exit_code(tmp_path: Path) -> None:
    release = echo(tmp_path, "before")
    (release / "prefix.txt").chmod(0o644)
    (release / "prefix.txt").write_text("after")
    command = [sys.executable, "-m", "modelyard.worker", "--release", str(release), "--socket", str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 9
    assert done.stderr.count("\n") == 1 and "prefix.txt" in done.stderr


def test_it_imports_neither_mlflow_nor_pandas() -> None:
    script = (
        "import sys, modelyard.worker, modelyard.wiring.opening, modelyard.workloads.echo\n"
        "print([m for m in ('mlflow', 'pandas', 'starlette', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
