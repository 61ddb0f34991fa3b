"""A loaded release: the chain, pictures of the pages it cites, and a check of every answer by a second pair of eyes.

Callers of different groups have a view each: a searcher that holds nothing but what they may see, and a chain of its
own upon it. What has no searcher of the others' documents cannot tell of them.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

import pyarrow as pa

from modelyard.errors import NotFound
from modelyard.ports.index import Passage, Searcher
from modelyard.ports.workload import Call, Event, Request, Response
from modelyard.project.access import Access, allowed
from modelyard.workloads.chatbot.chain import Chatbot
from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.page import page_text
from modelyard.workloads.chatbot.picture import Box, page_png, text_png
from modelyard.workloads.chatbot.sandbox import Died, Refused, Sandbox
from modelyard.workloads.chatbot.score import checked

_PICTURES = 64
_VIEWS = 16
_SCALE = 1.5


@dataclass(frozen=True)
class _View:
    """What callers of one set of groups may see, and the chain that answers them from it."""

    entries: Mapping[str, str]
    searcher: Searcher
    chain: Chatbot

    def text(self, document: str, page: int) -> str:
        passages: Sequence[Passage] = self.searcher.page(document, page)
        return page_text(passages) if passages else ""


class ChatbotRelease:
    """A predictor that can search, and show the pages it quotes. Safe to call from several threads.

    `chain` makes a chatbot upon a searcher. `entries` are the documents of the snapshot, {path: sha256}; `closed` says
    which groups may see those that not everybody may; `source` gives their bytes where they are at hand. The views of
    the last 16 sets of groups are kept.
    """

    def __init__(
        self,
        chain: Callable[[Searcher], Chatbot],
        searcher: Searcher,
        entries: Mapping[str, str],
        closed: Access,
        source: Callable[[str], bytes | None],
    ) -> None:
        self._chain, self._closed, self._source = chain, closed, source
        self._known = frozenset(name for groups in closed.values() for name in groups)
        self._entries, self._searcher = entries, searcher
        self._views: OrderedDict[frozenset[str] | None, _View] = OrderedDict()
        self._pictures: OrderedDict[tuple[str, int, str], bytes] = OrderedDict()
        # A picture may take as long as a hostile file likes: only who asks for another waits for it.
        self._lock, self._making, self._drawing = Lock(), Lock(), Lock()
        # Ready before the first who asks is there: most callers have no groups.
        self._view(frozenset())

    def predict(self, request: Request, call: Call) -> Iterator[Event]:
        """See ports.workload.Predictor. `output["checks"]` says whether each citation's quote really stands where it
        says, and how many of the answer's sentences the cited pages support."""
        view = self._view(call.groups)
        for event in view.chain.predict(request, call):
            if isinstance(event, Response):
                output = {**event.output, "checks": checked(event.output, view.text)}
                yield Response(event.text, output, event.usage)
            else:
                yield event

    def search(self, query: str, k: int, groups: frozenset[str] | None = frozenset()) -> Sequence[Mapping[str, Any]]:
        """What retrieval alone finds: [{document, page, score, text}], best first."""
        return self._view(groups).chain.search(query, k)

    def page_picture(self, document: str, page: int, quote: str, groups: frozenset[str] | None = frozenset()) -> bytes:
        """A PNG of the page with the quote marked; of its text, where the document's bytes are not at hand or it has
        no pages of its own. Raises NotFound for a page outside the snapshot, or of a document that these groups may
        not see."""
        view = self._view(groups)
        sha256 = view.entries.get(document)
        if sha256 is None:
            raise NotFound(f"{document!r} is not in this release")
        key = (document, page, quote)
        with self._drawing:
            if (kept := self._pictures.get(key)) is not None:
                self._pictures.move_to_end(key)
                return kept
            made = self._picture(view, document, sha256, page, quote)
            self._pictures[key] = made
            if len(self._pictures) > _PICTURES:
                self._pictures.popitem(last=False)
            return made

    def close(self) -> None:
        """Give back the chains' resources."""
        for view in self._views.values():
            view.chain.close()

    def _view(self, groups: frozenset[str] | None) -> _View:
        """What callers of these groups may see; None sees everything."""
        # Groups that no document names make no difference: callers have many, and views are dear.
        key = groups & self._known if groups is not None and self._closed else None
        with self._lock:
            if (view := self._views.get(key)) is not None:
                self._views.move_to_end(key)
                return view
        with self._making:
            made = self._views.get(key) or self._made(key)
            with self._lock:
                self._views[key] = made
                while len(self._views) > _VIEWS:
                    self._views.popitem(last=False)
        return made

    def _made(self, groups: frozenset[str] | None) -> _View:
        if groups is None:
            return _View(self._entries, self._searcher, self._chain(self._searcher))
        entries = {name: digest for name, digest in self._entries.items() if allowed(self._closed, name, groups)}
        searcher = self._searcher.restricted(frozenset(entries))
        return _View(entries, searcher, self._chain(searcher))

    def _picture(self, view: _View, document: str, sha256: str, page: int, quote: str) -> bytes:
        if PurePosixPath(document).suffix.lower() == ".pdf" and (content := self._source(sha256)) is not None:
            # A child of its own: pictures are rare, and what reads files must not live in a server for ever.
            with Sandbox(Limits()) as sandbox:
                boxes = _boxes(sandbox, document, content, page, quote)
                return page_png(content, page, boxes, _SCALE, sandbox=sandbox)
        text = view.text(document, page)
        if not text:
            raise NotFound(f"{document!r} has no page {page} in this release")
        span = find_quote(text, quote)
        return text_png(text, [span] if span else [], _SCALE)


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
