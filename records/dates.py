"""FHIR dates as intervals of milliseconds: `2024-03` is all of March 2024 (R4 search 3.2.1.4.6)."""

import re
from datetime import UTC, datetime, timedelta, timezone

DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:?\d\d)?)?)?)?"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = -62135596800000, 253402300799999  # years 1 and 9999: an open end
CHINA = timezone(timedelta(hours=8))


def interval(text: str, zone: timezone = CHINA) -> tuple[int, int]:
    """The first and the last millisecond of a FHIR date, dateTime or instant.

    zone: of a text that states none. Raises ValueError for another form, or a day that does not exist.
    """
    match = DATE.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    tz = _zone(offset, zone)
    start = datetime(
        int(year),
        int(month or 1),
        int(day or 1),
        int(hour or 0),
        int(minute or 0),
        min(int(second or 0), 59),
        tzinfo=tz,
    )
    low = _milliseconds(start)
    if fraction:
        low += int(fraction[:3].ljust(3, "0"))
        return low, low
    if second:
        return low, low + 999
    if hour:
        return low, low + 59_999
    if day:
        return low, low + 86_399_999
    following = (
        (
            start.replace(year=start.year + (start.month == 12), month=start.month % 12 + 1)
            if month
            else start.replace(year=start.year + 1)
        )
        if start.year < 9999
        else None
    )
    return low, _milliseconds(following) - 1 if following else LAST


def _zone(offset: str | None, default: timezone) -> timezone:
    if not offset:
        return default
    if offset == "Z":
        return UTC
    sign = -1 if offset[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:])))


def _milliseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)
