"""`modelyard ask` and `modelyard search`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from modelyard import api
from modelyard.cli.options import group_option, json_option, print_json, print_line, project_options, shown, shown_name
from modelyard.errors import NotFound, RequestError, UserError
from modelyard.ids import short


@click.command()
@click.argument("question", required=False)
@project_options
@click.option("--file", "path", type=click.Path(path_type=Path), help='Many at once: one {"question": ...} a line.')
@group_option
@json_option
def ask(
    question: str | None, folder: Path, target: str, path: Path | None, groups: tuple[str, ...], as_json: bool
) -> None:
    """Answer QUESTION from the documents, with page citations; or say that they do not answer it."""
    with api.open(folder, target=target) as project:
        if path is not None:
            _each(_questions(path, question), lambda text, history: brief(project.ask(text, history, groups=groups)))
            return
        answer = project.ask(_given(question), groups=groups)
    if as_json:
        print_json(brief(answer))
        return
    click.echo(shown(answer.get("answer", "")))
    for citation in answer.get("citations", []):
        click.echo(
            f"  {shown_name(citation['document'])}, page {citation['page']}: \u201c{_one_line(citation['quote'])}\u201d"
        )
    click.echo(f"[release {short(answer['release'])}, {answer['latency_ms']:.0f} ms]", err=True)


@click.command()
@click.argument("query", required=False)
@click.option("-k", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many pages.")
@project_options
@click.option("--file", "path", type=click.Path(path_type=Path), help='Many at once: one {"question": ...} a line.')
@group_option
@json_option
@click.option("--why", is_flag=True, help="What each score is made of.")
def search(
    query: str | None,
    k: int,
    folder: Path,
    target: str,
    path: Path | None,
    groups: tuple[str, ...],
    as_json: bool,
    why: bool,
) -> None:
    """What retrieval alone finds for QUERY, best first."""
    with api.open(folder, target=target) as project:

        def found(text: str) -> list[dict[str, Any]]:
            return [_hit(hit, why) for hit in project.search(text, k, groups=groups)]

        if path is not None:
            _each(_questions(path, query), lambda text, _: found(text))
            return
        hits = found(_given(query))
    if as_json:
        print_json(hits)
        return
    for hit in hits:
        click.echo(f"{hit['score']:.4f}  {shown_name(hit['document'])}, page {hit['page']}")
        for copy in hit["also"]:
            click.echo(f"        also {shown_name(copy['document'])}, page {copy['page']}")
        click.echo(f"        {_one_line(hit['text'])[:160]}")
        if why:
            for line in _reasons(hit["why"]):
                click.echo(f"        {line}")


def _reasons(why: Mapping[str, Any]) -> Iterator[str]:
    """The parts of a score that are not nothing, and what is known of the document."""
    parts = why.get("parts", {})
    yield " ".join(f"{name} {value:+.3f}" for name, value in parts.items() if abs(value) >= 0.0005)
    fits = {name: fit for name, fit in why.get("document", {}).items() if fit < 1}
    if fits:
        yield "document fits by " + ", ".join(f"{name} {fit:.2f}" for name, fit in fits.items())
    if why.get("superseded_by"):
        yield f"superseded by {shown_name(why['superseded_by'])}"


def brief(answer: dict[str, Any]) -> dict[str, Any]:
    """What `ask --json` promises: {answer, refused, citations: [{document, page, quote}], release, latency_ms}."""
    citations = [{k: c[k] for k in ("document", "page", "quote")} for c in answer.get("citations", [])]
    return {
        "answer": answer.get("answer", ""),
        "refused": bool(answer.get("refused", False)),
        "citations": citations,
        "release": answer["release"],
        "latency_ms": answer["latency_ms"],
    }


def _hit(hit: Mapping[str, Any], why: bool) -> dict[str, Any]:
    """What `search --json` promises: {document, page, score, text, also}, and `why` where asked for."""
    return {**{k: hit[k] for k in ("document", "page", "score", "text")}, "also": hit.get("also", [])} | (
        {"why": hit.get("why", {})} if why else {}
    )


def _given(text: str | None) -> str:
    if text is None:
        raise UserError("give a question, or --file QUESTIONS.jsonl")
    return text


Question = tuple[str, list[dict[str, str]]]


def _each(questions: list[Question], do: Callable[[str, list[dict[str, str]]], Any]) -> None:
    """A line of output for each. One that cannot be answered gets its error, and the others go on."""
    failed = 0
    for text, history in questions:
        whole = text.encode("utf-8", "replace").decode()
        try:
            if whole != text:
                raise RequestError("the question holds half of a surrogate pair")
            print_line(do(text, history))
        except RequestError as e:
            failed += 1
            print_line({"error": {"code": e.code, "message": str(e)}, "question": whole})
    if failed:
        raise RequestError(f"{failed} of {len(questions)} questions could not be taken: their lines say why")


def _questions(path: Path, other: str | None) -> list[Question]:
    """All of them, before the first is asked: a file that is wrong is better known at once."""
    if other is not None:
        raise UserError("give a question or --file, not both")
    try:
        # Not `splitlines`, nor the newlines of text files: JSON has U+2028 and others unescaped inside a line.
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except FileNotFoundError:
        raise NotFound(f"{path} is not there") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read as UTF-8 text: {e}") from None
    out = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            question, history = row["question"], row.get("history") or []
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f'{path}:{number}: one {{"question": "..."}} a line is expected') from None
        if not isinstance(question, str) or not isinstance(history, list):
            raise UserError(f"{path}:{number}: question is text, and history a list of messages")
        out.append((question, history))
    return out


def _one_line(text: str) -> str:
    return shown(" ".join(text.split()))
