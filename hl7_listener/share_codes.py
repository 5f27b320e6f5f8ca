"""Codes for reports on paper, told to the RIS that prints them as soon as an order has its number.

A node that subscribed to `share-codes` gets one ORU^R01 for each order: OBR with the order's numbers and the
accession number (OBR-18), and as results the link (OBX-2 RP), the code as a PNG (OBX-2 ED) and the day until
which it opens (OBX-2 DT). The grant is that of any paper code: whoever scans it proves a phone. It is made
once for an accession number; its secret is in this message alone, sealed until the node has acknowledged it.

HL7 2.5.1 chapter 7 (ORU), 2.A.24 (ED), 2.A.61 (RP); OBR-25 S: scheduled, no results yet.
"""

import base64
import io
from dataclasses import dataclass

import segno
from sqlalchemy import select
from sqlalchemy.orm import Session

from access.caller import system
from access.grant_model import ShareGrant
from access.grants import PAPER, Made, Terms
from access.tokens import Access
from archive.shares import grant_of_number
from hl7_listener.er7 import escape, segment
from hl7_listener.model import Hl7Subscription
from hl7_listener.outbound import order_numbers, patient_of, pid, queue_for_nodes
from kernel.changes import Change
from mpi.room import Mpi
from records.identifiers import present_document
from records.model import Resource

TOPIC = "share-codes"
CALLER = system("share codes")


@dataclass(frozen=True, slots=True)
class ShareCodes:
    """What telling codes needs."""

    access: Access
    mpi: Mpi
    site: str  # how people reach this site, without a slash at the end


def follow_for_share_codes(rooms: ShareCodes, session: Session, change: Change) -> None:
    """Subscribed to orders: the first time that one is active and has its number, its code is told."""
    number = str(change.data.get("accession_number", ""))
    nodes = session.scalars(select(Hl7Subscription.node).where(Hl7Subscription.topic == TOPIC)).all()
    order = present_document(session, "ServiceRequest", change.subject) if nodes and number else None
    if order is None or order.get("status") != "active":
        return
    said = patient_of(rooms.mpi, session, order)
    institution = session.scalar(
        select(Resource.institution).where(
            Resource.type == "ServiceRequest", Resource.logical_id == change.subject
        )
    )
    if said is None or institution is None or _is_told(session, institution, number):
        return
    made = grant_of_number(rooms.mpi, rooms.access, session, CALLER, number, institution, Terms())
    numbers = order_numbers(order)
    obr = segment(
        "OBR", "1", *numbers, "share-code^Cloud film^99CLOUDFILM", *[""] * 13, escape(number), *[""] * 6, "S"
    )
    orc = segment("ORC", "SC", *numbers)
    results = _results(f"{rooms.site}/share#{made.secret}", made)
    queue_for_nodes(rooms.mpi, session, change, nodes, "ORU^R01^ORU_R01", [pid([said]), orc, obr, *results])


def _is_told(session: Session, institution: str, number: str) -> bool:
    told = select(ShareGrant.id).where(
        ShareGrant.kind == PAPER, ShareGrant.institution == institution,
        ShareGrant.accession_number == number, ShareGrant.made_by == CALLER.principal.id,
    )  # fmt: skip
    return session.scalar(told.limit(1)) is not None


def _results(link: str, made: Made) -> list[str]:
    picture = io.BytesIO()
    segno.make(link, error="m", micro=False).save(picture, kind="png", scale=8, border=4)
    code = base64.b64encode(picture.getvalue()).decode()
    rows = (
        ("RP", "share-link^Cloud film link", f"{escape(link)}^CLOUDFILM^TEXT^HTML"),
        (
            "ED",
            "share-code^Cloud film QR code",
            f"^IM^PNG^Base64^{code}",
        ),
        ("DT", "share-until^Opens until", f"{made.expires_at:%Y%m%d}"),
    )
    return [
        segment("OBX", str(at), kind, f"{name}^99CLOUDFILM", "", value, "", "", "", "", "", "F")
        for at, (kind, name, value) in enumerate(rows, 1)
    ]
