"""Damage made at random, for as long as one likes: `make fuzz` (SECONDS=60, SEED=0).

Three targets in turn: what puts damaged files together (must never raise), what makes text of words and boxes (must
never raise, and lose no word), and whole documents in the sandbox (must keep the promises of the schema, and leave
sound files beside them alone). What breaks a promise is written to `.fuzz/`; its seed and round are printed.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.parse import read_documents
from modelyard.workloads.chatbot.reading import footnotes, furniture, outline, second
from modelyard.workloads.chatbot.reading.compose import compose, vocabulary
from modelyard.workloads.chatbot.reading.grid import align
from modelyard.workloads.chatbot.reading.layout import lines_of
from modelyard.workloads.chatbot.reading.pdf import Words
from modelyard.workloads.chatbot.reading.weight import any_torn
from modelyard.workloads.chatbot.schemas import SOURCES

from . import pdfs

SENTENCE = "A sound page with several words on it."
GOOD = pdfs.shown(72, 700, SENTENCE)
SOUND = pdfs.pdf([GOOD])
LIMITS = Limits(page_seconds=5, seconds=20, max_decoded=20_000_000)
TOKENS = (
    b"obj endobj stream endstream xref trailer startxref %%EOF << >> [ ] R null /Kids /Parent /Count /Length /Filter "
    b"/FlateDecode /Type /Page /Pages /Catalog /ObjStm /First /N /Contents /Resources /Font /Prev /Size /Root /Encrypt "
    b"0 1 -1 2147483648 99999999999999999999 1e99 BT ET Tj Do q Q ( ) <"
).split()
# fmt: off
SAMPLES = (
    "Total", "2024", "1,240.50", "(12)", "$", "%", "–", "•", "1.", "Note", "a", "shalom", "שלום", "120", "مرحبا",
    "日本語の文章", "\ufb01rst", "long-", "e.g.", "Table", "3", "¹", "\ufffd", "\x02",
)
# fmt: on


def seeds() -> list[bytes]:
    """Small files that between them use most of what our own code looks at."""
    packed = zlib.compress(b"1 0 2 9 << /A 1 >> << /Type /Catalog /Pages 3 0 R >>")
    objects = pdfs.objects_of([GOOD, GOOD])
    objects[90] = pdfs.stream(packed, b"/Type /ObjStm /N 2 /First 8 /Filter /FlateDecode")
    objects[11] = pdfs.stream(zlib.compress(GOOD.encode()), b"/Filter /FlateDecode")
    return [
        SOUND,
        pdfs.assemble(objects),
        pdfs.pdf([GOOD] * 5, b"/Rotate 90"),
        pdfs.encrypted([GOOD], b"", b"boss"),
        pdfs.picture_only(2, GOOD),
        pdfs.nested_forms(3, 2, [GOOD]),
        pdfs.unicode_pdf([(100, 700, "ןאכ ISO 9001 יפל"), (100, 680, "日本語の文章")]),
        pdfs.one_damaged_page(GOOD),
    ]


def damaged(content: bytes, source: random.Random) -> bytes:
    """A file with some of its bytes, words, or larger parts changed, lost, doubled or moved."""
    data = bytearray(content)
    for _ in range(source.randint(1, 12)):
        at = source.randrange(len(data) + 1)
        end = min(len(data), at + int(source.expovariate(1 / 30)))
        act = source.randrange(6)
        if act == 0:
            data[at:end] = source.randbytes(end - at)
        elif act == 1:
            data[at:end] = b""
        elif act == 2:
            data[at:at] = data[at:end]
        elif act == 3:
            data[at:at] = b" " + source.choice(TOKENS) + b" "
        elif act == 4:
            word, other = source.choice(TOKENS), source.choice(TOKENS)
            data = data.replace(word, other, source.randint(1, 3))
        else:
            data = data[:end] if source.random() < 0.1 else data
    return bytes(data)


def put_together(content: bytes) -> None:
    """Our own reading of a file's structure never raises, and makes files of no more than it was given."""
    plain = second.normal(content)
    second.cut_short(plain)
    any_torn(plain, LIMITS.max_decoded)
    for made in second.rebuilt(plain, LIMITS):
        assert made.startswith(b"%PDF-") and len(made) < 10 * len(content) + LIMITS.max_decoded


def words(source: random.Random) -> Words:
    """Words anywhere: in lines, in columns, on each other, outside of the page, without size."""
    count = source.randint(0, 80)
    texts, boxes = [], []
    x, y, size = 50.0, 60.0, 10.0
    for _ in range(count):
        text = source.choice(SAMPLES)
        if source.random() < 0.25:
            x, y = source.choice([50.0, 300.0, 420.0]), y + source.choice([12.0, 14.0, 30.0, -100.0])
            size = source.choice([10.0, 10.0, 10.0, 7.0, 24.0])
        wide = source.choice([len(text) * size / 2] * 20 + [0.0, 5_000.0, 1e-20])
        boxes.append((x, y, x + wide, y + source.choice([size] * 20 + [0.0, 1e6])))
        x += wide + source.choice([2.0, 3.0, 40.0, -3.0])
        texts.append(text)
    flags = np.array([source.random() < 0.1 for _ in texts], bool)
    return Words(
        text=texts,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        first=np.arange(count),
        turn=np.array([source.choice([0] * 15 + [1, 2, 3, -1]) for _ in texts], np.int64),
        soft=flags,
        attached=flags[::-1].copy(),
    )


def laid_out(pages: list[Words]) -> None:
    """Words become text without losing any: every box has its letters."""
    lines = [align(footnotes.last(lines_of(page))) for page in pages]
    assert [sum(len(line.words) for line in page) for page in lines] == [len(page.text) for page in pages]
    repeated = furniture.repeated((page, 842.0) for page in lines)
    kept = [furniture.without(page, 842.0, repeated) for page in lines]
    outline.mark_headings(kept)
    known = vocabulary(kept)
    for page in kept:
        made = compose(page, known)
        assert len(made.spans) == len(made.boxes) == sum(len(line.words) for line in page)
        for start, end in made.spans:
            assert 0 <= start <= end <= len(made.text)
        for start, end, level in made.headings:
            assert 0 <= start < end <= len(made.text) and level > 0


def documents(contents: list[bytes]) -> None:
    """Whole documents: rows in order, or one reason, and never a word too many of a sound file."""
    names = [f"{at}.pdf" for at in range(len(contents))]
    rows = [
        {"document": name, "sha256": hashlib.sha256(content).hexdigest(), "content": content}
        for name, content in zip([*names, "sound.pdf"], [*contents, SOUND], strict=True)
    ]
    found: dict[str, list[tuple[int, str, str | None]]] = {}
    for batch in read_documents(iter([pa.RecordBatch.from_pylist(rows, schema=SOURCES)]), LIMITS):
        for row in batch.to_pylist():
            found.setdefault(row["document"], []).append((row["page"], row["text"], row["reason"]))
            for word in row["words"]:
                assert row["text"][word["start"] : word["end"]].strip()
    assert list(found) == [*names, "sound.pdf"]
    assert found["sound.pdf"] == [(1, SENTENCE, None)]
    for pages in found.values():
        first = pages[0][0]
        assert [page for page, _, _ in pages] == list(range(first, first + len(pages))) and first in (0, 1)
        assert all(reason is None or (reason and not text) for _, text, reason in pages)
        assert any(text.strip() for _, text, _ in pages) or pages == [(0, "", pages[0][2])]


def run(seconds: float, seed: int, keep: Path) -> int:
    """Rounds until the time is over; the number of promises broken."""
    sources, end, rounds, broken = seeds(), time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        source = random.Random(f"{seed}:{rounds}")
        batch = [damaged(source.choice(sources), source) for _ in range(20)]
        pages = [words(source) for _ in range(10)]
        tries = [(put_together, content) for content in batch] + [(laid_out, pages), (documents, batch)]
        for target, given in tries:
            try:
                target(given)
            except Exception:  # noqa: BLE001 - whatever it is, it is what was looked for
                broken += 1
                keep.mkdir(exist_ok=True)
                print(f"{target.__name__} broke a promise (seed {seed}, round {rounds})", file=sys.stderr)
                traceback.print_exc()
                for at, content in enumerate(
                    given if target is documents else [given] if isinstance(given, bytes) else []
                ):
                    (keep / f"{seed}-{rounds}-{at}.pdf").write_bytes(content)
        rounds += 1
    print(f"{rounds} rounds of 20 files and 10 pages, {broken} promises broken")
    return broken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(run(given.seconds, given.seed, Path(".fuzz")) > 0)
