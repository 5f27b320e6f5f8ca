"""Instance Availability Notification: nodes are told when a study has come to rest here (PS3.4 R).

Which nodes, and of which studies, is the site document `availability`. Each notice is a job, tried again
until the node has taken it. IHE RAD-49.

    {"notices": [{"node": "RIS", "institutions": ["MAIN"], "modalities": ["CT", "MR"]}]}
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pynetdicom.sop_class import InstanceAvailabilityNotification  # type: ignore[attr-defined]
from sqlalchemy import select
from sqlalchemy.orm import Session

from access.audit import note
from access.document_kind import DocumentKind, current_document
from archive.attributes import Document, document
from archive.model import Instance, Series, Study
from archive.workitem_model import PerformedStep, PerformedStepStudy
from dimse.command import Operation
from dimse.data_sets import encode_document
from dimse.peers import PeerRefused, acting_for, associated, known_peer
from dimse.service import AskedService, Dimse
from dimse.statuses import SUCCESS
from kernel.changes import Change
from kernel.clock import new_uid
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import enqueue, job

SOP_CLASS = str(InstanceAvailabilityNotification)
MPPS = "1.2.840.10008.3.1.2.3.3"
NOTIFYING = AskedService("Instance Availability Notification", "PS3.4 R", (SOP_CLASS,), (Operation.N_CREATE,))


class InvalidAvailability(CloudfilmError):
    """An availability document that cannot be followed."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class Notice:
    """One node, and of which studies it is told; None: of all."""

    node: str
    institutions: frozenset[str] | None = None
    modalities: frozenset[str] | None = None

    def is_about(self, institution: str, modalities: frozenset[str]) -> bool:
        """Whether the node is told of such a study."""
        return (self.institutions is None or institution in self.institutions) and (
            self.modalities is None or bool(self.modalities & modalities)
        )


@lru_cache(maxsize=8)
def parse_availability(text: str) -> tuple[Notice, ...]:
    """Read the document. Raises InvalidAvailability."""
    try:
        notices = json.loads(text).get("notices", [])
        return tuple(_notice(notice) for notice in notices)
    except (ValueError, AttributeError, TypeError) as failure:
        raise InvalidAvailability(f"The availability document cannot be read: {failure}.") from None


def _notice(said: dict[str, Any]) -> Notice:
    unknown = set(said) - {"node", "institutions", "modalities"}
    node = said.get("node")
    if unknown or not isinstance(node, str) or not 0 < len(node) <= 16:
        raise InvalidAvailability("A notice has a node (an AE title), institutions and modalities.")
    return Notice(node, _texts(said.get("institutions")), _texts(said.get("modalities")))


def _texts(value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidAvailability("institutions and modalities are lists of texts.")
    return frozenset(value)


AVAILABILITY = DocumentKind(
    "availability",
    "Which nodes are told when a study is available here.",
    parse_availability,
    '{"notices": []}',
)


def follow_studies(dimse: Dimse, session: Session, change: Change) -> None:
    """Queue a notice for each node that is told of a study that has come to rest."""
    notices = parse_availability(current_document(session, AVAILABILITY))
    rested = select(Study).where(Study.study_instance_uid == change.subject)
    study = session.scalar(rested) if notices else None
    if study is None:
        return
    modalities = frozenset(session.scalars(select(Series.modality).where(Series.study_id == study.id)))
    for notice in notices:
        if notice.is_about(study.institution, modalities):
            enqueue(
                session, dimse.clock, notify, notice.node, change.subject,
                key=f"available {notice.node} {change.subject}",
            )  # fmt: skip


@job(queue="dimse", retries=20)
def notify(dimse: Dimse, ae_title: str, study_instance_uid: str) -> None:
    """Tell one node which instances of a study are available (R.3.2, N-CREATE)."""
    said = availability(dimse, study_instance_uid)
    if said is None:
        return
    node = known_peer(dimse, ae_title)
    with associated(dimse, node, NOTIFYING.proposals()) as association:
        (context,) = association.contexts.values()
        answer = association.invoke(
            context,
            {
                "CommandField": Operation.N_CREATE,
                "AffectedSOPClassUID": SOP_CLASS,
                "AffectedSOPInstanceUID": new_uid(),
            },
            (encode_document(said, context.transfer_syntax),),
        )
        if answer.status != SUCCESS:
            raise PeerRefused(ae_title, answer.status, answer.text("ErrorComment"))
    with dimse.archive.database.transaction() as session:
        caller = acting_for(node, "availability")
        note(session, dimse.clock, caller, "notify ImagingStudy", study_instance_uid, detail=ae_title)


def availability(dimse: Dimse, study_instance_uid: str) -> Document | None:
    """What is told of a study (PS3.3 C.4.23); None when it is gone."""
    with dimse.archive.database.snapshot() as session:
        rows = session.execute(
            select(Series.series_instance_uid, Instance.sop_class_uid, Instance.sop_instance_uid)
            .join(Series, Series.id == Instance.series_id)
            .join(Study, Study.id == Instance.study_id)
            .where(Study.study_instance_uid == study_instance_uid)
            .order_by(Series.id, Instance.id)
        ).all()
        steps = session.scalars(
            select(PerformedStep.sop_instance_uid)
            .join(PerformedStepStudy, PerformedStepStudy.performed_step_id == PerformedStep.id)
            .where(PerformedStepStudy.study_instance_uid == study_instance_uid)
            .distinct()
        ).all()
    if not rows:
        return None
    series: dict[str, list[Document]] = defaultdict(list)
    for series_uid, sop_class, uid in rows:
        series[series_uid].append(
            document(
                ReferencedSOPClassUID=sop_class,
                ReferencedSOPInstanceUID=uid,
                InstanceAvailability="ONLINE",
                RetrieveAETitle=dimse.settings.ae_title,
            )
        )
    performed = [
        document(ReferencedSOPClassUID=MPPS, ReferencedSOPInstanceUID=uid, PerformedWorkitemCodeSequence=[])
        for uid in steps
    ]
    return document(
        ReferencedPerformedProcedureStepSequence=performed,
        StudyInstanceUID=study_instance_uid,
        ReferencedSeriesSequence=[
            document(SeriesInstanceUID=uid, ReferencedSOPSequence=references)
            for uid, references in series.items()
        ],
    )
