"""Matching beyond the columns: what extended negotiation agreed on, time zones, and sequences.

Standards: PS3.4 C.2.2.2.5 (range and date-time matching), C.2.2.2.6 (sequence matching), C.5.1.1 (extended
negotiation of queries).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from archive.folding import fold
from archive.zones import offset_minutes


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


def in_zone_of(identifier: Dataset, agreed: Agreement, own: str) -> int:
    """Minutes to add to the asker's moments to have those of the archive; 0 where nothing is adjusted."""
    asked = offset_minutes(str(identifier.get("TimezoneOffsetFromUTC", "")))
    ours = offset_minutes(own)
    return ours - asked if agreed.timezone and asked is not None and ours is not None else 0


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
