"""The same loop on real filings: tables of a hundred rows, and questions nobody wrote for us."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.story.conftest import Story

pytestmark = [pytest.mark.realdata, pytest.mark.timeout(900)]
SMALL = 8
"""Filings in the project: the smallest ones, so that the check takes a minute or two."""


@pytest.fixture(scope="module")
def filings(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    root = tmp_path_factory.mktemp("filings") / "filings"
    subprocess.run([sys.executable, "-m", "modelyard", "init", str(root)], check=True, capture_output=True)
    for path in sorted((realdata / "filings" / "pdfs").glob("*.pdf"), key=lambda p: p.stat().st_size)[:SMALL]:
        shutil.copy(path, root / "documents")
    story = Story(root)
    subprocess.run([sys.executable, "-m", "modelyard", "run"], cwd=root, check=False, capture_output=True, timeout=850)
    return story


def test_every_filing_is_read_and_none_is_quarantined(filings: Story) -> None:
    status = filings("data", "status", "--json").json
    assert len(status) == SMALL and {row["state"] for row in status} == {"ready"}
    assert all(row["pages"] and row["chunks"] and row["words"] > 100 for row in status)
    assert filings("data", "quarantine", "--json").json == []


def test_the_generated_exam_is_large_enough_and_judged(filings: Story) -> None:
    evidence = filings("evaluate", "--json", code=None).json["evidence"]  # the exit code is the verdict
    assert evidence["by_slice"]["answerable"] >= 30 and evidence["by_slice"]["unanswerable"] >= 10
    assert evidence["metrics"]["citation_validity"]["value"] == 1.0 and not evidence["unscored"]


def test_answers_cite_pages_that_hold_their_quotes(filings: Story) -> None:
    questions = [
        "What was PepsiCo's net revenue in the first quarter of 2023?",
        "What is the effective tax rate of Johnson & Johnson?",
        "How many dragons does the company own?",
    ]
    answers = filings.answers(*questions)
    assert answers[-1]["refused"]
    for answer in answers:
        assert answer["refused"] == (not answer["citations"])
        for citation in answer["citations"]:
            assert citation["page"] >= 1 and citation["quote"].strip()
