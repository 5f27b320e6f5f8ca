"""Provenance: which message made or changed a document, and who sent it.

Written by a follower of the change feed, so that an acknowledgement does not wait for it.
FHIR R4 Provenance; the HL7 v2-to-FHIR guide's MSH[Provenance].
"""

from sqlalchemy.orm import Session

from access.caller import system
from hl7_listener.room import Work
from kernel.changes import Change, record_change
from kernel.clock import new_id
from records.documents import instant
from records.repository import write
from records.room import Records

WRITER = system("message provenance")
MESSAGE_ID = "urn:cloudfilm:message"
PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
EVENTS = "http://terminology.hl7.org/CodeSystem/v2-0003"
MOST_TARGETS = 50


def tell(work: Work, documents: tuple[str, ...]) -> None:
    """Put it into the change feed that a message made or changed documents."""
    touched = [each for each in documents if each not in work.unchanged][:MOST_TARGETS]
    if touched:
        message = work.message
        record_change(
            work.session, work.hl7.clock, "message-processed", message.control_id[:128],
            documents=touched, sender=message.sender, event=message.trigger_event,
            institution=work.institution,
        )  # fmt: skip


def follow_messages(records: Records, session: Session, change: Change) -> None:
    """Write the Provenance of what a message did."""
    sender = str(change.data["sender"])
    document = {
        "resourceType": "Provenance",
        "target": [{"reference": reference} for reference in change.data["documents"]],
        "recorded": instant(change.at),
        "activity": {"coding": [{"system": EVENTS, "code": str(change.data["event"]) or "-"}]},
        "agent": [
            {
                "type": {"coding": [{"system": PARTICIPANT, "code": "assembler"}]},
                "who": {"identifier": {"system": MESSAGE_ID, "value": sender}, "display": sender},
            }
        ],
        "entity": [
            {
                "role": "source",
                "what": {"identifier": {"system": MESSAGE_ID, "value": change.subject}},
            }
        ],
    }
    write(
        records, session, WRITER, document,
        logical_id=new_id(), institution=str(change.data["institution"]),
    )  # fmt: skip
