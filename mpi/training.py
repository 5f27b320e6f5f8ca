"""Training: weights from records without labels, by expectation maximisation over patterns of agreement.

Every pair that shares a block key gives a pattern of levels; patterns are counted, so the cost does not grow
with the number of pairs. Missing fields say nothing. Counts from the shipped weights are added to those of
the data, so that a level which hardly occurs keeps a sane weight.

A. P. Dempster et al. 1977; I. P. Fellegi and A. B. Sunter 1969; W. E. Winkler 1988.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mpi.weights import FIELDS, MISSING, TERMS, Levels, Population, combinations

ROUNDS = 200
SETTLED = 1e-6
PSEUDO_PAIRS = 6.0  # the weights it starts from count as this many pairs
LEAST = 1e-9
LEAST_OTHERS = 0.05  # of the pairs under one phone or address, where there are households

Array = npt.NDArray[np.float64]


def train(patterns: Mapping[Levels, int], start: Population) -> Population:
    """What explains the patterns of one population best, starting from `start`.

    patterns: how often each pattern of levels occurred among the pairs that share a block key.
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
    return replace(start, prior=math.log2(share / (1 - share)), terms=tuple(term.as_rows() for term in terms))


class _Term:
    """One term while it is trained: its combinations, which of them each pattern shows, and their m and u."""

    def __init__(self, term: tuple[int, ...], at: int, patterns: Sequence[Levels], start: Population) -> None:
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
        """As `Population` has it."""
        return {
            combination: (float(m), float(u))
            for combination, m, u in zip(self.combinations, *self.table, strict=True)
        }


def has_households(patterns: Mapping[Levels, int]) -> bool:
    """Whether several people are found under one phone or address in a register.

    Where hardly anybody is, two records that share all of it are one person with mistakes, not twins.
    """
    together = others = 0
    for levels, count in patterns.items():
        how = {
            field.name: "" if level == MISSING else field.levels[level]
            for field, level in zip(FIELDS, levels, strict=True)
        }
        if how["phone"] == "same" or how["address"] in ("whole", "same"):
            together += count
            if how["name"] in ("family", "different") and how["birth_date"] == "different":
                others += count
    return others > LEAST_OTHERS * together
