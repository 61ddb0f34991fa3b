"""Who serves a target: the lock says so, not what a killed process left behind."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.errors import Busy, StorageError, Unavailable
from modelyard.project.layout import Layout
from modelyard.serving.route import GatewayInfo, alive, ask_gateway, holding, publish

INFO = GatewayInfo("id", "http://127.0.0.1:9", 4711, "a secret")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path, "test")


def test_nobody_serves_a_new_target(layout: Layout) -> None:
    assert alive(layout) is None
    assert not layout.home.exists()


def test_while_it_is_held_the_holder_is_known_and_a_second_is_refused(layout: Layout) -> None:
    with holding(layout):
        assert alive(layout) is None  # not listening yet
        publish(layout, INFO)
        assert alive(layout) == INFO
        assert stat.S_IMODE(layout.serve_info.stat().st_mode) == 0o600
        with pytest.raises(Busy, match=r"process 4711 at http://127.0.0.1:9 serves target test"), holding(layout):
            pass
        assert alive(layout) == INFO
        with holding(Layout(layout.root, "prod")):
            assert alive(layout) == INFO
    assert alive(layout) is None
    assert not layout.serve_info.exists()


def test_what_a_killed_gateway_left_is_not_believed(layout: Layout) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from modelyard.project.layout import Layout\n"
        "from modelyard.serving.route import *\n"
        "layout = Layout(Path(sys.argv[1]), 'test')\n"
        "with holding(layout):\n"
        "    publish(layout, GatewayInfo('id', 'http://127.0.0.1:9', 1, 's'))\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(layout.root)])
    assert layout.serve_info.exists()
    assert alive(layout) is None
    with holding(layout):
        assert alive(layout) is None


def test_the_secret_is_not_shown() -> None:
    assert "a secret" not in repr(INFO)


def test_a_gateway_that_is_gone_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 does not answer"):
        ask_gateway(INFO, {"messages": []})


def test_a_folder_that_cannot_be_written_is_one_line(layout: Layout) -> None:
    layout.home.write_text("a file where a folder should be")
    with pytest.raises(StorageError), holding(layout):
        pass


def test_asking_needs_the_standard_library_only() -> None:
    script = (
        "import sys, modelyard.serving.route\n"
        "print([m for m in ('numpy', 'pyarrow', 'starlette', 'pydantic', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
