"""The smallest workload there is: it answers with what it was asked. For the tutorial, and for what is true of any
workload."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelyard.errors import RequestError, UserError
from modelyard.ports.records import Snapshot
from modelyard.ports.workload import Call, Case, Context, Delta, Event, Exam, Metric, Predictor, Request, Response, Row
from modelyard.workloads.base import BaseWorkload, mean

ROLES = ("system", "user", "assistant", "tool", "function")


class Echo:
    """Answers with the prefix and the last message of the user, word by word."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def predict(self, request: Request, call: Call) -> Iterator[Event]:
        text = self._prefix + _question(request)
        for word in re.findall(r"\s*\S+\s*", text):
            call.check()
            yield Delta(word)
        yield Response(text, {"answer": text})

    def close(self) -> None:
        """Nothing is held."""


class EchoWorkload(BaseWorkload):
    """Settings: `prefix`, put before every answer."""

    name = "echo"
    accepts = frozenset({"messages"})
    metrics: Mapping[str, Metric] = {"exact_match": mean("exact_match")}
    floors: Mapping[str, float] = {"exact_match": 0.5}
    margins: Mapping[str, float] = {"exact_match": 0.1}

    def build(self, ctx: Context, snapshot: Snapshot, out_dir: Path) -> None:
        (out_dir / "prefix.txt").write_text(str(ctx.settings.get("prefix", "")), encoding="utf-8", newline="")

    def load(self, ctx: Context, artifact_dir: Path) -> Predictor:
        return Echo((artifact_dir / "prefix.txt").read_bytes().decode())

    def cases(self, ctx: Context, exam: Exam) -> Iterator[Case]:
        """Rows are {id, question, answers}."""
        for line, row in exam.numbered():
            if not isinstance(row.get("question"), str) or not isinstance(row.get("answers"), list):
                raise UserError(f"exam, line {line}: needs a question (text) and answers (a list of texts)")
            messages = [{"role": "user", "content": row["question"]}]
            name = str(row.get("id", line))
            yield Case(name, {"messages": messages}, {"answers": row["answers"]}, cluster=name, origin=exam.origin)

    def score(self, case: Case, response: Response) -> Row:
        hit = float(response.text in case.expected["answers"])
        return Row(case.id, {"exact_match": hit}, None, case.slices, case.cluster, case.origin, response.output)


def _said(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)


def _question(request: Request) -> str:
    messages: Any = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(map(_said, messages)):
        raise RequestError("messages: needs a list of {role, content}, the question last")
    content = messages[-1].get("content")
    if messages[-1].get("role") != "user" or not isinstance(content, str) or not content.strip():
        raise RequestError("messages: the last one must be the user's, and its content a text that is not empty")
    return content
