"""BM25 (Robertson and Zaragoza 2009), with the inverse document frequency that Lucene uses, which is never negative.

    score(d) = sum over terms t of  weight(t) * tf(t, d) / (tf(t, d) + damping(d))
    weight(t) = n(t, query) * (K1 + 1) * ln(1 + (N - df(t) + 0.5) / (df(t) + 0.5))
    damping(d) = K1 * (1 - B + B * length(d) / average length)

The functions are elementwise, so a passage scores the same, bit for bit, in whatever array it lies.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
B = 0.75


def weight(passages: int, holding: int, asked: int = 1) -> float:
    """What a term counts: `holding` of `passages` hold it, and the query names it `asked` times."""
    return asked * (K1 + 1.0) * math.log(1.0 + (passages - holding + 0.5) / (holding + 0.5))


def damping(lengths: NDArray[np.uint32], passages: int, total: int) -> NDArray[np.float64]:
    """By how much each passage's length (in terms) damps its counts; `total` terms in `passages` make the average."""
    average = total / passages if total else 1.0
    return K1 * (1.0 - B + B * (lengths.astype(np.float64) / average))


def gain(counts: NDArray[np.uint16], damped: NDArray[np.float64]) -> NDArray[np.float64]:
    """Saturated term frequencies, in 0..1, of passages with these `counts` and this damping."""
    frequency = counts.astype(np.float64)
    return frequency / (frequency + damped)
