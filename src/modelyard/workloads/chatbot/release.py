"""A loaded release: the chain, pictures of the pages it cites, and a check of every answer by a second pair of eyes."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

import pyarrow as pa

from modelyard.errors import NotFound
from modelyard.ports.index import Passage, Searcher
from modelyard.ports.workload import Call, Event, Request, Response
from modelyard.workloads.chatbot.chain import Chatbot
from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.page import page_text
from modelyard.workloads.chatbot.picture import Box, page_png, text_png
from modelyard.workloads.chatbot.sandbox import Died, Refused, Sandbox
from modelyard.workloads.chatbot.score import checked

_PICTURES = 64
_SCALE = 1.5


class ChatbotRelease:
    """A predictor that can search, and show the pages it quotes. Safe to call from several threads.

    `entries` are the documents of the snapshot, {path: sha256}; `source` gives their bytes where they are at hand.
    """

    def __init__(
        self,
        chain: Chatbot,
        searcher: Searcher,
        entries: Mapping[str, str],
        source: Callable[[str], bytes | None],
    ) -> None:
        self._chain, self._searcher, self._entries, self._source = chain, searcher, entries, source
        self._pictures: OrderedDict[tuple[str, int, str], bytes] = OrderedDict()
        self._lock = Lock()

    def predict(self, request: Request, call: Call) -> Iterator[Event]:
        """See ports.workload.Predictor. `output["checks"]` says whether each citation's quote really stands where it
        says, and how many of the answer's sentences the cited pages support."""
        for event in self._chain.predict(request, call):
            if isinstance(event, Response):
                output = {**event.output, "checks": checked(event.output, self._text)}
                yield Response(event.text, output, event.usage)
            else:
                yield event

    def search(self, query: str, k: int) -> Sequence[Mapping[str, Any]]:
        """What retrieval alone finds: [{document, page, score, text}], best first."""
        return self._chain.search(query, k)

    def page_picture(self, document: str, page: int, quote: str) -> bytes:
        """A PNG of the page with the quote marked; of its text, where the document's bytes are not at hand or it has
        no pages of its own. Raises NotFound for a page outside the snapshot."""
        sha256 = self._entries.get(document)
        if sha256 is None:
            raise NotFound(f"{document!r} is not in this release")
        key = (document, page, quote)
        with self._lock:
            if (kept := self._pictures.get(key)) is not None:
                self._pictures.move_to_end(key)
                return kept
            made = self._picture(document, sha256, page, quote)
            self._pictures[key] = made
            if len(self._pictures) > _PICTURES:
                self._pictures.popitem(last=False)
            return made

    def close(self) -> None:
        """Give back the chain's resources."""
        self._chain.close()

    def _picture(self, document: str, sha256: str, page: int, quote: str) -> bytes:
        if PurePosixPath(document).suffix.lower() == ".pdf" and (content := self._source(sha256)) is not None:
            # A child of its own: pictures are rare, and what reads files must not live in a server for ever.
            with Sandbox(Limits()) as sandbox:
                boxes = _boxes(sandbox, document, content, page, quote)
                return page_png(content, page, boxes, _SCALE, sandbox=sandbox)
        text = self._text(document, page)
        if not text:
            raise NotFound(f"{document!r} has no page {page} in this release")
        span = find_quote(text, quote)
        return text_png(text, [span] if span else [], _SCALE)

    def _text(self, document: str, page: int) -> str:
        passages: Sequence[Passage] = self._searcher.page(document, page)
        return page_text(passages) if passages else ""


def find_quote(text: str, quote: str) -> tuple[int, int] | None:
    """Where `quote` stands in `text`, whatever white space parts its words; None where it does not.

    >>> find_quote("Hotel\\t145\\nper  night", "145 per night")
    (6, 20)
    """
    words = quote.split()
    if not words:
        return None
    found = re.search(r"\s+".join(map(re.escape, words)), text)
    return found.span() if found else None


def _boxes(sandbox: Sandbox, document: str, content: bytes, page: int, quote: str) -> list[Box]:
    """Where the words of the quote stand on the page, as the parser sees them; none where it sees them otherwise."""
    if not quote.split():
        return []
    only = {str(number): "not asked for" for number in range(1, Limits().max_pages + 1) if number != page}
    try:
        streams = list(sandbox.run("parse", {"document": document, "sha256": "", "skip": only}, content))
    except (Refused, Died):
        return []
    for stream in streams:
        for row in pa.ipc.open_stream(stream).read_all().select(["page", "text", "words"]).to_pylist():
            if row["page"] == page and (span := find_quote(row["text"], quote)):
                words = [word for word in row["words"] if word["start"] < span[1] and span[0] < word["end"]]
                return [(word["x0"], word["y0"], word["x1"], word["y1"]) for word in words]
    return []
