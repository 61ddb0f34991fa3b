"""A run on what the last one saw does nothing, whatever lies in the documents folder."""

from __future__ import annotations

import io
import os
import zipfile

import pytest

from tests.chatbot.pdfs import pdf, shown
from tests.chatbot.test_ocr import assemble_two

from .conftest import Story

MAIL = """From: Ann <ann@example.org>
To: Bob <bob@example.org>
Subject: The pier
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=cut

--cut
Content-Type: text/plain

The pier opens at half past six in the morning.
--cut
Content-Type: text/markdown; name="rules.md"
Content-Disposition: attachment; filename="rules.md"

# Rules of the pier

Boats keep left of the pier at all times.
--cut--
"""


def state(house: Story) -> dict[str, int]:
    kept = (p for p in (house.root / ".modelyard").rglob("*") if p.is_file() and "-shm" not in p.name)
    return {str(path): path.stat().st_mtime_ns for path in kept if path.name != "run.lock"}


def fill(house: Story) -> None:
    documents = house.documents
    (documents / "plain.pdf").write_bytes(pdf([shown(72, 700, "The harbour master is Maud Verne.")]))
    (documents / "scan.pdf").write_bytes(assemble_two())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as box:
        box.writestr("in/locks.md", "# Locks\n\nThe lock opens on the hour.\n")
        box.writestr("in/song.mp3", "ID3")
        box.writestr("in/Thumbs.db", "x")
    (documents / "box.zip").write_bytes(packed.getvalue())
    (documents / "cut.zip").write_bytes(packed.getvalue()[:60])
    (documents / "pier.eml").write_text(MAIL)
    (documents / "hr").mkdir()
    (documents / "hr" / "pay.md").write_text("# Pay\n\nThe warden earns 3,100 euros a month.\n")
    (documents / "hr" / ".access.yml").write_text("groups: [hr]\n")
    (documents / "gone.md.access.yml").write_text("groups: [hr]\n")
    (documents / "empty.md").touch()
    (documents / "blank.md").write_text("\n\n")
    (documents / "broken.pdf").write_bytes(b"%PDF-1.7\n" + b"\0" * 100)
    (documents / "picture.pdf").write_bytes(b"\x89PNG\r\n\x1a\n")
    (documents / "notes.doc").write_bytes(b"\xd0\xcf\x11\xe0")
    (documents / "nowhere.md").symlink_to("not-there.md")
    (documents / "round").symlink_to(".")
    (documents / "Thumbs.db").write_bytes(b"x")


@pytest.mark.proof
def test_a_second_run_on_any_mess_of_documents_does_nothing(house: Story) -> None:
    fill(house)
    assert house("run", "--json").json["steps"]["prepare"] == "done"
    states = {row["document"]: row["state"] for row in house("data", "status", "--json").json}
    assert {"box.zip/in/locks.md", "pier.eml", "pier.eml/rules.md", "scan.pdf", "hr/pay.md", "plain.pdf"} <= {
        name for name, found in states.items() if found == "ready"
    }
    before = state(house)
    for _ in (1, 2):
        outcome = house("run", "--json").json
        assert set(outcome["steps"].values()) == {"skipped"} and outcome["deployed"]
    assert state(house) == before
    assert house("run").out.count("unchanged") == 5
    # What was only touched is looked at, and is nothing new either.
    for name in ("plain.pdf", "box.zip", "pier.eml", "empty.md", "broken.pdf", "hr/.access.yml"):
        os.utime(house.documents / name)
    outcome = house("run", "--json").json
    assert outcome["steps"]["build"] == "skipped" and outcome["deployed"]
    before = state(house)
    assert set(house("run", "--json").json["steps"].values()) == {"skipped"}
    assert state(house) == before
