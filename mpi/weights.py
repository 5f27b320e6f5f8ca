"""Weights: what each level of agreement in each field is worth, by Fellegi and Sunter.

m is how often records of one person show the level, u how often records of two people that share a block
key do. The weight is log2(m/u); the weights of the fields add up, with the prior, to the log odds that two
records are of one person. Agreement on a rare name says more than on a common one, so its u is the name's
own frequency; in a larger register more people agree by chance, so there the prior is lower. A set of
weights is data: shipped in `default_weights.json`, trained anew without labels (`mpi.training`), versioned,
and named with every decision that used it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from kernel.errors import CloudfilmError, InvalidSetting, Kind
from kernel.settings import MpiSettings
from mpi.compare import (
    compare_addresses,
    compare_birth_dates,
    compare_identities,
    compare_names,
    compare_numbers,
    compare_phones,
    compare_sex,
)
from mpi.features import Features


class UnusableWeights(CloudfilmError):
    """A file that holds no weights; says what is wrong with it."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"These are no weights as `cloudfilm mpi train` writes them: {reason}.")


@dataclass(frozen=True, slots=True)
class Field:
    """A field that is compared, and its levels from the same to different."""

    name: str
    levels: tuple[str, ...]


FIELDS = (
    Field("name", ("same", "sound", "reordered", "near", "one-off", "given", "family", "different")),
    Field("birth_date", ("same", "typo", "lunar", "year", "different")),
    Field("sex", ("same", "different")),
    Field("identity", ("same", "near", "different")),
    Field("insurance", ("same", "near", "different")),
    Field("phone", ("same", "near", "different")),
    Field("address", ("whole", "same", "near", "area", "part", "different")),
    Field("postcode", ("same", "near", "different")),
)

MISSING = -1
Levels = tuple[int, ...]
"""For each of FIELDS the number of its level, or MISSING."""

TERMS = ((0, 1), (2,), (3,), (4,), (5, 6), (7,))
"""Fields that are weighed together, by position: among pairs that share a block key, name and birth date hang
together (either may be why they share it), and so do phone and address (a household has both)."""

_NUMBER = tuple(
    {level: number for number, level in enumerate(field.levels)} | {None: MISSING} for field in FIELDS
)


def compare(one: Features, other: Features) -> Levels:
    """How two records agree, field by field."""
    name, birth_date, sex, identity, insurance, phone, address, postcode = _NUMBER
    return (
        name[compare_names(one.name, other.name)],
        birth_date[compare_birth_dates(one, other)],
        sex[compare_sex(one.sex, other.sex)],
        identity[compare_identities(one.identity, other.identity)],
        insurance[compare_numbers(one.insurance, other.insurance)],
        phone[compare_phones(one.phones, other.phones)],
        address[compare_addresses(one.address, other.address)],
        postcode[compare_numbers(one.postcode, other.postcode)],
    )


@dataclass(frozen=True, slots=True)
class Population:
    """What was learnt of one population: the prior, and for each term the (m, u) of its combinations.

    m and u add up to 1 over the combinations in which the same fields are missing.
    """

    prior: float  # log2 odds that two records sharing a block key are of one person
    terms: tuple[Mapping[Levels, tuple[float, float]], ...]  # one for each of TERMS
    same_name_u: float  # how often two people have one name: what the m and u of `same` stand for
    records: int  # the size of the register that the prior is of
    households: bool  # whether people here share addresses and phones: then rules about households hold

    def bits(self, at: int, combination: Levels) -> float:
        """log2(m/u) of one term's combination of levels; nothing when all of its fields are missing."""
        found = self.terms[at].get(combination)
        return math.log2(found[0] / found[1]) if found else 0.0


POPULATIONS = ("chinese", "western")


def population_of(one: Features, other: Features) -> int:
    """Whose weights two records are weighed by, as a position in POPULATIONS: the western ones where
    something of them is western and nothing is Chinese."""
    return int("western" in (one.origin, other.origin) and "chinese" not in (one.origin, other.origin))


@dataclass(frozen=True, slots=True)
class Weights:
    """A trained set, and from where a pair is linked or looked at."""

    version: str
    link: float  # at this log2 odds and above two records are linked
    review: float  # from here to `link` a person has to look
    populations: tuple[Population, ...]  # one for each of POPULATIONS


def combinations(term: tuple[int, ...]) -> list[Levels]:
    """Every combination of a term's levels, but for all missing."""
    choices = [(MISSING, *range(len(FIELDS[at].levels))) for at in term]
    return [chosen for chosen in product(*choices) if any(level != MISSING for level in chosen)]


def name_of(term: tuple[int, ...]) -> str:
    """`name+birth_date`."""
    return "+".join(FIELDS[at].name for at in term)


def name_of_combination(term: tuple[int, ...], combination: Levels) -> str:
    """`same+typo`; a missing field is `-`."""
    return "+".join(
        "-" if level == MISSING else FIELDS[at].levels[level]
        for at, level in zip(term, combination, strict=True)
    )


def load_weights(text: str) -> Weights:
    """Read a set from its JSON. Raises UnusableWeights."""
    try:
        plain = json.loads(text)
        populations = tuple(_population(plain["populations"][name]) for name in POPULATIONS)
        weights = Weights(str(plain["version"]), float(plain["link"]), float(plain["review"]), populations)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as fault:
        raise UnusableWeights(f"{type(fault).__name__} {fault}") from None
    if weights.review > weights.link:
        raise UnusableWeights("review is above link")
    return weights


def _population(plain: Mapping[str, Any]) -> Population:
    terms = tuple(
        {
            combination: (float(row[0]), float(row[1]))
            for combination in combinations(term)
            if (row := plain["terms"][name_of(term)].get(name_of_combination(term, combination)))
        }
        for term in TERMS
    )
    found = Population(
        float(plain["prior"]), terms, float(plain["same_name_u"]), int(plain["records"]),
        bool(plain["households"]),
    )  # fmt: skip
    shares = [found.same_name_u, *(share for rows in terms for row in rows.values() for share in row)]
    if not all(terms) or not all(0 < share <= 1 for share in shares) or found.records < 1:
        raise ValueError("a term is empty, or a share is not between 0 and 1")
    return found


def read_weights(path: Path) -> Weights:
    """Read a set from its file. Raises UnusableWeights."""
    try:
        return load_weights(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as fault:
        raise UnusableWeights(str(fault)) from None


def weights_of(settings: MpiSettings) -> Weights:
    """The set that an installation goes by. Raises InvalidSetting."""
    if not settings.weights:
        return default_weights()
    try:
        return read_weights(Path(settings.weights))
    except UnusableWeights as unusable:
        raise InvalidSetting("mpi.weights", settings.weights, str(unusable)) from None


def dump_weights(weights: Weights) -> str:
    """The set as JSON, for people to read as well."""
    plain = {
        "version": weights.version,
        "link": weights.link,
        "review": weights.review,
        "populations": {
            name: {
                "prior": round(each.prior, 3),
                "same_name_u": round(each.same_name_u, 9),
                "records": each.records,
                "households": each.households,
                "terms": {
                    name_of(term): {
                        name_of_combination(term, combination): [float(f"{m:.4g}"), float(f"{u:.4g}")]
                        for combination, (m, u) in rows.items()
                    }
                    for term, rows in zip(TERMS, each.terms, strict=True)
                },
            }
            for name, each in zip(POPULATIONS, weights.populations, strict=True)
        },
    }
    return json.dumps(plain, indent=1) + "\n"


@cache
def default_weights() -> Weights:
    """The set that is shipped."""
    return load_weights(files("mpi").joinpath("default_weights.json").read_text())
