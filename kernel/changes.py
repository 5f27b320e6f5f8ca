"""The change feed: one ordered log of what happened, written in the transaction that makes it happen.

Everything that follows a change (projections, notices, forwarding, completeness, caches) reads it with a
cursor of its own, so nothing that follows can be lost and nothing waits for it. The order is that of commits:
on PostgreSQL a sequence number may become visible after a larger one, so readers go by (transaction, number)
and stop short of the oldest transaction still open; on SQLite there is one writer at a time.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Index,
    Integer,
    Row,
    String,
    Text,
    bindparam,
    func,
    insert,
    literal,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from kernel.clock import Clock
from kernel.database import Base, Database, UtcDateTime, table_of
from kernel.writes import Write, write_all

log = logging.getLogger(__name__)

LONGEST_S = 0.025  # that a subscriber's transaction lasts: on SQLite nobody else writes meanwhile
STILL_S = 0.2  # for so long nothing came: a burst is over
LOOKED_AT = 200  # changes that are looked at to tell whom they concern
PATIENCE_S = 2.0  # that the feed waits for a burst to end before it is followed for a moment
TURN_S = 0.2  # that moment
OWN = "changes"  # in `Session.info`: how many of each kind this transaction recorded
LATEST_S = 30.0  # so long after the first of a burst the feed is followed to its end, whatever comes


class ChangeRow(Base):
    """One thing that happened."""

    __tablename__ = "change"
    __table_args__ = (Index("ix_change_order", "txid", "seq"), {"sqlite_autoincrement": True})

    seq: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    txid: Mapped[int] = mapped_column(BigInteger, default=0)  # PostgreSQL's transaction; 0 on SQLite
    kind: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(128))  # the identifier of what changed
    data: Mapped[str] = mapped_column(Text, default="{}")
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class CursorRow(Base):
    """How far a subscriber has read."""

    __tablename__ = "change_cursor"

    subscriber: Mapped[str] = mapped_column(String(64), primary_key=True)
    txid: Mapped[int] = mapped_column(BigInteger, default=0)
    seq: Mapped[int] = mapped_column(BigInteger, default=0)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened, as a subscriber sees it."""

    seq: int
    kind: str
    subject: str
    data: dict[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class Subscriber:
    """What follows changes of some kinds: `follow(session, change)` runs in a transaction with its cursor.

    It may see a change twice after a crash of what it does outside that transaction, never not at all.
    """

    name: str
    kinds: frozenset[str]
    follow: Callable[[Session, Change], None]


_RECORD = insert(table_of(ChangeRow)).values(txid=literal(0))  # built once: this runs in every ingest
_RECORD_ON_POSTGRESQL = insert(table_of(ChangeRow)).values(txid=text("pg_current_xact_id()::text::bigint"))

_CHANGE = table_of(ChangeRow)
_PLACE = tuple_(_CHANGE.c.txid, _CHANGE.c.seq)
_BEHIND = tuple_(bindparam("txid", type_=BigInteger), bindparam("seq", type_=BigInteger)) < _PLACE
_UP_TO = tuple_(bindparam("end_txid", type_=BigInteger), bindparam("end_seq", type_=BigInteger)) >= _PLACE
_SETTLED = _CHANGE.c.txid < text("pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_AFTER = select(_CHANGE).where(_BEHIND).order_by(_CHANGE.c.txid, _CHANGE.c.seq).limit(bindparam("most"))
_AFTER_SETTLED = _AFTER.where(_SETTLED)
_OF_KINDS = _AFTER.where(_UP_TO, _CHANGE.c.kind.in_(bindparam("kinds", expanding=True)))
_END = select(_CHANGE.c.txid, _CHANGE.c.seq).order_by(_CHANGE.c.txid.desc(), _CHANGE.c.seq.desc()).limit(1)
_END_SETTLED = _END.where(_SETTLED)


def record_change(session: Session, clock: Clock, kind: str, subject: str, **data: Any) -> None:
    """Add to the feed within the caller's transaction."""
    record_changes(session, clock, ((kind, subject, data),))


def record_changes(
    session: Session, clock: Clock, changes: Sequence[tuple[str, str, dict[str, Any]]]
) -> None:
    """Add several (kind, subject, data) to the feed, at once."""
    write_all(session.connection(), [written_changes(session, clock, changes)])


def written_changes(
    session: Session, clock: Clock, changes: Sequence[tuple[str, str, dict[str, Any]]]
) -> Write:
    """The write of several (kind, subject, data), for who writes more with it."""
    now = clock.now()
    session.info.setdefault(OWN, Counter()).update(kind for kind, _, _ in changes)
    rows = [
        {"kind": kind, "subject": subject, "data": orjson.dumps(data).decode(), "at": now}
        for kind, subject, data in changes
    ]
    return (_RECORD_ON_POSTGRESQL if _is_postgresql(session) else _RECORD, rows)


def read_changes(session: Session, after: tuple[int, int], most: int) -> Sequence[Row[Any]]:
    """The next changes after a cursor (transaction, number), in the order of their commits."""
    statement = _AFTER_SETTLED if _is_postgresql(session) else _AFTER
    return session.connection().execute(statement, {"txid": after[0], "seq": after[1], "most": most}).all()


def feed_end(session: Session) -> tuple[int, int]:
    """A cursor (transaction, number) behind everything that has happened so far."""
    found = session.connection().execute(_END_SETTLED if _is_postgresql(session) else _END).first()
    return (found.txid, found.seq) if found else (0, 0)


def _is_postgresql(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def change_of(row: ChangeRow | Row[Any]) -> Change:
    """A row as a subscriber sees it."""
    return Change(row.seq, row.kind, row.subject, orjson.loads(row.data), row.at)


class GivingWay:
    """When a worker may follow the feed: behind those who store, and never long after.

    What follows an object or a document costs as much as to store it and more, and who stores waits for an
    answer. So while changes of some kinds keep coming, whatever else does, the feed waits until they have
    been still for STILL_S, and is followed for TURN_S after each PATIENCE_S: enough for what one who works at
    it brings. What is not followed LATEST_S after it began to wait is followed to its end, whatever comes.
    """

    def __init__(self, to: frozenset[str], clock: Callable[[], float] = time.monotonic) -> None:
        """to: the kinds of changes that mean that somebody is storing."""
        latest = select(_CHANGE.c.seq, _CHANGE.c.kind).order_by(_CHANGE.c.seq.desc()).limit(LOOKED_AT)
        looked_at = latest.subquery()
        self._to = to
        self._stored = select(func.count(), func.max(looked_at.c.seq)).where(
            looked_at.c.kind.in_(sorted(to)), looked_at.c.seq > bindparam("after")
        )
        self._clock = clock
        self._newest = 0
        self._came_at: float | None = None
        self._behind_since: float | None = None
        self._next_turn = 0.0
        self._turn_began: float | None = None

    def may_follow(self, database: Database) -> bool:
        """Whether it is time to follow."""
        now = self._look(database, own=0)
        if self._came_at is None or now - self._came_at >= STILL_S:
            return True
        if self._behind_since is None:
            self._behind_since, self._next_turn, self._turn_began = now, now + PATIENCE_S, None
        return now - self._behind_since >= LATEST_S or self._has_turn(now)

    def _look(self, database: Database, own: int) -> float:
        """See whether more was stored lately than one's own. Returns the time."""
        now = self._clock()
        count, newest = database.row(self._stored, {"after": self._newest}) or (0, None)
        if count > own:
            self._came_at = now
        self._newest = newest or self._newest
        return now

    def _has_turn(self, now: float) -> bool:
        """Whether it is time for a moment in between, which begins when somebody asks."""
        if now < self._next_turn:
            return False
        if self._turn_began is None:
            self._turn_began = now
        if now - self._turn_began < TURN_S:
            return True
        self._next_turn, self._turn_began = now + PATIENCE_S, None
        return False

    def pass_over(self, database: Database, own: Counter[str]) -> None:
        """What was written just now by what follows is no sign that somebody stores; own: how much of each
        kind that was."""
        self._look(database, sum(own[kind] for kind in self._to))

    def end_reached(self) -> None:
        """Everything was followed: the next burst is waited for anew."""
        self._behind_since = None


def follow_changes(
    database: Database,
    subscribers: Sequence[Subscriber],
    most: int = 50,
    giving_way: GivingWay | None = None,
) -> int:
    """Let each subscriber take its next batch. Returns how many changes were followed in all.

    A subscriber that raises keeps its place, is logged, and does not hold up the others. Who waits for
    nothing costs nothing: one look tells whom the new changes concern, and the others are moved past them
    together. None of them keeps the database for longer than LONGEST_S, for those who store wait for it;
    giving_way: nor do they begin while a burst lasts.
    """
    if giving_way is None:
        return sum(_follow(database, subscriber, most)[0] for subscriber in _concerned(database, subscribers))
    if not giving_way.may_follow(database):
        return 0
    read = 0
    for subscriber in _concerned(database, subscribers):
        if not giving_way.may_follow(database):
            return read
        followed, own = _follow(database, subscriber, most)
        read += followed
        giving_way.pass_over(database, own)
    if not read:
        giving_way.end_reached()
    return read


def _concerned(database: Database, subscribers: Sequence[Subscriber]) -> list[Subscriber]:
    """Those for whom something happened, or may have, who is furthest behind first; the cursors of the others
    go to where the feed ends."""
    with database.snapshot() as session:
        end = feed_end(session)
        cursors = {name: (txid, seq) for name, txid, seq in session.connection().execute(_CURSORS)}
        behind = [subscriber for subscriber in subscribers if cursors.get(subscriber.name, (0, 0)) < end]
        starts = {cursors[subscriber.name] for subscriber in behind if subscriber.name in cursors}
        kinds = {start: _kinds_between(session, start, end) for start in starts}
    concerned: list[Subscriber] = []
    passed_by: list[Subscriber] = []
    for subscriber in behind:
        start = cursors.get(subscriber.name)
        found = None if start is None else kinds[start]
        is_concerned = found is None or not subscriber.kinds.isdisjoint(found)
        (concerned if is_concerned else passed_by).append(subscriber)
    if passed_by:
        with database.transaction() as session:
            session.execute(  # never back: another worker may have gone further meanwhile
                update(CursorRow)
                .where(CursorRow.subscriber.in_([subscriber.name for subscriber in passed_by]))
                .where(tuple_(CursorRow.txid, CursorRow.seq) < tuple_(literal(end[0]), literal(end[1])))
                .values(txid=end[0], seq=end[1])
            )
    return sorted(concerned, key=lambda subscriber: cursors.get(subscriber.name, (0, 0)))


def _kinds_between(session: Session, start: tuple[int, int], end: tuple[int, int]) -> frozenset[str] | None:
    """What kinds of changes lie behind one cursor and not behind another; None: there are too many to look
    at, whoever wants some finds them."""
    asked = {"txid": start[0], "seq": start[1], "end_txid": end[0], "end_seq": end[1], "most": LOOKED_AT}
    kinds = session.connection().execute(_KINDS, asked).scalars().all()
    return frozenset(kinds) if len(kinds) < LOOKED_AT else None


_CURSORS = select(CursorRow.subscriber, CursorRow.txid, CursorRow.seq)
_KINDS = (
    select(_CHANGE.c.kind)
    .where(_BEHIND, _UP_TO)
    .order_by(_CHANGE.c.txid, _CHANGE.c.seq)
    .limit(bindparam("most"))
)


def unread_changes(database: Database, subscribers: Sequence[Subscriber]) -> int:
    """How many changes wait for the subscriber that is furthest behind, those of open transactions' wake
    included."""
    with database.snapshot() as session:
        cursors = {row.subscriber: (row.txid, row.seq) for row in session.scalars(select(CursorRow))}
        behind = min((cursors.get(subscriber.name, (0, 0)) for subscriber in subscribers), default=None)
        if behind is None:
            return 0
        after = tuple_(ChangeRow.txid, ChangeRow.seq) > tuple_(literal(behind[0]), literal(behind[1]))
        return session.scalar(select(func.count()).select_from(ChangeRow).where(after)) or 0


def _insert_unless_there(session: Session, subscriber: str) -> None:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    begun = dialect.insert(table_of(CursorRow)).values(subscriber=subscriber, txid=0, seq=0)
    session.execute(begun.on_conflict_do_nothing())


def _follow(database: Database, subscriber: Subscriber, most: int) -> tuple[int, Counter[str]]:
    """Let a subscriber take its next batch. Returns how many changes that were, and what came of them."""
    try:
        with database.transaction() as session:
            cursor = session.get(CursorRow, subscriber.name, with_for_update=True)
            if cursor is None:  # the first time; two workers may come to that at once
                _insert_unless_there(session, subscriber.name)
                cursor = session.get_one(CursorRow, subscriber.name, with_for_update=True)
            end = feed_end(session)
            place = {"txid": cursor.txid, "seq": cursor.seq, "end_txid": end[0], "end_seq": end[1]}
            wanted = {"kinds": list(subscriber.kinds), "most": most}
            rows = session.connection().execute(_OF_KINDS, place | wanted).all()
            is_at_end = len(rows) < most
            began = time.monotonic()
            for at, row in enumerate(rows):
                if at and time.monotonic() - began > LONGEST_S:
                    rows, is_at_end = rows[:at], False
                    break
                subscriber.follow(session, change_of(row))
            reached = end if is_at_end else (rows[-1].txid, rows[-1].seq)
            session.execute(
                update(CursorRow)
                .where(CursorRow.subscriber == subscriber.name)
                .values(txid=reached[0], seq=reached[1])
            )
            return len(rows), session.info.get(OWN, Counter())
    except Exception:
        log.exception("subscriber %s could not follow; it keeps its place", subscriber.name)
        return 0, Counter()
