"""Every table of every room, so that one metadata knows them all: for migrations and for tests."""

import access.grant_model
import access.model
import archive.indexed_values
import archive.model
import archive.non_patient_model
import archive.reconcile_model
import archive.removal_model
import archive.renditions_model
import archive.scrub
import archive.workitem_model
import cloudfilm.backup_model
import dimse.model
import edge.model
import hl7_listener.continuation
import hl7_listener.model
import hl7_listener.sequence
import kernel.changes
import kernel.jobs
import kernel.name_veil
import kernel.resealing
import messaging.model
import mpi.model
import records.accession_numbers
import records.bulk_model
import records.model
import records.subscription_model
import terminology.model

MODULES = (
    access.grant_model,
    access.model,
    archive.indexed_values,
    archive.model,
    archive.non_patient_model,
    archive.removal_model,
    archive.renditions_model,
    dimse.model,
    edge.model,
    archive.reconcile_model,
    archive.workitem_model,
    archive.scrub,
    cloudfilm.backup_model,
    hl7_listener.continuation,
    hl7_listener.model,
    hl7_listener.sequence,
    kernel.changes,
    kernel.jobs,
    kernel.name_veil,
    kernel.resealing,
    messaging.model,
    mpi.model,
    records.accession_numbers,
    records.bulk_model,
    records.model,
    records.subscription_model,
    terminology.model,
)
