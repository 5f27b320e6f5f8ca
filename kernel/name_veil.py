"""Bringing the names of a database into another form: veiled, or in clear again (see `kernel.veil`).

One row says which form they have. While they are brought into another one, it says how far that came, and
every other process is told to wait (`Database.veils_names`): what is searched would be found in part only. A
page and its place are one transaction, so the next run goes on where one was ended.

Rooms say how a page of their rows is written anew from what is sealed; the columns' type does the rest.
"""

from collections.abc import Callable, Iterator, Mapping

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, Session, mapped_column

from kernel.database import Base, Database
from kernel.errors import CloudfilmError, Kind

Rewrite = Callable[[Session, int], int]
"""Write the names of the next rows after a key anew. Returns the last one's key, 0 when there are no more."""


class NameVeil(Base):
    """Which form names have; no row: they are in clear. There is at most one."""

    __tablename__ = "name_veil"

    id: Mapped[int] = mapped_column(primary_key=True)
    is_veiled: Mapped[bool]
    is_under_way: Mapped[bool]  # to it: some names have the other form still
    rows_of: Mapped[str] = mapped_column(String(64))  # what is being rewritten
    done_to: Mapped[int] = mapped_column(BigInteger)  # its key up to which it is


class StillServed(CloudfilmError):
    """Something else uses the database, and would go on with names in their old form."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__(
            "Something else is connected to the database. Stop every role on every machine first, and what "
            "else may be reading (a backup, psql); then run this again."
        )


Place = tuple[bool, bool, str, int]  # of the row
IN_CLEAR: Place = (False, False, "", 0)


def begin_names(database: Database, is_veiled: bool) -> bool:
    """Begin to bring names into a form, or go on with it. Returns False when they have it already.

    Raises StillServed: then nothing has changed.
    """
    with database.transaction() as session:
        before = _place(session)
        if before[:2] == (is_veiled, False):
            return False
        if before[:2] != (is_veiled, True):
            _keep(session, (is_veiled, True, "", 0))
    if database.is_shared():  # asked only now: who comes from here on sees the row, and waits
        with database.transaction() as session:
            _keep(session, before)
        raise StillServed
    return True


def rewrite_names(database: Database, rewrites: Mapping[str, Rewrite]) -> Iterator[tuple[str, int]]:
    """Go on to the end with what was begun, page by page: of which rows, and up to which key."""
    order, is_under_way = list(rewrites), True
    while is_under_way:
        with database.transaction() as session:
            is_veiled, _, rows_of, done_to = _place(session)
            database.veil_names(is_veiled)
            rows_of = rows_of or order[0]
            last = rewrites[rows_of](session, done_to)
            is_under_way = last > 0 or rows_of != order[-1]
            following = rows_of if last else order[(order.index(rows_of) + 1) % len(order)]
            _keep(session, (is_veiled, is_under_way, following, last))
        yield rows_of, last


def _place(session: Session) -> Place:
    row = session.get(NameVeil, 1)
    return IN_CLEAR if row is None else (row.is_veiled, row.is_under_way, row.rows_of, row.done_to)


def _keep(session: Session, place: Place) -> None:
    is_veiled, is_under_way, rows_of, done_to = place
    row = NameVeil(id=1, is_veiled=is_veiled, is_under_way=is_under_way, rows_of=rows_of, done_to=done_to)
    session.merge(row)
