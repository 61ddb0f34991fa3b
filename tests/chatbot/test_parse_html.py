"""HTML: what a browser would show, as sections."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.html import read_html

from .reading import read, reason, texts


def page(body: str) -> list[str]:
    return texts("a.html", f"<!doctype html><body>{body}".encode())


def test_headings_make_pages_and_what_is_not_shown_is_left_out() -> None:
    content = b"""<!DOCTYPE html><html><head><title>Rules of the house</title><style>p {color: red}</style></head><body>
    <nav><ul><li>Home</ul></nav><div role="navigation">Up</div><script>var secret = 1;</script>
    <h1>Rules</h1><p>Keys are <b>handed</b>&nbsp;back by 10:30 &ndash; <a href="/x">at the desk</a>.
    <p hidden>hidden</p><p style="color: red; DISPLAY : none">none</p><template>later</template>
    <h2>Dogs</h2>Dogs pay 5&euro;<br>a day.<!-- no --><select><option>choose</select>
    <footer>Imprint</footer>"""
    rows = read({"rules.html": content})
    assert [row["text"] for row in rows] == [
        "Rules\n\nKeys are handed back by 10:30 – at the desk.",
        "Dogs\n\nDogs pay 5€\na day.",
    ]
    assert [(row["title"], row["section"]) for row in rows] == [
        ("Rules of the house", "Rules"),
        ("Rules of the house", "Rules > Dogs"),
    ]


def test_lists_keep_their_marks() -> None:
    [text] = page(
        "<ul><li>one<li>two<ol start=3><li>a<li><p>b</p><p>more</p></ol></ul><p>And"
        "<dl><dt>Term<dd>Meaning<dt>Other<dd>It"
    )
    assert text == "- one\n- two\n  3. a\n  4. b\n    more\n\nAnd\n\nTerm\nMeaning\n\nOther\nIt"


def test_rows_of_tables_are_lines_and_labels_hold_for_all_they_span() -> None:
    [text] = page(
        "<p>Before.<table><caption>Table 1. Fees</caption><thead><tr><th rowspan=2>Grade<th colspan=2>2024<th>2025</tr>"
        "<tr><th>Fee<th>Locker<th>Fee</tr></thead><tbody><tr><td>1 to 3<td>80<td>no<td>90<tr><td>4<td>120<td><td>130"
        "<tr><td colspan=4>From May<tr><td>5<td colspan=2>none<td>150</table><p>After."
    )
    assert text.split("\n") == [
        "Before.",
        "",
        "Table 1. Fees",
        "Grade\t2024 Fee\t2024 Locker\t2025 Fee",
        "1 to 3\t80\tno\t90",
        "4\t120\t\t130",
        "From May",
        "5\tnone\tnone\t150",
        "",
        "After.",
    ]


def test_columns_of_air_and_of_signs_are_no_columns() -> None:
    [text] = page(
        "<table><tr><td></td><td></td><td colspan=3>2024</td><td></td><td colspan=3>2023</td></tr>"
        "<tr><td>Net income<td><td>$<td>4,029<td><td><td>$<td>1,933<td></tr>"
        "<tr><td>Loss<td><td>$<td>(17<td>)<td><td>$<td>(22<td>)</tr></table>"
    )
    assert text == "\t2024\t2023\nNet income\t$4,029\t$1,933\nLoss\t$(17)\t$(22)"


def test_tables_that_lay_out_a_page_are_read_as_the_page() -> None:
    pages = page(
        "<table><tr><td><table><tr><td>A<td>1<tr><td>B<td>2</table><td><h2>News</h2><p>One.<p>Two.</table>"
        "<table><tr><td>Only words.</table>"
    )
    assert pages == ["A\t1\nB\t2", "News\n\nOne.\n\nTwo.\n\nOnly words."]


def test_a_raised_digit_is_a_note_and_not_part_of_the_value() -> None:
    assert page("<p>There are 285<sup>1</sup> boats on 3 m<sup>2</sup>.") == ["There are 285¹ boats on 3 m²."]


def test_broken_markup_reads_as_browsers_show_it() -> None:
    assert page("<p>one<b>two<p>three</i></b>four<div>five</p>six") == ["onetwo\n\nthreefour\n\nfive\n\nsix"]
    assert page("<table>stray<tr><td>a<td>b<tr><td>c<td>d") == ["stray\n\na\tb\nc\td"]
    assert page("a < b &amp;&lt; c &nonesuch; &#x41; &#0; &#xD800;") == ["a < b &< c &nonesuch; A � �"]


@pytest.mark.parametrize("name", ["iso-8859-1", "windows-1252", "utf-8", "koi8-r", "shift_jis", "utf-16"])
def test_text_is_read_in_the_encoding_that_is_declared(name: str) -> None:
    said = {"koi8-r": "Привет", "shift_jis": "日本語"}.get(name, "Grüße")
    [row] = read({"a.html": f"<meta charset='{name}'><p>{said}".encode(name)})
    assert row["text"] == said and row["quality"] == 1


def test_xhtml_whose_elements_end_themselves() -> None:
    content = (
        '<?xml version="1.0" encoding="iso-8859-1"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/>'
        '<script src="x.js"/></head><body><div class="a"/><h1>Fähre</h1><p>At noon.</p></body></html>'
    )
    assert texts("a.xhtml", content.encode("iso-8859-1")) == ["Fähre\n\nAt noon."]


def test_code_keeps_its_lines() -> None:
    assert page("<p>Run<pre>\nmake\n    all  # now\n</pre>") == ["Run\n\nmake\n    all  # now"]


def test_what_shows_nothing_says_so() -> None:
    assert reason("a.html", b"<script>go()</script>") == "it shows no text without its scripts"
    assert reason("a.html", b"<html><body> &nbsp; </body></html>") == "it holds no text"
    assert "binary data" in reason("a.html", bytes(range(256)) * 9)
    assert reason("a.html", b"PK\x03\x04") == "it is named .html but holds a ZIP archive or an Office document"


def test_nesting_without_end() -> None:
    deep = 10_000
    assert page("<div>" * deep + "down here") == ["down here"]
    assert page("<table><tr><th>x<td>" * deep + "down here")[0].endswith("down here")
    assert page("<ul><li>" * deep + "down here")[0].endswith("- down here")
    assert "nested more than 20,000 deep" in reason("a.html", b"<div>" * 300_000)


def test_spans_without_end_cost_what_the_table_holds() -> None:
    row = "<tr>" + "<td colspan=1000 rowspan=65534>x" * 50
    [row_] = read({"a.html": f"<table>{row * 50}</table>".encode()})
    assert "x" in row_["text"] and len(row_["text"]) < 3_000_000
    assert page(f"<table>{'<tr><td colspan=200>x<td>y' * 40}</table>") == ["\n".join(["x\ty"] * 40)]
    assert "longer than the limit of 1,000 characters" in reason("a.html", b"word " * 500, Limits(max_characters=1_000))


NAMES = "p div table tr td th ul ol li h1 h2 b a pre caption thead tbody dl dt dd sup br img body html section"
tags = st.sampled_from(NAMES.split())
pieces = st.one_of(
    tags.map(lambda tag: f"<{tag}>"),
    tags.map(lambda tag: f"</{tag}>"),
    st.sampled_from(["<td colspan=3>", "<td rowspan=0>", "<ol start=-9>", "<p hidden>", "&amp;", "<!--", "-->", "<"]),
    st.text(alphabet="abc é漢\t\n", max_size=12),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(pieces, max_size=40))
def test_no_mark_up_brings_the_reader_down_and_what_was_said_is_read(parts: list[str]) -> None:
    content = "<p>begin " + "".join(parts)
    try:
        reading = read_html(content.encode(), "a.html", Limits(), lambda _: None)
    except Unreadable:
        assert "<!--" in parts or "<" in parts
        return
    said = " ".join(page if isinstance(page, str) else page.text for page in reading.pages)
    if not {"<!--", "<", "<p hidden>"} & set(parts):
        plain = "".join(part if not part.startswith(("<", "&")) else " " for part in parts)
        missing = [word for word in plain.split() if not all(sign in said for sign in word)]
        assert said.startswith("begin") and not missing


def test_a_reader_is_imported_only_when_its_format_is_met() -> None:
    code = "import sys, modelyard.workloads.chatbot.reading.child; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "selectolax" not in loaded
    assert not [name for name in loaded if name.startswith("modelyard.") and name.endswith((".html", ".docx", ".pptx"))]
