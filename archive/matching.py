"""Attribute matching on a document: whether it answers to the keys of an identifier (PS3.4 C.2.2.2).

For items that few enough are of to be looked at one by one, after the database has left out most: workitems
of a worklist. Keys and document are DICOM JSON; keys without a value match all, sequences match when one of
their items does. Pure.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from archive.attributes import tag_of, text_of
from archive.folding import fold, fold_name, pinyin
from archive.query import InvalidMatch, has_wildcard, normal_time, parse_date_range, parse_time_range

IGNORED = frozenset({"00080005", "00080052", "00080201"})  # character set, level, timezone: no matching keys
FOLDED = frozenset({"LO", "LT", "PN", "ST", "UC", "UT"})  # texts of people: case does not matter
DATE_TIME_PAIRS = tuple(
    (tag_of(f"{name}Date"), tag_of(f"{name}Time"))
    for name in ("ScheduledProcedureStepStart", "ScheduledProcedureStepEnd", "PerformedProcedureStepStart")
)
DATE_TIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,6}))?([+-]\d{4})?")


def matches(keys: Mapping[str, Any], document: Mapping[str, Any], fuzzy: bool = False) -> bool:
    """Whether a document answers to all keys. Raises InvalidMatch for a key that cannot be matched.

    A date key and a time key that are both ranges name one period from the first moment to the last (PS3.4
    K.6.1.2, Scheduled Procedure Step Start Time).
    """
    together = _combined(keys)
    for tag, key in keys.items():
        if tag in IGNORED or tag in together or not isinstance(key, dict):
            continue
        if not _matches(tag, key, document.get(tag) or {}, fuzzy):
            return False
    return all(
        _within_period(keys, document, date, time) for date, time in DATE_TIME_PAIRS if date in together
    )


def _combined(keys: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(
        tag
        for pair in DATE_TIME_PAIRS
        if all("-" in _first(keys.get(tag) or {}) for tag in pair)
        for tag in pair
    )


def _within_period(keys: Mapping[str, Any], document: Mapping[str, Any], date: str, time: str) -> bool:
    days = parse_date_range(date, _first(keys[date]))
    begin, end = parse_time_range(time, _first(keys[time]))
    day = _day(_first(document.get(date) or {}))
    if not day:
        return False
    moment = (day, _moment(_first(document.get(time) or {})))
    after = days.first is None or moment >= (f"{days.first:%Y%m%d}", begin)
    return after and (days.last is None or moment <= (f"{days.last:%Y%m%d}", end))


def _matches(tag: str, key: Mapping[str, Any], held: Mapping[str, Any], fuzzy: bool) -> bool:
    vr = str(key.get("vr") or held.get("vr") or "")
    wanted = key.get("Value") or []
    if vr == "SQ":
        wanted_item = next((each for each in wanted if isinstance(each, dict)), {})
        found = [each for each in held.get("Value") or [] if isinstance(each, dict)]
        return matches(wanted_item, {}, fuzzy) if not found else any(
            matches(wanted_item, each, fuzzy) for each in found
        )  # fmt: skip
    texts = [text_of(value) for value in wanted]
    if not any(texts):
        return True
    if len(texts) == 1 and texts[0].strip("*") == "" and vr not in ("DA", "TM", "DT", "UI"):
        return True  # `*` is universal matching, an absent value included
    values = [text_of(value) for value in held.get("Value") or []]
    matcher = MATCHERS.get(vr, _match_text)
    return any(
        matcher(tag, wanted_text, value, fuzzy) for wanted_text in texts if wanted_text for value in values
    )


def _match_text(_tag: str, wanted: str, value: str, _fuzzy: bool) -> bool:
    return _wildcard(wanted, value)


def _match_folded(_tag: str, wanted: str, value: str, _fuzzy: bool) -> bool:
    return _wildcard(fold(wanted), fold(value))


def _match_uid(tag: str, wanted: str, value: str, _fuzzy: bool) -> bool:
    uids = [uid.strip() for uid in re.split(r"[,\\]", wanted)]
    if not all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in uids):
        raise InvalidMatch(tag, "write UIDs as digits and dots")
    return value in uids


def _match_date(tag: str, wanted: str, value: str, _fuzzy: bool) -> bool:
    days, day = parse_date_range(tag, wanted), _day(value)
    if not day:
        return False
    after = days.first is None or day >= f"{days.first:%Y%m%d}"
    return after and (days.last is None or day <= f"{days.last:%Y%m%d}")


def _match_time(tag: str, wanted: str, value: str, _fuzzy: bool) -> bool:
    first, last = parse_time_range(tag, wanted)
    return bool(value) and first <= _moment(value) <= last


def _match_date_time(tag: str, wanted: str, value: str, _fuzzy: bool) -> bool:
    first, last = date_time_range(tag, wanted)
    moment = date_time(value)
    return moment is not None and (first is None or moment >= first) and (last is None or moment <= last)


def _match_number(_tag: str, wanted: str, value: str, _fuzzy: bool) -> bool:
    try:
        return float(wanted) == float(value)
    except ValueError:
        return wanted == value


def _match_person_name(_tag: str, wanted: str, value: str, fuzzy: bool) -> bool:
    """Any component group may match; a value with several groups names which (PS3.4 C.2.2.2.1.1)."""
    asked = [fold_name(group) for group in wanted.split("=")[:3]]
    held = [fold_name(group) for group in value.split("=")[:3]]
    held += [""] * (3 - len(held))
    if len([group for group in asked if group]) > 1:
        return all(_wildcard(group, held[at]) for at, group in enumerate(asked) if group)
    group = next((group for group in asked if group), "")
    if any(_wildcard(group, each) for each in held if each):
        return True
    words = [word for word in re.split(r"[\^ *?]+", group) if word]
    sounds = [word for each in held for word in re.split(r"[\^ ]+", each)] + pinyin(held[1]).split()
    return fuzzy and bool(words) and all(any(sound.startswith(word) for sound in sounds) for word in words)


MATCHERS: dict[str, Callable[[str, str, str, bool], bool]] = {
    **dict.fromkeys(FOLDED, _match_folded),
    **dict.fromkeys(("IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "SV", "UV"), _match_number),
    "PN": _match_person_name,
    "UI": _match_uid,
    "DA": _match_date,
    "TM": _match_time,
    "DT": _match_date_time,
}


def _wildcard(wanted: str, value: str) -> bool:
    if not has_wildcard(wanted):
        return wanted == value
    pattern = re.escape(wanted).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, value, re.DOTALL) is not None


def date_time(text: str, end: bool = False) -> datetime | None:
    """A DICOM date time (PS3.5 6.2 DT): what is left out is filled to the begin or the end; a text without
    an offset counts as UTC, so such texts compare among themselves. None for an empty or wrong one."""
    found = DATE_TIME.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    zone: timezone = UTC
    if offset:
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        zone = timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
    fill = ("12", "23", "59", "59", "9") if end else ("01", "00", "00", "00", "0")
    try:
        at = datetime(
            int(year), int(month or fill[0]), int(day or 1), int(hour or fill[1]), int(minute or fill[2]),
            min(59, int(second or fill[3])), int((fraction or "").ljust(6, fill[4])), zone,
        )  # fmt: skip
        if end and not day:  # the last day of the month
            at = (at.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    except ValueError:
        return None
    return at


def date_time_range(attribute: str, text: str) -> tuple[datetime | None, datetime | None]:
    """Read a date time match, single or range; a hyphen before four digits at the end is an offset (PS3.4
    C.2.2.2.5.3). Raises InvalidMatch."""
    first, last = _ends(text.strip())
    begin = date_time(first) if first else None
    end = date_time(last, end=True) if last else None
    if (first and begin is None) or (last and end is None) or not (first or last):
        raise InvalidMatch(attribute, "write a date time as 20240131080000, a range as 20240101-20240131")
    return begin, end


def _ends(text: str) -> tuple[str, str]:
    single = DATE_TIME.fullmatch(text)
    if single is not None and not re.fullmatch(r"\d{4,8}-\d{4}", text):
        return text, text
    if text.startswith("-"):
        return "", text[1:]
    for at in (place.start() for place in re.finditer("-", text)):
        if DATE_TIME.fullmatch(text[:at]) and (at == len(text) - 1 or DATE_TIME.fullmatch(text[at + 1 :])):
            return text[:at], text[at + 1 :]
    return text, text


def _first(element: Mapping[str, Any]) -> str:
    return text_of(next(iter(element.get("Value") or []), ""))


def _day(text: str) -> str:
    return text.replace(".", "").replace("-", "")[:8]


def _moment(text: str) -> str:
    try:
        return normal_time(text) if text else "000000.000000"
    except ValueError:
        return "000000.000000"
