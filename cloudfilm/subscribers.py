"""What follows a change: every subscriber of the feed, on one screen."""

import dimse.availability
import dimse.ups
from archive.copies import follow_for_copies
from archive.imaging_study import follow_orders_of_studies, follow_studies
from archive.non_patient import STORED_CHANGE
from archive.notices import Notifying, follow_for_notices
from archive.patient_moves import follow_merges
from archive.reconcile import follow_reconciliation
from archive.renditions import follow_for_renditions
from archive.report_binding import follow_reports
from archive.shares import follow_for_shares
from archive.storage_policy import follow_arrivals
from archive.workitem_events import CHANGE
from archive.workitem_orders import follow_orders, follow_states
from cloudfilm.rooms import Rooms
from dimse.forwarding import follow_for_forwarding
from fhir_server.notifications import follow_for_subscriptions
from hl7_listener.outbound import MESSAGES, follow_for_nodes
from hl7_listener.provenance import follow_messages
from hl7_listener.share_codes import ShareCodes, follow_for_share_codes
from kernel.changes import Subscriber
from mpi.patient_documents import follow_documents, follow_patients
from records.report_documents import follow_report_documents
from records.share_consents import follow_shares
from records.words import follow_words

WRITTEN = frozenset({"resource-created", "resource-updated", "resource-deleted"})
STORING = frozenset({"instance-stored", "instance-held", STORED_CHANGE}) | WRITTEN
"""What says that somebody is storing, and waits for an answer."""


def subscribers(rooms: Rooms) -> tuple[Subscriber, ...]:
    """The subscribers with their rooms bound."""
    return (
        Subscriber(
            "patient-documents",
            frozenset({"patient-created", "patient-changed", "patient-merged"}),
            lambda session, change: follow_patients(rooms.mpi, session, change),
        ),
        Subscriber(
            "patient-records",
            frozenset({"resource-created", "resource-updated"}),
            lambda session, change: follow_documents(rooms.mpi, session, change),
        ),
        Subscriber(
            "fhir-subscriptions",
            WRITTEN,
            lambda session, change: follow_for_subscriptions(rooms.records, session, change),
        ),
        Subscriber(
            "hl7-notices",
            frozenset(MESSAGES),
            lambda session, change: follow_for_nodes(rooms.mpi, session, change),
        ),
        Subscriber(
            "share-codes",
            frozenset({"order-changed"}),
            lambda session, change: follow_for_share_codes(
                ShareCodes(rooms.access, rooms.mpi, rooms.settings.web.site), session, change
            ),
        ),
        Subscriber(
            "message-provenance",
            frozenset({"message-processed"}),
            lambda session, change: follow_messages(rooms.records, session, change),
        ),
        Subscriber(
            "patient-moves",
            frozenset({"patient-merged", "patient-unmerged"}),
            lambda session, change: follow_merges(rooms.archive, session, change),
        ),
        Subscriber(
            "reconciliation",
            frozenset({"study-created", "study-patient-changed", "order-changed", "patient-changed"}),
            lambda session, change: follow_reconciliation(rooms.archive, session, change),
        ),
        Subscriber(
            "workitems",
            WRITTEN,
            lambda session, change: follow_orders(rooms.archive, session, change),
        ),
        Subscriber(
            "forwarding",
            frozenset({"study-rested"}),
            lambda session, change: follow_for_forwarding(rooms.dimse, session, change),
        ),
        Subscriber(
            "workitem-orders",
            frozenset({CHANGE}),
            lambda session, change: follow_states(rooms.archive, session, change),
        ),
        Subscriber(
            "workitem-reports",
            frozenset({CHANGE}),
            lambda session, change: dimse.ups.follow_events(rooms.dimse, session, change),
        ),
        Subscriber(
            "availability",
            frozenset({"study-rested"}),
            lambda session, change: dimse.availability.follow_studies(rooms.dimse, session, change),
        ),
        Subscriber(
            "report-binding",
            frozenset({"report-filed", "study-created", "study-ordered", "study-patient-changed"}),
            lambda session, change: follow_reports(rooms.records, session, change),
        ),
        Subscriber(
            "words",
            WRITTEN,
            lambda session, change: follow_words(session, change),
        ),
        Subscriber(
            "report-documents",
            WRITTEN,
            lambda session, change: follow_report_documents(rooms.records, session, change),
        ),
        Subscriber(
            "orders-of-studies",
            frozenset({"resource-updated"}),
            lambda session, change: follow_orders_of_studies(rooms.records, rooms.clock, session, change),
        ),
        Subscriber(
            "share-consents",
            frozenset({"share-made", "share-changed", "share-revoked"}),
            lambda session, change: follow_shares(rooms.records, session, change),
        ),
        Subscriber(
            "renditions",
            frozenset({"study-rested"}),
            lambda session, change: follow_for_renditions(rooms.archive, session, change),
        ),
        Subscriber(
            "imaging-study-index",
            frozenset(
                {"study-created", "study-rested", "study-removed", "study-ordered", "study-patient-changed"}
            ),
            lambda session, change: follow_studies(rooms.records, rooms.clock, session, change),
        ),
        Subscriber(
            "object-copies",
            frozenset({"study-rested", "instance-held", STORED_CHANGE}),
            lambda session, change: follow_for_copies(rooms.archive, session, change),
        ),
        Subscriber("storage-tiers", frozenset({"study-rested"}), follow_arrivals),
        Subscriber(
            "shares",
            frozenset({"study-created", "report-filed", "patient-merged"}),
            lambda session, change: follow_for_shares(rooms.archive, session, change),
        ),
        Subscriber(
            "patient-notices",
            frozenset({"report-filed", "share-opened", "glass-broken"}),
            lambda session, change: follow_for_notices(
                Notifying(rooms.archive, rooms.messaging), session, change
            ),
        ),
    )
