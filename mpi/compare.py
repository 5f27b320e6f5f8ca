"""Comparisons: two values of one field give a level of agreement, or nothing when either is not known.

Levels are ordered from the same to different, and named in `mpi.weights.FIELDS`, which says what each is
worth. All functions here are pure.
"""

from datetime import date

from rapidfuzz.distance import OSA, JaroWinkler
from rapidfuzz.fuzz import token_sort_ratio

from mpi.characters import LOOK_ALIKE
from mpi.features import Features, Name
from mpi.identity_number import IdentityNumber

CLOSE, ALIKE = 0.94, 0.85  # Jaro-Winkler of Latin names
WHOLE_WORDS = 6  # of a western address that goes from the house to the state: strangers do not share it
LEAST_BEGINNING = 3  # characters of a name that stand for all of it
LUNAR_DAYS = range(18, 56)  # a lunar birthday read as a solar one is this much too early


def compare_names(one: Name | None, other: Name | None) -> str | None:
    """same, sound, reordered, near, one-off, given, family or different."""
    if one is None or other is None:
        return None
    if one.han and other.han:
        return _compare_han(one, other)
    if one.han or other.han:
        return _compare_with_latin(one, other) if one.han else _compare_with_latin(other, one)
    return _compare_latin(one, other)


def _compare_han(one: Name, other: Name) -> str:
    a, b = one.han, other.han
    if a == b:
        return "same" if "?" not in a else "near"
    if one.letters == other.letters:
        return "sound"
    if sorted(a) == sorted(b):
        return "reordered"
    if len(a) == len(b):
        differ = [
            (x, y, p, q) for x, y, p, q in zip(a, b, one.syllables, other.syllables, strict=True) if x != y
        ]
        hard = [row for row in differ if not _is_like(*row)]
        if not hard:
            return "near"
        if len(hard) == 1 and len(a) > 2:
            return "one-off" if hard[0][0] != a[0] else "given"
    elif _is_shortened(a, b):
        return "near"
    if one.syllables[0] == other.syllables[0]:
        return "family"
    if sorted(one.syllables) == sorted(other.syllables):
        return "reordered"
    return "different"


def _is_like(x: str, y: str, x_reading: str, y_reading: str) -> bool:
    return "?" in (x, y) or x_reading == y_reading or LOOK_ALIKE.get(x, x) == LOOK_ALIKE.get(y, y)


def _is_shortened(a: str, b: str) -> bool:
    """Whether the shorter is the longer with one character dropped that is not the first, or its beginning
    (买买提 of 买买提·艾力)."""
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    if len(longer) - len(shorter) == 1 and len(shorter) >= 2:
        return any(longer[:at] + longer[at + 1 :] == shorter for at in range(1, len(longer)))
    return len(shorter) >= LEAST_BEGINNING and longer.startswith(shorter)


def _compare_with_latin(han: Name, latin: Name) -> str:
    """A name in characters against one in pinyin only."""
    letters, spellings = latin.letters, han.spellings
    if any(letters in _rotations(each) or sorted(each) == sorted(latin.words) for each in spellings):
        return "sound"
    if any(JaroWinkler.similarity("".join(each), letters) >= CLOSE for each in spellings):
        return "near"
    return "family" if any(letters.startswith(each[0]) for each in spellings) else "different"


def _rotations(parts: tuple[str, ...]) -> set[str]:
    """The parts as one word, whichever of them comes first: given names may, and a family name may be two."""
    return {"".join(parts[at:] + parts[:at]) for at in range(len(parts))}


def _compare_latin(one: Name, other: Name) -> str:
    if one.words == other.words:
        return "same"
    if sorted(one.words) == sorted(other.words):
        return "reordered"
    if one.letters == other.letters:
        return "sound"
    if one.letters in _rotations(other.words) or other.letters in _rotations(one.words):
        return "reordered"
    if len(one.words) < 2 or len(other.words) < 2:
        alike = max(JaroWinkler.similarity(a, b) for a in one.words for b in other.words)
        alike = max(alike, JaroWinkler.similarity(one.letters, other.letters))
        return "near" if alike >= CLOSE else "one-off" if alike >= ALIKE else "different"
    straight = _word_pair(one.words, other.words)
    crossed = _word_pair(one.words, (other.words[-1], other.words[0]))
    low, high = max(straight, crossed, key=sum)
    if low >= CLOSE:
        return "near"
    if low >= ALIKE:
        return "one-off"
    if high < CLOSE:
        return "different"
    return "given" if JaroWinkler.similarity(one.words[-1], other.words[-1]) >= CLOSE else "family"


def _word_pair(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[float, float]:
    """The likeness of the less and the more alike of family and given name."""
    family = JaroWinkler.similarity(one[0], other[0])
    given = JaroWinkler.similarity(one[-1], other[-1])
    return min(family, given), max(family, given)


def are_siblings_names(one: Name | None, other: Name | None) -> bool:
    """Whether both have one family name and clearly different given names."""
    if one is None or other is None:
        return False
    if one.han and other.han:
        return one.syllables[0] == other.syllables[0] and _compare_han(one, other) in ("one-off", "family")
    if one.han or other.han or len(one.words) < 2 or len(other.words) < 2 or one.words[0] != other.words[0]:
        return False
    given, other_given = one.words[-1], other.words[-1]
    is_mistake = OSA.distance(given, other_given) <= 1 or JaroWinkler.similarity(given, other_given) >= ALIKE
    return one.letters != other.letters and not is_mistake


def compare_birth_dates(one: Features, other: Features) -> str | None:
    """same, typo, lunar, year or different."""
    a, b = one.birth_date, other.birth_date
    if a is None or b is None:
        return None
    if a == b:
        return "year" if one.is_birth_date_rough else "same"
    if a.year == b.year and (one.is_birth_date_rough or other.is_birth_date_rough):
        return "year"
    if _is_mistyped(a, b):
        return "typo"
    if abs((a - b).days) in LUNAR_DAYS:
        return "lunar"
    return "different"


def _is_mistyped(a: date, b: date) -> bool:
    if a.year == b.year and (a.month, a.day) == (b.day, b.month):
        return True
    parts = (a.year != b.year) + (a.month != b.month) + (a.day != b.day)
    if parts == 1 and a.year == b.year:
        return True
    return parts == 1 and (abs(a.year - b.year) == 1 or OSA.distance(str(a.year), str(b.year)) == 1)


def compare_sex(one: str, other: str) -> str | None:
    """same or different."""
    return None if not one or not other else "same" if one == other else "different"


def compare_identities(one: IdentityNumber | None, other: IdentityNumber | None) -> str | None:
    """same, near or different. Two valid numbers that differ are of two people, however near they are."""
    if one is None or other is None:
        return None
    if one.number == other.number:
        return "same"
    if one.is_valid and other.is_valid:
        return "different"
    distance = OSA.distance(one.number, other.number, score_cutoff=2)
    return "near" if distance <= (2 if min(len(one.number), len(other.number)) >= 7 else 1) else "different"


def compare_numbers(one: str, other: str) -> str | None:
    """same, near (one digit off) or different."""
    if not one or not other:
        return None
    if one == other:
        return "same"
    return "near" if OSA.distance(one, other, score_cutoff=1) <= 1 else "different"


def compare_phones(one: tuple[str, ...], other: tuple[str, ...]) -> str | None:
    """The best agreement between any two of their phones: same, near or different."""
    if not one or not other:
        return None
    levels = {compare_numbers(a, b) for a in one for b in other}
    return "same" if "same" in levels else "near" if "near" in levels else "different"


def compare_addresses(one: str, other: str) -> str | None:
    """whole, same, near, area, part or different; whole and part are levels of western addresses alone."""
    if not one or not other:
        return None
    if one == other:
        return "whole" if one.isascii() and one.count(" ") >= WHOLE_WORDS - 1 else "same"
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    if longer.startswith(shorter) and len(shorter) >= 6:
        return "near"
    if one.isascii() and other.isascii():
        alike = token_sort_ratio(one, other)
        return "near" if alike >= 85 else "area" if alike >= 65 else "part" if alike >= 50 else "different"
    if OSA.normalized_similarity(one, other) >= 0.85 or OSA.distance(shorter, longer[: len(shorter)]) <= 2:
        return "near"
    return "area" if one[:6] == other[:6] else "different"
