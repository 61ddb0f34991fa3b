"""What the documentation says is done: its commands run, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(<!-- not run[^>]*-->\n)?```sh\n(.*?)```", re.DOTALL)


def commands(path: Path) -> list[str]:
    return [body for skipped, body in BLOCK.findall(path.read_text(encoding="utf-8")) if not skipped]


@pytest.mark.proof
@pytest.mark.parametrize("name", ["docs/tutorial.md", "README.md"])
def test_the_commands_of_a_page_run(name: str, tmp_path: Path) -> None:
    blocks = commands(ROOT / name)
    assert blocks
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HANDBOOK": str(ROOT / "examples/handbook"),
    }
    script = "set -eu\n" + "\n".join(blocks)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_the_tutorial_s_workload_is_as_short_as_it_says() -> None:
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    code = re.search(r"<<'PYTHON'\n(.*?)\nPYTHON", text, re.DOTALL)
    assert code and len(code[1].splitlines()) <= 80


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_dependency_has_its_reason() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    reasons = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").lower()
    wanted = project["project"]["dependencies"] + [
        d for e in project["project"]["optional-dependencies"].values() for d in e
    ]
    wanted += project["dependency-groups"]["dev"] + project["build-system"]["requires"]
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9_.-]+", requirement)
        assert name and f"`{name[0].lower()}`" in reasons, f"docs/dependencies.md says nothing of {requirement}"
