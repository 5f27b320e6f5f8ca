"""AuditEvent as a resource type: every entry of the audit trail, found and read like any other document.

The trail (`access.audit`) is the home; an AuditEvent is drawn when it is read. Its search index is made by a
job that follows the trail a few seconds behind. R4 AuditEvent, IHE BALP.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import orjson
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from access.model import AuditEntry
from kernel.changes import CursorRow
from kernel.jobs import job
from records.audit_event import audit_event
from records.documents import instant
from records.repository import Projected, index_all_projected
from records.room import Drawn, Records

FOLLOWER, PREFIX, PAGE = "audit-events", "audit-", 500


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


@job(queue="records", retries=1, every=timedelta(seconds=15))
def index_audit(records: Records) -> None:
    """Make the search index of what was written into the trail since the last time."""
    while True:
        with records.database.transaction() as session:
            cursor = session.get(CursorRow, FOLLOWER, with_for_update=True)
            if cursor is None:
                cursor = CursorRow(subscriber=FOLLOWER, txid=0, seq=0)
                session.add(cursor)
                session.flush()
            entries = session.scalars(
                select(AuditEntry).where(AuditEntry.seq > cursor.seq).order_by(AuditEntry.seq).limit(PAGE)
            ).all()
            if not entries:
                return
            drawn = [Projected(_document(entry), "", "", 1, entry.at) for entry in entries]
            index_all_projected(records, session, drawn, announced=False)
            session.execute(
                update(CursorRow).where(CursorRow.subscriber == FOLLOWER).values(seq=entries[-1].seq)
            )
        if len(entries) < PAGE:
            return
