"""AuditEvent as a resource type: every entry of the audit trail, found and read like any other document.

The trail (`access.audit`) is the home; an AuditEvent is drawn when it is read. Its search index is made by a
job that follows the trail a few seconds behind. R4 AuditEvent, IHE BALP.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import orjson
from sqlalchemy import bindparam, not_, select, update
from sqlalchemy.orm import Session

from access.model import AuditEntry
from kernel.changes import CursorRow
from kernel.jobs import enqueue, job
from kernel.sealed_text import HIDDEN, HiddenText
from kernel.veil import AFTER_ALL
from kernel.writes import write_all
from records.audit_event import audit_event
from records.documents import instant
from records.model import IndexString
from records.parameters import parameter_number
from records.repository import Projected, index_all_projected
from records.room import Drawn, Records

FOLLOWER, PREFIX, PAGE = "audit-events", "audit-", 500
INDEXED_TOGETHER = 200  # entries: on SQLite nobody else writes meanwhile
_AGENT_NAME = parameter_number("AuditEvent", "agent-name")
_HIDE = (
    update(IndexString)
    .where(
        IndexString.c.resource_id == bindparam("of_resource"),
        IndexString.c.parameter == _AGENT_NAME,
        IndexString.c.value == bindparam("shown"),
    )
    .values(value=bindparam("hidden"), exact=bindparam("hidden_exact"))
)


class AuditEventProjection:
    """Draws AuditEvent documents."""

    def draw(self, session: Session, logical_ids: Sequence[str]) -> Mapping[str, Drawn]:
        """The documents of some entries, by logical id."""
        numbers = [int(each.removeprefix(PREFIX)) for each in logical_ids if each.startswith(PREFIX)]
        entries = session.scalars(select(AuditEntry).where(AuditEntry.seq.in_(numbers)))
        return {
            f"{PREFIX}{entry.seq}": Drawn(1, entry.at, orjson.dumps(_document(entry)).decode())
            for entry in entries
        }


def _document(entry: AuditEntry) -> dict[str, object]:
    document = audit_event(entry)
    meta = {**document.get("meta", {}), "versionId": "1", "lastUpdated": instant(entry.at)}
    return document | {"meta": meta}


@job(queue="records", retries=1, every=timedelta(seconds=15), gives_way=True)
def index_audit(records: Records) -> None:
    """Make the search index of what was written into the trail since the last time, a page of it; what is
    left is another call, so that those who store go first."""
    with records.database.transaction() as session:
        cursor = session.get(CursorRow, FOLLOWER, with_for_update=True)
        if cursor is None:
            cursor = CursorRow(subscriber=FOLLOWER, txid=0, seq=0)
            session.add(cursor)
            session.flush()
        entries = session.scalars(
            select(AuditEntry)
            .where(AuditEntry.seq > cursor.seq)
            .order_by(AuditEntry.seq)
            .limit(INDEXED_TOGETHER)
        ).all()
        if not entries:
            return
        drawn = [Projected(_document(entry), "", "", 1, entry.at) for entry in entries]
        index_all_projected(records, session, drawn, announced=False)
        session.execute(update(CursorRow).where(CursorRow.subscriber == FOLLOWER).values(seq=entries[-1].seq))
        if len(entries) == INDEXED_TOGETHER:
            enqueue(session, records.clock, index_audit)


@job(queue="records", retries=1, every=timedelta(minutes=10))
def hide_agents(records: Records) -> None:
    """Hide names of agents in the search index that are from before they were hidden."""
    while records.database.seals and hide_agents_page(records):
        pass


def hide_agents_page(records: Records, most: int = PAGE) -> int:
    """Hide the names of the next entries. Returns how many they were."""
    with records.database.transaction() as session:
        shown = session.execute(
            select(IndexString.c.resource_id, IndexString.c.value, IndexString.c.exact)
            .where(
                IndexString.c.parameter == _AGENT_NAME,
                not_(IndexString.c.value.between(HIDDEN, HIDDEN + AFTER_ALL)),
            )
            .limit(most)
        ).all()
        rows = [
            {
                "of_resource": row.resource_id, "shown": row.value,
                "hidden": HiddenText(row.value), "hidden_exact": HiddenText(row.exact),
            }
            for row in shown
        ]  # fmt: skip
        write_all(session.connection(), [(_HIDE, rows)])
    return len(shown)
