"""Scoring: how likely two records are of one person, and why, field by field."""

import math
from dataclasses import dataclass
from functools import lru_cache

from mpi.features import Features, Name
from mpi.rules import Pair, Verdict, judge, may_be_certain
from mpi.weights import (
    MISSING,
    TERMS,
    Levels,
    Weights,
    compare,
    name_of,
    name_of_combination,
    population_of,
)

RAREST, COMMONEST = 4.0, -4.0  # what the frequency of a name may add or take, in bits


@dataclass(frozen=True, slots=True)
class Scored:
    """A pair with its verdict. `weight` is the log2 odds that both are of one person."""

    levels: Levels
    weight: float
    adjustment: float  # part of the weight: how rare the name is, and how large the register
    rule: str  # the rule that held, or nothing
    verdict: Verdict | None
    population: int  # whose weights it was weighed by

    def by_field(self, weights: Weights) -> dict[str, tuple[str, float]]:
        """For each term of which anything is known: how its fields agree, and its weight in bits."""
        shown, population = {}, weights.populations[self.population]
        for at, term in enumerate(TERMS):
            combination = tuple(self.levels[field] for field in term)
            if any(level != MISSING for level in combination):
                bits = round(population.bits(at, combination), 2)
                shown[name_of(term)] = (name_of_combination(term, combination), bits)
        if self.adjustment:
            shown["frequency of the name, size of the register"] = ("", round(self.adjustment, 2))
        return shown

    @property
    def probability(self) -> float:
        """The weight as a probability."""
        return 1 / (1 + 2.0**-self.weight) if self.weight > -60 else 0.0


class Decision:
    """What is done with a pair."""

    LINK, REVIEW, APART = "link", "review", "apart"


def decide(scored: Scored, weights: Weights, household_rules: bool = True) -> str:
    """link, review or apart. household_rules: False asks the weights alone, to see what the rules do."""
    if household_rules and scored.verdict is Verdict.SAME:
        return Decision.LINK
    if scored.weight < weights.review or (household_rules and scored.verdict is Verdict.APART):
        return Decision.APART
    if scored.weight < weights.link or (household_rules and scored.verdict is Verdict.REVIEW):
        return Decision.REVIEW
    return Decision.LINK


class Scorer:
    """Weights as a table of numbers, ready for many pairs."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        # What terms add up to is asked for again and again: most pairs agree in few ways.
        self._bits = lru_cache(maxsize=65536)(self._sum_bits)

    def score(self, one: Features, other: Features, name_frequency: float = 0.0, records: int = 0) -> Scored:
        """Compare two records.

        name_frequency: the share of records that bear the name; 0: not known. records: the size of the
        register; each time it doubles, twice as many strangers agree in what is no personal number.
        """
        pair, weight, adjustment = self._weigh(one, other, name_frequency, records)
        return self._judged(pair, weight, adjustment)

    def near(self, one: Features, other: Features, name_frequency: float, records: int) -> Scored | None:
        """The same; None where they are apart, as most are that merely share a key: those are not judged."""
        pair, weight, adjustment = self._weigh(one, other, name_frequency, records)
        if weight < self.weights.review and not may_be_certain(pair):
            return None
        scored = self._judged(pair, weight, adjustment)
        return scored if decide(scored, self.weights) != Decision.APART else None

    def _judged(self, pair: Pair, weight: float, adjustment: float) -> Scored:
        population = population_of(pair.one, pair.other)
        rule, verdict = judge(pair, self.weights.populations[population].households) or ("", None)
        return Scored(pair.levels, weight, adjustment, rule, verdict, population)

    def _weigh(
        self, one: Features, other: Features, name_frequency: float, records: int
    ) -> tuple[Pair, float, float]:
        """How they agree, what that weighs, and which part of it is the name's and the register's."""
        levels, population = compare(one, other), population_of(one, other)
        learnt = self.weights.populations[population]
        adjustment = 0.0
        if name_frequency and levels[0] in AGREEING_NAMES:
            adjustment = math.log2(learnt.same_name_u / name_frequency)
            adjustment = min(RAREST, max(COMMONEST, adjustment))
        pair = Pair(one, other, levels)
        if records > learnt.records and not pair.has_personal_number:
            adjustment -= math.log2(records / learnt.records)
        return pair, learnt.prior + adjustment + self._bits(population, levels), adjustment

    def _sum_bits(self, population: int, levels: Levels) -> float:
        learnt = self.weights.populations[population]
        return sum(learnt.bits(at, tuple(levels[field] for field in term)) for at, term in enumerate(TERMS))


AGREEING_NAMES = frozenset({0, 1})  # same, sound


def frequency_key(name: Name | None) -> str:
    """Under what a name is counted: its sound, so that one name is one however it was written."""
    return name.letters if name else ""
