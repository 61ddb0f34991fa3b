"""An archive of documents, by the command line."""

from __future__ import annotations

import io
import zipfile

import pytest
from reportlab.pdfgen import canvas

from tests.story.conftest import Story


def a_pdf(text: str) -> bytes:
    out = io.BytesIO()
    sheet = canvas.Canvas(out)
    sheet.setFont("Helvetica", 12)
    sheet.drawString(72, 720, text)
    sheet.save()
    return out.getvalue()


@pytest.mark.proof
def test_the_files_of_an_archive_are_cited_by_their_own_names(house: Story) -> None:
    with zipfile.ZipFile(house.documents / "depot.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rules/parking.md", "# Parking\n\nThe parking fee of the depot is 12 euros per day.\n")
        archive.writestr("price.csv", "Depot,Daily rate\nOslo,31\nRome,27\n")
        archive.writestr("plan.pdf", a_pdf("The depot in Bergen opens at seven in the morning."))
        archive.writestr("notes.doc", "old")
    house("run", code=None)
    states = {row["document"]: row["state"] for row in house("data", "status", "--json").json}
    assert {name: state for name, state in states.items() if name.startswith("depot")} == {
        "depot.zip": "opened",
        "depot.zip/notes.doc": "quarantined",
        "depot.zip/plan.pdf": "ready",
        "depot.zip/price.csv": "ready",
        "depot.zip/rules/parking.md": "ready",
    }
    [bad] = house("data", "quarantine", "--json").json
    assert bad["document"] == "depot.zip/notes.doc" and "save it as .docx" in bad["reason"]
    answer = house("ask", "--json", "What is the parking fee of the depot per day?").json
    assert "12 euros" in answer["answer"]
    assert answer["citations"][0]["document"] == "depot.zip/rules/parking.md"
    again = house("run", "--json", code=None)
    assert '"prepare": "skipped"' in again.out


@pytest.mark.proof
def test_a_terminal_is_told_nothing_by_what_others_packed(house: Story) -> None:
    with zipfile.ZipFile(house.documents / "post.zip", "w") as archive:
        archive.writestr("/up\x1b[2J.md", "# Up\n\nNobody reads this.\n")
        archive.writestr("ferry\x1b[31m.md", "# Ferry\n\nThe ferry to Oslo \x1b]0;mine\x07costs 77 euros.\n")
    house("run", code=None)
    told = [house("data", "quarantine"), house("data", "status"), house("search", "What does the ferry to Oslo cost?")]
    told.append(house("ask", "What does the ferry to Oslo cost?"))
    assert "up\\x1b[2J.md" in told[0].out and "ferry\\x1b[31m.md" in told[2].out
    for each in told:
        assert not {"\x1b", "\x07"} & set(each.out)
