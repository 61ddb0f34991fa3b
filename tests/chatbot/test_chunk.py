"""Chunks: spans that rebuild the page, tables that keep their columns' names, headers that are never text."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelyard.workloads.chatbot.chunk import LONGEST, chunk_pages
from modelyard.workloads.chatbot.continued import with_heads
from modelyard.workloads.chatbot.reading.sentence import token_count
from modelyard.workloads.chatbot.schemas import CHUNKS, PAGES, prepare_version


def page(text: str, headings: list[tuple[int, int, int]] | None = None, **fields: Any) -> dict[str, Any]:
    path: list[str] = []
    structs = []
    for start, end, level in headings or []:
        path = [*path[: level - 1], text[start:end]]
        structs.append({"start": start, "end": end, "level": level, "path": " > ".join(path)})
    row = {
        "document": "policies/travel-policy-2025.pdf",
        "sha256": "ab" * 32,
        "page": 3,
        "text": text,
        "words": [],
        "width": 595.0,
        "height": 842.0,
        "title": "Travel Policy",
        "period": "2025",
        "section": "",
        "headings": structs,
        "quality": 1.0,
        "reason": None,
    }
    return row | fields


def chunks(*pages: dict[str, Any]) -> list[dict[str, Any]]:
    batch = pa.RecordBatch.from_pylist(list(pages), schema=PAGES)
    [out] = list(chunk_pages(with_heads([batch])))
    assert out.schema == CHUNKS
    return list(out.to_pylist())


words = st.text(alphabet="abcdefghijklmnop ABC.,;!?()0123456789$%é漢\u00a0", max_size=60)
cells = st.lists(
    st.sampled_from(["Revenue", "1,200", "(17)", "$4", "2024", "", "–", "of which sold"]), min_size=2, max_size=6
)
lines = st.one_of(words, st.just(""), cells.map("\t".join), st.text(max_size=20), words.map(lambda line: line * 30))


@st.composite
def pages(draw: st.DrawFn) -> dict[str, Any]:
    parts: list[str] = draw(st.lists(lines, max_size=25))
    text = draw(st.sampled_from(["", "\n", "  "])) + "\n".join(parts)
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    spans = [(start, (text + "\n").index("\n", start)) for start in starts]
    chosen = draw(st.lists(st.sampled_from(spans), max_size=4, unique=True)) if spans else []
    headings = [(start, end, draw(st.integers(1, 3))) for start, end in sorted(chosen) if text[start:end].strip()]
    return page(text, headings)


@given(pages())
@settings(max_examples=300, deadline=None)
def test_the_spans_rebuild_the_page(row: dict[str, Any]) -> None:
    text = row["text"]
    found = chunks(row)
    if not text.strip():
        assert found == []
        return
    assert "".join(chunk["text"] for chunk in found) == text
    position = 0
    for chunk in found:
        assert chunk["start"] == position < chunk["end"]
        assert chunk["text"] == text[chunk["start"] : chunk["end"]]
        assert chunk["kind"] in ("prose", "table")
        position = chunk["end"]
    assert position == len(text)
    assert len({chunk["chunk_id"] for chunk in found}) == len(found)


TWO_LONG_HEADINGS = page(f"\n{'0;' * 60}\n{'0;' * 60}", [(1, 121, 1), (122, 242, 1)])


@given(pages())
@example(TWO_LONG_HEADINGS)
@settings(max_examples=150, deadline=None)
def test_no_row_and_no_sentence_is_cut_unless_it_is_too_long(row: dict[str, Any]) -> None:
    text = row["text"]
    for chunk in chunks(row)[:-1]:
        end = chunk["end"]
        line_start = text.rfind("\n", 0, end) + 1
        line_end = (text + "\n").index("\n", end)
        inside = line_start < end < line_end and text[line_start:end].strip() and text[end:line_end].strip()
        if inside and "\t" in text[line_start:line_end].strip():
            assert token_count(text[line_start:line_end]) > LONGEST
        elif inside:
            # Within a line a cut stands after a sentence, or within one that is longer than a chunk.
            sentence = re.search(r"[.!?。][\"')\]]*\s+$", text[line_start:end])
            assert sentence or token_count(text[line_start:line_end]) > LONGEST


def test_ids_depend_on_place_and_version_and_not_on_the_batch() -> None:
    one, other = page("Some words."), page("Some words.", page=4)
    first = [chunk["chunk_id"] for chunk in chunks(one, other)]
    again = [chunks(one)[0]["chunk_id"], chunks(other)[0]["chunk_id"]]
    assert first == again and len(set(first)) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", name) for name in first)
    assert prepare_version.startswith("parse-")


def test_prose_is_cut_between_sentences_near_the_target() -> None:
    sentence = "The traveller shows the receipt to the line manager, who signs it within ten days. "
    found = chunks(page(sentence * 40))
    assert len(found) > 2
    assert all(chunk["text"].endswith(("days. ", "days.")) or chunk is found[-1] for chunk in found)
    assert all(100 < token_count(chunk["text"]) <= LONGEST for chunk in found[:-1])


def test_abbreviations_and_numbers_do_not_end_a_sentence() -> None:
    text = ("Acme Inc. pays Dr. Smith 3.5 percent, i.e. No. 7 of the list. " * 30).strip()
    for chunk in chunks(page(text))[:-1]:
        assert chunk["text"].rstrip().endswith("list.")


def test_a_heading_begins_a_chunk_and_names_it() -> None:
    text = "Intro words stand here.\n\n2 Booking\n\nTrips are booked early.\n\n2.1 Rail\n\nTrains come first."
    at, rail = text.index("2 Booking"), text.index("2.1 Rail")
    found = chunks(page(text, [(at, at + 9, 1), (rail, rail + 8, 2)], section="1 Purpose"))
    assert [(chunk["text"].strip(), chunk["section"]) for chunk in found] == [
        ("Intro words stand here.", "1 Purpose"),
        ("2 Booking\n\nTrips are booked early.", "2 Booking"),
        ("2.1 Rail\n\nTrains come first.", "2 Booking > 2.1 Rail"),
    ]
    assert found[2]["header"] == "Travel Policy | travel policy 2025 | 2 Booking | 2.1 Rail"


def test_headings_in_a_row_stay_with_what_they_announce() -> None:
    text = "Part II\n\n7 Discussion\n\nThe year was good."
    found = chunks(page(text, [(0, 7, 1), (9, 21, 2)]))
    assert [(chunk["text"], chunk["section"]) for chunk in found] == [(text, "Part II > 7 Discussion")]


PROSE = (
    "Nobody books a hotel alone, and nobody books one without having asked for the consent of the manager first. " * 2
)
TABLE = "Table 2. Hotel limits\nEuros per night\n\tBreakfast\tRoom\nSite\tincluded\tlimit\n"


def test_a_table_is_a_chunk_of_its_own_with_its_caption() -> None:
    text = f"Hotels are booked by the Travel Desk. {PROSE}\n\n{TABLE}Brno\tyes\t102\nBraga\tyes\t98\n\n{PROSE}"
    before, table, after = chunks(page(text))
    assert (before["kind"], table["kind"], after["kind"]) == ("prose", "table", "prose")
    assert table["text"] == f"{TABLE}Brno\tyes\t102\nBraga\tyes\t98\n\n"


def test_a_few_words_announce_the_table_after_them() -> None:
    [only] = chunks(page(f"The limits are as follows.\n\n{TABLE}Brno\tyes\t102\nBraga\tyes\t98"))
    assert only["kind"] == "table"


def test_the_parts_of_a_long_table_repeat_caption_and_columns_in_their_header() -> None:
    rows = "".join(f"Site number {at}\tyes\t{100 + at}\n" for at in range(80))
    found = chunks(page(TABLE + rows))
    assert len(found) > 2 and {chunk["kind"] for chunk in found} == {"table"}
    head = "Table 2. Hotel limits\nEuros per night\nBreakfast\tRoom\nSite\tincluded\tlimit"
    assert head not in found[0]["header"]
    for chunk in found[1:]:
        assert chunk["header"].endswith(head)
        assert head not in chunk["text"]
        assert re.fullmatch(r"(Site number \d+\tyes\t\d+\n)+", chunk["text"])


def test_pages_with_a_reason_give_nothing() -> None:
    assert chunks(page("words", reason="damaged"), page("  \n "), page("", page=0, reason="encrypted")) == []


def test_the_header_is_never_part_of_the_text() -> None:
    for chunk in chunks(page("Some words of the policy. " * 60)):
        assert "Travel Policy" in chunk["header"] and "Travel Policy" not in chunk["text"]
