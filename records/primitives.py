"""The primitive data types of R4 as tests of JSON values (R4 2.24.0.1)."""

import re
from collections.abc import Callable
from datetime import date
from typing import Any

from records.documents import Written

YEAR = r"(?:\d(?:\d(?:\d[1-9]|[1-9]0)|[1-9]00)|[1-9]000)"
DATE = rf"{YEAR}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?)?"
TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d{1,12})?"
ZONE = r"(?:Z|[+-](?:(?:0\d|1[0-3]):[0-5]\d|14:00))"
DAY = rf"{YEAR}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"

PATTERNS = {
    name: re.compile(pattern)
    for name, pattern in {
        "code": r"[^\s]+(?:\s[^\s]+)*",
        "id": r"[A-Za-z0-9\-.]{1,64}",
        "uri": r"\S+",
        "url": r"\S+",
        "canonical": r"\S+",
        "oid": r"urn:oid:[0-2](?:\.(?:0|[1-9]\d*))+",
        "uuid": r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "date": DATE,
        "dateTime": rf"{DATE}|{DAY}T{TIME}{ZONE}",
        "instant": rf"{DAY}T{TIME}{ZONE}",
        "time": TIME,
        "base64Binary": r"(?:\s*[0-9A-Za-z+/=]){4,}\s*|\s*",
    }.items()
}
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
LONGEST_STRING = 1_048_576
DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,63})(?:\.\d{1,64})?(?:[eE][+-]?\d{1,4})?")


def _text(type_: str) -> Callable[[Any], bool]:
    pattern = PATTERNS[type_]
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _base64(value: Any) -> bool:
    """The pattern is linear for what it accepts, but large values are common: the alphabet is enough."""
    return isinstance(value, str) and not value.strip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= \r\n\t"
    )


def _string(value: Any) -> bool:
    return (
        isinstance(value, str)
        and bool(value.strip())
        and len(value) <= LONGEST_STRING
        and CONTROL.search(value) is None
    )


def _integer(low: int, high: int = 2**31 - 1) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _decimal(value: Any) -> bool:
    if isinstance(value, Written):
        return DECIMAL.fullmatch(value.text) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dated(type_: str) -> Callable[[Any], bool]:
    pattern = PATTERNS[type_]

    def check(value: Any) -> bool:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            return False
        if len(value) >= 10:
            try:
                date.fromisoformat(value[:10])
            except ValueError:  # the 30th of February
                return False
        return True

    return check


PRIMITIVES: dict[str, Callable[[Any], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": _integer(-(2**31)),
    "positiveInt": _integer(1),
    "unsignedInt": _integer(0),
    "decimal": _decimal,
    "string": _string,
    "markdown": _string,
    "code": _text("code"),
    "id": _text("id"),
    "uri": _text("uri"),
    "url": _text("url"),
    "canonical": _text("canonical"),
    "oid": _text("oid"),
    "uuid": _text("uuid"),
    "date": _dated("date"),
    "dateTime": _dated("dateTime"),
    "instant": _dated("instant"),
    "time": _text("time"),
    "base64Binary": _base64,
}
