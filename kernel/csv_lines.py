"""Lines of a CSV file (RFC 4180) that people open with a spreadsheet."""

import csv
import io
from collections.abc import Iterable
from datetime import datetime


def csv_line(values: Iterable[object]) -> str:
    """One line."""
    buffer = io.StringIO()
    csv.writer(buffer).writerow(map(_cell, values))
    return buffer.getvalue()


def _cell(value: object) -> str:
    """A value for a spreadsheet: a text that it would take for a formula is marked as text."""
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
