"""What a run tells of how far it is, at a terminal and without one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable

import pytest

from modelyard.cli.progress import Bars
from modelyard.clock import FakeClock
from modelyard.workloads.chatbot.tally import Tally

from .conftest import Story


def test_a_run_says_how_many_pages_of_how_many_documents_it_read(fresh: Callable[[], Story]) -> None:
    story = fresh()
    (story.documents / "broken.pdf").write_bytes(b"\x89PNG\r\n\x1a\n")
    said = [line for line in story("run").err.splitlines() if line.startswith(("read:", "embed:"))]
    assert [line.rpartition(" in ")[0] for line in said] == ["embed: 7 passages", "read: 7 pages (3 of 3 documents)"]


def test_without_a_terminal_a_line_comes_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    bars = Bars(clock=clock)
    with bars.bar("read", None, "pages") as read, bars.bar("embed", None, "passages") as embed:
        tally = Tally(read, {"a.pdf": 1_000, "b.pdf": 6_000, "c.zip": 1_000})
        for document in ("a.pdf", "b.pdf"):
            for _ in range(40):
                tally.pages(5)
                clock.advance(0.25)
                embed.advance(100)
            tally.done([document])
            clock.advance(0.5)
        tally.found("c.zip/d.pdf", 2_000)
        tally.done(["c.zip"])
        clock.advance(9.5)
        embed.advance(500)
    assert capsys.readouterr().err.splitlines() == [
        "read: 200 pages (0 of 3 documents), 20/s",
        "read: 390 pages (1 of 3 documents), 20/s, 60 s left",
        "read: 400 pages (3 of 4 documents), 13/s",
        "embed: 8,500 passages in 30.5 s",
        "read: 400 pages (3 of 4 documents) in 30.5 s",
    ]


def test_a_count_that_tells_all_says_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    with Bars(clock=clock).bar("index", None, "passages") as bar:
        bar.total(30_000)
        clock.advance(10)
        bar.advance(4_000)
    assert capsys.readouterr().err.splitlines() == [
        "index: 4,000 of 30,000 passages, 400/s, 65 s left",
        "index: 4,000 passages in 10.0 s",
    ]


WATCHED = """
from modelyard.cli.progress import Bars
from modelyard.clock import FakeClock
from modelyard.workloads.chatbot.tally import Tally
clock = FakeClock()
bars = Bars(clock=clock)
with bars.bar("read", None, "pages") as read, bars.bar("embed", None, "passages") as embed:
    tally = Tally(read, {"a.pdf": 1_000, "b.pdf": 3_000})
    tally.pages(50)
    clock.advance(60.0)
    embed.advance(100)
    tally.done(["a.pdf"])
    bars._rich.refresh()
"""


def test_at_a_terminal_pages_documents_rate_and_time_left_are_shown() -> None:
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", WATCHED], stderr=child, stdout=child, env=environment)
    os.close(child)
    said = b""
    while True:
        try:
            block = os.read(parent, 4096)
        except OSError:
            break
        if not block:
            break
        said += block
    os.close(parent)
    assert process.wait() == 0, said.decode()
    shown = said.decode()
    assert "50 pages (1 of 2 documents), 0.8/s, 3 min left" in shown and "100 passages" in shown
    assert "read: 50 pages (1 of 2 documents) in 60.0 s" in shown
