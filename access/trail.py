"""The audit trail as auditors use it: search, export, the daily seal, and sending it off the machine.

Reading the trail is written into the trail. Nothing here changes or removes an entry.

Standards: GB/T 22239 8.1.4.3 (audit), RFC 5425 (syslog over TLS); `access.audit_message` has the messages.
"""

import hmac
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from sqlalchemy import Select, insert, select, update
from sqlalchemy.orm import Session

from access.audit import COLUMNS, Verified, note, verify
from access.audit_message import syslog_message
from access.caller import Action, Caller
from access.model import AuditEntry, AuditSeal
from access.tokens import Access
from kernel.changes import CursorRow
from kernel.csv_lines import csv_line
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import job
from kernel.tls import host_context

READ_TRAIL = Action("AuditTrail", "s")
MOST_ROWS = 1000
SENT = "audit-syslog"  # the cursor's name
SENT_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class TrailQuery:
    """What to look for; what is empty is not asked about."""

    principal: str = ""  # id or name
    action: str = ""  # how it begins, as `read`
    subject: str = ""
    patient: str = ""
    outcome: str = ""
    address: str = ""
    after: datetime | None = None
    before: datetime | None = None
    beyond: int = 0  # entries older than this number: the next page


def search_trail(
    access: Access, caller: Caller, query: TrailQuery, most: int = 100
) -> tuple[AuditEntry, ...]:
    """The newest entries that match, at most `most`. The search itself is noted. Raises Forbidden."""
    caller.require(READ_TRAIL)
    with access.database.transaction() as session:
        rows = session.scalars(
            _matching(query).order_by(AuditEntry.seq.desc()).limit(min(most, MOST_ROWS))
        ).all()
        session.expunge_all()
        note(session, access.clock, caller, "search AuditTrail", detail=f"{len(rows)} found")
    return tuple(rows)


def seen_by(
    access: Access, caller: Caller, patients: frozenset[str], most: int = 200
) -> tuple[AuditEntry, ...]:
    """Who did what with these patients' data, the newest first: what a patient may always know of its own.

    patients: logical ids that are the caller's own, as its account says.
    """
    if not patients:
        return ()
    with access.database.transaction() as session:
        rows = session.scalars(
            select(AuditEntry)
            .where(AuditEntry.patient_id.in_(patients))
            .order_by(AuditEntry.seq.desc())
            .limit(min(most, MOST_ROWS))
        ).all()
        session.expunge_all()
        note(session, access.clock, caller, "read own access log")
    return tuple(rows)


def _matching(query: TrailQuery) -> Select[AuditEntry]:
    statement = select(AuditEntry)
    if query.principal:
        statement = statement.where(
            (AuditEntry.principal_id == query.principal)
            | (AuditEntry.principal_index == query.principal)
            | (AuditEntry.principal_name == query.principal)  # from before names were sealed
        )
    if query.action:
        statement = statement.where(AuditEntry.action.startswith(query.action, autoescape=True))
    exact = (
        (AuditEntry.subject, query.subject),
        (AuditEntry.patient_id, query.patient),
        (AuditEntry.outcome, query.outcome),
        (AuditEntry.address, query.address),
    )
    for column, value in exact:
        if value:
            statement = statement.where(column == value)
    if query.after:
        statement = statement.where(AuditEntry.at >= query.after)
    if query.before:
        statement = statement.where(AuditEntry.at < query.before)
    if query.beyond:
        statement = statement.where(AuditEntry.seq < query.beyond)
    return statement


def export_trail(access: Access, caller: Caller, query: TrailQuery) -> Iterator[AuditEntry]:
    """Every entry that matches, the oldest first. The export itself is noted. Raises Forbidden."""
    caller.require(READ_TRAIL)
    with access.database.transaction() as session:
        note(session, access.clock, caller, "export AuditTrail")
    last = 0
    while True:
        with access.database.snapshot() as session:
            rows = session.scalars(
                _matching(query).where(AuditEntry.seq > last).order_by(AuditEntry.seq).limit(MOST_ROWS)
            ).all()
        if not rows:
            return
        yield from rows
        last = rows[-1].seq


def csv_lines(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Entries as CSV, with a heading."""
    columns = (*COLUMNS, "hash")
    yield csv_line(columns)
    for entry in entries:
        yield csv_line(getattr(entry, name) for name in columns)


@job(queue="default", every=timedelta(hours=1))
def seal_audit(access: Access) -> None:
    """Seal the end of each day that is over and has no seal yet, with a key that the database does not hold.

    Whoever rewrites the whole chain in the database still cannot make the seals fit.
    """
    today = access.clock.now().astimezone(UTC).date()
    with access.database.transaction() as session:
        sealed_to = session.scalar(select(AuditSeal.seq).order_by(AuditSeal.seq.desc()).limit(1)) or 0
        midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
        end = session.scalars(
            select(AuditEntry)
            .where(AuditEntry.seq > sealed_to, AuditEntry.at < midnight)
            .order_by(AuditEntry.seq.desc())
            .limit(1)
        ).first()
        if end is None:
            return
        day = end.at.astimezone(UTC).date().isoformat()
        if session.get(AuditSeal, day) is not None:
            return
        session.execute(
            insert(AuditSeal).values(
                day=day,
                seq=end.seq,
                hash=end.hash,
                seal=_seal(access, day, end.seq, end.hash),
                at=access.clock.now(),
            )
        )


def _seal(access: Access, day: str, seq: int, digest: str) -> str:
    return access.keys.sign(f"audit seal {day} {seq} {digest}").hex()


def verify_trail(access: Access, session: Session) -> Verified:
    """Check the chain, and that every seal is ours and fits it."""
    checked = verify(session)
    if checked.fault:
        return checked
    for seal in session.scalars(select(AuditSeal).order_by(AuditSeal.seq)):
        if not hmac.compare_digest(seal.seal, _seal(access, seal.day, seal.seq, seal.hash)):
            return Verified(checked.entries, f"the seal of {seal.day} is not ours")
        digest = session.scalar(select(AuditEntry.hash).where(AuditEntry.seq == seal.seq))
        if digest != seal.hash:
            return Verified(checked.entries, f"the trail does not fit the seal of {seal.day}")
    return checked


class CollectorUnreachable(CloudfilmError):
    """The collector of audit messages does not take them; they are sent when it does."""

    kind = Kind.UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("The audit collector does not answer; entries wait.")


@job(queue="default", retries=1, every=timedelta(minutes=1))
def send_audit(access: Access) -> None:
    """Send all new entries to the collector that `access.audit_collector` names, as tls://host:port."""
    if not access.settings.audit_collector:
        return
    while rows := _unsent(access):
        _send(access.settings.audit_collector, access.settings.audit_collector_ca, rows)
        with access.database.transaction() as session:
            moved = session.execute(
                update(CursorRow).where(CursorRow.subscriber == SENT).values(seq=rows[-1].seq)
            )
            if not moved.rowcount:  # type: ignore[attr-defined]
                session.execute(insert(CursorRow).values(subscriber=SENT, txid=0, seq=rows[-1].seq))
        if len(rows) < SENT_AT_ONCE:
            return


def _unsent(access: Access) -> Sequence[AuditEntry]:
    with access.database.snapshot() as session:
        sent = session.scalar(select(CursorRow.seq).where(CursorRow.subscriber == SENT)) or 0
        return session.scalars(
            select(AuditEntry).where(AuditEntry.seq > sent).order_by(AuditEntry.seq).limit(SENT_AT_ONCE)
        ).all()


def _send(url: str, authority: str, rows: Sequence[AuditEntry]) -> None:
    parts = urlsplit(url)
    context = host_context(authority)
    host, port = parts.hostname or "", parts.port or 6514
    try:
        with (
            socket.create_connection((host, port), 10) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            for row in rows:
                message = syslog_message(row).encode()
                secured.sendall(f"{len(message)} ".encode() + message)  # RFC 5425 4.3.1: octet counting
            secured.unwrap()
    except OSError:
        raise CollectorUnreachable from None
