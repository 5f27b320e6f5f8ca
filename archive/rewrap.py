"""Renewing keys: every object's data key is wrapped under the ring's current key; the objects stay as they
are.

After the ring has turned, what is new is wrapped under the new key at once and what is old still opens. This
goes through the rows, so that an old key is needed only for the headers of the objects themselves, from
which they can be opened without the database.
"""

from sqlalchemy import bindparam, update

from archive.kept import NAMING, kept_after
from archive.room import Archive
from kernel.database import table_of
from kernel.jobs import job

PAGE = 500


@job(queue="archive", retries=10)
def rewrap_seals(archive: Archive) -> None:
    """Wrap every object's data key under the current key. Begins again where it was interrupted."""
    archive.blobs.keys.renew()  # another process turned the ring
    for table, model in NAMING.items():
        statement = (
            update(table_of(model))
            .where(table_of(model).c.id == bindparam("row_id"))
            .values(seal=bindparam("renewed"))
        )
        last = 0
        while True:
            with archive.database.snapshot() as session:
                page = kept_after(session, table, last, PAGE)
            if not page:
                break
            last = page[-1].id
            keys = archive.blobs.keys
            renewed = [
                {"row_id": kept.id, "renewed": keys.rewrap(kept.seal).pack()}
                for kept in page
                if kept.seal.key_id != keys.current
            ]
            if renewed:
                with archive.database.transaction() as session:
                    session.connection().execute(statement, renewed)
