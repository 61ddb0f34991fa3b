"""Hostile files cost themselves and nothing else: real ones, in real children."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from modelyard.errors import ModelyardError
from modelyard.workloads.chatbot import sandbox as sandbox_module
from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.parse import read_documents
from modelyard.workloads.chatbot.sandbox import Refused, Sandbox
from modelyard.workloads.chatbot.schemas import SOURCES

from . import pdfs

GOOD = pdfs.shown(72, 700, "A sound page with several words on it.")
TEXT = "A sound page with several words on it."
SOUND = pdfs.pdf([GOOD])

Verdict = list[tuple[int, str | None]]


def read(files: dict[str, bytes | None], limits: Limits | None = None) -> dict[str, Verdict]:
    """Per document its (page, reason or None) rows; every row is checked to keep the promises of the schema."""
    rows = [
        {"document": name, "sha256": hashlib.sha256(content or b"").hexdigest(), "content": content}
        for name, content in files.items()
    ]
    verdicts: dict[str, Verdict] = {}
    source = iter([pa.RecordBatch.from_pylist([row], schema=SOURCES) for row in rows])
    for batch in read_documents(source, limits or Limits()):
        for row in batch.to_pylist():
            if row["reason"] is not None:
                assert row["text"] == "" and row["quality"] == 0 and row["words"] == []
            verdicts.setdefault(row["document"], []).append((row["page"], row["reason"]))
    assert list(verdicts) == list(files)
    return verdicts


def test_every_bad_file_costs_itself_and_says_why() -> None:
    reasons = {
        "zero.pdf": (b"", "the file is empty"),
        "half.pdf": (SOUND[: len(SOUND) // 2], "truncated"),
        "locked.pdf": (pdfs.encrypted([GOOD], b"secret", b"boss"), "encrypted and needs a password"),
        "picture.pdf": (b"\x89PNG\r\n\x1a\n" + bytes(500), "named .pdf but holds a PNG picture"),
        "page.PDF": (b"<!DOCTYPE html>\n<html></html>", "holds an HTML page"),
        "words.pdf": (b"just some words", "holds no PDF"),
        "loop.pdf": (pdfs.looped_tree(), "damaged"),
        "blank.pdf": (pdfs.pdf(["", " "]), "blank"),
        "scan.pdf": (pdfs.picture_only(3), "every page is a picture without a text layer: it needs OCR"),
        "bomb.pdf": (pdfs.flate_bomb(60), "no text though its content is large (60.0 MB unfolded)"),
        "noise.txt": (bytes(range(256)) * 20, "binary data"),
        "photo.txt": (b"\xff\xd8\xff\xe0" + bytes(range(200)), "holds a JPEG picture"),
        "blank.md": (b" \n\n", "no text"),
        "letter.docx": (b"PK\x03\x04", "the archive is damaged or cut off"),
        "song.mp3": (b"ID3", "supported are .pdf, .md, .markdown, .txt"),
        "Makefile": (b"all:", "files without an ending are not supported"),
        "huge.pdf": (None, "larger than the limit of 200.0 MB"),
    }
    files: dict[str, bytes | None] = {}
    for at, (name, (content, _)) in enumerate(reasons.items()):
        files[name] = content
        files[f"sound {at} \U0001f642\n.pdf"] = SOUND
    for name, rows in read(files).items():
        if name.startswith("sound"):
            assert rows == [(1, None)]
        else:
            [(page, reason)] = rows
            assert page == 0 and reason is not None and reasons[name][1] in reason
            assert "\n" not in reason


def test_damage_anywhere_gives_pages_or_a_reason() -> None:
    source = random.Random(7)
    whole = [pdfs.pdf([GOOD] * 3), pdfs.encrypted([GOOD], b"", b"x"), pdfs.picture_only(2), pdfs.nested_forms(2, 2)]
    files: dict[str, bytes | None] = {}
    for at in range(120):
        content = bytearray(source.choice(whole))
        for _ in range(source.randint(1, 20)):
            start = source.randrange(len(content))
            content[start : start + source.randint(0, 8)] = source.randbytes(source.randint(0, 8))
        files[f"{at}.pdf"] = bytes(content)
    for at in range(60):
        words = source.choices(
            ["# ", "a b", "\n", "|", "---", "```", "\t", "*", "[x](y)", "  ", "é", "\f", "==="], k=80
        )
        files[f"{at}.{source.choice(['md', 'txt'])}"] = "".join(words).encode(
            source.choice(["utf-8", "cp1252", "utf-16"])
        )
    for rows in read(files, Limits(page_seconds=5)).values():
        assert rows[0][0] in (0, 1)
        assert [page for page, _ in rows] == list(range(rows[0][0], rows[0][0] + len(rows)))


def test_an_owners_password_alone_locks_nothing() -> None:
    assert read({"a.pdf": pdfs.encrypted([GOOD, GOOD], b"", b"boss")}) == {"a.pdf": [(1, None), (2, None)]}


def test_what_cannot_be_read_of_a_document_is_a_page_with_a_reason() -> None:
    verdicts = read(
        {
            "damaged.pdf": pdfs.one_damaged_page(GOOD),
            "bomb.pdf": pdfs.flate_bomb(60, sound_pages=[GOOD]),
            "endless.pdf": pdfs.endless_contents(100_000, [GOOD]),
            "blank page.pdf": pdfs.pdf([GOOD, "", GOOD]),
        }
    )
    assert verdicts["damaged.pdf"] == [(1, None), (2, "the page is damaged"), (3, None)]
    for name in ("bomb.pdf", "endless.pdf"):
        [(page, reason), sound] = verdicts[name]
        assert page == 1 and reason is not None and "content is large" in reason
        assert sound == (2, None)
    assert verdicts["blank page.pdf"] == [(1, None), (2, None), (3, None)]


def test_a_page_that_brings_the_parser_down_or_hangs_it_is_set_aside() -> None:
    # Ten forms in ten forms in ten forms ...: pdfium would work on it for hours, or until memory ends.
    forms = pdfs.nested_forms(14, 10, [GOOD])
    deep = pdfs.flate_bomb(250, sound_pages=[GOOD])
    slow = read({"forms.pdf": forms, "sound.pdf": SOUND}, Limits(page_seconds=0.7, memory_bytes=8_000_000_000))
    assert slow["forms.pdf"] == [(1, "the parser did not finish within 0.7 seconds"), (2, None)]
    assert slow["sound.pdf"] == [(1, None)]
    small = read({"deep.pdf": deep, "sound.pdf": SOUND}, Limits(memory_bytes=100_000_000))
    assert small["sound.pdf"] == [(1, None)]
    if sys.platform == "linux":
        [(page, reason), sound] = small["deep.pdf"]
        assert page == 1 and reason is not None and "memory" in reason
        assert sound == (2, None)


def test_a_document_that_brings_the_parser_down_too_often_is_given_up() -> None:
    forms = pdfs.nested_forms(14, 10)
    [(page, reason)] = read({"a.pdf": forms}, Limits(page_seconds=0.5, bad_pages=0))["a.pdf"]
    assert page == 0 and reason == "the parser did not finish within 0.5 seconds"


def test_the_whole_document_has_a_time_of_its_own() -> None:
    [(page, reason)] = read({"a.pdf": pdfs.pdf([GOOD * 400] * 400)}, Limits(seconds=0.2, bad_pages=0))["a.pdf"]
    assert page == 0 and reason == "the parser did not finish within 0.2 seconds"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_pages=2), "it has 3 pages, more than the limit of 2"),
        (Limits(max_characters=50), "its text is longer than the limit of 50 characters"),
        (Limits(max_bytes=100), "larger than the limit of 0.0 MB"),
        (Limits(max_glyphs=10), "every page holds 38 characters, more than the limit of 10"),
    ],
)
def test_limits_are_named(limits: Limits, reason: str) -> None:
    [(page, said)] = read({"a.pdf": pdfs.pdf([GOOD] * 3)}, limits)["a.pdf"]
    assert page == 0 and said is not None and reason in said


def test_one_child_serves_many_files_and_ends_with_the_stage() -> None:
    before = _children()
    stage = read_documents(
        iter(
            [
                pa.RecordBatch.from_pylist([{"document": f"{n}.pdf", "sha256": "", "content": SOUND}], schema=SOURCES)
                for n in range(5)
            ]
        ),
        Limits(),
    )
    seen = set()
    for _ in range(3):
        next(stage)
        seen |= _children() - before
    assert len(seen) == 1 or not Path("/proc").exists()
    stage.close()
    assert _children() == before


def test_children_of_two_threads_do_not_meet() -> None:
    results: list[Any] = []

    def work(name: str) -> None:
        results.append(read({name: SOUND}))

    threads = [threading.Thread(target=work, args=(f"{at}.pdf",)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for result in results for name in result) == ["0.pdf", "1.pdf", "2.pdf"]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the child through /proc")
def test_a_child_whose_parent_was_killed_ends() -> None:
    program = (
        "from modelyard.workloads.chatbot.sandbox import Sandbox, Refused\n"
        "from modelyard.workloads.chatbot.limits import Limits\n"
        "import time\n"
        "box = Sandbox(Limits())\n"
        "try: list(box.run('parse', {'document': 'a.txt', 'sha256': '', 'skip': {}}, b' '))\n"
        "except Refused: print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
    [child] = _children(parent.pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_a_parser_that_cannot_start_is_an_error_and_no_verdict_on_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "CHILD", "modelyard.no_such_module")
    with pytest.raises(ModelyardError, match="does not start"):
        read({"a.pdf": SOUND})


def test_a_refusal_leaves_the_child_alive_and_a_closed_sandbox_can_be_used_again() -> None:
    arguments = {"document": "a.md", "sha256": "", "skip": {}}
    with Sandbox(Limits()) as box:
        with pytest.raises(Refused):
            list(box.run("parse", arguments, b" "))
        before = _children()
        assert len(list(box.run("parse", arguments, b"# Words"))) == 1
        assert _children() == before
        box.close()
        assert len(list(box.run("parse", arguments, b"# Words"))) == 1


def _children(pid: int | None = None) -> set[int]:
    """Processes started by this one (by `pid`), where the system tells."""
    root = Path(f"/proc/{pid or os.getpid()}/task")
    if not root.exists():
        return set()
    return {int(child) for task in root.iterdir() for child in (task / "children").read_text().split()}
