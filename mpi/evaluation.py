"""Evaluation: how well a set of weights finds the records of one person, against labels.

Labels serve for counting only; weights are trained without them. Two measures: pairs (each pair of records
by itself) and persons (records arrive one by one and go to the best person, as `identify` does it).
"""

import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from mpi.blocking import MOST_IN_BLOCK, block_keys
from mpi.demographics import Demographics
from mpi.features import Features, features_of
from mpi.scoring import Decision, Scored, Scorer, decide, frequency_key
from mpi.training import count_patterns, train
from mpi.weights import Weights, compare


@dataclass(frozen=True, slots=True)
class Labelled:
    """A record and who it really is."""

    person: str
    said: Demographics


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
    false_links: Counter[str]  # what the wrong pairs agree in


def read_labelled(path: Path) -> list[Labelled]:
    """Labelled records from CSV (may be gzipped): FEBRL's columns, or ours (see docs/mpi.md)."""
    return list(iterate_labelled(path))


def iterate_labelled(path: Path) -> Iterator[Labelled]:
    """The same, one by one, for files that are larger than memory."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text, skipinitialspace=True)
        read = _febrl if "soc_sec_id" in (rows.fieldnames or ()) else _chinese
        for row in rows:
            yield read(row)


def _febrl(row: dict[str, str]) -> Labelled:
    address = " ".join(
        row[column] for column in ("street_number", "address_1", "address_2", "suburb", "postcode", "state")
    )
    said = Demographics(
        "FEBRL", row["rec_id"], "FEBRL", f"{row['surname']}^{row['given_name']}", _date(row["date_of_birth"]),
        identity_number=row["soc_sec_id"], address=address,
    )  # fmt: skip
    return Labelled(row["rec_id"].split("-")[1], said)


def _chinese(row: dict[str, str]) -> Labelled:
    said = Demographics(
        row["source"], row["local_id"], row["source"], f"{row['name_pinyin']}={row['name']}",
        _date(row["birth_date"]), row["sex"], row["id_no"], row["mi_no"], row["phone"], row["address"],
    )  # fmt: skip
    return Labelled(row.get("cluster_id", ""), said)


def _date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


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
SEED = 2718  # the same records give the same weights


def train_on(features: Sequence[Features], start: Weights, version: str) -> Weights:
    """Weights learnt from records without labels.

    Pairs drawn at random join those that share a block key: in a register without many strangers who share
    one, nothing else shows how rarely two of them agree.
    """
    pairs = list(candidate_pairs(features))
    dice, last = Random(SEED), len(features) - 1  # noqa: S311 - a sample, no secret
    pairs += [(dice.randint(0, last), dice.randint(0, last)) for _ in range(RANDOM_PAIRS * len(features))]
    patterns = count_patterns(compare(features[a], features[b]) for a, b in pairs if a != b)
    names = count_names(features)
    total = max(1, sum(names.values()))
    same_name_u = sum((count / total) ** 2 for count in names.values()) or start.same_name_u
    return train(patterns, start, version, same_name_u, len(features))


def evaluate(
    labelled: Sequence[Labelled], weights: Weights | None, start: Weights, household_rules: bool = True
) -> Evaluation:
    """Score all candidate pairs and compare with the labels. weights: None trains on these records first."""
    features = [features_of(record.said) for record in labelled]
    if weights is None:
        weights = train_on(features, start, "trained")
    people = [record.person for record in labelled]
    true_pairs = sum(count * (count - 1) // 2 for count in Counter(people).values())
    pairs = candidate_pairs(features)
    frequency = name_frequencies(features)
    scorer = Scorer(weights)
    linked, false_links = [], Counter[str]()
    by_later: dict[int, list[tuple[int, Scored]]] = defaultdict(list)
    for a, b in pairs:
        scored = scorer.score(features[a], features[b], frequency(features[a]), len(features))
        by_later[max(a, b)].append((min(a, b), scored))
        if decide(scored, weights, household_rules) == Decision.LINK:
            linked.append((a, b))
            if people[a] != people[b]:
                false_links[" ".join(f"{k}={v[0]}" for k, v in scored.by_field(weights).items())] += 1
    right = sum(people[a] == people[b] for a, b in linked)
    return Evaluation(
        len(labelled),
        len(pairs),
        sum(people[a] == people[b] for a, b in pairs),
        Quality(true_pairs, len(linked), right),
        _quality_of_persons(people, by_later, weights, true_pairs, household_rules),
        false_links,
    )


def _quality_of_persons(
    people: Sequence[str],
    by_later: dict[int, list[tuple[int, Scored]]],
    weights: Weights,
    true_pairs: int,
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
    found = sum(_pairs(len(group)) for group in members.values())
    right = sum(_pairs(count) for group in members.values() for count in Counter(group).values())
    return Quality(true_pairs, found, right)


def _pairs(count: int) -> int:
    return count * (count - 1) // 2


def as_lines(result: Evaluation) -> Iterator[str]:
    """The result for people to read."""
    yield f"{result.records} records, {result.pairs.true_pairs} true pairs"
    blocked = result.blocked / max(1, result.pairs.true_pairs)
    yield f"{result.candidates} candidate pairs, with {blocked:.4f} of the true pairs"
    for name, quality in (("pairs", result.pairs), ("persons", result.persons)):
        yield f"{name}: precision {quality.precision:.4f} recall {quality.recall:.4f} F1 {quality.f1:.4f}"
