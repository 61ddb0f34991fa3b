"""The chat page in a real browser: what it shows, what its keys do, and what reaches the gateway."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from chrome import CHROMIUM, Chrome, Page
from town import Gateway, Town, eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

READY = "document.querySelector('#serving code')"
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = [];
  while (texts.nextNode()) {
    const text = texts.currentNode, e = text.parentElement;
    if (!text.data.trim() || !e.checkVisibility() || e.closest(".hidden, .skip, svg, [disabled]")) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${text.data.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return low;
})()"""
"""Texts whose contrast is under what WCAG asks of small ones."""


def ask(page: Page, question: str) -> None:
    page.until(READY)
    page.js("document.querySelector('#question').focus()")
    page.type(question)
    page.press("Enter")


def answered(page: Page, count: int = 1) -> None:
    page.until(f"document.querySelectorAll('.thumb.up').length === {count}")


def outside(page: Page) -> None:
    """The focus on nothing, where single keys count."""
    page.js("document.activeElement.blur()")


def test_a_question_is_answered_with_a_citation_that_opens_its_page(served: Gateway, chrome: Chrome) -> None:
    page = chrome.page(f"{served.url}/#q={quote('how much?')}&open=1")
    page.until("document.querySelector('#sheet img')?.complete")
    assert page.text(".asked") == ["how much?"]
    assert page.text(".statement")[0].startswith("you said: how much?")
    assert page.text(".unproven") == ["unproven"]
    assert page.js("document.querySelector('#sheet img').alt").startswith("Page 2 of a folder/travel \u2603.pdf")
    assert page.text("#page-quote") == ["145 euros"]
    assert page.js("document.querySelector('#sheet img').src").startswith("blob:")
    asked = page.js("performance.getEntriesByType('resource').map((one) => decodeURIComponent(one.name)).join(' ')")
    assert "/pages/picture" in asked and not any(word in asked for word in ("much", "145", "travel"))
    release = served.http.get("/ready").json()["release"]
    assert f"release {release[:12]}" in page.text(".foot")[0]


def test_nothing_of_an_answer_becomes_markup(town: Town, chrome: Chrome) -> None:
    town.point(town.release("<b>bold</b> <script>document.title = 'owned'</script>"))
    with town.gateway() as gateway:
        gateway.until_ready()
        page = chrome.page(gateway.url)
        ask(page, "<img src=x onerror=\"document.title = 'owned'\"><a href='javascript:alert(1)'>x</a>")
        answered(page)
        assert page.js("document.title") == "town"
        assert page.js("document.querySelectorAll('.turn b, .turn img, .turn a, .turn script').length") == 0
        assert page.text(".statement")[0].startswith("<b>bold</b> <script>")


def test_a_thumb_and_a_comment_are_on_record_by_keys_alone(town: Town, chrome: Chrome) -> None:
    town.point(town.release("you said: "))
    with town.gateway() as gateway:
        gateway.until_ready()
        page = chrome.page(gateway.url)
        ask(page, "how much?")
        answered(page)
        outside(page)
        page.press("u")
        page.until("document.querySelector('.thumb.up').getAttribute('aria-pressed') === 'true'")
        outside(page)
        page.press("d")
        page.until("document.querySelector('.thumb.down').getAttribute('aria-pressed') === 'true'")
        assert page.js("document.querySelector('.thumb.up').getAttribute('aria-pressed')") == "false"
        outside(page)
        page.press("c")
        page.until("document.activeElement.matches('.remark textarea')")
        page.type("<b>that is last year's</b>")
        page.press("Tab")
        page.press("Enter")
        page.until("!document.querySelector('.remark')")
        assert page.text(".said") == ["Noted, thank you."]
        assert eventually(lambda: gateway.http.get("/ops/api/state").json()["record"]["outcomes"] == 3, "outcomes")


def test_a_conversation_keeps_its_name_and_a_new_one_gets_another(served: Gateway, chrome: Chrome) -> None:
    page = chrome.page(served.url)

    def units() -> list[str]:
        return [one["unit"] for one in served.http.get("/ops/api/state").json()["endpoints"][0]["requests"]]

    before = len(units())
    for number, question in enumerate(("one", "two"), 1):
        ask(page, question)
        answered(page, number)
    outside(page)
    page.press("n")
    page.until("document.querySelectorAll('.turn').length === 0 && document.activeElement.id === 'question'")
    ask(page, "one")
    answered(page)
    other, second, first = units()[: len(units()) - before]
    assert first == second != other


def test_keys_do_nothing_while_one_writes_and_nothing_when_they_are_off(served: Gateway, chrome: Chrome) -> None:
    page = chrome.page(served.url)
    ask(page, "how much?")
    answered(page)
    page.js("document.querySelector('#question').focus()")
    for key in "nud?":
        page.press(key)
    assert page.js("document.querySelector('#question').value") == "nud?"
    page.js("document.querySelector('#question').value = ''")
    page.press("ArrowUp")
    assert page.js("document.querySelector('#question').value") == "how much?"
    outside(page)
    page.press("?")
    page.until("document.querySelector('#help').open")
    page.js("document.querySelector('#keys').click()")
    page.press("Escape")
    page.until("!document.querySelector('#help').open")
    outside(page)
    page.press("n")
    assert page.js("document.querySelectorAll('.turn').length") == 1
    page.js("document.querySelector('#keys').click()")


def test_refusals_and_failures_are_shown_as_what_they_are(served: Gateway, chrome: Chrome) -> None:
    page = chrome.page(served.url)
    ask(page, "refuse this")
    answered(page)
    assert page.js("document.querySelectorAll('.answer.refused').length") == 1
    assert page.js("document.querySelectorAll('.chip').length") == 0
    ask(page, "later-bug")
    page.until("document.querySelector('.trouble.wait')")
    assert page.text(".turn:last-child .statement") == ["so far "]
    assert page.text(".trouble")[0].startswith("the remote model went away Try again")
    ask(page, "bug")
    page.until("document.querySelector('.trouble:not(.wait)')")
    assert "secret detail" not in page.js("document.body.innerText")


def test_where_too_much_is_asked_it_says_when_to_try_again(town: Town, chrome: Chrome) -> None:
    town.point(town.release("you said: "))
    with town.gateway(limits={"threads": 1, "queue": 0}) as gateway:
        gateway.until_ready()
        busy, page = chrome.page(gateway.url), chrome.page(gateway.url)
        ask(busy, "slow 1000")
        busy.until("document.querySelector('.statement')?.innerText.length > 3")
        ask(page, "how much?")
        page.until("document.querySelector('.trouble.wait')")
        again = "document.querySelector('button.again')"
        assert page.js(f"{again}.getAttribute('aria-disabled')") == "true" and "Try again in" in page.text(".again")[0]
        busy.press("Escape")  # stops the answer, and lets go of the worker
        busy.until("document.querySelector('.foot')?.innerText === 'Stopped.'")
        page.until(f"{again}.getAttribute('aria-disabled') === 'false'")
        page.click("button.again")
        answered(page)
        assert page.text(".asked") == ["how much?"] and page.text(".trouble") == []


def test_a_token_is_asked_for(town: Town, chrome: Chrome) -> None:
    town.point(town.release("you said: "))
    with town.gateway(token="a-token") as gateway:
        eventually(lambda: gateway.http.get("/ready").status_code == 200, "ready")
        page = chrome.page(gateway.url)
        for token, words in (("wrong", "That token was not accepted."), ("a-token", "")):
            page.until("document.querySelector('#login').open")
            page.type(token)
            page.press("Enter")
            page.until(f"document.querySelector('#login-why').innerText === {json.dumps(words)}" if words else READY)
        assert not page.js("document.querySelector('#login').open")
        ask(page, "how much?")
        answered(page)


def test_nothing_deployed_is_said(town: Town, chrome: Chrome) -> None:
    with town.gateway() as gateway:
        page = chrome.page(gateway.url)
        page.until("document.querySelector('.badge.down')")
        assert page.text("#serving .badge") == ["not ready"]
        assert "nothing is deployed as town yet" in page.text("#serving")[0]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1100])
def test_everything_fits_has_a_name_and_can_be_read(served: Gateway, chrome: Chrome, width: int, dark: bool) -> None:
    page = chrome.page(served.url, width=width, height=740, dark=dark)
    ask(page, "how much?")
    answered(page)
    outside(page)
    page.press("c")
    page.until("document.querySelector('.remark')")
    ask(page, "later-bug")
    page.until("document.querySelector('.trouble')")
    assert page.js("document.documentElement.scrollWidth") <= width
    assert page.unnamed() == [] and page.js(CONTRAST) == []
    page.click("button.chip")
    page.until("document.querySelector('#sheet img')?.complete")
    assert page.js("document.documentElement.scrollWidth") <= width
    assert page.unnamed() == [] and page.js(CONTRAST) == []
    # Where the page covers the conversation, nothing behind it is reached.
    assert page.js("document.querySelector('#talk').inert") is (width == 360)
    page.press("Escape")
    page.until("document.querySelector('#page').hidden && document.activeElement.matches('.chip')")
    outside(page)
    page.press("?")
    page.until("document.querySelector('#help').open")
    assert page.unnamed() == [] and page.js(CONTRAST) == []
