"""Cursors of pages: where a page ended, signed, and bound to the search that it belongs to.

A page goes on from the last row's sort values and id (keyset), never from a number of rows: it costs the same
however far it is, and rows that come or go in between neither repeat nor hide others.
"""

import base64
import hmac
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kernel.crypto import KeyRing
from kernel.errors import CloudfilmError, Kind


class InvalidCursor(CloudfilmError):
    """A cursor that was made for another search, or not here."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("The page's _cursor is not one of this search's; begin again without it.")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The row at a page's edge."""

    values: tuple[Any, ...]  # of the sort keys, and last the row's id
    backwards: bool = False  # the page before it is wanted


def close_cursor(keys: KeyRing, bound_to: str, cursor: Cursor) -> str:
    """A cursor as text."""
    plain = [{"at": value.isoformat()} if isinstance(value, datetime) else value for value in cursor.values]
    text = json.dumps([int(cursor.backwards), plain], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_signature(keys, bound_to, text) + text).decode().rstrip("=")


def open_cursor(keys: KeyRing, bound_to: str, text: str) -> Cursor:
    """Read a cursor. Raises InvalidCursor."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if not hmac.compare_digest(raw[:16], _signature(keys, bound_to, raw[16:])):
            raise ValueError
        backwards, plain = json.loads(raw[16:])
    except ValueError:
        raise InvalidCursor from None
    values = [datetime.fromisoformat(each["at"]) if isinstance(each, dict) else each for each in plain]
    return Cursor(tuple(values), bool(backwards))


def _signature(keys: KeyRing, bound_to: str, text: bytes) -> bytes:
    return keys.suite.mac(keys.signing_key, bound_to.encode() + b"\0" + text)[:16]
