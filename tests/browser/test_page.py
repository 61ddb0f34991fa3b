"""The chat page in a real browser: what it shows once its scripts have run."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import pytest
from town import Gateway, Town

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


def dom(gateway: Gateway, profile: Path, **query: str) -> str:
    """The page's elements after it came to rest."""
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *quiet, f"--user-data-dir={profile}"]
    url = f"{gateway.url}/?{urlencode(query)}"
    command = [str(CHROMIUM), *flags, "--virtual-time-budget=20000", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def texts(page: str, name: str) -> list[str]:
    """The text of elements with this class, tags taken out."""
    found = re.findall(rf'<(\w+)[^>]*class="[^"]*\b{name}\b[^"]*"[^>]*>(.*?)</\1>', page, re.DOTALL)
    return [unescape(re.sub(r"<[^>]*>", "", inner)) for _, inner in found]


def test_a_question_is_answered_with_a_citation_that_opens_its_page(town: Town, tmp_path: Path) -> None:
    town.point(town.release("you said: ", state="unproven"))
    with town.gateway() as gateway:
        gateway.until_ready()
        page = dom(gateway, tmp_path / "profile", q="how much?", open="1")
    assert texts(page, "asked") == ["how much?"]
    assert texts(page, "statement") == ["you said: how much? travel \u2603.pdfp. 2"]
    assert texts(page, "unproven") == ["unproven"]
    assert re.search(r'<div class="sheet"[^>]*><img alt="Page 2 of a folder/travel \u2603.pdf', page)
    assert '<blockquote id="page-quote">145 euros</blockquote>' in page
    assert 'src="blob:' in page


def test_nothing_of_an_answer_becomes_markup(town: Town, tmp_path: Path) -> None:
    town.point(town.release("<b>bold</b> <script>document.title = 'owned'</script>"))
    with town.gateway() as gateway:
        gateway.until_ready()
        attack = "<img src=x onerror=\"document.title = 'owned'\"><a href='javascript:alert(1)'>x</a>"
        page = dom(gateway, tmp_path / "profile", q=attack)
    assert "<title>town</title>" in page
    assert "<b>bold" not in page and "<img src=" not in page and "<a href=" not in page
    assert texts(page, "statement")[0].startswith("<b>bold</b> <script>")


def test_refusals_and_failures_are_shown_as_what_they_are(town: Town, tmp_path: Path) -> None:
    town.point(town.release(""))
    with town.gateway() as gateway:
        gateway.until_ready()
        refused = dom(gateway, tmp_path / "one", q="refuse this")
        failed = dom(gateway, tmp_path / "two", q="later-bug")
    assert re.search(r'class="answer refused"', refused) and texts(refused, "chip") == []
    assert texts(failed, "trouble") == ["the remote model went awayTry again"]
    assert texts(failed, "statement") == ["so far "]


def test_a_token_is_asked_for(town: Town, tmp_path: Path) -> None:
    town.point(town.release(""))
    with town.gateway(token="a-token") as gateway:
        gateway.until_ready()
        page = dom(gateway, tmp_path / "profile")
    assert re.search(r'<dialog id="login"[^>]* open', page)


def test_nothing_deployed_is_said(town: Town, tmp_path: Path) -> None:
    with town.gateway() as gateway:
        page = dom(gateway, tmp_path / "profile")
    assert texts(page, "down") == ["not ready"]
    assert "nothing is deployed as town yet" in page
