"""Matching beyond the columns: what extended negotiation agreed on, time zones, and sequences.

Standards: PS3.4 C.2.2.2.5 (range and date-time matching), C.2.2.2.6 (sequence matching), C.5.1.1 (extended
negotiation of queries).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import translate
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from archive.folding import fold
from archive.keys import STUDY_MOMENT
from archive.query import Match, parse_date_range, parse_time_range

OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")
PAIRS = (  # dates and the times that go with them, which a shift of the time zone moves together
    ("00080020", "00080030"), ("00080021", "00080031"), ("00080023", "00080033"), ("00400244", "00400245"),
)  # fmt: skip
TIMEZONE = "00080201"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was agreed on for a query model (PS3.4 table C.5-2); all else is done in any case."""

    date_times: bool = False
    fuzzy: bool = False
    timezone: bool = False

    @classmethod
    def of(cls, information: bytes) -> "Agreement":
        """From the application information that we answered with."""
        bits = information.ljust(4, b"\0")
        return cls(bits[1] == 1, bits[2] == 1, bits[3] == 1)


def offset_minutes(text: str) -> int | None:
    """`+0800` or `+08:00` in minutes; None for anything else (PS3.3 C.12.1.1.8)."""
    match = OFFSET.fullmatch(text.strip())
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    return minutes if match[1] == "+" else -minutes


def in_zone_of(identifier: Dataset, agreed: Agreement, own: str) -> int:
    """Minutes to add to the asker's moments to have those of the archive; 0 where nothing is adjusted."""
    asked = offset_minutes(str(identifier.get("TimezoneOffsetFromUTC", "")))
    ours = offset_minutes(own)
    return ours - asked if agreed.timezone and asked is not None and ours is not None else 0


def combined_moments(matches: list[Match], zone: int) -> list[Match]:
    """Matches in which Study Date and Study Time are one range of moments, moved by a zone.

    A time without a date stays a time of each day. Raises InvalidMatch.
    """
    dates = next((match for match in matches if match.key.keyword == "StudyDate"), None)
    times = next((match for match in matches if match.key.keyword == "StudyTime"), None)
    if dates is None or dates.is_empty or len(dates.values) != 1 or (times is not None and times.is_empty):
        return matches
    days = parse_date_range("StudyDate", dates.values[0])
    first, last = parse_time_range("StudyTime", times.values[0]) if times else ("000000", "235959.999999")
    begin = f"{days.first:%Y%m%d}{first}" if days.first else ""
    end = f"{days.last:%Y%m%d}{last}" if days.last else ""
    moved = "-".join(_moved(moment, zone) if moment else "" for moment in (begin, end))
    rest = [match for match in matches if match is not dates and match is not times]
    return [*rest, Match(STUDY_MOMENT, (moved,))]


FORM = "%Y%m%d%H%M%S.%f"


def _moved(moment: str, minutes: int) -> str:
    at = datetime.strptime(moment if "." in moment else f"{moment}.0", FORM)  # noqa: DTZ007 - of either zone
    return (at + timedelta(minutes=minutes)).strftime(FORM)


def shifted(row: Mapping[str, Any], zone: int) -> dict[str, Any]:
    """An answer with its dates and times on the asker's clock."""
    answer = dict(row)
    for date_tag, time_tag in PAIRS:
        day, time = _first(row, date_tag), _first(row, time_tag)
        if not day or len(time) < 4:
            continue  # a date alone says nothing of the hour
        digits = time.split(".")[0].ljust(6, "0")
        try:
            moved = _moved(f"{day}{digits}.{time.partition('.')[2] or '0'}", -zone)
        except ValueError:
            continue
        answer[date_tag] = {"vr": "DA", "Value": [moved[:8]]}
        answer[time_tag] = {"vr": "TM", "Value": [moved[8 : 8 + len(time)]]}
    return answer


def _first(row: Mapping[str, Any], tag: str) -> str:
    values = row.get(tag, {}).get("Value") or [""]
    return str(values[0] or "")


def item_matches(attribute: Mapping[str, Any] | None, asked: Dataset) -> bool:
    """Whether some item of a sequence has every value that an item of the query asks for (PS3.4
    C.2.2.2.6); one that asks for nothing matches all."""
    conditions = [element for element in asked if _asks(element.value)]
    if not conditions:
        return True
    items = (attribute or {}).get("Value") or []
    return any(
        isinstance(item, dict) and all(_element_matches(item, element) for element in conditions)
        for item in items
    )


def _asks(value: Any) -> bool:
    if isinstance(value, MultiValue | list) and value and isinstance(value[0], Dataset):
        return any(_asks(element.value) for element in value[0])
    return bool(str(value if value is not None else "").strip(" *")) and not isinstance(value, Dataset)


def _element_matches(item: Mapping[str, Any], element: Any) -> bool:
    attribute = item.get(f"{element.tag:08X}") or {}
    if element.VR == "SQ":
        return all(item_matches(attribute, inner) for inner in element.value[:1])
    wanted = element.value if isinstance(element.value, MultiValue | list) else [element.value]
    values = [_plain(value) for value in attribute.get("Value") or [""]]
    for text in wanted:
        pattern = re.compile(translate(fold(str(text)).replace("[", "[[]")))
        if any(pattern.match(value) for value in values):
            return True
    return False


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return fold(
            "=".join(str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip(
                "="
            )
        )
    return fold("" if value is None else str(value))
