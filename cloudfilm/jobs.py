"""Every job, on one screen, and how a job finds the bundle that its first parameter wants."""

import inspect
import typing
from collections.abc import Mapping
from typing import Any

import dimse.availability
import dimse.commitment
import dimse.ups
from access.mass_browsing import watch_browsing
from access.phone_codes import sweep_openings
from access.rates import sweep_counters
from access.resealing import reseal_rows
from access.row_care import make_codes, watch_rows
from access.trail import seal_audit, send_audit
from archive.copies import copy_non_patient, copy_study
from archive.non_patient import purge_non_patient
from archive.reindex import reindex_studies
from archive.removal import purge_removed
from archive.renditions import make_renditions
from archive.rest import rest_study
from archive.rewrap import rewrap_seals
from archive.scrub import scrub_share
from archive.space import watch_space
from archive.storage_policy import apply_storage_policy, move_study
from archive.sweep import sweep_strays
from archive.workitems import forget_workitems
from cloudfilm.backup import back_up_when_due
from cloudfilm.rooms import Rooms
from cloudfilm.site_resources import publish_site
from dimse.forwarding import forward, forward_waiting
from edge.pull import go_on
from fhir_server.asynchronous import run_request
from fhir_server.bulk import forget_bulk_data, run_bulk_export, run_bulk_import
from fhir_server.notifications import activate_subscription, forget_events, notify_subscriber
from hl7_listener.outbound import deliver
from kernel.jobs import Job, declared
from messaging.send import deliver_message
from records.audit_events import hide_agents, index_audit
from records.custom_parameters import drop_rows, index_documents
from records.report_documents import index_report_documents
from records.sealing import seal_documents
from records.share_consents import index_shares

FUNCTIONS = (
    rest_study,
    make_renditions,
    purge_removed,
    purge_non_patient,
    reindex_studies,
    sweep_strays,
    deliver,
    forward,
    forward_waiting,
    go_on,
    reseal_rows,
    make_codes,
    watch_rows,
    seal_audit,
    send_audit,
    watch_browsing,
    forget_workitems,
    index_documents,
    drop_rows,
    index_audit,
    hide_agents,
    index_shares,
    index_report_documents,
    seal_documents,
    publish_site,
    copy_study,
    copy_non_patient,
    scrub_share,
    watch_space,
    apply_storage_policy,
    move_study,
    rewrap_seals,
    back_up_when_due,
    deliver_message,
    sweep_counters,
    sweep_openings,
    dimse.commitment.deliver_result,
    dimse.availability.notify,
    dimse.ups.report_event,
    activate_subscription,
    notify_subscriber,
    forget_events,
    run_bulk_export,
    run_bulk_import,
    run_request,
    forget_bulk_data,
)

JOBS: Mapping[str, Job] = {declared(function).name: declared(function) for function in FUNCTIONS}


def bundle_for(rooms: Rooms, job: Job) -> Any:
    """The bundle that a job's first parameter is annotated with."""
    first = next(iter(inspect.signature(job.function).parameters))
    return rooms.by_kind()[typing.get_type_hints(job.function)[first]]
