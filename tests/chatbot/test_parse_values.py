"""Spreadsheets, files of values and mails, as the product reads them."""

from __future__ import annotations

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.chatbot.reading import archive, read, reason, texts

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.delimited import delimiter_of, read_delimited
from modelyard.workloads.chatbot.reading.mail import attachments, read_mail
from modelyard.workloads.chatbot.reading.sheet_format import shown
from modelyard.workloads.chatbot.reading.text import Section

LIMITS = Limits()


def values(content: bytes | str) -> list[str]:
    data = content if isinstance(content, bytes) else content.encode()
    pages = read_delimited(data, "a.csv", LIMITS, lambda _: None).pages
    return [page.text for page in pages if isinstance(page, Section)]


@pytest.mark.parametrize(
    ("content", "page"),
    [
        (b"a,b,c\n1,2,3\n4,,6\n7\n", "a\tb\tc\n1\t2\t3\n4\t\t6\n7\t\t–"),
        ("Name;Preis\nBrötchen;1,50\nMilch;0,99\n".encode("cp1252"), "Name\tPreis\nBrötchen\t1,50\nMilch\t0,99"),
        ("\ufeffa\tb\n1\t2\n".encode(), "a\tb\n1\t2"),
        ("Région|Prix\nSud|3\n".encode("utf-16"), "Région\tPrix\nSud\t3"),
        (b'a,b\n"two\nlines, one cell","say ""so"""\n', 'a\tb\ntwo lines, one cell\tsay "so"'),
        (b'a,b\n"never closed,1\nx,2\n', 'a\tb\n"never closed\t1\nx\t2'),
        (b"sep=|\nn|v\na|1\n", "n\tv\na\t1"),
        (b"Sales of 2024\n\nregion,q1,q2\nN,1,2\n", "Sales of 2024\nregion\tq1\tq2\nN\t1\t2"),
        (b",Q1,Q2\nN,1,2\n", "\tQ1\tQ2\nN\t1\t2"),
        (b"x,x,\n1,2,3\n", "x\tx\t–\n1\t2\t3"),
        (b"one\ntwo\n", "one\ntwo"),
    ],
)
def test_values_are_rows_of_cells(content: bytes, page: str) -> None:
    assert values(content) == [page]


def test_a_long_table_is_cut_between_rows_and_repeats_its_head() -> None:
    lines = "".join(f"{at},name {at},{at * 3}\n" for at in range(1, 10_001))
    pages = values(f"id,name,amount\n{lines}")
    assert len(pages) == 50
    assert pages[0].startswith("Rows 2-201\n\nid\tname\tamount\n1\tname 1\t3\n")
    assert pages[49].startswith("Rows 9802-10001\n\nid\tname\tamount\n9801\t")
    assert sum(page.count("\tname ") for page in pages) == 10_000


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(
        st.lists(st.text(string.ascii_letters + "0123456789,;'\n \"é", min_size=1, max_size=8), min_size=3, max_size=3),
        min_size=2,
        max_size=20,
    )
)
def test_every_cell_that_was_written_is_read(rows: list[list[str]]) -> None:
    text = "".join("\t".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) + "\n" for row in rows)
    wanted = [" ".join(cell.split()) for row in rows for cell in row]
    if not any(wanted):
        return
    page = "\n".join(values(text))
    assert all(cell in page for cell in wanted)


def test_any_bytes_are_rows_or_named() -> None:
    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=400))
    def check(content: bytes) -> None:
        for reader in (read_delimited, read_mail):
            try:
                assert reader(content, "a.csv", LIMITS, lambda _: None).pages
            except Unreadable as why:
                assert str(why)
        assert delimiter_of(content.decode("latin-1").replace("\r", "")) in ",;\t|"

    check()


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (0.125, "0.0%", "12.5%"),
        (-1234.5, "#,##0.00;(#,##0.00)", "(1,234.50)"),
        (45292, "dd.mm.yyyy", "01.01.2024"),
        (45292.75, 'd mmm yyyy" at "h:mm AM/PM', "1 Jan 2024 at 6:00 PM"),
        (1_234_567, '#,##0.0,,"M"', "1.2M"),
        (-12, "#,##0.00 [$€-407];[Red]-#,##0.00 [$€-407]", "-12.00 €"),
        (1.5, "[h]:mm:ss", "36:00:00"),
        (12345, "0.00E+00", "1.23E+4"),
        (5_551_234_567, "(000) 000-0000", "(555) 123-4567"),
        (7, "000", "007"),
        (0.1 + 0.2, "General", "0.3"),
        (5, ";;;", ""),
    ],
)
def test_numbers_are_shown_by_their_format(value: float, code: str, text: str) -> None:
    assert shown(value, code) == text


@given(st.floats(allow_nan=False, allow_infinity=False), st.text('0#?.,%-;@[]hmsydE+"\\_*$ AMP/G', max_size=20))
def test_any_number_under_any_format_is_shown(value: float, code: str) -> None:
    assert isinstance(shown(value, code), str)


def workbook(sheets: dict[str, str], strings: str = "", extra: dict[str, str] | None = None) -> bytes:
    """A workbook of sheets given as the XML of their rows; a name that ends in ! is hidden, in !! very hidden."""
    ns = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    rel = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    listed = parts = ""
    members = {}
    for at, (name, rows) in enumerate(sheets.items(), start=1):
        state = ("visible", "hidden", "veryHidden")[name.count("!")]
        listed += f'<sheet name="{name.rstrip("!")}" sheetId="{at}" state="{state}" r:id="r{at}"/>'
        parts += f'<Relationship Id="r{at}" Type="{rel}/worksheet" Target="worksheets/s{at}.xml"/>'
        members[f"xl/worksheets/s{at}.xml"] = f"<worksheet {ns}>{rows}</worksheet>"
    root = (
        f'<Relationships xmlns="{package}"><Relationship Id="a" Type="{rel}/officeDocument" Target="xl/workbook.xml"/>'
    )
    formats = '<xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="9"/><xf numFmtId="170"/>'
    return archive(
        {
            "_rels/.rels": f"{root}</Relationships>",
            "xl/workbook.xml": f'<workbook {ns} xmlns:r="{rel}"><sheets>{listed}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}">{parts}</Relationships>',
            "xl/sharedStrings.xml": f"<sst {ns}>{strings}</sst>",
            "xl/styles.xml": f'<styleSheet {ns}><numFmts><numFmt numFmtId="170" formatCode="#,##0.00 &quot;kg&quot;"/>'
            f"</numFmts><cellXfs>{formats}</cellXfs></styleSheet>",
            **members,
            **(extra or {}),
        }
    )


def rows_of(*rows: list[str | float | None], first: int = 1, column: int = 1) -> str:
    out = ""
    for number, row in enumerate(rows, start=first):
        cells = ""
        for at, value in enumerate(row, start=column):
            place = f"{string.ascii_uppercase[at - 1]}{number}"
            if isinstance(value, str):
                cells += f'<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>'
            elif value is not None:
                cells += f'<c r="{place}"><v>{value}</v></c>'
        out += f'<row r="{number}">{cells}</row>'
    return out


def test_a_sheet_is_a_page_of_shown_values() -> None:
    cells = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c><c r="C1" t="s"><v>1</v></c></row>'
        '<row r="2"><c r="A2" s="1"><v>45292</v></c><c r="B2" s="2"><v>0.5</v></c><c r="C2" s="3"><v>1200</v></c></row>'
        '<row r="3"><c r="A3" t="b"><v>1</v></c><c r="B3" t="e"><v>#N/A</v></c><c r="C3"><f>A1*2</f></c></row>'
        '<row r="4"><c r="A4" t="str"><f>X</f><v>made</v></c><c r="B4"><f>B2</f><v>7</v></c><c r="C4" s="1"/></row>'
    )
    strings = "<si><t>Day</t></si><si><r><t>Sh</t></r><r><t>are</t></r><rPh><t>no</t></rPh></si>"
    core = "<x:core xmlns:x='y'><x:title>Shares of the year</x:title></x:core>"
    content = workbook(
        {
            "First": f"<sheetData>{cells}</sheetData>",
            "Empty": "<sheetData/>",
            "Aside!": f"<sheetData>{rows_of(['hidden words'])}</sheetData>",
            "Secret!!": f"<sheetData>{rows_of(['x'])}</sheetData>",
        },
        strings,
        {"docProps/core.xml": core},
    )
    rows = read({"a.xlsx": content})
    assert [row["text"] for row in rows] == [
        "First\n\nDay\tShare\tShare\n2024-01-01\t50%\t1,200.00 kg\nTRUE\t#N/A\t=A1*2\nmade\t7\t–",
        "",
        "Aside (hidden sheet)\n\nhidden words",
        "",
    ]
    assert rows[0]["title"] == "Shares of the year" and rows[0]["section"] == "First"
    assert "only a macro can show it" in rows[3]["reason"]


def test_tables_of_a_sheet_are_told_apart_and_merged_labels_hold_for_all_they_span() -> None:
    left = rows_of(
        ["Revenue by region"],
        [None, "2024", None, "2023", None],
        ["Region", "Q1", "Q2", "Q1", "Q2"],
        ["North", 1, 2, 3, 4],
        ["South", 5, 6, 7, 8],
    )
    below = rows_of(["City", "Count", "Since"], ["Rome", 3, 1999], ["Oslo", 4, 2001], first=8)
    merged = '<mergeCells><mergeCell ref="B2:C2"/><mergeCell ref="D2:E2"/><mergeCell ref="A1:E1"/></mergeCells>'
    [page] = texts("a.xlsx", workbook({"S": f"<sheetData>{left}{below}</sheetData>{merged}"}))
    tables = page.split("\n\n\n\n")
    assert tables[0].splitlines()[2:5] == [
        "Revenue by region",
        "\t2024\t2024\t2023\t2023",
        "Region\tQ1\tQ2\tQ1\tQ2",
    ]
    assert tables[1].splitlines() == ["City\tCount\tSince", "Rome\t3\t1999", "Oslo\t4\t2001"]


def test_what_is_empty_costs_nothing_and_a_long_sheet_is_cut() -> None:
    far = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
    merged = '<mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells>'
    long = rows_of(["id", "name"], *([at, f"name {at}"] for at in range(1, 451)))
    pages = texts(
        "a.xlsx",
        workbook({"Far": f"<sheetData>{far}</sheetData>{merged}", "Long": f"<sheetData>{long}</sheetData>"}),
    )
    assert pages[0].split() == ["Far", "1", "2"]
    assert [page.split("\n")[0] for page in pages[1:]] == [
        "Long, rows 2-201",
        "Long, rows 202-401",
        "Long, rows 402-451",
    ]
    assert all(page.split("\n")[2] == "id\tname" for page in pages[1:])


def test_a_damaged_sheet_costs_that_sheet() -> None:
    content = workbook(
        {"Good": f"<sheetData>{rows_of(['fine words'])}</sheetData>", "Bad": "<sheetData><row></sheetData>"}
    )
    good, bad = read({"a.xlsx": content})
    assert good["text"] == "Good\n\nfine words"
    assert "'Bad' cannot be read: its XML is damaged" in bad["reason"]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.xls", b"\xd0\xcf\x11\xe0", "save it as .xlsx"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0" + "EncryptedPackage".encode("utf-16-le"), "encrypted with a password"),
        ("a.xlsx", b"no spreadsheet", "holds no spreadsheet"),
        ("a.xlsx", workbook({"S": "<sheetData/>"})[:-40], "damaged or cut off"),
        ("a.xlsx", workbook({"S": "<sheetData/>"}), "blank"),
        (
            "a.xlsx",
            workbook({}, extra={"xl/workbook.xml": '<!DOCTYPE x [<!ENTITY a "b">]><workbook/>'}),
            "declares a document type",
        ),
        ("a.csv", b"\0\1\2\3" * 50, "not text"),
        ("a.csv", b"\n,,\n", "no text"),
        ("a.eml", b"\n\n", "no mail"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, content: bytes, why: str) -> None:
    assert why in reason(name, content)


HEAD = "From: Ann <ann@example.org>\nTo: bob@example.org\nDate: Fri, 01 Mar 2024 10:00:00 +0000\nSubject: Hotels\n"


@pytest.mark.parametrize(
    ("body", "pages"),
    [
        ("\nThe limit is 140 euros.\n", ["The limit is 140 euros."]),
        (
            "\nAgreed.\n\nOn Thu, 29 Feb 2024 Bob wrote:\n> Is 140 fine?\n> > Yes.\n",
            ["Agreed.", "Earlier messages\n\nOn Thu, 29 Feb 2024 Bob wrote:\nIs 140 fine?\nYes."],
        ),
        (
            "\nAgreed.\n\nFrom: Bob\nSent: Thursday\nSubject: Hotels\n\nIs it fine?\n",
            ["Agreed.", "Earlier messages\n\nFrom: Bob\nSent: Thursday\nSubject: Hotels\n\nIs it fine?"],
        ),
        ("\n> Is 140 fine?\nYes.\n", ["> Is 140 fine?\nYes."]),
        ("Content-Type: text/html\n\n<p>It costs <b>140</b> euros.</p>\n", ["It costs 140 euros."]),
        ("Content-Type: text/plain; charset=klingon\n\nIt costs 140 \xe2\x82\xac.\n", ["It costs 140 €."]),
        (
            "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nSXQgY29zdHMgMTQw\n",
            ["It costs 140"],
        ),
        ("Content-Type: multipart/mixed; boundary=x\n\n--x\n\nNever closed.\n", ["Never closed."]),
        ("Content-Type: multipart/mixed\n\nWithout a boundary.\n", ["Without a boundary."]),
    ],
)
def test_a_mail_is_its_headers_its_text_and_what_it_quotes(body: str, pages: list[str]) -> None:
    found = texts("a.eml", f"{HEAD}{body}".encode("latin-1"))
    top = "From: Ann <ann@example.org>\nTo: bob@example.org\nDate: Fri, 01 Mar 2024 10:00:00 +0000\nSubject: Hotels"
    assert [page.strip() for page in found] == [f"{top}\n\n{pages[0]}", *pages[1:]]


def test_the_plain_part_is_read_and_pictures_of_the_text_are_no_attachments() -> None:
    content = (
        f"{HEAD}Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: multipart/alternative; boundary=a\n\n"
        "--a\nContent-Type: text/plain\n\nPlain words.\n--a\nContent-Type: text/html\n\n<p>Other words.</p>\n--a--\n"
        "--m\nContent-Type: image/png\nContent-ID: <logo>\n\nxx\n"
        '--m\nContent-Disposition: attachment; filename="a.md"\n\nfirst\n'
        '--m\nContent-Disposition: attachment; filename="../a.md"\n\nsecond\n'
        "--m\nContent-Type: application/pdf\nContent-Disposition: attachment\n\nthird\n--m--\n"
    ).encode()
    [page] = texts("a.eml", content)
    assert page.endswith("Plain words.") and "Other" not in page
    found = list(attachments(content, LIMITS))
    assert [name for name, _ in found] == ["a.md", "a (2).md", "attachment-6.pdf"]
    assert [inner.strip() for _, inner in found] == [b"first", b"second", b"third"]


def test_parts_nested_ten_thousand_deep_are_named() -> None:
    body = "".join(f"Content-Type: multipart/mixed; boundary=b{at}\n\n--b{at}\n" for at in range(10_000))
    assert "nested too deeply" in reason("a.eml", f"{HEAD}{body}\nwords\n".encode())
