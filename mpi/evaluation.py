"""Evaluation: how well a set of weights finds the records of one person, against labels.

Labels serve for counting only; weights are trained without them. Two measures: pairs (each pair of records
by itself) and persons (records arrive one by one and go to the best person, as `identify` does it).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random

from mpi.blocking import MOST_IN_BLOCK, block_keys
from mpi.csv_records import Labelled
from mpi.features import Features, features_of
from mpi.scoring import Decision, Scored, Scorer, decide, frequency_key
from mpi.training import has_households, train
from mpi.weights import POPULATIONS, Levels, Weights, compare, population_of


@dataclass(frozen=True, slots=True)
class Quality:
    """Precision, recall and F1 over pairs of records."""

    true_pairs: int
    found: int
    right: int

    @property
    def precision(self) -> float:
        """The share of found pairs that are right."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """The share of true pairs that were found."""
        return self.right / self.true_pairs if self.true_pairs else 1.0

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result for one set of records."""

    records: int
    candidates: int
    blocked: int  # true pairs that share a block key
    pairs: Quality
    persons: Quality
    held: Quality  # pairs that somebody is asked about
    false_links: Counter[str]  # what the wrong pairs agree in


def candidate_pairs(features: Sequence[Features]) -> set[tuple[int, int]]:
    """Pairs of positions that share a block key, but for blocks that are too full."""
    blocks: dict[str, list[int]] = defaultdict(list)
    for at, feature in enumerate(features):
        for key in block_keys(feature):
            blocks[key].append(at)
    return {
        pair
        for members in blocks.values()
        if len(members) <= MOST_IN_BLOCK
        for pair in combinations(members, 2)
    }


def count_names(features: Iterable[Features]) -> Counter[str]:
    """How many people bear each name: records of one name and birth date count once."""
    people = {(frequency_key(feature.name), feature.birth_date) for feature in features if feature.name}
    return Counter(name for name, _ in people)


def name_frequencies(features: Iterable[Features]) -> Callable[[Features], float]:
    """The share of people who bear a record's name; 0 when it has none."""
    counts = count_names(features)
    total = max(1, sum(counts.values()))
    return lambda feature: counts[frequency_key(feature.name)] / total


RANDOM_PAIRS = 1  # for each record
LEAST_RECORDS = 500  # of a population, to learn anything of it
SEED = 2718  # the same records give the same weights


def train_on(registers: Sequence[Sequence[Features]], start: Weights, version: str) -> Weights:
    """Weights learnt from the records of one register or more, without labels.

    Pairs drawn at random join those that share a block key: in a register without many strangers who share
    one, nothing else shows how rarely two of them agree. Each population sets out from the Chinese weights,
    which know of households: from weights of a register without any, training does not find them. One of
    which there are hardly any records stays as `start` has it.
    """
    patterns: list[Counter[Levels]] = [Counter() for _ in POPULATIONS]
    sizes, doubles = [0] * len(POPULATIONS), [Counter[str]() for _ in POPULATIONS]
    for features in registers:
        pairs = list(candidate_pairs(features))
        dice, last = Random(SEED), len(features) - 1  # noqa: S311 - a sample, no secret
        pairs += [(dice.randint(0, last), dice.randint(0, last)) for _ in range(RANDOM_PAIRS * len(features))]
        for a, b in pairs:
            if a != b:
                patterns[population_of(features[a], features[b])][compare(features[a], features[b])] += 1
        for at in range(len(POPULATIONS)):
            own = [each for each in features if population_of(each, each) == at]
            sizes[at] = max(sizes[at], len(own))
            doubles[at] += count_names(own)
    learnt = []
    for at, known in enumerate(start.populations):
        if sizes[at] < LEAST_RECORDS:
            learnt.append(known)
            continue
        total = max(1, doubles[at].total())
        same_name_u = sum((count / total) ** 2 for count in doubles[at].values()) or known.same_name_u
        told = replace(
            start.populations[0], same_name_u=same_name_u, records=sizes[at],
            households=has_households(patterns[at]),
        )  # fmt: skip
        learnt.append(train(patterns[at], told))
    return replace(start, version=version, populations=tuple(learnt))


def evaluate(labelled: Sequence[Labelled], weights: Weights, household_rules: bool = True) -> Evaluation:
    """Score all candidate pairs, and compare what is linked with the labels."""
    features = [features_of(record.said) for record in labelled]
    people = [record.person for record in labelled]
    true_pairs = sum(count * (count - 1) // 2 for count in Counter(people).values())
    pairs = candidate_pairs(features)
    frequency = name_frequencies(features)
    scorer = Scorer(weights)
    linked, held, false_links = [], [], Counter[str]()
    by_later: dict[int, list[tuple[int, Scored]]] = defaultdict(list)
    for a, b in pairs:
        scored = scorer.score(features[a], features[b], frequency(features[a]), len(features))
        by_later[max(a, b)].append((min(a, b), scored))
        decision = decide(scored, weights, household_rules)
        if decision == Decision.REVIEW:
            held.append((a, b))
        if decision == Decision.LINK:
            linked.append((a, b))
            if people[a] != people[b]:
                false_links[" ".join(f"{k}={v[0]}" for k, v in scored.by_field(weights).items())] += 1
    right = sum(people[a] == people[b] for a, b in linked)
    return Evaluation(
        len(labelled),
        len(pairs),
        sum(people[a] == people[b] for a, b in pairs),
        Quality(true_pairs, len(linked), right),
        _quality_of_persons(people, by_later, weights, household_rules),
        Quality(true_pairs, len(held), sum(people[a] == people[b] for a, b in held)),
        false_links,
    )


def _quality_of_persons(
    people: Sequence[str],
    by_later: dict[int, list[tuple[int, Scored]]],
    weights: Weights,
    household_rules: bool,
) -> Quality:
    """Records in order of arrival, each to the person of its best link."""
    person = list(range(len(people)))
    for at in range(len(people)):
        links = [
            (scored.weight, earlier)
            for earlier, scored in by_later.get(at, ())
            if decide(scored, weights, household_rules) == Decision.LINK
        ]
        if links:
            person[at] = person[max(links)[1]]
    members: dict[int, list[str]] = defaultdict(list)
    for at, number in enumerate(person):
        members[number].append(people[at])
    return quality_of_groups(people, members.values())


def quality_of_groups(people: Iterable[str], groups: Iterable[Sequence[str]]) -> Quality:
    """How well records were put together: `people` says of each whose it is, `groups` of those in each."""
    true_pairs = found = right = 0
    for count in Counter(people).values():
        true_pairs += _pairs(count)
    for group in groups:
        found += _pairs(len(group))
        right += sum(_pairs(count) for count in Counter(group).values())
    return Quality(true_pairs, found, right)


def _pairs(count: int) -> int:
    return count * (count - 1) // 2


def as_lines(result: Evaluation) -> Iterator[str]:
    """The result for people to read."""
    blocked = result.blocked / max(1, result.pairs.true_pairs)
    yield f"candidates: {result.candidates} pairs with {blocked:.4f} of {result.pairs.true_pairs} true pairs"
    for name, quality in (("pairs", result.pairs), ("persons", result.persons)):
        yield f"{name}: precision {quality.precision:.4f} recall {quality.recall:.4f} F1 {quality.f1:.4f}"
    yield f"held for review: {result.held.found} pairs, of which {result.held.right} are of one person"
