"""Time zones of queries: an asker's dates and times moved to the archive's clock, and answers moved back.

Standards: PS3.3 C.12.1.1.8 (Timezone Offset From UTC), PS3.4 C.2.2.2.5 and C.5.1.1 (time zone adjustment of
queries), PS3.18 8.3.4.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from archive.keys import STUDY_MOMENT
from archive.query import Match, date_text, parse_date_range, parse_time_range

OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")
PAIRS = (  # dates and the times that go with them, which a shift of the time zone moves together
    ("00080020", "00080030"), ("00080021", "00080031"), ("00080023", "00080033"), ("00400244", "00400245"),
)  # fmt: skip
FORM = "%Y%m%d%H%M%S.%f"


def offset_minutes(text: str) -> int | None:
    """`+0800` or `+08:00` in minutes; None for anything else (PS3.3 C.12.1.1.8)."""
    match = OFFSET.fullmatch(text.strip())
    if match is None or int(match[2]) > 14 or int(match[3]) > 59:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    return minutes if match[1] == "+" else -minutes


def combined_moments(matches: list[Match], zone: int) -> list[Match]:
    """Matches in which Study Date and Study Time are one range of moments, moved by a zone.

    A time without a date stays a time of each day. Raises InvalidMatch.
    """
    dates = next((match for match in matches if match.key.keyword == "StudyDate"), None)
    times = next((match for match in matches if match.key.keyword == "StudyTime"), None)
    if dates is None or dates.is_empty or len(dates.values) != 1 or not dates.values[0]:
        return matches
    if times is not None and times.is_empty:
        return matches
    days = parse_date_range("StudyDate", dates.values[0])
    given = times.values[0] if times else ""
    first, last = parse_time_range("StudyTime", given) if given else ("000000", "235959.999999")
    begin = f"{date_text(days.first)}{first}" if days.first else ""
    end = f"{date_text(days.last)}{last}" if days.last else ""
    moved = "-".join(_moved(moment, zone) if moment else "" for moment in (begin, end))
    rest = [match for match in matches if match is not dates and match is not times]
    return [*rest, Match(STUDY_MOMENT, (moved,))]


def _moved(moment: str, minutes: int) -> str:
    at = datetime.strptime(moment if "." in moment else f"{moment}.0", FORM)  # noqa: DTZ007 - of either zone
    with suppress(OverflowError):  # the first or last day that there is
        at += timedelta(minutes=minutes)
    return f"{date_text(at)}{at:%H%M%S.%f}"


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
