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
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import product

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
class Weights:
    """A trained set: the prior, and for each term the (m, u) of its combinations of levels.

    m and u add up to 1 over the combinations in which the same fields are missing.
    """

    version: str
    prior: float  # log2 odds that two records sharing a block key are of one person
    terms: tuple[Mapping[Levels, tuple[float, float]], ...]  # one for each of TERMS
    link: float  # at this log2 odds and above two records are linked
    review: float  # from here to `link` a person has to look
    same_name_u: float  # how often two people have one name: what the m and u of `same` stand for
    records: int = 20000  # the size of the register that the prior is of

    def bits(self, at: int, combination: Levels) -> float:
        """log2(m/u) of one term's combination of levels; nothing when all of its fields are missing."""
        found = self.terms[at].get(combination)
        return math.log2(found[0] / found[1]) if found else 0.0


def combinations(term: tuple[int, ...]) -> list[Levels]:
    """Every combination of a term's levels, but for all missing."""
    choices = [(MISSING, *range(len(FIELDS[at].levels))) for at in term]
    return [chosen for chosen in product(*choices) if any(level != MISSING for level in chosen)]


def independent(table: Mapping[str, Mapping[str, tuple[float, float]]], like: Weights) -> Weights:
    """Weights with terms as if their fields were independent: where training starts from nothing."""
    terms = []
    for term in TERMS:
        rows: dict[Levels, tuple[float, float]] = {}
        for combination in combinations(term):
            m = u = 1.0
            for at, level in zip(term, combination, strict=True):
                if level != MISSING:
                    field_m, field_u = table[FIELDS[at].name][FIELDS[at].levels[level]]
                    m, u = m * field_m, u * field_u
            rows[combination] = (m, u)
        terms.append(rows)
    return replace(like, terms=tuple(terms))


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
    """Read a set from its JSON."""
    plain = json.loads(text)
    terms = tuple(
        {
            combination: (float(row[0]), float(row[1]))
            for combination in combinations(term)
            if (row := plain["terms"][name_of(term)].get(name_of_combination(term, combination)))
        }
        for term in TERMS
    )
    return Weights(
        plain["version"],
        plain["prior"],
        terms,
        plain["link"],
        plain["review"],
        plain["same_name_u"],
        plain["records"],
    )


def dump_weights(weights: Weights) -> str:
    """The set as JSON, for people to read as well."""
    plain = {
        "version": weights.version,
        "prior": round(weights.prior, 3),
        "link": weights.link,
        "review": weights.review,
        "same_name_u": round(weights.same_name_u, 9),
        "records": weights.records,
        "terms": {
            name_of(term): {
                name_of_combination(term, combination): [float(f"{m:.4g}"), float(f"{u:.4g}")]
                for combination, (m, u) in rows.items()
            }
            for term, rows in zip(TERMS, weights.terms, strict=True)
        },
    }
    return json.dumps(plain, indent=1) + "\n"


@cache
def default_weights() -> Weights:
    """The set that is shipped."""
    return load_weights(files("mpi").joinpath("default_weights.json").read_text())
