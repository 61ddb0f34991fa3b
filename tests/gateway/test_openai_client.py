"""OpenAI's own clients, unmodified: the one that is installed here, and those of other versions in environments of
their own. To have them: `make clients`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from town import Gateway

ROOT = Path(__file__).parents[2]
SESSION = Path(__file__).with_name("openai_session.py")
OTHERS = sorted(path.parents[1].name for path in ROOT.glob(".clients/*/bin/python"))


def counted(gateway: Gateway, status: int) -> int:
    """Requests to a model that were answered with `status`."""
    text = gateway.http.get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("modelyard_requests_total")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if f'status="{status}"' in line)


def session(python: str, gateway: Gateway) -> str:
    release = gateway.http.get("/ready").json()["release"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LANGCHAIN_"))}
    done = subprocess.run(
        [python, str(SESSION), gateway.url, release],
        capture_output=True,
        text=True,
        env={**clean, "NO_PROXY": "*", "no_proxy": "*", "LANGSMITH_TRACING": "false"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("which", ["here", *OTHERS])
def test_a_session_with_openais_client(served: Gateway, which: str) -> None:
    pytest.importorskip("openai")
    python = sys.executable if which == "here" else str(ROOT / ".clients" / which / "bin" / "python")
    failed, unavailable = counted(served, 500), counted(served, 503)
    said = session(python, served)
    assert re.match(r"openai \d+\.", said), said
    # One of the errors that the session makes, and one that it was told not to try again; one, and one more try.
    assert counted(served, 500) - failed == 2
    assert counted(served, 503) - unavailable == 2
