"""What is understood: message type and trigger event -> what is done with it, on one screen.

A message of the standard that is not in the table is kept, its patient is identified, and it is acknowledged:
nothing of it is lost, and `cloudfilm hl7 replay` processes it again when the table has grown.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hl7_listener import adt, documents, orders, queries, results, scheduling
from hl7_listener.patients import identify_patient
from hl7_listener.room import ContentError, Done, Work
from mpi.demographics import Authority


@dataclass(frozen=True, slots=True)
class Handler:
    """One row: the messages, what is done, and its name in the documents."""

    code: str  # MSH-9.1
    events: tuple[str, ...]  # MSH-9.2; empty: any
    handle: Callable[[Work], Done]
    meaning: str


def keep(work: Work) -> Done:
    """Nothing but the message itself and its patient."""
    if not work.message.has("PID"):
        return Done(is_kept_only=True)
    try:
        patient = identify_patient(work, Authority.REPORT)
    except ContentError:
        return Done(is_kept_only=True)
    return Done((f"Patient/{patient.patient_id}",), is_kept_only=True)


REGISTRATIONS = (
    "A01", "A02", "A03", "A04", "A05", "A06", "A07", "A08", "A09", "A10", "A11", "A12", "A13", "A14", "A25",
    "A26", "A27", "A28", "A31", "A32", "A33", "A38",
)  # fmt: skip
MERGES = ("A18", "A30", "A34", "A36", "A39", "A40", "A46", "A47")
KEPT = (
    "ACK", "ADR", "BAR", "DFT", "MCF", "MFN", "OMB", "OMD", "OML", "OMN", "OMP", "OMS", "ORF", "ORG", "ORI",
    "ORL", "ORR", "OSR", "OUL", "PEX", "PPR", "QBP", "QRY", "RAS", "RDE", "RDS", "REF", "RGV", "RRI", "RSP",
    "SRM", "SRR", "VXQ", "VXU",
)  # fmt: skip

HANDLERS = (
    Handler("ADT", REGISTRATIONS, adt.register, "patient and visit"),
    Handler("ADT", MERGES, adt.merge_patients, "one patient's numbers joined or changed"),
    Handler("ADT", ("A24",), adt.link_patients, "two records linked"),
    Handler("ADT", ("A37",), adt.unlink_patients, "two records unlinked"),
    Handler("ADT", (), keep, "kept"),
    Handler("ORM", ("O01",), orders.place_orders, "orders"),
    Handler("OMG", ("O19",), orders.place_orders, "orders"),
    Handler("OMI", ("O23",), orders.place_orders, "imaging orders"),
    Handler("ORU", ("R01", "R30", "R31", "R32", ""), results.file_results, "reports and results"),
    Handler("MDM", ("T02", "T04", "T06", "T08", "T10", "T11"), documents.file_document, "documents"),
    Handler("MDM", (), keep, "kept"),
    Handler("SIU", (), scheduling.file_appointment, "appointments"),
    Handler("QBP", ("Q23",), queries.cross_reference_query, "PIX query"),
    Handler("QBP", ("Q22",), queries.demographics_query, "PDQ query"),
    Handler("QCN", ("J01",), queries.cancel_query, "a query cancelled"),
    *(Handler(code, (), keep, "kept") for code in KEPT),
)


def handler_of(code: str, event: str) -> Handler | None:
    """The row of a message; None when its type is not one of the standard."""
    return next(
        (row for row in HANDLERS if row.code == code and (event in row.events or not row.events)), None
    )
