"""Looking after the codes of rows that decide about access: making the first ones, looking for rows that
were changed behind cloudfilm's back, and accepting one again, for an administrator who knows why it differs.
"""

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.accounts import require_may_manage
from access.audit import note
from access.caller import Action, Caller, system
from access.changed_rows import CODES, MADE, codes_were_made, does_count, raise_alarm
from access.model import Account, Client, Node
from access.tokens import Access
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import job
from kernel.row_codes import Coded, row_code

MODELS: dict[str, type[Coded]] = {"account": Account, "client": Client, "node": Node}
NEEDS = {"account": Action("Account", "u"), "client": Action("Client", "c"), "node": Action("Node", "u")}
TOLD = ("role", "institution", "department", "disabled", "permissions", "host", "addresses", "scope")
PAGE = 500


class NoSuchRow(CloudfilmError):
    """There is no such account, client or node."""

    kind = Kind.NOT_FOUND

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"There is no {kind} named {name}.")


@job(queue="default", retries=1, every=timedelta(minutes=10))
def make_codes(access: Access) -> None:
    """Give the rows from before there were codes theirs, once; what has none afterwards does not count."""
    with access.database.snapshot() as session:
        if not access.database.seals or codes_were_made(session):
            return
    done = {kind: sum(_code_pages(access, model)) for kind, model in MODELS.items()}
    with access.database.transaction() as session:
        said = ", ".join(f"{kind} {count}" for kind, count in done.items())
        note(session, access.clock, system("make row codes"), MADE, CODES, detail=said)


def _code_pages(access: Access, model: type[Coded]) -> Iterator[int]:
    key = getattr(model, model.COVERED[0])
    while True:
        with access.database.transaction() as session:
            rows = session.scalars(
                select(model).where(model.integrity == "").order_by(key).limit(PAGE).with_for_update()
            ).all()
            for row in rows:
                row.integrity = row_code(row, access.keys)
        if not rows:
            return
        yield len(rows)


@job(queue="default", every=timedelta(hours=1))
def watch_rows(access: Access) -> None:
    """Raise an alarm about each row that does not count, whether or not anybody comes in by it."""
    for row in changed_rows(access):
        raise_alarm(access.database, access.clock, row)


def changed_rows(access: Access) -> tuple[Coded, ...]:
    """The rows that do not count."""
    if not access.database.seals:
        return ()
    with access.database.snapshot() as session:
        return tuple(
            row
            for model in MODELS.values()
            for row in _all(session, model)
            if not does_count(session, access.keys, row)
        )


def _all(session: Session, model: type[Coded]) -> Iterator[Coded]:
    key, after = getattr(model, model.COVERED[0]), ""
    while rows := session.scalars(select(model).where(key > after).order_by(key).limit(PAGE)).all():
        yield from rows
        after = getattr(rows[-1], model.COVERED[0])
        session.expunge_all()


def accept_row(access: Access, caller: Caller, kind: str, name: str) -> None:
    """Let a row count as it is now: for who looked at it. The trail says what it is.

    kind: of MODELS; name: login, client id or AE title. Raises Forbidden or NoSuchRow.
    """
    caller.require(NEEDS[kind])
    model = MODELS[kind]
    with access.database.transaction() as session:
        named = getattr(model, model.COVERED[0]) == name
        row = session.scalar(select(model).where(named).with_for_update())
        if row is None:
            raise NoSuchRow(kind, name)
        if isinstance(row, Account):
            require_may_manage(caller, row.role)
        row.integrity = row_code(row, access.keys)
        session.flush()
        said = ", ".join(f"{each} {getattr(row, each)}" for each in TOLD if getattr(row, each, ""))
        note(session, access.clock, caller, "accept ChangedRow", row.row_name, detail=said)
