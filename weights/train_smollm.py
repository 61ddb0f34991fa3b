"""Train the close reader: the first layers of SmolLM2-135M further, to say whether a statement answers a question. Run
by hand; its result, `close-reader.safetensors`, is committed.

    pip install torch -e .
    python weights/train_smollm.py MODEL.gguf STATE [--from STATE] [--minutes 45] [--rate 4e-4] [--share KIND=0.3 ...]

The statement with its context is read first and then the question, and the last token gives log-odds. A step takes the
questions on one topic; each has a statement or two that answer it and some of those most like it that do not: to
answer is one choice among these and none (softmax, none at 0), and each pair counts by itself besides. A statement is
computed once for all its questions. Trained are thin matrices beside the model's own (LoRA, Hu et al. 2021) in all but
the first layers, the norms and the head. What was learned is written as what it adds to the weights (`further.py`).

`reading` is split by topic: a twentieth is held out and measured. STATE gets what is trained, for `--from`; without
that, training goes on from `close-reader.safetensors` where there is one. Of each round the topics of a KIND of file
(how its name begins) are drawn with this share, others all.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import further
import gguf
import graph
import llama
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from training import HERE, Liked, by_topic, loss, measured, order, questions

STATEMENT_TOKENS, QUESTION_TOKENS = 112, 72
BETWEEN, END = 198, 2
FROZEN, RANK, SCALE = 6, 32, 2.0
_MACHINE = torch.cpu.get_capabilities()
NUMBERS = torch.bfloat16 if _MACHINE.get("amx_bf16") or _MACHINE.get("avx512_bf16") else torch.float32
"""Of the activations: where the processor does not multiply bfloat16 itself it takes eight times as long as float32."""
NEGATIVES, QUESTIONS = 3, 32
TITLELESS = 0.15
KEYS, GROUP = llama.SHARED * llama.HEAD, llama.HEADS // llama.SHARED
JOINED = {
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "o": ("attn_output",),
    "wide": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}
"""Matrices that read the same are one here."""


@torch.compile(dynamic=True)
def rms(x: Tensor, gain: Tensor) -> Tensor:
    f = x.float()
    return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + llama.EPSILON) * gain).to(NUMBERS)


@torch.compile(dynamic=True)
def swiglu(both: Tensor) -> Tensor:
    gate, up = both.chunk(2, -1)
    return (F.silu(gate.float()) * up.float()).to(NUMBERS)


@torch.compile(dynamic=True)
def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    f = x.float()
    a, b = f[..., 0::2], f[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(NUMBERS)


def take(x: Tensor, at: Tensor) -> Tensor:
    return torch.index_select(x.flatten(1), 0, at.flatten()).view(*at.shape, *x.shape[1:])


class Rows:
    """Texts one after the other in `x` [tokens, ...], from `begin` on, and as a filled table [texts, longest]."""

    def __init__(self, lengths: Sequence[int], begin: int) -> None:
        self.count, self.longest = len(lengths), max(lengths)
        starts = torch.tensor(begin + np.cumsum([0, *lengths[:-1]]))
        long = torch.tensor(lengths)[:, None]
        self.there = torch.arange(self.longest)[None] < long
        self.at = (starts[:, None] + torch.arange(self.longest)[None]).masked_fill(~self.there, 0)
        self.back = self.there.flatten().nonzero()[:, 0]
        self.last = starts + long[:, 0] - 1

    def queries(self, x: Tensor) -> Tensor:
        """[tokens, 9, 64] -> [texts, 3, 3 * longest, 64]: the queries of a key together."""
        y = take(x, self.at).view(self.count, self.longest, llama.SHARED, GROUP, llama.HEAD)
        return y.permute(0, 2, 3, 1, 4).reshape(self.count, llama.SHARED, GROUP * self.longest, llama.HEAD)

    def flat(self, y: Tensor) -> Tensor:
        """What `queries` gave, as [tokens, 576]."""
        y = y.view(self.count, llama.SHARED, GROUP, self.longest, llama.HEAD).permute(0, 3, 1, 2, 4)
        return take(y.reshape(self.count * self.longest, llama.WIDTH), self.back)


class Reader(nn.Module):
    """The model as `llama.py` writes it, and what is trained beside it."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.words = torch.tensor(tensors["token_embd.weight"]).to(NUMBERS)
        self.held, thin = list[dict[str, Tensor]](), dict[str, nn.Parameter]()
        norms = dict[str, nn.Parameter]()
        for i in range(llama.LAYERS):
            parts = {
                name: np.concatenate([tensors[f"blk.{i}.{of}.weight"] for of in each]) for name, each in JOINED.items()
            }
            self.held.append({name: torch.tensor(value).to(NUMBERS) for name, value in parts.items()})
            for name in ("attn_norm", "ffn_norm"):
                norms[f"{i}_{name}"] = nn.Parameter(torch.tensor(tensors[f"blk.{i}.{name}.weight"]), i >= FROZEN)
            for name, value in parts.items() if i >= FROZEN else ():
                out, wide = value.shape
                thin[f"{i}_{name}_a"] = nn.Parameter(SCALE * torch.randn(RANK, wide) / math.sqrt(wide))
                thin[f"{i}_{name}_b"] = nn.Parameter(torch.zeros(out, RANK))
        self.thin, self.norms = nn.ParameterDict(thin), nn.ParameterDict(norms)
        self.last = nn.Parameter(torch.tensor(tensors["output_norm.weight"]))
        self.head, self.bias = nn.Parameter(torch.zeros(1, llama.WIDTH)), nn.Parameter(torch.full((1,), -1.0))
        rates = llama.BASE ** (-torch.arange(0, llama.HEAD, 2).float() / llama.HEAD)
        angles = torch.arange(llama.MAX_TOKENS).float()[:, None] * rates
        self.cos, self.sin = angles.cos(), angles.sin()

    @torch.no_grad()
    def begin(self, tensors: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> None:
        """Take up what an earlier training added: the weights `after` it, as `further.trained` gives them."""
        for i in range(FROZEN, llama.LAYERS):
            for name in ("attn_norm", "ffn_norm"):
                self.norms[f"{i}_{name}"].copy_(torch.tensor(after[f"blk.{i}.{name}.weight"]))
            for name, each in JOINED.items():
                parts = [f"blk.{i}.{of}.weight" for of in each]
                more = torch.tensor(np.concatenate([after[part] - tensors[part] for part in parts]))
                u, s, v = torch.linalg.svd(more, full_matrices=False)
                self.thin[f"{i}_{name}_a"].copy_(SCALE * v[:RANK])
                self.thin[f"{i}_{name}_b"].copy_(u[:, :RANK] * s[:RANK] / SCALE)
        self.last.copy_(torch.tensor(after["output_norm.weight"]))
        self.head.copy_(torch.tensor(after["head.weight"]))
        self.bias.copy_(torch.tensor(after["head.bias"]))

    def linear(self, x: Tensor, i: int, name: str) -> Tensor:
        y = F.linear(x, self.held[i][name])
        if i < FROZEN:
            return y
        a, b = (self.thin[f"{i}_{name}_{end}"].to(NUMBERS) for end in "ab")
        return y + F.linear(F.linear(x, a), b)

    def forward(self, statements: Sequence[list[int]], questions: Sequence[list[int]], of: Sequence[int]) -> Tensor:
        """Log-odds [questions], each asked of the statement `of`."""
        said, asked = [len(one) for one in statements], [len(one) for one in questions]
        first, second, owner = Rows(said, 0), Rows(asked, sum(said)), torch.tensor(of)
        ids = torch.tensor([token for one in (*statements, *questions) for token in one])
        place = [j for n in said for j in range(n)] + [
            said[o] + j for o, n in zip(of, asked, strict=True) for j in range(n)
        ]
        cos, sin = (table[torch.tensor(place)][:, None] for table in (self.cos, self.sin))
        far = torch.full((first.longest, first.longest), llama.FAR).triu(1).to(NUMBERS).repeat(GROUP, 1)[None, None]
        seen = torch.zeros(second.count, 1, first.longest).masked_fill(~first.there[owner][:, None], llama.FAR)
        later = torch.full((second.longest, second.longest), llama.FAR).triu(1)[None]
        shape = (second.count, second.longest)
        beyond = torch.cat([seen.expand(*shape, -1), later.expand(*shape, -1)], 2)
        beyond = beyond.to(NUMBERS).repeat(1, GROUP, 1)[:, None]
        x = F.embedding(ids, self.words)
        for i in range(llama.LAYERS):
            with torch.set_grad_enabled(torch.is_grad_enabled() and i >= FROZEN):
                both = self.linear(rms(x, self.norms[f"{i}_attn_norm"]), i, "qkv")
                query, key, value = both.split((llama.WIDTH, KEYS, KEYS), -1)
                query, key, value = (part.reshape(len(x), -1, llama.HEAD) for part in (query, key, value))
                query, key = turn(query, cos, sin), turn(key, cos, sin)
                own = [take(part, first.at).transpose(1, 2) for part in (key, value)]
                mixed = [first.flat(_attended(first.queries(query), *own, far))]
                more = [
                    torch.cat([take(o, owner), take(part, second.at).transpose(1, 2)], 2)
                    for o, part in zip(own, (key, value), strict=True)
                ]
                mixed.append(second.flat(_attended(second.queries(query), *more, beyond)))
                x = x + self.linear(torch.cat(mixed), i, "o")
                x = x + self.linear(swiglu(self.linear(rms(x, self.norms[f"{i}_ffn_norm"]), i, "wide")), i, "down")
        states = F.rms_norm(x[second.last].float(), (llama.WIDTH,), self.last, llama.EPSILON)
        return F.linear(F.dropout(states, 0.05, self.training), self.head, self.bias)[:, 0]

    def after(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The file's tensors after training, of what was trained."""
        kept = {name: value.detach().numpy() for name, value in self.state_dict().items()}
        made = {"output_norm.weight": kept["last"], "head.weight": kept["head"], "head.bias": kept["bias"]}
        for i in range(FROZEN, llama.LAYERS):
            for name in ("attn_norm", "ffn_norm"):
                made[f"blk.{i}.{name}.weight"] = kept[f"norms.{i}_{name}"]
            for name, parts in JOINED.items():
                more, begin = kept[f"thin.{i}_{name}_b"] @ kept[f"thin.{i}_{name}_a"], 0
                for part in parts:
                    before = tensors[f"blk.{i}.{part}.weight"]
                    made[f"blk.{i}.{part}.weight"] = before + more[begin : begin + len(before)]
                    begin += len(before)
        return made


def _attended(query: Tensor, key: Tensor, value: Tensor, far: Tensor) -> Tensor:
    scores = torch.add(far, query @ key.transpose(2, 3), alpha=llama.HEAD**-0.5)
    return torch.softmax(scores, -1) @ value


class Words:
    """Token numbers of texts, each made once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._kept = tokenizer, dict[str, list[int]]()

    def of(self, text: str) -> list[int]:
        if text not in self._kept:
            self._kept[text] = self._tokenizer.encode(text).ids
        return self._kept[text]

    def statement(self, text: str) -> list[int]:
        return [*self.of(text)[-STATEMENT_TOKENS:], BETWEEN]

    def question(self, text: str) -> list[int]:
        return [*self.of(text)[-QUESTION_TOKENS:], END]


def step(
    model: Reader, words: Words, some: Sequence[Liked], chance: random.Random | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(log-odds, right, question) of the pairs of some questions. chance: None to measure, always alike."""
    numbers, statements = dict[str, int](), list[list[int]]()
    questions, of, right, at = list[list[int]](), list[int](), list[float](), list[int]()
    titleless = {
        text for c, _ in some for text in c.statements if chance and ". " in text and chance.random() < TITLELESS
    }
    for number, (choice, like) in enumerate(some):
        near = order(like, chance, 0.1)
        good = [i for i in near if choice.right[i]]
        if chance and len(good) > 1:
            good = chance.sample(good, 1 if chance.random() < 0.7 else 2)
        count = (NEGATIVES if chance else 5) + (not good)
        for i in [*good, *[i for i in near if not choice.right[i]][:count]]:
            text = choice.statements[i]
            if text in titleless:
                text = text.split(". ", 1)[1]
            if text not in numbers:
                numbers[text] = len(statements)
                statements.append(words.statement(text))
            of.append(numbers[text])
            questions.append(words.question(choice.question))
            right.append(float(choice.right[i]))
            at.append(number)
    return model(statements, questions, of), torch.tensor(right), torch.tensor(at)


@torch.no_grad()
def figures(model: Reader, words: Words, held: Sequence[Liked]) -> dict[str, float]:
    model.eval()
    found = measured(step(model, words, some, None) for some in by_topic(held))
    model.train()
    return found


def drawn(topics: Sequence[list[Liked]], shares: Mapping[str, float], chance: random.Random) -> list[list[Liked]]:
    """A round: topics in chance order, those of a kind in `shares` by this chance."""

    def share(topic: str) -> float:
        return next((share for kind, share in shares.items() if topic.startswith(kind)), 1.0)

    return [one for one in chance.sample(topics, len(topics)) if chance.random() < share(one[0][0].topic)]


def train(
    model: Reader,
    words: Words,
    own: Sequence[Liked],
    held: Sequence[Liked],
    minutes: float,
    rate: float,
    shares: Mapping[str, float],
) -> None:
    chance = random.Random(1)
    topics = by_topic(own)
    groups = [
        {"params": [*model.thin.values()], "lr": rate},
        {"params": [p for p in (*model.norms.values(), model.last) if p.requires_grad], "lr": rate / 2},
        {"params": [model.head, model.bias], "lr": rate * 5},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.98), fused=True)
    rates, begin, turns, waiting = [group["lr"] for group in groups], time.monotonic(), 0, list[list[Liked]]()
    while (gone := (time.monotonic() - begin) / 60 / minutes) < 1:
        while not waiting:
            waiting = drawn(topics, shares, chance)
        for group, full in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = full * min(1.0, turns / 60) * (1 - gone)
        some = waiting.pop()
        value = loss(*step(model, words, chance.sample(some, min(QUESTIONS, len(some))), chance))
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        turns += 1
        if turns % 200 == 0:
            print(turns, f"{60 * minutes * gone:.0f} s", json.dumps(figures(model, words, held)), file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the close reader.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--from", type=Path, dest="begin")
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--share", action="append", default=[], metavar="KIND=SHARE")
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_flush_denormal(True)
    said, base = gguf.read(args.weights)
    words = Words(Tokenizer.from_buffer(gguf.tokenizer(said)))
    own, held = questions()
    model = Reader(base)
    if args.begin:
        model.load_state_dict(torch.load(args.begin))
    elif (committed := HERE / "close-reader.safetensors").is_file():
        model.begin(base, further.trained(llama.wanted(base), graph.read_safetensors(committed)))
    if args.minutes:
        shares = {kind: float(share) for kind, share in (each.split("=") for each in args.share)}
        if not all(0 < share <= 1 for share in shares.values()):
            parser.error("a share is above 0 and at most 1")
        train(model, words, own, held, args.minutes, args.rate, shares)
    print(json.dumps(figures(model, words, held)))
    torch.save(model.state_dict(), args.state)
    further.write(HERE / "close-reader.safetensors", further.added(base, model.after(base), RANK))


if __name__ == "__main__":
    main()
