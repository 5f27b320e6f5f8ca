"""What a site decided while running, beside its documents: its patients' consents, broken glass.

Rows are only ever added, so the newest number of each table says whether anything has changed since a
decision was made; that is how a change takes effect at the next request without being read at every one.
"""

import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import Action, Caller
from access.consents import read_consent
from access.model import Account, BreakGlass, ConsentVersion, Institution
from access.roles import ROLES
from access.tokens import Access
from kernel.changes import record_change
from kernel.database import Database
from kernel.errors import CloudfilmError, Forbidden, Kind

MOST_GLASS = timedelta(hours=12)
LEAST_REASON = 8  # characters


class InvalidConsent(CloudfilmError):
    """A Consent whose provision cannot be read, and so could not be kept."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__("The Consent's provision cannot be read: check type, period, actor and data.")


class NoReason(CloudfilmError):
    """Breaking the glass without saying why."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__(f"Say why, in at least {LEAST_REASON} characters.")


class NoSuchGlass(CloudfilmError):
    """A number that no break-glass has."""

    kind = Kind.NOT_FOUND

    def __init__(self, number: int) -> None:
        super().__init__(f"There is no number {number}.")


UNREVIEWED_GLASS = select(func.count(BreakGlass.id)).where(BreakGlass.reviewed_at.is_(None))
READ_POLICY, UPDATE_POLICY = Action("Policy", "r"), Action("Policy", "u")
BREAK_GLASS = Action("Glass", "c")


def keep_consent(now: datetime, session: Session, logical_id: str, document: Any) -> None:
    """Let a Consent take effect with the transaction in which it is written; None withdraws it.

    Raises InvalidConsent, so that a Consent that would have no effect is not kept either.
    """
    try:
        consent = read_consent(document) if document else None
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise InvalidConsent from None
    session.execute(
        insert(ConsentVersion).values(
            consent=logical_id,
            patient=consent.patient if consent else "",
            at=now,
            document=json.dumps(document) if consent else "",
        )
    )


def break_glass(access: Access, caller: Caller, patient: str, reason: str, life: timedelta) -> datetime:
    """Let an account exceed policy for one patient, for a while; returns until when.

    It is written into the audit trail, told to who reviews it and to the patient, and waits for the review.
    Raises Forbidden for who is not clinical staff of the house, and NoReason.
    """
    caller.require(BREAK_GLASS)
    if len(reason.strip()) < LEAST_REASON:
        raise NoReason
    now = access.clock.now()
    until = now + min(life, MOST_GLASS)
    with access.database.transaction() as session:
        number = session.scalar(
            insert(BreakGlass)
            .values(
                account_id=caller.principal.id, patient=patient, reason=reason.strip(), at=now, until=until
            )
            .returning(BreakGlass.id)
        )
        record_change(
            session, access.clock, "glass-broken", f"Patient/{patient}",
            by=caller.principal.id, number=number,
        )  # fmt: skip
        note(
            session, access.clock, caller, "break glass", f"Patient/{patient}",
            patient_id=patient, detail=reason.strip()[:500],
        )  # fmt: skip
    return until


def review_glass(access: Access, caller: Caller, number: int, verdict: str) -> None:
    """Say whether breaking the glass was right. Nobody reviews their own. Raises Forbidden, NoSuchGlass."""
    caller.require(UPDATE_POLICY)
    with access.database.transaction() as session:
        row = session.get(BreakGlass, number)
        if row is None:
            raise NoSuchGlass(number)
        if row.account_id == caller.principal.id:
            raise Forbidden("review it", "Somebody else has to.")
        session.execute(
            update(BreakGlass)
            .where(BreakGlass.id == number)
            .values(reviewed_by=caller.principal.id, reviewed_at=access.clock.now(), verdict=verdict[:500])
        )
        note(
            session, access.clock, caller, "review break-glass", f"BreakGlass/{number}", detail=verdict[:200]
        )


def glass_reviewers(session: Session, but: str) -> tuple[str, ...]:
    """The accounts that may review broken glass, without the one that broke it."""
    roles = [code for code, role in ROLES.items() if role.permissions.allow(UPDATE_POLICY)]
    found = select(Account.id).where(
        Account.role.in_(roles), Account.disabled.is_(False), Account.id != but
    )  # fmt: skip
    return tuple(session.scalars(found.order_by(Account.id)))


def count_unreviewed_glass(access: Access) -> int:
    """How much of it waits for a review."""
    with access.database.snapshot() as session:
        return session.scalar(UNREVIEWED_GLASS) or 0


def unreviewed_glass(access: Access, caller: Caller) -> tuple[BreakGlass, ...]:
    """What nobody has looked at yet, the oldest first."""
    caller.require(READ_POLICY)
    with access.database.snapshot() as session:
        rows = session.scalars(
            select(BreakGlass).where(BreakGlass.reviewed_at.is_(None)).order_by(BreakGlass.id)
        )
        return tuple(rows)


def patient_id_issuer(session: Session, institution: str) -> str:
    """Who gave the Patient IDs of an institution that name nobody; its own code unless it says otherwise."""
    return session.connection().execute(_ISSUER, {"institution": institution}).scalar() or institution


def known_patient_id_issuer(database: Database, institution: str) -> str:
    """The same, for who has no session."""
    found = database.row(_ISSUER, {"institution": institution})
    return (found[0] if found else "") or institution


_ISSUER = select(Institution.patient_id_issuer).where(Institution.code == bindparam("institution"))
