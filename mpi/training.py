"""Training: weights from records without labels, by expectation maximisation over patterns of agreement.

Every pair that shares a block key gives a pattern of levels; patterns are counted, so the cost does not grow
with the number of pairs. Missing fields say nothing. Counts from the shipped weights are added to those of
the data, so that a level which hardly occurs keeps a sane weight.

A. P. Dempster et al. 1977; I. P. Fellegi and A. B. Sunter 1969; W. E. Winkler 1988.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mpi.weights import MISSING, TERMS, Levels, Weights, combinations

ROUNDS = 200
SETTLED = 1e-6
PSEUDO_PAIRS = 6.0  # the weights it starts from count as this many pairs
LEAST = 1e-9

Array = npt.NDArray[np.float64]


def train(
    patterns: Mapping[Levels, int], start: Weights, version: str, same_name_u: float, records: int
) -> Weights:
    """Weights that explain the patterns best, starting from `start`.

    patterns: how often each pattern of levels occurred among the pairs that share a block key, in a register
    of so many `records`.
    """
    counts = np.array(list(patterns.values()), dtype=np.float64)
    terms = [_Term(term, at, list(patterns), start) for at, term in enumerate(TERMS)]
    share = 1 / (1 + 2**-start.prior)
    for _ in range(ROUNDS):
        odds = np.full(len(counts), math.log(share / (1 - share)))
        for term in terms:
            odds += term.log_ratio()
        match = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
        for term in terms:
            term.estimate(counts * match, counts * (1 - match))
        before = share
        share = min(max(float((match * counts).sum() / counts.sum()), 1e-9), 1 - 1e-9)
        if abs(share - before) < SETTLED:
            break
    prior = math.log2(share / (1 - share))
    return replace(
        start,
        version=version,
        prior=prior,
        terms=tuple(term.as_rows() for term in terms),
        same_name_u=same_name_u,
        records=records,
    )


class _Term:
    """One term while it is trained: its combinations, which of them each pattern shows, and their m and u."""

    def __init__(self, term: tuple[int, ...], at: int, patterns: Sequence[Levels], start: Weights) -> None:
        self.combinations = combinations(term)
        number = {combination: row for row, combination in enumerate(self.combinations)}
        silent = len(number)  # all of its fields are missing
        self.shown = np.array([number.get(tuple(row[at] for at in term), silent) for row in patterns])
        masks = [tuple(level == MISSING for level in combination) for combination in self.combinations]
        self.groups = [
            np.array([at for at, mask in enumerate(masks) if mask == wanted])
            for wanted in dict.fromkeys(masks)
        ]
        self.prior = np.array([start.terms[at].get(row, (LEAST, LEAST)) for row in self.combinations]).T
        self.table = self._normal(self.prior)

    def _normal(self, table: Array) -> Array:
        normal = np.maximum(table, LEAST)
        for group in self.groups:
            normal[:, group] /= normal[:, group].sum(axis=1, keepdims=True)
        return normal

    def log_ratio(self) -> Array:
        """For each pattern what this term adds to the log odds."""
        ratios = np.append(np.log(self.table[0] / self.table[1]), 0.0)
        return np.asarray(ratios[self.shown])

    def estimate(self, match: Array, other: Array) -> None:
        """New m and u from how likely each pattern is a match."""
        size = len(self.combinations) + 1
        rows = [np.bincount(self.shown, weights=part, minlength=size)[:-1] for part in (match, other)]
        self.table = self._normal(np.array(rows) + PSEUDO_PAIRS * self.prior)

    def as_rows(self) -> dict[Levels, tuple[float, float]]:
        """As `Weights` has it."""
        return {
            combination: (float(m), float(u))
            for combination, m, u in zip(self.combinations, *self.table, strict=True)
        }


def count_patterns(pairs: Iterable[Levels]) -> Counter[Levels]:
    """How often each pattern occurs."""
    return Counter(pairs)
