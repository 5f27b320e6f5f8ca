"""Resident identity numbers (GB 11643-1999): check digit, 15 digits to 18, and what a number says itself."""

import re
from dataclasses import dataclass
from datetime import date
from operator import mul

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # ISO 7064, MOD 11-2
CHECK = "10X98765432"
SEPARATORS = re.compile(r"[^\w*]|_")
FIRST_AND_LAST = ((11, 15), (21, 23), (31, 37), (41, 46), (50, 54), (61, 65), (71, 71), (81, 83), (91, 91))
PROVINCES = frozenset(str(number) for first, last in FIRST_AND_LAST for number in range(first, last + 1))
"""GB/T 2260; 81 to 83: residence permits of Hong Kong, Macao and Taiwan residents; 91: of foreigners."""
PLACEHOLDERS = frozenset({"无", "不详", "未知", "不明", "NONE", "NULL", "NA", "UNKNOWN"})


@dataclass(frozen=True, slots=True)
class IdentityNumber:
    """An identity number in its 18-character form, or another document's number as written."""

    number: str
    is_resident: bool  # it has the form of a resident identity number
    is_valid: bool  # and its check digit, date and province are right
    birth_date: date | None = None
    sex: str = ""


def parse_identity_number(text: str) -> IdentityNumber | None:
    """Read a number as people type it; None for an empty or placeholder one.

    `x` and `*` stand for the check digit X. A 15-digit number becomes its 18-digit form (GB 11643-1999, 5).
    """
    number = text.upper()
    if not number.isalnum():
        number = SEPARATORS.sub("", number)
    if not number or number in PLACEHOLDERS or len(set(number)) == 1 or len(number) < 5:
        return None
    number = number[:-1] + "X" if number.endswith("*") else number
    if len(number) == 15 and number.isascii() and number.isdigit():
        body = number[:6] + "19" + number[6:]
        number = body + check_digit(body)
    if len(number) != 18 or not (number.isascii() and number[:17].isdigit()):
        return IdentityNumber(number, is_resident=False, is_valid=False)
    born = _date(number[6:14])
    is_valid = born is not None and number[:2] in PROVINCES and check_digit(number[:17]) == number[17]
    sex = ("M" if int(number[16]) % 2 else "F") if is_valid else ""
    return IdentityNumber(number, True, is_valid, born if is_valid else None, sex)


def check_digit(body: str) -> str:
    """The last character of an 18-character number, from the 17 digits before it."""
    return CHECK[sum(map(mul, map(int, body), WEIGHTS)) % 11]


def _date(text: str) -> date | None:
    try:
        born = date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None
    return born if born.year >= 1850 else None
