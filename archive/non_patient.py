"""Non-patient instances: what no study and no patient has, kept and found beside them.

They enter through the one funnel (`archive.ingest`), are sealed and audited as images are, and are under the
same permissions. What a site keeps of them is its own: a caller reaches those of its institutions and
departments, and one whose reach is of patients or studies reaches none.

Standards: PS3.18 12 (Non-Patient Instance Service), PS3.4 GG (Non-Patient Object Storage).
"""

import json
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, exists, false, insert, or_, select, true, update
from sqlalchemy.orm import Session

from access.audit import note, note_once
from access.caller import DELETE_IMAGES, READ_IMAGES, SEARCH_IMAGES, Caller, Clause
from archive.blobs.sealed import Sealed
from archive.documents import document_bytes, dump_marked, open_document, parse_marked
from archive.elements import BulkValue
from archive.folding import fold, fold_name
from archive.header import Header
from archive.indexed_values import MOST_VALUES, values_at
from archive.keys import RETRIEVE_URL, Matching
from archive.non_patient_keys import CATEGORY_OF_CLASS, Category
from archive.non_patient_model import NonPatientInstance, NonPatientValue
from archive.query import InvalidMatch, Match, Query
from archive.retrieve import NotFound, StoredInstance
from archive.room import Archive
from archive.search import MATCHERS, Found, wildcard
from kernel.changes import record_change
from kernel.crypto import Seal
from kernel.database import table_of
from kernel.errors import CloudfilmError, Forbidden, Kind
from kernel.jobs import job
from kernel.veil import AFTER_ALL

STORED_CHANGE = "non-patient-stored"
RANGED = frozenset({"DA", "TM", "DT"})

_ADD_VALUES = insert(table_of(NonPatientValue))


class OtherInstanceExists(CloudfilmError):
    """Other bytes with the UID of an instance that is kept: a UID names one instance (PS3.5 9)."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("Another instance has this SOP Instance UID; it stays as it is.")


@dataclass(frozen=True, slots=True)
class NonPatient:
    """One instance as it is kept. `stored` is in the form that sending and recoding take."""

    category: Category
    stored: StoredInstance
    document: bytes  # sealed
    bulk: str


def place_non_patient(
    archive: Archive, session: Session, caller: Caller, header: Header, sealed: Sealed, document: bytes
) -> bool:
    """Index one within the funnel's transaction; False when these very bytes are there already.

    One that was removed comes back. Raises OtherInstanceExists or Forbidden.
    """
    known = session.execute(
        select(NonPatientInstance.id, NonPatientInstance.sha256, NonPatientInstance.removed_at).where(
            NonPatientInstance.sop_instance_uid == header.sop_instance_uid
        )
    ).first()
    if known is not None:
        if known.sha256 != sealed.sha256:
            raise OtherInstanceExists
        if known.removed_at is not None:
            session.execute(
                update(NonPatientInstance).where(NonPatientInstance.id == known.id).values(removed_at=None)
            )
            note(session, archive.clock, caller, "restore NonPatientInstance", header.sop_instance_uid)
        return False
    category = CATEGORY_OF_CLASS[header.sop_class_uid]
    row_id = session.execute(
        insert(NonPatientInstance)
        .values(
            category=category.name,
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
            institution=caller.principal.institution or archive.institution,
            department=caller.principal.department,
            size_bytes=sealed.size_bytes,
            sha256=sealed.sha256,
            blob_key=sealed.key,
            seal=sealed.seal.pack(),
            bulk=json.dumps(
                {path: [value.offset, value.length, value.vr] for path, value in header.bulk.items()}
            ),
            attributes=dump_marked(_answer(category, header)),
            document=document,
            source=caller.principal.id,
            door=caller.door.value,
            received_at=archive.clock.now(),
        )
        .returning(NonPatientInstance.id)
    ).scalar_one()
    within = select(NonPatientInstance.id).where(NonPatientInstance.id == row_id, *_reached(caller, "c"))
    if session.execute(within).first() is None:
        raise Forbidden("store NonPatientInstance", "What you store would lie outside of what you may reach.")
    rows = [
        {"instance_id": row_id, "path": key.tag, "value": value}
        for key in category.keys
        if key.matching is Matching.INDEXED and key.tag[:8] in header.attributes
        for value in sorted({each[:200] for each in values_at(header.attributes, key.tag)})[:MOST_VALUES]
    ]
    if rows:
        session.execute(_ADD_VALUES, rows)
    record_change(session, archive.clock, STORED_CHANGE, header.sop_instance_uid)
    note(
        session, archive.clock, caller, "store NonPatientInstance", header.sop_instance_uid,
        detail=category.name,
    )  # fmt: skip
    return True


def _answer(category: Category, header: Header) -> dict[str, object]:
    answered = {key.tag for key in category.keys if key.answered}
    answer = {tag: value for tag, value in header.attributes.items() if tag in answered}
    answer["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    answer["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    answer["00083002"] = {"vr": "UI", "Value": [header.transfer_syntax_uid]}
    answer[RETRIEVE_URL] = {"vr": "UR", "Value": [f"\x01/{category.name}/{header.sop_instance_uid}"]}
    return dict(sorted(answer.items()))


def search_non_patient(archive: Archive, caller: Caller, category: Category, query: Query) -> Found:
    """Find instances of a category, the newest first. Raises InvalidMatch or Forbidden. PS3.18 12.6."""
    caller.require(SEARCH_IMAGES)
    wanted = archive.settings.default_results if query.limit is None else query.limit
    limit = min(wanted, archive.settings.max_results)
    if limit <= 0 and query.limit is None:
        return Found((), False)
    more = query.include_all or bool(query.include)
    columns = (NonPatientInstance.attributes, *((NonPatientInstance.document,) if more else ()))
    statement = select(*columns).where(
        NonPatientInstance.category == category.name, *_reached(caller, "s"), *map(_condition, query.matches)
    )
    page = statement.order_by(NonPatientInstance.id.desc()).limit(limit + 1).offset(query.offset)
    with archive.database.snapshot() as session:
        rows = session.execute(page).all()
    note_once(archive.database, archive.recently, archive.clock, caller, "search NonPatientInstance", "")
    found = rows[:limit]
    if not more:
        return Found(tuple(row[0] for row in found), len(rows) > limit)
    answers = (_with_more(query, row[0], open_document(archive.blobs.keys, row[1])) for row in found)
    return Found(tuple(answers), len(rows) > limit)


def _with_more(query: Query, attributes: bytes, document: dict[str, object]) -> bytes:
    own = parse_marked(attributes)
    for tag, value in document.items():
        if query.include_all or tag in query.include:
            own.setdefault(tag, value)
    return dump_marked(dict(sorted(own.items())))


def _condition(match: Match) -> ColumnElement[bool]:
    key = match.key
    if not match.is_empty and not any(match.values):
        return true()
    if key.matching is Matching.UID:
        return false() if match.is_empty else MATCHERS[Matching.UID](key, match.values, False)
    found = exists().where(
        NonPatientValue.instance_id == NonPatientInstance.id, NonPatientValue.path == key.tag
    )
    if match.is_empty:
        return ~found
    fold_value = fold_name if key.vr == "PN" else fold
    conditions = (
        _range(key.keyword, value) if key.vr in RANGED else wildcard(NonPatientValue.value, fold_value(value))
        for value in match.values
    )
    return found.where(or_(false(), *conditions))


def _range(attribute: str, text: str) -> ColumnElement[bool]:
    """Range matching of dates, times and date-times (PS3.4 C.2.2.2.5), as text: each part that is given
    stands at the begin of what it matches."""
    value = text.strip()
    first, dash, last = value.partition("-")
    if not all(part == "" or (part.isascii() and part.replace(".", "").isdigit()) for part in (first, last)):
        raise InvalidMatch(attribute, "write a date as 20240131, a range as 20240101-20240131")
    upper = last if dash else first
    return and_(
        NonPatientValue.value >= first,
        NonPatientValue.value < upper + AFTER_ALL if upper else true(),
    )


def find_non_patient(
    archive: Archive, caller: Caller, category: Category, sop_instance_uid: str
) -> NonPatient:
    """One instance by its UID. Raises NotFound."""
    caller.require(READ_IMAGES)
    with archive.database.snapshot() as session:
        row = session.execute(
            select(NonPatientInstance, NonPatientInstance.document).where(
                NonPatientInstance.category == category.name,
                NonPatientInstance.sop_instance_uid == sop_instance_uid,
                *_reached(caller, "r"),
            )
        ).first()
        if row is None:
            raise NotFound("The instance")
        kept: NonPatientInstance = row[0]
        stored = StoredInstance(
            id=0, study_instance_uid="", series_instance_uid="", sop_instance_uid=kept.sop_instance_uid,
            sop_class_uid=kept.sop_class_uid, transfer_syntax_uid=kept.transfer_syntax_uid,
            instance_number=None, number_of_frames=0, size_bytes=kept.size_bytes, sha256=kept.sha256,
            blob_key=kept.blob_key, seal=Seal.unpack(kept.seal), frames=b"", patient_logical_id="",
            source=kept.source,
        )  # fmt: skip
        found = NonPatient(category, stored, row[1], kept.bulk)
    note_once(
        archive.database, archive.recently, archive.clock, caller, "read NonPatientInstance", sop_instance_uid
    )
    return found


def non_patient_document(archive: Archive, found: NonPatient) -> bytes:
    """Its DICOM JSON with 0x01 for the base URL."""
    return document_bytes(archive.blobs.keys, found.document)


def non_patient_bulk(found: NonPatient, path: str) -> BulkValue:
    """Where a value lies that its JSON refers to. Raises NotFound."""
    known: dict[str, list[int | str]] = json.loads(found.bulk)
    if path not in known:
        raise NotFound("The bulk data")
    offset, length, vr = known[path]
    return BulkValue(int(offset), int(length), str(vr))


def remove_non_patient(archive: Archive, caller: Caller, category: Category, sop_instance_uid: str) -> None:
    """Take an instance out of every view; storing it again brings it back until it is purged.

    Raises NotFound or Forbidden.
    """
    caller.require(DELETE_IMAGES)
    with archive.database.transaction() as session:
        removed = session.execute(
            update(NonPatientInstance)
            .where(
                NonPatientInstance.category == category.name,
                NonPatientInstance.sop_instance_uid == sop_instance_uid,
                *_reached(caller, "d"),
            )
            .values(removed_at=archive.clock.now())
        )
        if not removed.rowcount:  # type: ignore[attr-defined]
            raise NotFound("The instance")
        note(
            session, archive.clock, caller, "delete NonPatientInstance", sop_instance_uid,
            detail=category.name,
        )  # fmt: skip


@job(queue="archive", every=timedelta(hours=6))
def purge_non_patient(archive: Archive) -> None:
    """Let go for good what was removed and is past its retention: rows first, then the bytes."""
    before = archive.clock.now() - timedelta(days=archive.settings.removed_days)
    with archive.database.transaction() as session:
        rows = session.execute(
            delete(NonPatientInstance)
            .where(NonPatientInstance.removed_at <= before)
            .returning(NonPatientInstance.blob_key)
        ).all()
    for row in rows:
        archive.blobs.delete(row.blob_key)


def _reached(caller: Caller, verb: str) -> list[ColumnElement[bool]]:
    """What is there, within the caller's reach: limits of patients and studies hold nothing of it."""
    return [
        NonPatientInstance.removed_at.is_(None),
        *(or_(false(), *map(_clause, limit)) for limit in caller.reach_for(verb).limits),
    ]


def _clause(clause: Clause) -> ColumnElement[bool]:
    of_site = Clause(
        institutions=clause.institutions,
        departments=clause.departments,
        resource_types=clause.resource_types,
        except_patients=clause.except_patients,
        except_studies=clause.except_studies,
        except_types=clause.except_types,
        except_labels=clause.except_labels,
    )
    if clause != of_site:
        return false()
    if clause.resource_types is not None and not clause.resource_types & {"ImagingStudy", "*"}:
        return false()
    conditions: list[ColumnElement[bool]] = [true()]
    if clause.institutions is not None:
        conditions.append(NonPatientInstance.institution.in_(clause.institutions))
    if clause.departments is not None:
        whole_institution = frozenset({""})
        conditions.append(NonPatientInstance.department.in_(clause.departments | whole_institution))
    return and_(*conditions)
