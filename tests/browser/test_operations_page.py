"""The operations page in a real browser: without scripts, with them, and what its buttons do."""

from __future__ import annotations

import pytest
from chrome import CHROMIUM, Chrome, Page
from test_page import CONTRAST
from town import Gateway, Town, eventually
from yard import configured, examined, judged, serving

import modelyard

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

SHOWN = "document.querySelector('.endpoint')"


def two(town: Town) -> tuple[str, str]:
    """An old champion and the new one, judged both."""
    old, new = judged(town, "old: "), judged(town, "new: ")
    town.point(old)
    town.point(new, previous=old)
    return old, new


def warm(gateway: Gateway) -> None:
    eventually(lambda: len(gateway.http.get("/ready").json()["warm"]) == 2, "both to be warm")


def roll_back(page: Page, why: str) -> None:
    page.click("details.act summary")
    page.js("document.querySelector('details.act input[name=why]').focus()")
    page.type(why)
    page.click("details.act button")


def test_without_scripts_it_shows_all_and_rolls_back(town: Town, chrome: Chrome) -> None:
    old, new = two(town)
    with serving(town) as gateway:
        warm(gateway)
        page = chrome.page(f"{gateway.url}/ops", scripts=False)
        page.until(SHOWN)
        assert page.text(".releases tbody th") == [new[:12], old[:12]]
        roll_back(page, "by hand")
        page.until(f"document.querySelector('.moves td')?.innerText === '3' && {SHOWN}")
        assert page.text(".releases tbody th") == [old[:12], new[:12]]
        assert gateway.http.get("/ready").json()["release"] == old
    assert town.ledger.history("town")[0].why == "by hand"


def test_with_scripts_it_keeps_up_and_asks_before_it_acts(town: Town, chrome: Chrome) -> None:
    examined(town)
    old, new = two(town)
    with serving(town) as gateway:
        warm(gateway)
        page = chrome.page(f"{gateway.url}/ops")
        page.until(SHOWN)
        gateway.ask("how much?")
        page.until("document.querySelectorAll('.requests tbody tr').length === 1")  # by itself
        page.click("form[data-act=drill] button")
        page.until("document.querySelector('#said').innerText.includes('answered 1 of 1 questions')")
        page.click("a[data-details]")
        page.until("document.querySelector('#details').open && document.querySelector('#details pre')")
        assert "how much?" in page.text("#details pre")[0] and page.js("location.pathname") == "/ops"
        page.press("Escape")
        page.until("!document.querySelector('#details').open")
        assert town.ledger.pointers("town").champion == new  # nothing was rolled back by any of it
        roll_back(page, "slow")
        page.until(f"document.querySelector('#said').innerText.startsWith('Release {old[:12]} answers now')")
        page.until("document.querySelector('.moves td').innerText === '3'")
        assert page.js("document.querySelector('details.act').open") is False
    page.until("document.querySelector('#fresh').innerText.includes('does not answer')")


def test_a_token_is_asked_for_and_must_be_one_that_may_operate(town: Town, chrome: Chrome) -> None:
    release = town.release("a: ")
    town.point(release)
    with town.gateway(token="a-token") as gateway:
        eventually(lambda: gateway.http.get("/ready").status_code == 200, "ready")
        page = chrome.page(f"{gateway.url}/ops")
        page.until("document.querySelector('#login').open")
        assert release[:12] not in page.js("document.body.textContent")
        page.type("a-token")
        page.press("Enter")
        page.until(SHOWN)
        assert page.text(".releases tbody th") == [release[:12]]


@pytest.mark.parametrize("dark", [False, True])
def test_everything_fits_has_a_name_and_can_be_read(town: Town, chrome: Chrome, dark: bool) -> None:
    configured(town, "rollout: {shadow: false, steps: [50, 100], min_units: 1000, look_every: 100ms, settle: 100ms}\n")
    old, new = judged(town, "old: "), judged(town, "new: ")
    town.point(old)
    with serving(town) as gateway, modelyard.open(town.root) as project:
        project.canary(new)
        eventually(project.under_way, "the gateway to have it in mind")
        for question in ("how much?", "bug", "refuse"):
            gateway.ask(question)
        eventually(lambda: (project.under_way() or {}).get("tests"), "a look at it")
        for width in (360, 1100):
            page = chrome.page(f"{gateway.url}/ops", width=width, height=740, dark=dark)
            page.until("document.querySelector('.tests')")
            page.click("details.act summary")
            assert page.js("document.documentElement.scrollWidth") <= width
            assert page.unnamed() == [] and page.js(CONTRAST) == []
            page.click("a[data-details]")
            page.until("document.querySelector('#details').open")
            assert page.unnamed() == [] and page.js(CONTRAST) == []
