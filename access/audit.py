"""The audit trail: who did what to what, when, from where, and how it ended.

An entry is written in the transaction of the thing that it is about, so neither can be without the other.
Every entry carries a hash over itself and the entry before it, and their numbers have no gap: a changed,
missing or moved entry shows (`verify`). Reading images frame by frame would write thousands of like entries
a minute, so what one caller does to one subject is noted once in a while (`note_once`), which says the same.
"""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from access.caller import Caller
from access.model import AuditEntry, AuditHead
from kernel.clock import Clock
from kernel.crypto import DamagedBlob
from kernel.database import Database, table_of
from kernel.suites import sha256, sm3
from kernel.writes import write_all

ONCE_IN_S = 600.0  # what note_once leaves out within this time
REMEMBERED = 20000  # how many (caller, action, subject) a process remembers for that

DONE, REFUSED, FAILED = "done", "refused", "failed"


_HEAD = select(AuditHead.seq, AuditHead.hash, AuditHead.algorithm).where(AuditHead.id == 1).with_for_update()
_ENTRY = insert(table_of(AuditEntry))  # built once: an entry is written with nearly everything that happens
_ADVANCE = (
    update(table_of(AuditHead))
    .where(AuditHead.id == 1)
    .values(seq=bindparam("new_seq"), hash=bindparam("new_hash"))
)


@dataclass(frozen=True, slots=True)
class Noted:
    """What one entry says beside who did it."""

    action: str  # a verb and what it was done to, such as `read ImagingStudy`
    subject: str = ""  # an identifier such as a Study Instance UID or `Patient/x`
    outcome: str = DONE
    patient_id: str = ""
    detail: str = ""  # what else an auditor needs, without patient data


def note(
    session: Session,
    clock: Clock,
    caller: Caller,
    action: str,
    subject: str = "",
    *,
    outcome: str = DONE,
    patient_id: str = "",
    detail: str = "",
) -> None:
    """Write one entry within the caller's transaction. Call it last: it holds the end of the chain until
    commit."""
    note_all(session, clock, caller, (Noted(action, subject, outcome, patient_id, detail),))


def note_all(session: Session, clock: Clock, caller: Caller, notes: Sequence[Noted]) -> None:
    """Write entries within the caller's transaction, in their order. Call it last, as `note`."""
    if not notes:
        return
    connection = session.connection()
    head = connection.execute(_HEAD).first()
    if head is None:  # the first entry of all; several may come to that at once
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        begun = dialect.insert(table_of(AuditHead)).values(id=1, seq=0, hash="", algorithm="sha256")
        connection.execute(begun.on_conflict_do_nothing())
        head = connection.execute(_HEAD).one()
    seq, digest, algorithm = head
    rows, now = [], clock.now()
    for each in notes:
        seq += 1
        values = {
            "seq": seq,
            "at": now,
            "principal_kind": caller.principal.kind.value,
            "principal_id": caller.principal.id,
            "principal_name": caller.principal.name,
            "door": caller.door.value,
            "address": caller.address,
            "action": each.action,
            "outcome": each.outcome,
            "subject": each.subject[:160],
            "patient_id": each.patient_id,
            "grant": caller.grant,
            "purpose": caller.purpose,
            "detail": each.detail,
        }
        digest = entry_hash(digest, values, algorithm)
        beside = {"principal_index": values["principal_name"], "grant_id": values["grant"]}
        rows.append(values | beside | {"hash": digest})
    write_all(connection, [(_ENTRY, rows), (_ADVANCE, [{"new_seq": seq, "new_hash": digest}])])


ALGORITHMS = {"sha256": sha256, "sm3": sm3}


def begin_chain(database: Database, algorithm: str) -> None:
    """Have a trail that has no entry yet be chained by this algorithm; one that has begun stays as it is."""
    with database.transaction() as session:
        if session.get(AuditHead, 1) is None:
            session.add(AuditHead(id=1, seq=0, hash="", algorithm=algorithm))


def entry_hash(previous: str, values: dict[str, object], algorithm: str = "sha256") -> str:
    """The hash of an entry over the one before it: of canonical JSON, by SHA-256 or SM3."""
    plain = {key: _moment(value) if isinstance(value, datetime) else value for key, value in values.items()}
    text = json.dumps([previous, plain], sort_keys=True, ensure_ascii=False)
    return ALGORITHMS[algorithm](text.encode()).hex()


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")


class Recently:
    """What was noted a short while ago, so that it need not be noted again."""

    def __init__(self, seconds: float = ONCE_IN_S, most: int = REMEMBERED) -> None:
        self._seconds = seconds
        self._most = most
        self._at: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._lock = threading.Lock()

    def seen(self, *key: str) -> bool:
        """Whether this was marked within the time; does not mark it."""
        marked = self._at.get(key)
        return marked is not None and time.monotonic() - marked < self._seconds

    def mark(self, *key: str) -> None:
        """Remember this from now on."""
        with self._lock:
            self._at[key] = time.monotonic()
            self._at.move_to_end(key)
            while len(self._at) > self._most:
                self._at.popitem(last=False)


def note_once(
    database: Database,
    recently: Recently,
    clock: Clock,
    caller: Caller,
    action: str,
    subject: str,
    patient_id: str = "",
    *,
    outcome: str = DONE,
    detail: str = "",
) -> None:
    """Write one entry in a transaction of its own unless this caller did the same a short while ago."""
    key = (caller.principal.kind.value, caller.principal.id, caller.grant, caller.address, action, subject)
    if recently.seen(*key):
        return
    with database.transaction() as session:
        note(session, clock, caller, action, subject, outcome=outcome, patient_id=patient_id, detail=detail)
    recently.mark(*key)


def note_refusal(
    database: Database, recently: Recently, clock: Clock, caller: Caller, asked: str, detail: str = ""
) -> None:
    """Write down, once in a while, that a caller asked for what it has no right to.

    asked: one of the few things that a door knows, such as a route; detail: the first of them in full.
    """
    note_once(
        database, recently, clock, caller, "refuse request", asked, outcome=REFUSED, detail=detail[:500]
    )


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of checking the chain: how many entries, and the first thing wrong, if any."""

    entries: int
    fault: str = ""


COLUMNS = (
    "seq", "at", "principal_kind", "principal_id", "principal_name", "door", "address", "action", "outcome",
    "subject", "patient_id", "grant", "purpose", "detail",
)  # fmt: skip


def verify(session: Session) -> Verified:
    """Walk the whole chain and compare every hash and number, and the end with the head."""
    head = session.get(AuditHead, 1)
    algorithm = head.algorithm if head else "sha256"
    previous, count = "", 0
    for entry in _entries(session):
        count += 1
        if entry is None:
            return Verified(count, f"entry {count} was changed: what is sealed in it does not open")
        values = {name: getattr(entry, name) for name in COLUMNS}
        if entry.seq != count:
            return Verified(count, f"entry {count} is missing")
        if entry.hash != entry_hash(previous, values, algorithm):
            return Verified(count, f"entry {entry.seq} was changed, or the one before it")
        previous = entry.hash
    head = session.get(AuditHead, 1)  # again: the walk forgets what it has read
    if (head.seq, head.hash) != (count, previous) if head else count:
        return Verified(count, "entries are missing at the end")
    return Verified(count)


def _entries(session: Session, page: int = 1000) -> Iterator[AuditEntry | None]:
    """Every entry in its order; None, and no more, for one that does not open."""
    last = 0
    while True:
        try:
            rows = session.scalars(
                select(AuditEntry).where(AuditEntry.seq > last).order_by(AuditEntry.seq).limit(page)
            ).all()
        except DamagedBlob:
            if page == 1:
                yield None
                return
            page = 1  # which of them it is
            continue
        if not rows:
            return
        yield from rows
        last = rows[-1].seq
        session.expunge_all()
