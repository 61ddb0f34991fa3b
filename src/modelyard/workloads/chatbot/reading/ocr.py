"""Pages that are pictures, read by Tesseract: a program of the system, called page by page under a clock of its own.

What it does not do: handwriting, formulas, reading order across columns better than Tesseract's own; what it read
wrongly is not known to be wrong, so the page's quality is at most its mean confidence.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
import time
from typing import Protocol

import numpy as np
import pypdfium2
from PIL import Image

from modelyard.workloads.chatbot.limits import MISSING, OCR, OFF, Limits, Unreadable
from modelyard.workloads.chatbot.reading.pdf import Floats, Words

DOTS_PER_INCH = 300
MOST_PIXELS = 30_000_000
# Below this a word is as likely a speck of dust.
LEAST = 30.0
# A page read with less confidence than this may lie on its side.
SURE = 75.0
QUARTERS = (0, 1, 3, 2)


class Signs(Protocol):
    """Says which page is being read, and by how many seconds to put off the document's end."""

    def __call__(self, page: int, spent: float = 0.0) -> None: ...


def advice(ocr: str) -> str:
    """What a person can do so that a page that needs OCR is read; "" where nothing is left to do."""
    if ocr == OFF:
        return " (it is switched off: `chatbot.ocr` in modelyard.yml)"
    if ocr == f"{MISSING} {OCR}":
        return " (install Tesseract: `apt-get install tesseract-ocr` or `brew install tesseract`)"
    if ocr.startswith(MISSING):
        language = ocr.split()[-1]
        return (
            f" (Tesseract has no data for `{language}`: `apt-get install tesseract-ocr-{language.replace('_', '-')}`)"
        )
    return ""


def read_page(pdf: pypdfium2.PdfDocument, index: int, limits: Limits, sign: Signs) -> tuple[Words, float]:
    """(words with boxes as the page is shown, mean confidence from 0 to 1).

    Raises Unreadable with the reason where nothing can be read in the time there is.
    """
    sheet = pdf[index]
    began = time.monotonic()
    sign(index + 1, limits.ocr_seconds)
    try:
        width, height = sheet.get_size()
        scale = min(DOTS_PER_INCH / 72, (MOST_PIXELS / max(1.0, width * height)) ** 0.5)
        picture = sheet.render(scale=scale, grayscale=True).to_pil().convert("L")
        best: tuple[float, Words] | None = None
        for turn in QUARTERS:
            try:
                left = limits.ocr_seconds - (time.monotonic() - began)
                words, confidence = _look(picture, turn, scale, limits.ocr, left)
            except subprocess.TimeoutExpired:
                break
            total = confidence * sum(map(len, words.text))
            if best is None or total > best[0] * sum(map(len, best[1].text)):
                best = confidence, words
            sign(index + 1)
            if confidence >= SURE and len(words.text) >= 3:
                break
    except pypdfium2.PdfiumError:
        raise Unreadable("the page is damaged") from None
    finally:
        sheet.close()
        # What was granted and not needed is given back.
        sign(index + 1, min(0.0, time.monotonic() - began - limits.ocr_seconds))
    if best is None:
        raise Unreadable(f"the page is a picture, and OCR did not finish it within {limits.ocr_seconds:g} seconds")
    if not best[1].text:
        raise Unreadable("the page is a picture, and OCR finds no words on it")
    return best[1], best[0] / 100


def _look(picture: Image.Image, turn: int, scale: float, languages: str, seconds: float) -> tuple[Words, float]:
    """The words of a picture whose writing is turned clockwise by so many quarters, and their mean confidence."""
    upright = picture.rotate(90 * turn, expand=True) if turn else picture
    table = _tesseract(upright, languages, seconds)
    texts: list[str] = []
    boxes: list[tuple[float, float, float, float]] = []
    sure: list[float] = []
    for row in csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE):
        text = (row.get("text") or "").strip()
        if row.get("level") == "5" and text and float(row["conf"]) >= LEAST:
            left, top = float(row["left"]), float(row["top"])
            texts.append("".join(text.split()))
            boxes.append((left, top, left + float(row["width"]), top + float(row["height"])))
            sure.append(float(row["conf"]))
    frame = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(texts)
    none = np.zeros(count, bool)
    words = Words(
        text=texts,
        boxes=_turned_back(frame, turn, upright.size) / scale,
        first=np.full(count, -1, np.int64),
        turn=np.full(count, turn, np.int64),
        soft=none,
        attached=none,
    )
    if _sideways(texts, frame):
        # Tesseract reads some turned lines by itself, and gives their words in no order.
        return words, 1.0
    return words, float(np.mean(sure)) if sure else 0.0


def _sideways(texts: list[str], boxes: Floats) -> bool:
    """Whether most words of some length stand higher than wide."""
    long = np.array([len(text) >= 4 for text in texts], bool)
    sizes = boxes[long, 2:] - boxes[long, :2]
    return bool(long.any()) and float(np.mean(sizes[:, 1] > sizes[:, 0])) > 0.5


def _turned_back(boxes: Floats, turn: int, size: tuple[int, int]) -> Floats:
    """Boxes of a picture that was turned upright, as they stand on the page. size: of the upright picture."""
    x0, y0, x1, y1 = boxes.T
    width, height = size
    if turn == 1:
        return np.stack([height - y1, x0, height - y0, x1], axis=1)
    if turn == 2:
        return np.stack([width - x1, height - y1, width - x0, height - y0], axis=1)
    if turn == 3:
        return np.stack([y0, width - x1, y1, width - x0], axis=1)
    return boxes


def _tesseract(picture: Image.Image, languages: str, seconds: float) -> str:
    drawn = io.BytesIO()
    picture.save(drawn, "PPM")
    command = [OCR, "stdin", "stdout", "-l", languages, "--dpi", str(DOTS_PER_INCH), "--psm", "3", "tsv"]
    try:
        done = subprocess.run(
            command,
            input=drawn.getvalue(),
            capture_output=True,
            timeout=max(0.0, seconds),
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
            check=False,
        )
    except OSError as error:
        raise Unreadable(f"the page is a picture, and OCR cannot be started ({error.strerror})") from None
    if done.returncode:
        raise Unreadable(f"the page is a picture, and OCR fails: {_complaint(done.stderr)}")
    return done.stdout.decode("utf-8", "replace")


def _complaint(said: bytes) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    missing = next((line for line in lines if "traineddata" in line or "loading language" in line), None)
    return (missing or (lines[0] if lines else "it says nothing"))[:200]
