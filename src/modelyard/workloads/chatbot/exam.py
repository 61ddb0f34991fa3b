"""Exam rows to cases: `{id, question, history, answers, evidence: [{document, page}], unanswerable, tags, groups}`.

A case that names `groups` is asked as a caller of these would ask; one that does not is asked of all documents.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelyard.errors import UserError
from modelyard.ids import digest_bytes
from modelyard.ports.tables import Tables
from modelyard.ports.workload import MISSING, Case, Exam
from modelyard.workloads.chatbot import corpus

KEYS = ("id", "question", "history", "answers", "evidence", "unanswerable", "tags", "groups")


def cases(tables: Tables, exam: Exam) -> Iterator[Case]:
    """The rows as cases, each bound to the text of the pages it asks about.

    A document the corpus has not is no error: the case is bound to MISSING, and set aside. Raises UserError naming the
    line that is wrong.
    """
    seen: dict[str, int] = {}
    for line, row in exam.numbered():
        check_row(row, line)
        if row["id"] in seen:
            raise UserError(f"exam, line {line}: the id {row['id']!r} is already used in line {seen[row['id']]}")
        seen[row["id"]] = line
    digests = _digests(tables, {each["document"] for row in exam.rows for each in row.get("evidence", ())})
    for row in exam.rows:
        yield _case(row, exam.origin, digests)


def _case(row: Mapping[str, Any], origin: str, digests: Mapping[str, str]) -> Case:
    evidence = tuple({"document": each["document"], "page": each["page"]} for each in row.get("evidence", ()))
    unanswerable = bool(row.get("unanswerable", False))
    pages = [place(each) for each in evidence]
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in row.get("history", ())]
    messages.append({"role": "user", "content": row["question"]})
    return Case(
        id=row["id"],
        request={"messages": messages},
        expected={"answers": list(row.get("answers", ())), "unanswerable": unanswerable},
        evidence=evidence,
        slices=(*dict.fromkeys(row.get("tags", ())), "unanswerable" if unanswerable else "answerable"),
        cluster=pages[0] if pages else row["id"],
        bound_to={page: digests.get(page, MISSING) for page in pages},
        origin=origin,
        groups=frozenset(row["groups"]) if "groups" in row else None,
    )


def place(evidence: Mapping[str, Any]) -> str:
    """A page by name: `travel-policy.pdf#3`."""
    return f"{evidence['document']}#{evidence['page']}"


def _digests(tables: Tables, names: set[str]) -> dict[str, str]:
    if not names:
        return {}
    rows = corpus.page_texts(tables, {"document": sorted(names)})
    return {place(row): digest_bytes(row["text"].encode("utf-8", "surrogatepass")) for row in rows}


def check_row(row: Mapping[str, Any], line: int) -> None:
    """Raises UserError where a row has the wrong form."""
    for key in row:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(KEYS)})"
            raise UserError(f"exam, line {line}: {key!r} is not known{hint}")
    for key in ("id", "question"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise UserError(f"exam, line {line}: {key} must be a text that is not empty")
    if not isinstance(row.get("unanswerable", False), bool):
        raise UserError(f"exam, line {line}: unanswerable must be true or false")
    for key in ("answers", "tags", "groups"):
        if not all(isinstance(item, str) and item.strip() for item in _list(row, key, line)):
            raise UserError(f"exam, line {line}: {key} must be a list of texts, none of them empty")
    _check_evidence(_list(row, "evidence", line), line)
    _check_history(_list(row, "history", line), line)
    if row.get("unanswerable", False):
        if row.get("answers"):
            raise UserError(f"exam, line {line}: an unanswerable question has no answers")
    elif not row.get("answers") or not row.get("evidence"):
        what = "evidence (the pages that answer it)" if row.get("answers") else "answers"
        raise UserError(f'exam, line {line}: needs {what}, or "unanswerable": true')


def _list(row: Mapping[str, Any], key: str, line: int) -> Sequence[Any]:
    value = row.get(key, [])
    if not isinstance(value, list | tuple):
        raise UserError(f"exam, line {line}: {key} must be a list")
    return value


def _check_evidence(evidence: Sequence[Any], line: int) -> None:
    for each in evidence:
        good = isinstance(each, Mapping) and isinstance(each.get("document"), str) and each["document"]
        if not good or isinstance(each.get("page"), bool) or not isinstance(each.get("page"), int) or each["page"] < 1:
            raise UserError(
                f"exam, line {line}: evidence must be a list of {{document, page}}: a path in the documents folder "
                "and a page that counts from 1"
            )


def _check_history(history: Sequence[Any], line: int) -> None:
    for turn in history:
        good = isinstance(turn, Mapping) and turn.get("role") in ("user", "assistant")
        if not good or not isinstance(turn.get("content"), str):
            raise UserError(f"exam, line {line}: history must be a list of {{role: user or assistant, content}}")
