"""What we tell others: reports, order states, and who is who, to the nodes that asked for it.

A change writes the messages that follow from it, within the transaction of the follower; a job sends them,
node by node, in their order. A node that does not answer is tried again later and holds up nobody else; a
message that it refuses is set apart with its reason, and the next one goes.

ORU^R01 (RAD-28), ORM^O01 with status (RAD-42), OMI^O23 (RAD-4), ADT^A31 (PIX update notification, ITI-10) and
ADT^A40.
"""

import hashlib
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from access.caller import Action, Caller
from access.nodes import NodePeer, find_node
from access.tokens import Access
from hl7_listener.data_types import service_of
from hl7_listener.er7 import escape, parse, segment, write
from hl7_listener.mllp import END, frame
from hl7_listener.model import Hl7Outbound, Hl7Subscription
from kernel.changes import Change
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import enqueue, job
from kernel.tls import host_context
from mpi.demographics import Demographics
from mpi.model import PatientRecord
from mpi.room import Mpi
from mpi.sealing import demographics_of
from records.identifiers import present_document
from records.orders import accession_number_of, procedure_ids_of, study_uid_of

SEALED = "hl7_outbound.sealed"
SEND = Action("Message", "c")
SECRET = (
    b"^99CLOUDFILM"  # a message with a code of ours holds a share's secret: forgotten when it has arrived
)
ANSWER_WITHIN_S = 30.0
MOST_ANSWER_BYTES = 1_000_000


class NodeSilent(CloudfilmError):
    """A node that cannot be reached or does not answer; its messages wait."""

    kind = Kind.UNAVAILABLE

    def __init__(self, node: str) -> None:
        super().__init__(f"The node {node} does not answer; its messages wait.")


def follow_for_nodes(mpi: Mpi, session: Session, change: Change) -> None:
    """Queue the messages that follow from a change, for each node that asked for their topic."""
    for topic, build in MESSAGES[change.kind]:
        nodes = session.scalars(select(Hl7Subscription.node).where(Hl7Subscription.topic == topic)).all()
        built = build(mpi, session, change) if nodes else None
        if built is not None:
            queue_for_nodes(mpi, session, change, nodes, *built)


def queue_for_nodes(
    mpi: Mpi, session: Session, change: Change, nodes: Sequence[str], message_type: str, segments: list[str]
) -> None:
    """Queue one message for some nodes, within the caller's transaction."""
    for node in nodes:
        control_id = hashlib.sha256(f"{change.seq}|{node}|{secrets.token_hex(4)}".encode()).hexdigest()[:20]
        msh = segment(
            "MSH", "^~\\&", "CLOUDFILM", "", escape(node), "", f"{mpi.clock.now():%Y%m%d%H%M%S}+0000", "",
            message_type, control_id, "P", "2.5.1", "", "", "", "", "", "UNICODE UTF-8",
        )  # fmt: skip
        session.add(
            Hl7Outbound(
                node=node,
                message_type=message_type[:16],
                control_id=control_id,
                sealed=mpi.keys.seal_bytes(write([msh, *segments]), SEALED),
                state="waiting",
                created_at=mpi.clock.now(),
            )
        )
        enqueue(session, mpi.clock, deliver, node, key=f"hl7 {node}")


Built = tuple[str, list[str]] | None


def _report(mpi: Mpi, session: Session, change: Change) -> Built:
    report = present_document(session, "DiagnosticReport", change.subject)
    said = patient_of(mpi, session, report)
    if report is None or said is None:
        return None
    status = {"final": "F", "corrected": "C", "amended": "C", "appended": "C", "cancelled": "X"}
    letter = status.get(report["status"], "P")
    rows = [("ST", "110180^Study Instance UID^DCM", escape(study_uid_of(report)))]
    for form in report.get("presentedForm", []):
        kind = str(form.get("contentType", ""))
        if not kind.startswith("text/plain"):
            subtype = escape(kind.rpartition("/")[2].upper())
            rows.append(("ED", "18748-4^Report^LN", f"^Application^{subtype}^Base64^{form.get('data', '')}"))
    rows.append(("FT", "18748-4^Report^LN", escape(report.get("conclusion", ""))))
    filled = [row for row in rows if row[2]]
    obr = segment(
        "OBR", "1", "", escape(_number(report, "FILL")), service_of(report),
        *[""] * 13, escape(accession_number_of(report)), *[""] * 6, letter,
    )  # fmt: skip
    obx = [
        segment("OBX", str(at), kind, code, "", value, "", "", "", "", "", letter)
        for at, (kind, code, value) in enumerate(filled, 1)
    ]
    return "ORU^R01^ORU_R01", [pid([said]), obr, *obx]


def _order(mpi: Mpi, session: Session, change: Change) -> Built:
    order = present_document(session, "ServiceRequest", change.subject)
    said = patient_of(mpi, session, order)
    if order is None or said is None:
        return None
    status = {"active": "SC", "completed": "CM", "revoked": "CA", "on-hold": "HD"}.get(order["status"], "IP")
    numbers = order_numbers(order)
    orc = segment("ORC", "SC", *numbers, "", status)
    obr = segment("OBR", "1", *numbers, service_of(order), *[""] * 13, escape(accession_number_of(order)))
    return "ORM^O01^ORM_O01", [pid([said]), orc, obr]


def _imaging_order(mpi: Mpi, session: Session, change: Change) -> Built:
    """The same as OMI^O23 (IHE RAD-4), with what a modality needs to know."""
    built = _order(mpi, session, change)
    order = present_document(session, "ServiceRequest", change.subject)
    if built is None or order is None:
        return None
    _, (pid, orc, obr) = built
    details = [each.get("coding", [{}])[0].get("code", "") for each in order.get("orderDetail", [])]
    requested, step = procedure_ids_of(order)
    ipc = (accession_number_of(order), requested, study_uid_of(order), step, *details[:1])
    return "OMI^O23^OMI_O23", [pid, orc, obr, segment("IPC", *map(escape, ipc))]


def _link(mpi: Mpi, session: Session, change: Change) -> Built:
    rows = session.scalars(
        select(PatientRecord)
        .where(PatientRecord.person_id == change.data.get("person"), PatientRecord.replaced_by.is_(None))
        .order_by(PatientRecord.id)
    ).all()
    said = [demographics_of(mpi, row) for row in rows if "~" not in row.identifier]
    return ("ADT^A31^ADT_A05", [_evn(mpi), pid(said), "PV1||N"]) if said else None


def _merge(mpi: Mpi, session: Session, change: Change) -> Built:
    old = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == change.subject))
    new = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == change.data.get("into")))
    if old is None or new is None or "~" in old.identifier:
        return None
    mrg = segment("MRG", f"{escape(old.identifier)}^^^{escape(old.issuer)}")
    return "ADT^A40^ADT_A39", [_evn(mpi), pid([demographics_of(mpi, new)]), mrg]


def _evn(mpi: Mpi) -> str:
    return segment("EVN", "", f"{mpi.clock.now():%Y%m%d%H%M%S}+0000")


Build = Callable[[Mpi, Session, Change], Built]
MESSAGES: dict[str, tuple[tuple[str, Build], ...]] = {  # kind of change -> who is told, and how
    "report-filed": (("reports", _report),),
    "order-changed": (("orders", _order), ("imaging-orders", _imaging_order)),
    "patient-linked": (("patients", _link),),
    "patient-merged": (("patients", _merge),),
}
TOPICS = tuple(dict.fromkeys(topic for rows in MESSAGES.values() for topic, _ in rows))


def order_numbers(order: dict[str, Any]) -> tuple[str, str]:
    """Placer and filler order number (ORC-2, ORC-3)."""
    return escape(_number(order, "PLAC")), escape(_number(order, "FILL"))


def _number(document: dict[str, Any], type_: str) -> str:
    for identifier in document.get("identifier", []):
        codings = identifier.get("type", {}).get("coding", [])
        if codings and codings[0].get("code") == type_:
            return str(identifier.get("value", ""))
    return ""


def patient_of(mpi: Mpi, session: Session, document: dict[str, Any] | None) -> Demographics | None:
    """Whose a document is, as its source knows the patient."""
    reference = str((document or {}).get("subject", {}).get("reference", "")).partition("/")[2]
    row = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == reference))
    return demographics_of(mpi, row) if row is not None else None


def pid(said: list[Demographics]) -> str:
    """One PID with the identifiers of all records and the demographics of the first."""
    first = said[0]
    identifiers = "~".join(f"{escape(each.identifier)}^^^{escape(each.issuer)}" for each in said)
    groups = [group for group in first.name.split("=") if group]
    names = "~".join("^".join(escape(part) for part in group.split("^")) for group in groups)
    birth_date = f"{first.birth_date:%Y%m%d}" if first.birth_date else ""
    return segment("PID", "1", "", identifiers, "", names, "", birth_date, first.sex)


@job(queue="hl7", retries=50)
def deliver(access: Access, node: str) -> None:
    """Send what waits for a node, in its order. Raises NodeSilent, and is then tried again."""
    while True:
        with access.database.snapshot() as session:
            row = session.scalar(
                select(Hl7Outbound)
                .where(Hl7Outbound.node == node, Hl7Outbound.state == "waiting")
                .order_by(Hl7Outbound.id)
                .limit(1)
            )
            raw = access.keys.open_bytes(row.sealed, SEALED) if row is not None else b""
        if row is None:
            return
        error = _send(access, node, raw, row.control_id)
        with access.database.transaction() as session:
            sent = session.get_one(Hl7Outbound, row.id)
            sent.tries += 1
            sent.state, sent.error = ("refused", error[:400]) if error else ("sent", "")
            sent.sent_at = access.clock.now()
            if SECRET in raw and not error:
                sent.sealed = access.keys.seal_bytes(b"", SEALED)


def send_again(access: Access, caller: Caller, message_ids: Sequence[int] | None) -> int:
    """Have refused messages sent once more, before what waits behind them; None: all of them. How many those
    are. Raises Forbidden."""
    caller.require(SEND)
    which = Hl7Outbound.state == "refused"
    if message_ids is not None:
        which &= Hl7Outbound.id.in_(message_ids)
    with access.database.transaction() as session:
        waiting = update(Hl7Outbound).where(which).values(state="waiting", error="")
        nodes = session.scalars(waiting.returning(Hl7Outbound.node)).all()
        for node in sorted(set(nodes)):
            enqueue(session, access.clock, deliver, node, key=f"hl7 {node}")
    return len(nodes)


def _send(access: Access, node: str, raw: bytes, control_id: str) -> str:
    """Send one message; returns why it was refused, or nothing. Raises NodeSilent."""
    peer = find_node(access, node)
    if peer is None or not peer.host or not peer.port:
        return "the node is not known, or has no address"
    try:
        answer = _exchange(peer, raw)
        acknowledged = parse(answer)
    except (OSError, CloudfilmError):
        raise NodeSilent(node) from None
    msa = acknowledged.first("MSA")
    if msa.get(2) != control_id:
        raise NodeSilent(node)
    return "" if msa.get(1) in ("AA", "CA") else f"{msa.get(1)} {acknowledged.first('ERR').get(3, 2)}".strip()


def _exchange(peer: NodePeer, raw: bytes) -> bytes:
    with socket.create_connection((peer.host, peer.port), timeout=ANSWER_WITHIN_S) as plain:
        client = _secured(plain, peer.host) if peer.tls else plain
        client.sendall(frame(raw))
        received = b""
        while END not in received:
            piece = client.recv(65536)
            if not piece or len(received) > MOST_ANSWER_BYTES:
                raise OSError
            received += piece
    return received.partition(bytes((END,)))[0].lstrip(b"\x0b")


def _secured(plain: socket.socket, host: str) -> socket.socket:
    return host_context().wrap_socket(plain, server_hostname=host)
