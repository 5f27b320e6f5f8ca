"""Accession numbers for orders that come without one, made by the site's own rule.

The rule is a site document. A pattern holds plain text and pieces in braces: the date (`{yyyy}`, `{yy}`,
`{mm}`, `{dd}`), `{modality}`, `{institution}`, `{serial:N}` (counted without gaps for all that stands around
it, so it starts anew with each day if the day is in the pattern), and `{random:N}`. The number has at most
16 characters (DICOM SH) and is made in the transaction of its order.
"""

import json
import re
import secrets
from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import String
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from access.document_kind import DocumentKind, current_document
from kernel.database import Base
from kernel.errors import CloudfilmError, Kind
from records.identifiers import find_by_identifier

MOST = 16  # characters of a DICOM SH
PIECE = re.compile(r"\{(yyyy|yy|mm|dd|modality|institution|serial|random)(?::(\d{1,2}))?\}")
COUNTED = frozenset({"serial", "random"})
SAMPLE = {"modality": "CT", "institution": "H1"}
CHINA = timezone(timedelta(hours=8))
TRIES = 100


class InvalidNumbering(CloudfilmError):
    """A rule for accession numbers that cannot be used."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, reason: str) -> None:
        super().__init__(f"The rule for accession numbers cannot be used: {reason}.")


class AccessionCounter(Base):
    """The last serial number that was given out under a prefix."""

    __tablename__ = "accession_counter"

    prefix: Mapped[str] = mapped_column(String(64), primary_key=True)
    last: Mapped[int] = mapped_column(default=0)


def check_numbering(text: str) -> None:
    """Raise InvalidNumbering for a document that is no rule."""
    document = json.loads(text)
    unknown = document.keys() - {"pattern", "by_modality", "by_institution"}
    if unknown:
        raise InvalidNumbering(f"{min(unknown)} is not one of pattern, by_modality, by_institution")
    patterns = [document.get("pattern")]
    for name in ("by_modality", "by_institution"):
        if not isinstance(document.get(name, {}), dict):
            raise InvalidNumbering(f"{name} is not an object of patterns")
        patterns += document.get(name, {}).values()
    for pattern in patterns:
        _check_pattern(pattern)


def _check_pattern(pattern: object) -> None:
    if not isinstance(pattern, str) or not pattern:
        raise InvalidNumbering("a pattern is a text, such as {yy}{mm}{dd}{serial:6}")
    rest = PIECE.sub("", pattern)
    if not re.fullmatch(r"[A-Za-z0-9._-]*", rest):
        raise InvalidNumbering("a pattern holds letters, digits and the pieces in braces that are known")
    pieces = [(match[1], int(match[2] or 0)) for match in PIECE.finditer(pattern)]
    if sum(name in COUNTED and size > 0 for name, size in pieces) != 1:
        raise InvalidNumbering("a pattern has one {serial:N} or {random:N}")
    if any(name not in COUNTED and size for name, size in pieces):
        raise InvalidNumbering("only serial and random have a length")
    now = datetime(2026, 1, 1, tzinfo=CHINA)
    if len(_fill(pattern, now, SAMPLE, lambda _, size: "0" * size)) > MOST:
        raise InvalidNumbering(f"the number would have more than {MOST} characters")


ACCESSION_NUMBERS = DocumentKind(
    name="accession-numbers",
    about="How accession numbers are made for orders that come without one",
    check=check_numbering,
    default='{"pattern": "{yy}{mm}{dd}{random:10}"}',
)


def new_accession_number(session: Session, now: datetime, institution: str, modality: str) -> str:
    """A number that no order of the institution has, by the site's rule."""
    rule = json.loads(current_document(session, ACCESSION_NUMBERS))
    pattern = (
        rule.get("by_institution", {}).get(institution)
        or rule.get("by_modality", {}).get(modality)
        or rule["pattern"]
    )
    values = {"modality": modality[:6], "institution": institution[:8]}
    for _ in range(TRIES):
        number = _fill(
            pattern, now.astimezone(CHINA), values,
            lambda prefix, size: _next(session, f"{institution} {prefix}", size),
        )[:MOST]  # fmt: skip
        if find_by_identifier(session, "ServiceRequest", "", number, institution) is None:
            return number
    raise InvalidNumbering("all of its numbers are taken")


def _fill(pattern: str, now: datetime, values: dict[str, str], serial: Any) -> str:
    """The pattern with its pieces filled; `serial(what stands around it, size)` gives the next number."""
    dates = {"yyyy": f"{now:%Y}", "yy": f"{now:%y}", "mm": f"{now:%m}", "dd": f"{now:%d}"}
    known = dates | values
    around = PIECE.sub(lambda match: known.get(match[1], "#"), pattern)

    def piece(match: re.Match[str]) -> str:
        name, size = match[1], int(match[2] or 0)
        if name == "serial":
            return str(serial(around, size))
        if name == "random":
            return f"{secrets.randbelow(10**size):0{size}d}"
        return known[name]

    return PIECE.sub(piece, pattern)


def _next(session: Session, prefix: str, size: int) -> str:
    """The next serial number under a prefix: counted by the database, so that no two orders get one."""
    make: Any = postgresql_insert if session.get_bind().dialect.name == "postgresql" else sqlite_insert
    counted = (
        make(AccessionCounter)
        .values(prefix=prefix[:64], last=1)
        .on_conflict_do_update(index_elements=["prefix"], set_={"last": AccessionCounter.last + 1})
        .returning(AccessionCounter.last)
    )
    last = int(session.execute(counted).scalar_one())
    if last >= 10**size:
        raise InvalidNumbering("its serial numbers are used up; give it more digits")
    return f"{last:0{size}d}"
