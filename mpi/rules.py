"""Rules: what is certain before any weights are asked, and what must never be decided by weights alone.

A household shares its phone, its address and much of its names: twins also the birth date, a child often the
number of the parent who brought it. There the weights of the shared fields are no evidence for one person,
so such pairs are at most held for review, whatever they add up to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from mpi.compare import are_siblings_names
from mpi.features import Features
from mpi.weights import FIELDS, MISSING, Levels


class Verdict(Enum):
    """What a rule says of a pair."""

    SAME = "same"  # linked without asking the weights
    REVIEW = "review"  # never linked by weights alone
    APART = "apart"  # not even shown for review


@dataclass(frozen=True, slots=True)
class Pair:
    """Two records and how they agree; a level's name is None where either record is silent."""

    one: Features
    other: Features
    levels: Levels

    def level(self, field: str) -> str | None:
        """The name of the level of one field."""
        at = _AT[field]
        return None if self.levels[at] == MISSING else FIELDS[at].levels[self.levels[at]]

    def has(self, field: str, *levels: str) -> bool:
        """Whether the field agrees at one of the levels."""
        return self.level(field) in levels

    @property
    def is_one_name(self) -> bool:
        """Whether the names are one, but for how they were written down."""
        return self.has("name", "same", "sound", "reordered", "near")

    @property
    def has_personal_number(self) -> bool:
        """Whether a number that only one person has agrees."""
        return self.has("identity", "same", "near") or self.has("insurance", "same", "near")


_AT = {field.name: at for at, field in enumerate(FIELDS)}


def _identity_and_name(pair: Pair) -> bool:
    identity = pair.one.identity
    return (
        identity is not None
        and identity.is_valid
        and pair.has("identity", "same")
        and pair.has("name", "same", "sound")
        and not pair.has("sex", "different")
        and pair.has("birth_date", "same", "typo", "lunar", "year", None)  # type: ignore[arg-type]
    )


def _same_number(pair: Pair) -> bool:
    """Two sources know the patient by one hospital's number, and mean one human being by it."""
    if pair.one.numbers.isdisjoint(pair.other.numbers):
        return False
    return not pair.has("name", "given", "family", "different") or (
        pair.has("birth_date", "same", "typo") and not pair.has("sex", "different")
    )


def _newborn(pair: Pair) -> bool:
    return bool(pair.one.mother or pair.other.mother)


def _newborn_and_mother(pair: Pair) -> bool:
    one, other = pair.one, pair.other
    if bool(one.mother) == bool(other.mother):
        return False
    return pair.has("birth_date", "different") and _years_apart(pair) >= GENERATION_YEARS


def _other_twin(pair: Pair) -> bool:
    one, other = pair.one.newborn_order, pair.other.newborn_order
    return one != other and bool(one and other)


def _guardian(pair: Pair) -> bool:
    return _is_with(pair.one, pair.other) or _is_with(pair.other, pair.one)


def _is_with(child: Features, parent: Features) -> bool:
    """Whether the number on the child's record is the parent's."""
    number = child.guardian_identity
    return bool(number) and parent.identity is not None and parent.identity.number == number


def _generations(pair: Pair) -> bool:
    return (
        _years_apart(pair) >= GENERATION_YEARS
        and _has_another_name(pair)
        and not pair.has("identity", "same")
        and pair.has("birth_date", "different")
    )


def _has_another_name(pair: Pair) -> bool:
    """Whether the names are of two members of a family: those have a given name each.

    In characters one that differs is another name (建国 and 建军), in letters it is a mistake.
    """
    one, other = pair.one.name, pair.other.name
    in_characters = one is not None and other is not None and bool(one.han or other.han)
    return pair.has("name", "family", "different") or (in_characters and pair.has("name", "one-off"))


def _twins(pair: Pair) -> bool:
    in_household = pair.has("phone", "same", "near") or pair.has("address", "whole", "same", "near")
    return (
        in_household
        and pair.has("birth_date", "same", "typo", "year")
        and not pair.has_personal_number
        and are_siblings_names(pair.one.name, pair.other.name)
    )


def _two_identities(pair: Pair) -> bool:
    one, other = pair.one.identity, pair.other.identity
    return one is not None and other is not None and one.is_valid and other.is_valid and one != other


def _borrowed_number(pair: Pair) -> bool:
    """A child's record with a parent's number and no birth date of its own looks as old as the parent."""
    number = pair.one.identity
    return (
        number is not None
        and number.is_resident
        and pair.has("identity", "same")
        and pair.has("name", "family", "different")
        and not (pair.one.is_birth_date_said and pair.other.is_birth_date_said)
    )


def _other_name_and_birth_date(pair: Pair) -> bool:
    return (
        pair.has("name", "family", "different")
        and pair.has("birth_date", "different", "lunar")
        and not pair.has("identity", "same")
    )


def _other_name_in_household(pair: Pair) -> bool:
    return (
        pair.has("name", "family", "different")
        and pair.level("birth_date") is None
        and not pair.has_personal_number
    )


GENERATION_YEARS = 14

RULES: tuple[tuple[str, Verdict, Callable[[Pair], bool]], ...] = (
    ("the valid identity number and the name are the same", Verdict.SAME, _identity_and_name),
    ("a newborn and its mother", Verdict.APART, _newborn_and_mother),
    ("the elder and the younger twin", Verdict.APART, _other_twin),
    ("two valid identity numbers", Verdict.REVIEW, _two_identities),
    ("one number of the same hospital", Verdict.SAME, _same_number),
    ("another name, and no birth date but the identity number's", Verdict.REVIEW, _borrowed_number),
    ("a newborn without a name of its own", Verdict.REVIEW, _newborn),
    ("one has the identity number of the other's parent", Verdict.REVIEW, _guardian),
)
"""Looked at in this order; the first that holds decides."""

HOUSEHOLD_RULES: tuple[tuple[str, Verdict, Callable[[Pair], bool]], ...] = (
    ("a generation lies between them", Verdict.REVIEW, _generations),
    ("twins, by birth date and household", Verdict.REVIEW, _twins),
    ("neither name nor birth date agree", Verdict.REVIEW, _other_name_and_birth_date),
    ("another name, and nothing but the household agrees", Verdict.REVIEW, _other_name_in_household),
)
"""Looked at after those where families share addresses and phones."""

_ALL_RULES = (*RULES, *HOUSEHOLD_RULES)


def judge(pair: Pair, households: bool = True) -> tuple[str, Verdict] | None:
    """The first rule that holds, and what it says."""
    for name, verdict, holds in _ALL_RULES if households else RULES:
        if holds(pair):
            return name, verdict
    return None


def may_be_certain(pair: Pair) -> bool:
    """Whether a rule may say that they are one, whatever they weigh: those go by an equal number."""
    return pair.has("identity", "same") or bool(pair.one.numbers & pair.other.numbers)


def _years_apart(pair: Pair) -> int:
    one, other = pair.one.birth_date, pair.other.birth_date
    return abs(one.year - other.year) if one and other else 0
