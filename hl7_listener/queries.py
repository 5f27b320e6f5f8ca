"""Queries: PIX (QBP^Q23, ITI-9) and PDQ (QBP^Q22, ITI-21), answered from the patient index."""

from dataclasses import replace
from typing import Any

from sqlalchemy import select

from hl7_listener.continuation import forget, keep_rest, take_rest
from hl7_listener.data_types import authority_of, date_of
from hl7_listener.er7 import Segment, escape, segment
from hl7_listener.patients import SEXES
from hl7_listener.room import ContentError, Done, Work
from mpi.demographics import Authority, Demographics
from mpi.matching import (
    UnknownDomain,
    UnknownIdentifier,
    cross_reference_within,
    match_within,
    require_domain,
    search_records,
)
from mpi.model import PatientRecord
from mpi.sealing import demographics_of

NO_NAME = "~^^^^^^S"  # none, and a pseudonym: identifiers alone are told (ITI TF-2 3.9.4.2.2.6)
MOST_FOUND = 500
MOST_AT_ONCE = 100
PDQ_FIELDS = {  # QPD-3 parameter -> field of Demographics
    "@PID.7": "birth_date", "@PID.7.1": "birth_date", "@PID.8": "sex", "@PID.11": "address",
    "@PID.11.1": "address", "@PID.13": "phone", "@PID.13.1": "phone", "@PID.19": "identity_number",
}  # fmt: skip


class UnknownQueryDomain(ContentError):
    """An assigning authority that nobody here uses; names the field of QPD."""

    def __init__(self, field: str) -> None:
        super().__init__(field, "the assigning authority is not known", "204")


def _qpd(work: Work) -> Segment:
    qpd = work.message.first("QPD")
    if not qpd.fields:
        raise ContentError("QPD", "the segment is missing", "100")
    return qpd


def cross_reference_query(work: Work) -> Done:
    """The other identifiers of a patient (ITI TF-2: 3.9)."""
    qpd = _qpd(work)
    value = qpd.value(3)
    targets = tuple(authority_of(each, 4) or each.component(1) for each in qpd.values(4))
    try:
        found = cross_reference_within(
            work.hl7.mpi,
            work.session,
            work.caller,
            authority_of(value, 4) or work.institution,
            value.component(1),
            targets,
        )
    except UnknownDomain as refused:
        raise UnknownQueryDomain("QPD-4" if refused.is_target else "QPD-3") from None
    except UnknownIdentifier:
        raise ContentError("QPD-3.1", "the patient identifier is not known", "204") from None
    identifiers = "~".join(f"{escape(each.identifier)}^^^{escape(each.issuer)}" for each in found)
    reply = [_qak(qpd, "OK" if found else "NF"), _echo(qpd)]
    if found:
        reply.append(segment("PID", "", "", identifiers, "", NO_NAME))
    return Done(reply=tuple(reply), reply_type="RSP^K23^RSP_K23")


def demographics_query(work: Work) -> Done:
    """Patients by demographics (ITI TF-2: 3.21)."""
    qpd = _qpd(work)
    pointer = work.message.first("DSC").get(1)
    rest = take_rest(work, pointer) if pointer else None
    if pointer and rest is None:
        raise ContentError("DSC-1", "the continuation pointer is not known, or its time is over", "204")
    if rest is not None:
        wanted, total = rest
    else:
        wanted = _found(work, qpd)
        total = len(wanted)
    most = _most(work)
    now, later = wanted[:most], wanted[most:]
    rows = {
        row.patient_id: row
        for row in work.session.scalars(select(PatientRecord).where(PatientRecord.patient_id.in_(now)))
    }
    said = [demographics_of(work.hl7.mpi, rows[patient_id]) for patient_id in now if patient_id in rows]
    reply = [_qak(qpd, "OK" if said else "NF", total, len(said), len(later)), _echo(qpd)]
    reply += [_pid(at, each) for at, each in enumerate(said, 1)]
    if later:
        reply.append(segment("DSC", keep_rest(work, qpd.get(2), later, total), "I"))
    return Done(reply=tuple(reply), reply_type="RSP^K22^RSP_K21")


def cancel_query(work: Work) -> Done:
    """Nothing more of a long answer is wanted (QCN^J01)."""
    forget(work.session, work.caller.principal.id, work.message.first("QID").get(1))
    return Done()


def _most(work: Work) -> int:
    """How many patients the asker takes at once (RCP-2)."""
    quantity = work.message.first("RCP").get(2)
    is_number = quantity.isdecimal() and len(quantity) < 9
    return max(1, min(MOST_AT_ONCE, int(quantity))) if is_number else MOST_AT_ONCE


def _found(work: Work, qpd: Segment) -> list[str]:
    """The Patients that fit, the likeliest first, in the domains that are asked for."""
    domains = {authority_of(each, 4) or each.component(1) for each in qpd.values(8)}
    for domain in domains:
        try:
            require_domain(work.session, domain, is_target=True)
        except UnknownDomain:
            raise UnknownQueryDomain("QPD-8") from None
    described = _described(work, qpd)
    matched = match_within(work.hl7.mpi, work.session, work.caller, described, MOST_FOUND)
    searched = search_records(work.hl7.mpi, work.session, work.caller, described, MOST_FOUND)
    wanted = list(dict.fromkeys([*(each.patient_id for each in matched), *searched]))
    if not domains:
        return wanted
    of_domain = set(
        work.session.scalars(
            select(PatientRecord.patient_id).where(
                PatientRecord.patient_id.in_(wanted), PatientRecord.issuer.in_(domains)
            )
        )
    )
    return [patient_id for patient_id in wanted if patient_id in of_domain]


def _described(work: Work, qpd: Segment) -> Demographics:
    said = Demographics("", "", work.institution, authority=Authority.REGISTRATION)
    family = given = ""
    for value in qpd.values(3):
        name, text = value.component(1).upper(), value.component(2)
        changes: dict[str, Any] = {}
        if name in ("@PID.5.1", "@PID.5.1.1", "@PID.5"):
            family = text
        elif name == "@PID.5.2":
            given = text
        elif name in ("@PID.3", "@PID.3.1"):
            changes = {"identifier": text}
        elif name == "@PID.3.4":
            changes = {"issuer": text}
        elif name in PDQ_FIELDS:
            field = PDQ_FIELDS[name]
            parsed: Any = date_of(text) if field == "birth_date" else text
            changes = {field: SEXES.get(text.upper(), "") if field == "sex" else parsed}
        said = replace(said, **changes)
    return replace(said, name=f"{family}^{given}".strip("^"), issuer=said.issuer or work.institution)


def _qak(qpd: Segment, status: str, total: int = 0, told: int = 0, later: int = 0) -> str:
    """QAK-4 to QAK-6: how many fit, are told now, and are still to be told."""
    counts = [str(total), str(told), str(later)] if total else []
    return segment("QAK", escape(qpd.get(2)), status, qpd.raw(1), *counts)


def _echo(qpd: Segment) -> str:
    return segment("QPD", *qpd.fields)


def _pid(number: int, said: Demographics) -> str:
    groups = [group for group in said.name.split("=") if group]
    names = "~".join("^".join(escape(part) for part in group.split("^")) for group in groups)
    return segment(
        "PID", str(number), "", f"{escape(said.identifier)}^^^{escape(said.issuer)}", "", names, "",
        f"{said.birth_date:%Y%m%d}" if said.birth_date else "", said.sex, "", "", escape(said.address), "",
        "~".join(escape(phone) for phone in said.phone.split(";") if phone), "", "", "", "", "",
        escape(said.identity_number),
    )  # fmt: skip
