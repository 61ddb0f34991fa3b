"""Fits the weights by which the extractive answerer chooses a statement, or none, and says how far to trust them.

    python benchmarks/fit_answers.py --on DOCUMENTS QUESTIONS.jsonl... [--on ...] [--keep DIR] [--folds 8]
        [--threshold 0.55] [--without folder]

Questions are put to the product's own chain, and what it had to choose from is kept. To answer is then one choice among
the statements and "refuse": z = marks @ weights for a statement, one z for refusing, softmax. Fitted is the mean log of
the credit earned (1 for what is right, CREDIT for refusing what could be answered), with PENALTY, within SIGNS and
AT_MOST.

Prints one JSON line a threshold, cross-validated by document, or with whole folders left out: shares of answerable
questions answered right, of all answered wrong, of unanswerable ones refused. Then the same of the weights in use, and
last the weights fitted on everything as chain.py writes them, the bias shifted so that `--threshold`, the working point
chosen from those lines, becomes 0.5. Lines of QUESTIONS: see answers.py. What the marks are: docs/chat-answers.md.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from answers import ask, open_index, packaged_readers, summary
from numpy.typing import NDArray
from scipy.optimize import minimize

from modelyard.adapters.embed_minilm import MiniLM, packaged
from modelyard.ports.index import Searcher
from modelyard.workloads.chatbot.chain import DEFAULTS, Chatbot
from modelyard.workloads.chatbot.cite import Citation, merged, verify
from modelyard.workloads.chatbot.compose import Statement, compose
from modelyard.workloads.chatbot.extract import Extractor
from modelyard.workloads.chatbot.generate import DEFAULT_PROMPT
from modelyard.workloads.chatbot.judge import judge
from modelyard.workloads.chatbot.question import Question
from modelyard.workloads.chatbot.statements import Candidate

Floats = NDArray[np.float64]

FOR = ("close", "read", "coverage", "similar", "lead", "fit", "rank", "subject", "said", "local", "least")
AGAINST = ("pair", "clash", "rival", "hard", "misfit", "sum", "year", "basis", "baseless", "foreign", "unsaid", "told")
AGAINST_SOME = ("astray", "unsaid_cell", "unasked", "unnamed", "outdone")
SIGNS = {**dict.fromkeys(FOR, 1), "cell": 0, **dict.fromkeys((*AGAINST, *AGAINST_SOME), -1)}
"""What a mark may say: 1 never against a statement, -1 never for it, 0 either. Some hundred questions cannot prove
each sign; without them a rare mark gets a weight that suits nothing but the questions at hand."""

AT_MOST = {"hard": -7.0, "misfit": -7.0, "basis": -5.5, "astray": -4.0, "sum": -4.0}
"""Weights no nearer to zero than this: such statements never answer, and too few questions say so."""
UNANSWERABLE = 1.5
"""What an unanswerable question weighs against an answerable one: an answer made up does more harm than one missing."""
CREDIT = 0.25
"""For refusing what could be answered: with none, the fit would stake all on a few hard cases; with 1 never answer."""
PENALTY = 0.1 / 16
"""On the mean square of the weights: 0.1 where they are about 4, as they are now. The bias is free."""
IN_USE = {name: float(weight) for name, weight in DEFAULTS["weights"].items()}
THRESHOLDS = (0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)


class Recorder(Extractor):
    """Weighs statements as ever, none left out for being behind by the weights in use, and remembers what it weighed
    last; put into the chain, which has no port for it."""

    behind = (math.inf, math.inf, math.inf)

    def candidates(self, question: Question, *args: Any, **more: Any) -> list[Candidate]:
        found = super().candidates(question, *args, **{**more, "least": -math.inf})
        self.last: tuple[Question, list[Candidate]] = (question, found)
        return found


@dataclass(frozen=True, eq=False)
class Asked:
    """A question and what there was to choose from. right: [statements], whether each alone would be judged right."""

    folder: str
    file: str
    case: Mapping[str, Any]
    question: Question
    found: list[Candidate]
    right: NDArray[np.bool_]


def told(case: Mapping[str, Any], question: Question, found: Sequence[Candidate]) -> str:
    """What the chain's answer of `found`, best first, is judged, were it never to refuse for want of evidence."""
    text = {(c.view.document, c.view.page): c.view.text for c in found}

    def stands(statement: Statement, at: Citation) -> bool:
        return verify(statement.text, at, text[at.passage.document, at.passage.page], statement.labels)

    made = compose(question, found, 0.0, float(DEFAULTS["margin"]), int(DEFAULTS["max_words"]))
    kept = [s for s in made if stands(s, s.citation)]
    citations = merged([c for s in kept for c in (s.citation, *(a for a in s.also if stands(s, a)))])
    output = {"refused": not kept, "answer": "\n".join(s.text for s in kept), "citations": citations}
    return judge(case["answers"], case["evidence"], bool(case.get("unanswerable")), output)


def put(folder: Path, files: Sequence[Path], searcher: Searcher, embedder: MiniLM) -> list[Asked]:
    """Every question of `files` on the documents of `folder`, put to the chain."""
    readers = packaged_readers()
    bot = Chatbot(searcher, embedder, None, {}, DEFAULT_PROMPT, readers=readers)
    bot._extractor = recorder = Recorder(embedder, readers, {}, IN_USE)
    out = []
    for file in files:
        for case in (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()):
            ask(bot, case)
            question, found = recorder.last
            right = [told(case, question, [replace(c, value=0.0)]) == "right" for c in found]
            out.append(Asked(str(folder), str(file), case, question, found, np.array(right, bool)))
    return out


@dataclass(frozen=True)
class Choices:
    """Questions as arrays, filled up to the same number of choices. The last choice of each is to refuse."""

    marks: Floats  # [questions, choices - 1, marks]
    there: NDArray[np.bool_]  # [questions, choices], False for what only fills up
    credit: Floats  # [questions, choices], what each earns
    weight: Floats  # [questions], sums to 1


def choices(asked: Sequence[Asked]) -> Choices:
    """What `asked` had to choose from, and what each choice earns."""
    most = max(len(a.found) for a in asked)
    hopeless = np.array([bool(a.case.get("unanswerable")) for a in asked])
    marks, there = np.zeros((len(asked), most, len(SIGNS))), np.zeros((len(asked), most + 1), bool)
    credit = np.zeros(there.shape)
    for i, each in enumerate(asked):
        for j, candidate in enumerate(each.found):
            marks[i, j] = [candidate.marks.get(m, 0.0) for m in SIGNS]
        there[i, : len(each.found)] = True
        credit[i, : len(each.found)] = each.right
    there[:, -1], credit[:, -1] = True, np.where(hopeless, 1.0, CREDIT)
    weight = np.where(hopeless, UNANSWERABLE, 1.0)
    return Choices(marks, there, credit, weight / weight.sum())


def loss(at: Floats, given: Choices) -> tuple[float, Floats]:
    """Mean of -log(credit expected) and the penalty, with the gradient. at: [marks + 1], weights and z of refusing."""
    weights, refuse = at[:-1], np.full((len(given.marks), 1), at[-1])
    z = np.where(given.there, np.hstack([given.marks @ weights, refuse]), -np.inf)
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    expected = np.maximum((p * given.credit).sum(1, keepdims=True), 1e-12)
    slope = (p - p * given.credit / expected) * given.weight[:, None]
    gradient = np.append(np.einsum("nc,ncm->m", slope[:, :-1], given.marks), slope[:, -1].sum())
    gradient[:-1] += 2 * PENALTY * weights / len(weights)
    value = -(given.weight * np.log(expected[:, 0])).sum() + PENALTY * np.mean(weights**2)
    return float(value), gradient


def fit(asked: Sequence[Asked]) -> dict[str, float]:
    """The weights, "bias" among them: a value of 0 is as good as refusing."""
    bounds = [{1: (0, None), -1: (None, AT_MOST.get(m, 0)), 0: (None, None)}[sign] for m, sign in SIGNS.items()]
    bounds.append((None, None))
    # The loss has a second valley, where all is refused: of two beginnings the better end counts.
    given = choices(asked)
    begin = np.append(np.array([AT_MOST.get(m, 2.0 * sign) for m, sign in SIGNS.items()]), 8.0)
    level = np.append(np.array([AT_MOST.get(m, 0.0) for m in SIGNS]), 0.0)
    ends = [minimize(loss, at, (given,), "L-BFGS-B", True, bounds=bounds) for at in (begin, level)]
    *weights, refuse = min(ends, key=lambda end: float(end.fun)).x.tolist()
    return {**dict(zip(SIGNS, weights, strict=True)), "bias": -refuse}


def folds(cases: Sequence[Mapping[str, Any]], count: int) -> list[int]:
    """The fold of each: questions on one document share one, folds are alike in size, unanswerable ones go round."""
    on = [case["evidence"][0]["document"] if case["evidence"] else None for case in cases]
    sizes, of = [0] * count, {}
    for document, size in sorted(Counter(d for d in on if d).items(), key=lambda item: (-item[1], item[0])):
        of[document] = sizes.index(min(sizes))
        sizes[of[document]] += size
    rest = cycle(range(count))
    return [of[d] if d else next(rest) for d in on]


def apart(asked: Sequence[Asked], count: int, without: str) -> list[int]:
    """The fold of each: `count` folds by document, or one a folder."""
    if without == "folder":
        names = list(dict.fromkeys(a.folder for a in asked))
        return [names.index(a.folder) for a in asked]
    return folds([a.case for a in asked], count)


def outcome(asked: Asked, weights: Mapping[str, float]) -> tuple[float, str]:
    """Score of the best statement, and what the answer would be judged were it never refused for its score."""
    values = (sum(w * {**c.marks, "bias": 1.0}.get(m, 0.0) for m, w in weights.items()) for c in asked.found)
    found = [replace(c, value=value) for c, value in zip(asked.found, values, strict=True)]
    found.sort(key=lambda c: (-c.value, c.view.document, c.view.page, c.start, c.column))
    return (found[0].score, told(asked.case, asked.question, found)) if found else (0.0, "refused")


def report(asked: Sequence[Asked], outcomes: Sequence[tuple[float, str]], threshold: float) -> dict[str, Any]:
    """The figures at one threshold, over all and for each file."""
    rows = [(a, v if score >= threshold else "refused") for a, (score, v) in zip(asked, outcomes, strict=True)]
    out: dict[str, Any] = {}
    for name in ("all", *dict.fromkeys(a.file for a in asked)):
        mine = [(a.case, v) for a, v in rows if name in ("all", a.file)]
        out[name] = summary([dict(c) for c, _ in mine], [v for _, v in mine], 0.0)
        del out[name]["ms_cpu"]
    return out


def folded(weights: Mapping[str, float], threshold: float) -> dict[str, str]:
    """As chain.py writes them, with the bias shifted so that a score of `threshold` becomes one of 0.5."""
    shifted = {**weights, "bias": weights["bias"] - math.log(threshold / (1 - threshold))}
    return {name: f"{shifted[name]:.2f}" for name in ("bias", *SIGNS)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Fits the weights of the extractive answerer.")
    parser.add_argument(
        "--on",
        nargs="+",
        type=Path,
        action="append",
        required=True,
        metavar="PATH",
        help="a folder of documents and the files of questions on them",
    )
    parser.add_argument("--keep", type=Path, help="folder for the indexes, kept for the next run")
    parser.add_argument("--folds", type=int, default=8)
    parser.add_argument("--without", choices=("document", "folder"), default="document", help="what a fold leaves out")
    parser.add_argument("--threshold", type=float, default=0.55, help="the working point, which becomes 0.5")
    args = parser.parse_args()
    if other := SIGNS.keys() ^ IN_USE.keys() ^ {"bias"}:
        parser.error(f"SIGNS and the weights of chain.py differ in {', '.join(sorted(other))}")
    if args.folds < 2 or not 0 < args.threshold < 1:
        parser.error("--folds is 2 or more, --threshold between 0 and 1")
    embedder = MiniLM(packaged())
    with tempfile.TemporaryDirectory() as scratch:
        asked = []
        for at, (documents, *questions) in enumerate(args.on):
            searcher = open_index(documents, embedder, (args.keep or Path(scratch)) / str(at))
            asked += put(documents, questions, searcher, embedder)
    fold = apart(asked, args.folds, args.without)
    without = [fit([a for a, f in zip(asked, fold, strict=True) if f != k]) for k in range(max(fold) + 1)]
    outcomes = [outcome(a, without[f]) for a, f in zip(asked, fold, strict=True)]
    for threshold in THRESHOLDS:
        print(json.dumps({"threshold": threshold, **report(asked, outcomes, threshold)}))
    print(json.dumps({"in_use": report(asked, [outcome(a, IN_USE) for a in asked], float(DEFAULTS["threshold"]))}))
    print(json.dumps({"weights": folded(fit(asked), args.threshold)}))


if __name__ == "__main__":
    main()
