"""Train the reader: all-MiniLM-L6-v2 further, to say whether a statement answers a question. Run by hand; its result,
`reader.safetensors`, is committed, and `learn.py` runs after it.

    pip install torch
    python weights/train.py MODEL.safetensors TOKENIZER.json STATE [--from STATE] [--minutes 30]

A question and a statement with its context are read together, and the first token gives log-odds. A step takes a few
questions, each with the statements that are most like it by the embedder: to answer is one choice among these and none
(softmax, none at 0), and each pair counts by itself besides. Words keep their vectors. What was learned is written as
what it adds to the weights (`further.py`).

`reading` is split by topic: a twentieth is held out and measured. STATE gets the weights in full, for `--from`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import further
import graph
import numpy as np
import torch
from reading import Choice, load
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
MAX_TOKENS, QUESTION_TOKENS = 128, 48
NEGATIVES, POSITIVES, SETS = 5, 2, 12
"""Statements that do not answer, that do, of each question; questions in a step."""
RATE, BY_ITSELF, TITLELESS = 6e-5, 0.3, 0.15
BEGIN, END = 101, 102


class Reader(nn.Module):
    """BERT as `graph.py` writes it. Parameters have the names of the file's tensors."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        super().__init__()
        held = {name: torch.tensor(value) for name, value in tensors.items() if value.dtype == np.float32}
        self.words = held.pop("embeddings.word_embeddings.weight")
        kinds = held.pop("embeddings.token_type_embeddings.weight")
        self.places = held.pop("embeddings.position_embeddings.weight") + kinds[0]
        self.first = nn.Parameter(held.pop("head.weight", torch.randn(1, graph.WIDTH) * 0.02))
        self.bias = nn.Parameter(held.pop("head.bias", torch.zeros(1)))
        layers = [name for name in held if name.startswith(("encoder.", "embeddings.LayerNorm"))]
        self.learned = nn.ParameterDict({name.replace(".", "/"): nn.Parameter(held[name]) for name in layers})

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(
            x, self.learned[f"{name}.weight".replace(".", "/")], self.learned[f"{name}.bias".replace(".", "/")]
        )

    def norm(self, x: Tensor, name: str) -> Tensor:
        gain, shift = (self.learned[f"{name}.{end}".replace(".", "/")] for end in ("weight", "bias"))
        return F.layer_norm(x, (graph.WIDTH,), gain, shift, 1e-12)

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[texts, tokens, WIDTH], of ids and mask [texts, tokens]."""
        texts, length = ids.shape
        x = self.norm(F.embedding(ids, self.words) + self.places[:length], "embeddings.LayerNorm").bfloat16()
        far = torch.zeros(mask.shape).masked_fill(mask == 0, -1e4)[:, None, None].bfloat16()
        for i in range(graph.LAYERS):
            at = f"encoder.layer.{i}"
            parts = (self.linear(x, f"{at}.attention.self.{part}") for part in ("query", "key", "value"))
            query, key, value = (part.view(texts, length, graph.HEADS, graph.HEAD).transpose(1, 2) for part in parts)
            weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(graph.HEAD) + far, -1)
            mixed = (weights @ value).transpose(1, 2).reshape(texts, length, graph.WIDTH)
            x = self.norm(x + self.linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
            inner = F.gelu(self.linear(x, f"{at}.intermediate.dense"))
            x = self.norm(x + self.linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        return x

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Log-odds [texts]."""
        first = F.dropout(self.states(ids, mask)[:, 0].float(), 0.1, self.training)
        return F.linear(first, self.first, self.bias)[:, 0]

    def tensors(self) -> dict[str, np.ndarray]:
        made = {name.replace("/", "."): value.detach().numpy() for name, value in self.learned.items()}
        return {**made, "head.weight": self.first.detach().numpy(), "head.bias": self.bias.detach().numpy()}


class Words:
    """Token numbers of texts, each made once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._kept = tokenizer, dict[str, list[int]]()

    def of(self, text: str) -> list[int]:
        if text not in self._kept:
            self._kept[text] = self._tokenizer.encode(text).ids[1:-1]
        return self._kept[text]

    def pair(self, question: str, statement: str) -> list[int]:
        first = [BEGIN, *self.of(question)[-QUESTION_TOKENS:], END]
        return [*first, *[*self.of(statement), END][-(MAX_TOKENS - len(first)) :]]


def filled(rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """(ids, mask), [rows, the longest of them, up to a multiple of 8]."""
    length = -(-max(map(len, rows)) // 8) * 8
    ids, mask = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    return ids, mask


@torch.no_grad()
def likeness(model: Reader, words: Words, choices: Sequence[Choice]) -> list[np.ndarray]:
    """Of each question's statements, how like it they are by the embedder (the model before it is trained)."""
    texts = sorted({t for c in choices for t in (c.question, *c.statements)}, key=lambda text: len(words.of(text)))
    vectors = {}
    for at in range(0, len(texts), 64):
        some = texts[at : at + 64]
        ids, mask = filled([[BEGIN, *words.of(text)[: MAX_TOKENS - 2], END] for text in some])
        with torch.autocast("cpu", torch.bfloat16):
            mean = (model.states(ids, mask).float() * mask[..., None]).sum(1)
        vectors |= dict(zip(some, F.normalize(mean).numpy(), strict=True))
    return [np.array([vectors[c.question] @ vectors[text] for text in c.statements]) for c in choices]


def step(
    model: Reader, words: Words, some: Sequence[tuple[Choice, np.ndarray]], chance: random.Random | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(log-odds, right, question) of the pairs of some questions. chance: None to measure, always alike."""
    rows, right, of = [], [], []
    for at, (choice, like) in enumerate(some):
        order = np.argsort(
            -(like + (np.random.default_rng(chance.getrandbits(32)).normal(0, 0.08, len(like)) if chance else 0))
        )
        good = [i for i in order if choice.right[i]]
        if chance and len(good) > POSITIVES:
            good = chance.sample(good, POSITIVES)
        for i in [*good, *[i for i in order if not choice.right[i]][: NEGATIVES + (not good)]]:
            text = choice.statements[i]
            if chance and ". " in text and chance.random() < TITLELESS:
                text = text.split(". ", 1)[1]
            rows.append(words.pair(choice.question, text))
            right.append(float(choice.right[i]))
            of.append(at)
    with torch.autocast("cpu", torch.bfloat16):
        z = model(*filled(rows))
    return z.float(), torch.tensor(right), torch.tensor(of)


def loss(z: Tensor, right: Tensor, of: Tensor) -> Tensor:
    """Mean of -log(share of what is right), one choice among the statements and none; and of each pair by itself."""
    count = int(of.max()) + 1
    none = torch.zeros(count).index_add_(0, of, right) == 0
    z_all, of_all, right_all = (
        torch.cat([z, torch.zeros(count)]),
        torch.cat([of, torch.arange(count)]),
        torch.cat([right, none.float()]),
    )
    top = torch.full((count,), -math.inf).scatter_reduce(0, of_all, z_all.detach(), "amax")
    e = torch.exp(z_all - top[of_all])
    total, good = (torch.zeros(count).index_add_(0, of_all, part) for part in (e, e * right_all))
    return (torch.log(total) - torch.log(good + 1e-9)).mean() + BY_ITSELF * F.binary_cross_entropy_with_logits(z, right)


@torch.no_grad()
def measured(model: Reader, words: Words, held: Sequence[tuple[Choice, np.ndarray]]) -> dict[str, float]:
    """On what is held out: the best statement is right, of the answerable; the same where it is above what a tenth of
    the unanswerable reach."""
    model.eval()
    best, good, hopeful = [], [], []
    for at in range(0, len(held), 16):
        z, right, of = step(model, words, held[at : at + 16], None)
        for k in range(int(of.max()) + 1):
            mine = of == k
            best.append(float(z[mine].max()))
            good.append(bool(right[mine][z[mine].argmax()]))
            hopeful.append(bool(right[mine].any()))
    model.train()
    score, fine, there = np.array(best), np.array(good), np.array(hopeful)
    bar = np.quantile(score[~there], 0.9)
    return {
        "best_right": round(float(fine[there].mean()), 3),
        "right_at_90_refused": round(float((fine & (score > bar))[there].mean()), 3),
    }


def train(
    model: Reader,
    words: Words,
    train_on: Sequence[Choice],
    hold: Sequence[Choice],
    minutes: float,
    like: Sequence[np.ndarray],
) -> None:
    chance = random.Random(1)
    pairs = list(zip([*train_on, *hold], like, strict=True))
    rest, held = pairs[: len(train_on)], pairs[len(train_on) :]
    body = [p for name, p in model.named_parameters() if name not in ("first", "bias")]
    groups = [{"params": body, "lr": RATE}, {"params": [model.first, model.bias], "lr": 5 * RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    rates, begin, turn, waiting = (
        [g["lr"] for g in groups],
        time.monotonic(),
        0,
        list[list[tuple[Choice, np.ndarray]]](),
    )
    while (gone := (time.monotonic() - begin) / 60 / minutes) < 1:
        if not waiting:
            # Alike in length within a step, in no order from step to step.
            mixed = chance.sample(rest, len(rest))
            for at in range(0, len(mixed), 8 * SETS):
                near = sorted(mixed[at : at + 8 * SETS], key=lambda one: len(words.of(one[0].statements[0])))
                waiting += [near[i : i + SETS] for i in range(0, len(near), SETS)]
            chance.shuffle(waiting)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, turn / 100) * (1 - gone)
        value = loss(*step(model, words, waiting.pop(), chance))
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        turn += 1
        if turn % 300 == 0:
            print(turn, f"{60 * minutes * gone:.0f} s", json.dumps(measured(model, words, held)), file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the reader.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--from", type=Path, dest="begin")
    parser.add_argument("--minutes", type=float, default=30)
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_flush_denormal(True)
    base = graph.read_safetensors(args.weights)
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    words = Words(tokenizer)
    choices = load(sorted((HERE / "reading").glob("*.txt")))
    topics = sorted({choice.topic for choice in choices})
    held = set(random.Random(1).sample(topics, len(topics) // 20))
    own = [choice for choice in choices if choice.topic not in held]
    hold = [choice for choice in choices if choice.topic in held]
    like = likeness(Reader(base), words, [*own, *hold])
    model = Reader({**base, **graph.read_safetensors(args.begin)} if args.begin else base)
    if args.minutes:
        train(model, words, own, hold, args.minutes, like)
    print(json.dumps(measured(model, words, list(zip(hold, like[len(own) :], strict=True)))))
    after = model.tensors()
    further.write(args.state, after)
    further.write(HERE / "reader.safetensors", further.added(base, after))


if __name__ == "__main__":
    main()
