"""A loaded release answers without mlflow and pandas, whatever they are imported by on the side."""

from __future__ import annotations

import subprocess
import sys

from tests.story.conftest import Story

PROBE = """
import sys
from pathlib import Path
from modelyard.clock import SystemClock
from modelyard.ports.workload import Call
from modelyard.serving.answer import answer
from modelyard.wiring import open_release
with open_release(Path(sys.argv[1])) as opened:
    request = {"messages": [{"role": "user", "content": "How many days of leave may be carried over?"}]}
    assert answer(opened, request, Call(SystemClock(), "probe")).text
    assert opened.predictor.search("hotel", 2)
print([name for name in ("mlflow", "pandas") if name in sys.modules])
"""


def test_a_loaded_release_imports_neither_mlflow_nor_pandas(house: Story) -> None:
    folder = house("release", "show", "champion", "--json").json["folder"]
    done = subprocess.run([sys.executable, "-c", PROBE, folder], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
