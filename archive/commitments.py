"""Storage commitment: the archive says for which instances it answers from now on.

A request is kept until its result was delivered; the result is what the archive holds when it is delivered,
of what the asker may know of. An instance counts when its bytes are where they belong.

Standards: PS3.4 J (Storage Commitment), IHE RAD-10.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import STORE_IMAGES, Caller, Clause, Reach
from archive.model import Instance, Study
from archive.reach import within
from archive.room import Archive
from archive.workitem_model import Commitment
from kernel.errors import CloudfilmError, Kind

CHUNK = 500
MOST_REFERENCES = 200_000

NO_SUCH_OBJECT = 0x0112
CLASS_CONFLICT = 0x0119


class InvalidRequest(CloudfilmError):
    """A request without a Transaction UID or without references."""

    kind = Kind.INVALID

    def __init__(self, keyword: str) -> None:
        super().__init__(f"{keyword} is missing, or there are too many.")


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance; why it is not committed, if it is not (PS3.3 C.14.1.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    failure: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What is told to the asker."""

    ae_title: str
    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[Reference, ...]


def request_commitment(
    archive: Archive,
    session: Session,
    caller: Caller,
    ae_title: str,
    transaction_uid: str,
    references: Sequence[Reference],
) -> None:
    """Keep a request, within the caller's transaction; the same one again starts anew.

    Raises InvalidRequest or Forbidden.
    """
    caller.require(STORE_IMAGES)
    if not transaction_uid or len(transaction_uid) > 64:
        raise InvalidRequest("TransactionUID")
    complete = all(each.sop_class_uid and each.sop_instance_uid for each in references)
    if not 0 < len(references) <= MOST_REFERENCES or not complete:
        raise InvalidRequest("ReferencedSOPSequence")
    session.execute(
        delete(Commitment).where(
            Commitment.ae_title == ae_title, Commitment.transaction_uid == transaction_uid
        )
    )
    session.add(
        Commitment(
            ae_title=ae_title,
            transaction_uid=transaction_uid,
            institution="" if caller.reach_for("c").is_everywhere else caller.principal.institution,
            references=json.dumps([[each.sop_class_uid, each.sop_instance_uid] for each in references]),
            created_at=archive.clock.now(),
        )
    )
    note(
        session, archive.clock, caller, "commit ImagingStudy", transaction_uid,
        detail=f"{len(references)} instances",
    )  # fmt: skip


def commitment_result(archive: Archive, ae_title: str, transaction_uid: str) -> Result | None:
    """The result as it stands; None when it was delivered, or nobody asks any more."""
    with archive.database.snapshot() as session:
        row = session.scalar(
            select(Commitment).where(
                Commitment.ae_title == ae_title,
                Commitment.transaction_uid == transaction_uid,
                Commitment.delivered_at.is_(None),
            )
        )
        if row is None:
            return None
        reach = Reach.everywhere()
        if row.institution:
            reach = reach.narrowed(Clause(institutions=frozenset({row.institution})))
        checked = list(_checked(archive, session, reach, json.loads(row.references)))
    return Result(
        ae_title,
        transaction_uid,
        tuple(each for each in checked if not each.failure),
        tuple(each for each in checked if each.failure),
    )


def _checked(
    archive: Archive, session: Session, reach: Reach, references: list[list[str]]
) -> Iterator[Reference]:
    for at in range(0, len(references), CHUNK):
        chunk = references[at : at + CHUNK]
        statement = (
            select(Instance.sop_instance_uid, Instance.sop_class_uid, Instance.blob_key)
            .join(Study, Study.id == Instance.study_id)
            .where(Instance.sop_instance_uid.in_([uid for _, uid in chunk]))
        )
        held = {uid: (sop_class, key) for uid, sop_class, key in session.execute(within(statement, reach))}
        for sop_class, uid in chunk:
            known = held.get(uid)
            if known is None or not archive.blobs.is_there(known[1]):
                yield Reference(sop_class, uid, NO_SUCH_OBJECT)
            elif known[0] != sop_class:
                yield Reference(sop_class, uid, CLASS_CONFLICT)
            else:
                yield Reference(sop_class, uid)


def delivered(archive: Archive, result: Result) -> None:
    """The asker has taken the result."""
    with archive.database.transaction() as session:
        session.execute(
            _row(result.ae_title, result.transaction_uid).values(delivered_at=archive.clock.now(), error="")
        )


def not_delivered(archive: Archive, ae_title: str, transaction_uid: str, error: str) -> None:
    """It could not be delivered this time; why is kept for who looks after it."""
    with archive.database.transaction() as session:
        statement = _row(ae_title, transaction_uid)
        session.execute(statement.values(tries=Commitment.tries + 1, error=error[:1000]))


def _row(ae_title: str, transaction_uid: str):  # type: ignore[no-untyped-def]
    return update(Commitment).where(
        Commitment.ae_title == ae_title, Commitment.transaction_uid == transaction_uid
    )
