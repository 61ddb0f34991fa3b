"""Word documents: what a reader would see, as sections."""

from __future__ import annotations

import io

import docx
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.reading.docx import read_docx

from .reading import W, p, read, texts, word


def saved(document: docx.document.Document) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def test_sections_lists_and_tables_of_a_document_as_word_writes_it() -> None:
    document = docx.Document()
    document.core_properties.title = "Handbook of the club"
    document.sections[0].header.paragraphs[0].text = "Confidential"
    document.add_paragraph("A word before.")
    document.add_heading("Leave", 1)
    paragraph = document.add_paragraph("Everybody has ")
    paragraph.add_run("24 days").bold = True
    paragraph.add_run("2").font.superscript = True
    paragraph.add_run(" or less").font.hidden = True
    for text, style in (("one", "List Bullet"), ("two", "List Bullet 2"), ("a", "List Number"), ("b", "List Number")):
        document.add_paragraph(text, style=style)
    document.add_heading("Fees", 2)
    document.add_paragraph("Table 1. Fees by grade", style="Caption")
    table = document.add_table(4, 3)
    for at, row in enumerate([("Grade", "Fee", ""), ("", "2024", "2025"), ("1 to 3", "80", ""), ("4", "120", "130")]):
        for cell, text in zip(table.rows[at].cells, row, strict=True):
            cell.text = text
    table.cell(0, 1).merge(table.cell(0, 2))
    table.cell(0, 0).merge(table.cell(1, 0))
    document.add_paragraph("Fees are due in May.")
    rows = read({"handbook.docx": saved(document)})
    assert [row["text"] for row in rows] == [
        "A word before.",
        "Leave\n\nEverybody has 24 days²\n\n- one\n- two\n1. a\n2. b",
        "Fees\n\nTable 1. Fees by grade\nGrade\tFee 2024\tFee 2025\n1 to 3\t80\t–\n4\t120\t130\n\nFees are due in May.",
    ]
    assert [row["section"] for row in rows] == ["", "Leave", "Leave > Fees"]
    assert {row["title"] for row in rows} == {"Handbook of the club"}


def test_a_title_that_the_program_gave_is_none() -> None:
    document = docx.Document()
    document.core_properties.title = "Word Document"
    document.add_heading("Rules of the lodge", 1)
    assert [row["title"] for row in read({"a.docx": saved(document)})] == ["Rules of the lodge"]


def test_changes_are_read_as_accepted() -> None:
    body = (
        '<w:p><w:r><w:t xml:space="preserve">The fee is </w:t></w:r><w:del><w:r><w:delText>40</w:delText></w:r></w:del>'
        "<w:ins><w:r><w:t>45</w:t></w:r></w:ins><w:moveFrom><w:r><w:t> gone</w:t></w:r></w:moveFrom>"
        "<w:moveTo><w:r><w:t> euros.</w:t></w:r></w:moveTo></w:p>"
        "<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr><w:r><w:t>It is </w:t></w:r></w:p>" + p("due in May.") + "<w:tbl>"
        f"<w:tr><w:trPr><w:del/></w:trPr><w:tc>{p('old')}</w:tc><w:tc>{p('row')}</w:tc></w:tr>"
        f"<w:tr><w:tc>{p('Grade')}</w:tc><w:tc>{p('Fee')}</w:tc></w:tr>"
        f"<w:tr><w:tc>{p('A')}</w:tc><w:tc>{p('5')}</w:tc></w:tr></w:tbl>"
    )
    assert texts("a.docx", word(body)) == ["The fee is 45 euros.\n\nIt is due in May.\n\nGrade\tFee\nA\t5"]


def test_hidden_text_fields_and_contents_are_left_out() -> None:
    styles = (
        f'<w:styles {W}><w:style w:type="paragraph" w:styleId="T"><w:name w:val="toc 1"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="H"><w:name w:val="x"/><w:rPr><w:vanish/></w:rPr></w:style></w:styles>'
    )
    body = (
        p("Leave 3", '<w:pStyle w:val="T"/>')
        + p("secret", '<w:pStyle w:val="H"/>')
        + '<w:p><w:r><w:instrText>PAGEREF _x</w:instrText></w:r><w:fldSimple w:instr="DATE"><w:r><w:t>3 May</w:t></w:r>'
        '</w:fldSimple><w:hyperlink><w:r><w:t xml:space="preserve"> and a link</w:t></w:r></w:hyperlink>'
        '<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>, shown</w:t></w:r></w:p>'
    )
    assert texts("a.docx", word(body, styles=styles)) == ["3 May and a link, shown"]


def test_notes_stand_at_the_end_of_their_section_and_text_boxes_after_their_paragraph() -> None:
    notes = (
        f'<w:footnotes {W}><w:footnote w:id="0" w:type="separator">{p("-")}</w:footnote>'
        f'<w:footnote w:id="7">{p("Only with a skipper.")}</w:footnote></w:footnotes>'
    )
    box = f"<w:txbxContent>{p('In a box.')}</w:txbxContent>"
    body = (
        p("Boats", '<w:outlineLvl w:val="0"/>')
        + '<w:p><w:r><w:t>Boats are for hire</w:t></w:r><w:r><w:footnoteReference w:id="7"/></w:r><w:r>'
        '<mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f'<mc:Choice Requires="wps"><w:drawing>{box}</w:drawing></mc:Choice><mc:Fallback><w:pict>{box}</w:pict>'
        "</mc:Fallback></mc:AlternateContent></w:r></w:p>" + p("Pier", '<w:outlineLvl w:val="0"/>') + p("To the north.")
    )
    assert texts("a.docx", word(body, footnotes=notes)) == [
        "Boats\n\nBoats are for hire¹\n\nIn a box.\n\n1. Only with a skipper.",
        "Pier\n\nTo the north.",
    ]


def test_numbers_of_headings_and_items_are_those_that_are_shown() -> None:
    def level(at: int, form: str, text: str) -> str:
        return f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/></w:lvl>'

    numbering = (
        f'<w:numbering {W}><w:abstractNum w:abstractNumId="1">{level(0, "upperRoman", "%1.")}'
        f'{level(1, "decimal", "%1.%2")}</w:abstractNum><w:abstractNum w:abstractNumId="2">'
        f"{level(0, 'lowerLetter', '(%1)')}</w:abstractNum>"
        '<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="2"/></w:num>'
        '<w:num w:numId="3"><w:abstractNumId w:val="2"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/>'
        "</w:lvlOverride></w:num></w:numbering>"
    )

    def in_list(text: str, key: int, at: int = 0, outline: str = "") -> str:
        return p(text, f'<w:numPr><w:ilvl w:val="{at}"/><w:numId w:val="{key}"/></w:numPr>{outline}')

    top, below = '<w:outlineLvl w:val="0"/>', '<w:outlineLvl w:val="1"/>'
    body = in_list("Scope", 1, 0, top) + in_list("Who", 1, 1, below) + in_list("us", 2) + in_list("you", 2)
    body += in_list("Terms", 1, 0, top) + in_list("What", 1, 1, below) + in_list("this", 3) + in_list("none", 9)
    assert texts("a.docx", word(body, numbering=numbering)) == [
        "I. Scope",
        "I.1 Who\n\n(a) us\n(b) you",
        "II. Terms",
        "II.1 What\n\n(a) this\n\nnone",
    ]


def test_a_long_document_without_headings_is_cut_between_paragraphs() -> None:
    sentence = "Some words of no great matter stand here. " * 12
    pages = texts("a.docx", word("".join(p(f"{at} {sentence}") for at in range(60))))
    assert len(pages) > 5 and max(map(len, pages)) <= 3_500
    assert [page.split(" ")[0] for page in "\n\n".join(pages).split("\n\n")] == [str(at) for at in range(60)]


def test_each_part_of_a_long_table_begins_with_its_head() -> None:
    row = "<w:tr><w:tc>{}</w:tc><w:tc>{}</w:tc></w:tr>"
    rows = "".join(row.format(p(f"Town number {at}"), p(f"{at:,}")) for at in range(2_000))
    head = f"<w:tr><w:trPr><w:tblHeader/></w:trPr><w:tc>{p('Town')}</w:tc><w:tc>{p('People')}</w:tc></w:tr>"
    pages = texts("a.docx", word(f"<w:tbl>{head}{rows}</w:tbl>"))
    assert len(pages) > 3
    assert {page.split("\n")[0] for page in pages} == {"Town\tPeople"}
    body = [line for page in pages for line in page.split("\n")[1:]]
    assert body == [f"Town number {at}\t{at:,}" for at in range(2_000)]


def test_a_long_table_without_a_head_is_cut_too() -> None:
    row = "<w:tr><w:tc>{}</w:tc><w:tc>{}</w:tc></w:tr>"
    rows = "".join(row.format(p(f"{at}"), p("7,500")) for at in range(3_000))
    pages = texts("a.docx", word(f"<w:tbl>{rows}</w:tbl>"))
    assert len(pages) > 3 and max(map(len, pages)) <= 6_100
    assert "\n".join(pages).split("\n") == [f"{at}\t7,500" for at in range(3_000)]


def test_bold_lines_are_headings_where_there_are_no_others() -> None:
    bold = "<w:p><w:r><w:rPr><w:b/></w:rPr><w:t>{}</w:t></w:r></w:p>"
    body = bold.format("Prices") + p("A night costs 45 euros.") + p("Dogs pay.") + bold.format("Keys") + p("At ten.")
    assert texts("a.docx", word(body)) == ["Prices\n\nA night costs 45 euros.\n\nDogs pay.", "Keys\n\nAt ten."]


def test_tables_that_lay_out_a_page_are_read_as_the_page() -> None:
    left = p("Left", '<w:outlineLvl w:val="0"/>') + p("one")
    body = f"<w:tbl><w:tr><w:tc>{left}</w:tc><w:tc>{p('Right')}{p('two')}</w:tc></w:tr></w:tbl>"
    assert texts("a.docx", word(body)) == ["Left\n\none\n\nRight\n\ntwo"]


blocks = st.recursive(
    st.text(alphabet="ab c\t\n.é漢\u00a0\ud7ff", max_size=30).map(
        lambda text: p(text.replace("\n", "</w:t><w:br/><w:t>"))
    ),
    lambda inner: st.lists(st.lists(st.tuples(inner, st.integers(0, 3)), max_size=3), max_size=3).map(
        lambda rows: (
            "<w:tbl>"
            + "".join(
                "<w:tr>"
                + "".join(
                    f'<w:tc><w:tcPr><w:gridSpan w:val="{n}"/>{"<w:vMerge/>" * (n == 2)}</w:tcPr>{b}</w:tc>'
                    for b, n in row
                )
                + "</w:tr>"
                for row in rows
            )
            + "</w:tbl>"
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(blocks, max_size=6))
def test_whatever_tables_hold_each_other_no_word_is_lost(parts: list[str]) -> None:
    content = word(p("begin") + "".join(parts) + p("end"))
    reading = read_docx(content, "a.docx", Limits(), lambda _: None)
    text = "\n".join(page if isinstance(page, str) else page.text for page in reading.pages)
    assert text.startswith("begin") and text.endswith("end")
    # Cells that are merged downwards show what stands in the first of them only.
    if "vMerge" not in "".join(parts):
        said = "".join(parts).replace("<w:br/>", " ")
        for word_ in "".join(c if c in "abcé漢.\ud7ff" else " " for c in _without_tags(said)).split():
            assert word_ in text


def _without_tags(xml: str) -> str:
    out, inside = [], False
    for sign in xml:
        inside = inside or sign == "<"
        out.append(" " if inside else sign)
        inside = inside and sign != ">"
    return "".join(out)
