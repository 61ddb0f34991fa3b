"""What both trainings of a reader share: questions with what is most like them, the loss, and what is measured."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from reading import Choice, load
from torch import Tensor
from torch.nn import functional as F

from modelyard.adapters.embed_minilm import MiniLM, packaged

HERE = Path(__file__).resolve().parent
BY_ITSELF = 0.3
"""What each pair by itself weighs beside the choice among them."""

Liked = tuple[Choice, np.ndarray]
"""A question, and of its statements how like it they are by the embedder."""


def questions() -> tuple[list[Liked], list[Liked]]:
    """(to train on, held out: those of a twentieth of the topics) of `reading`."""
    choices = load(sorted((HERE / "reading").glob("*.txt")))
    topics = sorted({choice.topic for choice in choices})
    held = set(random.Random(1).sample(topics, len(topics) // 20))
    texts = sorted({t for c in choices for t in (c.question, *c.statements)})
    vectors = dict(zip(texts, MiniLM(packaged()).embed(texts), strict=True))
    liked = [(c, np.array([vectors[c.question] @ vectors[text] for text in c.statements])) for c in choices]
    own, hold = ([one for one in liked if (one[0].topic in held) is wanted] for wanted in (False, True))
    return own, hold


def order(like: np.ndarray, chance: random.Random | None, shaken: float) -> np.ndarray:
    """Statements, most like first, after their likeness was shaken by so much."""
    noise = np.random.default_rng(chance.getrandbits(32)).normal(0, shaken, len(like)) if chance else 0
    return np.argsort(-(like + noise))


def loss(z: Tensor, right: Tensor, of: Tensor) -> Tensor:
    """Mean of -log(share of what is right), one choice among the statements and none; and of each pair by itself.

    z, right, of: log-odds, whether it answers, and the question, of each pair.
    """
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


def measured(steps: Iterable[tuple[Tensor, Tensor, Tensor]]) -> dict[str, float]:
    """Of (log-odds, right, question) a step: the best statement is right, of the answerable; the same where it is above
    what a tenth of the unanswerable reach."""
    best, good, hopeful = [], [], []
    for z, right, of in steps:
        for k in range(int(of.max()) + 1):
            mine = of == k
            best.append(float(z[mine].max()))
            good.append(bool(right[mine][z[mine].argmax()]))
            hopeful.append(bool(right[mine].any()))
    score, fine, there = np.array(best), np.array(good), np.array(hopeful)
    bar = np.quantile(score[~there], 0.9)
    return {
        "best_right": round(float(fine[there].mean()), 3),
        "right_at_90_refused": round(float((fine & (score > bar))[there].mean()), 3),
    }


def by_topic(liked: Sequence[Liked]) -> list[list[Liked]]:
    made: dict[str, list[Liked]] = {}
    for one in liked:
        made.setdefault(one[0].topic, []).append(one)
    return list(made.values())
