"""A search as a value, and the pieces of it that are parsed from text.

QIDO-RS and C-FIND both make a `Query`; `archive.search` turns it into SQL. PS3.4 C.2.2.2 (attribute
matching), PS3.18 8.3.4 (query parameters).
"""

import re
from dataclasses import dataclass
from datetime import date

from archive.keys import Level, SearchKey
from kernel.errors import CloudfilmError, Kind


class InvalidMatch(CloudfilmError):
    """A matching value that does not follow the form of its attribute."""

    kind = Kind.INVALID

    def __init__(self, attribute: str, form: str) -> None:
        super().__init__(f"The value for {attribute} cannot be matched: {form}.")


class UnknownAttribute(CloudfilmError):
    """A search attribute that is not supported (PS3.18 10.6.1.2)."""

    kind = Kind.INVALID

    def __init__(self, attribute: str) -> None:
        super().__init__(f"{attribute[:64]!r} is not an attribute that can be searched for at this level.")


@dataclass(frozen=True, slots=True)
class Match:
    """One condition: the values are alternatives, an empty value matches all (universal matching)."""

    key: SearchKey
    values: tuple[str, ...]
    is_empty: bool = False  # what has no value is looked for (PS3.4 C.2.2.2.7)


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for, at which level, and how much of it is wanted."""

    level: Level
    matches: tuple[Match, ...] = ()
    study_instance_uid: str = ""  # from the path: below this study only
    series_instance_uid: str = ""
    include: frozenset[str] = frozenset()  # tags beyond the default answer
    include_all: bool = False
    fuzzy: bool = False  # person names also by sound and by pinyin
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class DateRange:
    """Days; None is open, both ends are included."""

    first: date | None
    last: date | None


DATE = re.compile(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})")


def parse_date(text: str) -> date | None:
    """A DICOM date `YYYYMMDD` (also `YYYY.MM.DD` of old, PS3.5 6.2 DA); None for an empty text.

    Raises ValueError.
    """
    text = text.strip()
    if not text:
        return None
    match = DATE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return date(int(match[1]), int(match[2]), int(match[3]))


def date_text(day: date) -> str:
    """A date as `YYYYMMDD`, also one of the first thousand years, which strftime writes shorter."""
    return f"{day.year:04d}{day.month:02d}{day.day:02d}"


def parse_date_range(attribute: str, text: str) -> DateRange:
    """Read a date match: `20240131`, `20240101-20240131`, `20240101-` or `-20240131`.

    Raises InvalidMatch for any other form. PS3.4 C.2.2.2.5 (Range Matching).
    """
    first, dash, last = text.strip().partition("-")
    try:
        if not (first or last):
            raise ValueError(text)
        begin = parse_date(first)
        return DateRange(begin, parse_date(last) if dash else begin)
    except ValueError:
        raise InvalidMatch(attribute, "write a date as 20240131, a range as 20240101-20240131") from None


TIME = re.compile(r"(\d{2}):?(?:(\d{2}):?(?:(\d{2})(?:\.(\d{1,6}))?)?)?")


def normal_time(text: str, end: bool = False) -> str:
    """A DICOM time (PS3.5 6.2 TM) as `HHMMSS.FFFFFF`; what is left out is filled to the begin or the end.

    Raises ValueError.
    """
    match = TIME.fullmatch(text.strip())
    if match is None or int(match[1]) > 23 or int(match[2] or 0) > 59 or int(match[3] or 0) > 60:
        raise ValueError(text)
    fill = ("59", "59", "9") if end else ("00", "00", "0")
    fraction = (match[4] or "").ljust(6, fill[2])
    return f"{match[1]}{match[2] or fill[0]}{match[3] or fill[1]}.{fraction}"


def parse_time_range(attribute: str, text: str) -> tuple[str, str]:
    """Read a time match into its first and last moment, both included. Raises InvalidMatch."""
    first, dash, last = text.strip().partition("-")
    try:
        if not (first or last):
            raise ValueError(text)
        begin = normal_time(first) if first else "000000.000000"
        stop = (last or "235959.999999") if dash else first
        return begin, normal_time(stop, end=True)
    except ValueError:
        raise InvalidMatch(attribute, "write a time as 0830, a range as 0800-1200") from None


def parse_number(attribute: str, text: str) -> int:
    """An integer string (PS3.5 6.2 IS). Raises InvalidMatch."""
    if not re.fullmatch(r"\s*[+-]?\d{1,12}\s*", text):
        raise InvalidMatch(attribute, "write a whole number")
    return int(text)


UID_FORM = re.compile(r"[0-9.]{1,64}")


def parse_uids(attribute: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """A UID or a list of UIDs, separated by comma or backslash (PS3.4 C.2.2.2.2). Raises InvalidMatch."""
    uids = tuple(uid.strip() for value in values for uid in re.split(r"[,\\]", value) if uid.strip())
    if not all(UID_FORM.fullmatch(uid) for uid in uids):
        raise InvalidMatch(attribute, "write UIDs as digits and dots")
    return uids


def has_wildcard(text: str) -> bool:
    """Whether `*` or `?` stand in a text (PS3.4 C.2.2.2.4)."""
    return "*" in text or "?" in text
