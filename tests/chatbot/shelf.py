"""A small shelf of pages, searched for real: what the chain's tests ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelyard.adapters import read_minilm, read_smollm
from modelyard.adapters.embed_minilm import MiniLM, packaged
from modelyard.adapters.index_segments import SegmentIndex
from modelyard.adapters.read_minilm import MiniLMReader
from modelyard.adapters.read_smollm import SmolLMReader
from modelyard.clock import SystemClock
from modelyard.ids import digest
from modelyard.ports.chat import Chat
from modelyard.ports.index import ROWS, Passage, Searcher
from modelyard.ports.reader import Readers
from modelyard.ports.workload import Call, Delta, Response
from modelyard.workloads.chatbot.chain import Chatbot
from modelyard.workloads.chatbot.generate import DEFAULT_PROMPT


@dataclass(frozen=True)
class Sheet:
    """One page of the shelf."""

    document: str
    text: str
    page: int = 1
    title: str = ""
    period: str = ""
    section: str = ""


SHELF = (
    Sheet(
        "rooms-2024.md",
        "# Room rules 2024\n\n## Prices\n\nA night in the lodge costs 40 euros. Dogs pay 5 euros.",
        title="Room rules 2024",
        period="2024",
        section="Room rules 2024 > Prices",
    ),
    Sheet(
        "rooms-2025.md",
        "# Room rules 2025\n\n## Prices\n\nA night in the lodge costs 45 euros. Dogs pay 6 euros. Keys are handed "
        "back to the warden by 10:30 on the day of departure.",
        title="Room rules 2025",
        period="2025",
        section="Room rules 2025 > Prices",
    ),
    Sheet(
        "boats.md",
        "Table 2. Boats for hire\nEuros per day\nBoat\tSeats\tWeekday\tWeekend\n"
        "Heron\t2\t30\t42\nOtter\t4\t48\t66\nPelican\t8\t95\t120¹\n"
        "1. Only with a skipper.\n\nBoats are returned to the north pier before sunset. "
        "The skipper of the club is Maud Verne.",
        title="Boats",
        section="Boats",
    ),
    Sheet(
        "members.md",
        "Table 1. Membership fees by grade\nEuros per year\nGrade\tFee\tLocker\n1 to 3\t80\tno\n4\t120\tyes\n"
        "5 and more\t150\tyes\n\n"
        "New members have a trial period of three months. During it either side may end the membership at any time.",
        title="Members",
        section="Members",
    ),
)


def passages(sheets: Sequence[Sheet] = SHELF) -> list[Passage]:
    """One passage a page."""
    return [
        Passage(
            digest([s.document, s.page]),
            s.document,
            s.page,
            0,
            len(s.text),
            "text",
            s.title,
            s.period,
            s.section,
            s.title,
            s.text,
        )
        for s in sheets
    ]


def searcher(root: Path, sheets: Sequence[Sheet] = SHELF) -> Searcher:
    """The shelf in the default index, under `root`."""
    found = passages(sheets)
    vectors = model().embed([f"{p.header}\n{p.text}" for p in found])
    rows = [
        {**{n: getattr(p, n) for n in ROWS.names[:-1]}, "embedding": v} for p, v in zip(found, vectors, strict=True)
    ]
    index = SegmentIndex(root)
    index.write(
        "shelf", [p.chunk_id for p in found], lambda wanted: pa.Table.from_pylist(rows, schema=ROWS).to_batches()
    )
    return index.open("shelf")


@cache
def model() -> MiniLM:
    """The default embedder, opened once."""
    return MiniLM(packaged(), threads=1)


@cache
def readers() -> Readers:
    """The packaged readers, opened once."""
    return Readers(MiniLMReader(read_minilm.packaged(), threads=1), SmolLMReader(read_smollm.packaged(), threads=1))


def bot(root: Path, sheets: Sequence[Sheet] = SHELF, chat: Chat | None = None, **settings: Any) -> Chatbot:
    return Chatbot(searcher(root, sheets), model(), chat, settings, DEFAULT_PROMPT, readers=None if chat else readers())


def ask(chatbot: Chatbot, *said: str, call: Call | None = None) -> Mapping[str, Any]:
    """The output for a conversation of user and assistant in turn; checks what every answer promises."""
    messages = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(said)]
    events = list(chatbot.predict({"messages": messages}, call or Call(SystemClock(), "k")))
    response = events[-1]
    assert isinstance(response, Response)
    assert "".join(e.text for e in events[:-1] if isinstance(e, Delta)) == response.text == response.output["answer"]
    assert response.output["refused"] == (not response.output["citations"])
    return response.output
