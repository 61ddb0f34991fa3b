"""Train the quick reader: all-MiniLM-L6-v2 further, to say whether a statement answers a question. Run by hand; its
result, `quick-reader.safetensors`, is committed, and `learn.py` runs after it.

    pip install torch -e .
    python weights/train_minilm.py MODEL.safetensors TOKENIZER.json STATE [--from STATE] [--minutes 30]

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
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from training import HERE, Liked, loss, measured, order, questions

MAX_TOKENS, QUESTION_TOKENS = 128, 48
NEGATIVES, POSITIVES, SETS = 5, 2, 12
"""Statements that do not answer, that do, of each question; questions in a step."""
RATE, TITLELESS, RANK = 6e-5, 0.15, 64
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


def step(
    model: Reader, words: Words, some: Sequence[Liked], chance: random.Random | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(log-odds, right, question) of the pairs of some questions. chance: None to measure, always alike."""
    rows, right, of = [], [], []
    for at, (choice, like) in enumerate(some):
        near = order(like, chance, 0.08)
        good = [i for i in near if choice.right[i]]
        if chance and len(good) > POSITIVES:
            good = chance.sample(good, POSITIVES)
        for i in [*good, *[i for i in near if not choice.right[i]][: NEGATIVES + (not good)]]:
            text = choice.statements[i]
            if chance and ". " in text and chance.random() < TITLELESS:
                text = text.split(". ", 1)[1]
            rows.append(words.pair(choice.question, text))
            right.append(float(choice.right[i]))
            of.append(at)
    with torch.autocast("cpu", torch.bfloat16):
        z = model(*filled(rows))
    return z.float(), torch.tensor(right), torch.tensor(of)


@torch.no_grad()
def figures(model: Reader, words: Words, held: Sequence[Liked]) -> dict[str, float]:
    model.eval()
    found = measured(step(model, words, held[at : at + 16], None) for at in range(0, len(held), 16))
    model.train()
    return found


def train(model: Reader, words: Words, own: Sequence[Liked], held: Sequence[Liked], minutes: float) -> None:
    chance = random.Random(1)
    body = [p for name, p in model.named_parameters() if name not in ("first", "bias")]
    groups = [{"params": body, "lr": RATE}, {"params": [model.first, model.bias], "lr": 5 * RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    rates, begin, turn, waiting = (
        [g["lr"] for g in groups],
        time.monotonic(),
        0,
        list[list[Liked]](),
    )
    while (gone := (time.monotonic() - begin) / 60 / minutes) < 1:
        if not waiting:
            # Alike in length within a step, in no order from step to step.
            mixed = chance.sample(own, len(own))
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
            print(turn, f"{60 * minutes * gone:.0f} s", json.dumps(figures(model, words, held)), file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the quick reader.")
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
    own, held = questions()
    model = Reader({**base, **graph.read_safetensors(args.begin)} if args.begin else base)
    if args.minutes:
        train(model, words, own, held, args.minutes)
    print(json.dumps(figures(model, words, held)))
    after = model.tensors()
    further.write(args.state, after)
    further.write(HERE / "quick-reader.safetensors", further.added(base, after, RANK))


if __name__ == "__main__":
    main()
