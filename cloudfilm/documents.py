"""Every kind of site document, each beside the code that goes by it; the console and `cloudfilm site` edit
them."""

import access.federation
import access.mass_browsing
import access.rules
import access.share_policy
import archive.renditions
import archive.retention
import archive.scheduling
import archive.storage_policy
import dimse.availability
import dimse.forwarding
import hl7_listener.mapping
import messaging.gateways
import records.accession_numbers
import records.validate
from access.document_kind import DocumentKind

DOCUMENTS: tuple[DocumentKind, ...] = (
    access.rules.RULES,
    access.federation.FEDERATION,
    archive.scheduling.SCHEDULING,
    dimse.availability.AVAILABILITY,
    archive.storage_policy.STORAGE_POLICY,
    archive.retention.RETENTION,
    records.accession_numbers.ACCESSION_NUMBERS,
    hl7_listener.mapping.MAPPING,
    records.validate.VALIDATION,
    archive.renditions.RENDITIONS,
    access.share_policy.SHARING,
    access.mass_browsing.MASS_BROWSING,
    messaging.gateways.GATEWAYS,
    dimse.forwarding.FORWARDING,
)
