"""Time windows of a day in which heavy work may run, such as `22:00-06:00`. Pure; local time by an offset."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
DAY_S = 86400


@dataclass(frozen=True, slots=True)
class Window:
    """From one time of day until another, past midnight where it ends before it begins; the end is not in
    it."""

    begin_s: int
    end_s: int

    def seconds_until_open(self, now: datetime, utc_offset_minutes: int) -> float:
        """0 within the window; otherwise how long until it begins."""
        local = now + timedelta(minutes=utc_offset_minutes)
        at = local.hour * 3600 + local.minute * 60 + local.second
        length = (self.end_s - self.begin_s) % DAY_S or DAY_S
        since = (at - self.begin_s) % DAY_S
        return 0.0 if since < length else float(DAY_S - since)


def parse_window(text: str) -> Window | None:
    """`22:00-06:00`, or None for an empty text, which is always. Raises ValueError."""
    if not text.strip():
        return None
    match = WINDOW.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    first, second, third, fourth = map(int, match.groups())
    return Window(first * 3600 + second * 60, third * 3600 + fourth * 60)
