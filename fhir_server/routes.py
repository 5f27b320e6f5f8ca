"""Every URL of the FHIR door on one screen (R4 3.1.0)."""

from flask import Blueprint

from fhir_server.asynchronous import respond_later
from fhir_server.interactions.bundle import process_bundle
from fhir_server.interactions.create import create_resource
from fhir_server.interactions.delete import delete_matching, delete_resource
from fhir_server.interactions.history import history_of_everything, history_of_resource, history_of_type
from fhir_server.interactions.patch import patch_matching, patch_resource
from fhir_server.interactions.read import read_resource, vread_resource
from fhir_server.interactions.search import search_compartment, search_everything, search_type
from fhir_server.interactions.update import update_matching, update_resource
from fhir_server.metadata import metadata
from fhir_server.negotiate import compressed
from fhir_server.operations.bulk import (
    bulk_file,
    bulk_status,
    cancel_bulk,
    export_everything,
    export_group,
    export_patients,
    import_data,
)
from fhir_server.operations.docref import find_documents
from fhir_server.operations.document import compose_document
from fhir_server.operations.everything import everything_of, everything_of_patients
from fhir_server.operations.graphql import query_resource, query_server
from fhir_server.operations.ihe_pix import cross_reference_patient
from fhir_server.operations.lastn import last_observations
from fhir_server.operations.match import match_patient
from fhir_server.operations.meta import add_meta, delete_meta, meta_in_use, meta_of
from fhir_server.operations.process_message import process_message
from fhir_server.operations.share import share_images
from fhir_server.operations.subscription import subscription_events, subscription_status
from fhir_server.operations.terminology import (
    expand_set,
    find_codes,
    keep_closure,
    lookup_code,
    subsumes_codes,
    translate_code,
    validate_code_in_set,
    validate_code_in_system,
)
from fhir_server.operations.validate import validate_resource
from fhir_server.outcomes import refuse
from kernel.errors import CloudfilmError

blp = Blueprint("fhir", __name__)
blp.register_error_handler(CloudfilmError, refuse)
blp.before_request(respond_later)
blp.after_request(compressed)

TYPE = "/<resource_type>"
INSTANCE = TYPE + "/<logical_id>"
COMPARTMENT = "/<compartment>/<logical_id>/<resource_type>"

INTERACTIONS = (  # R4 3.1.0
    ("GET", "/metadata", metadata),
    ("GET", "/", search_everything),
    ("POST", "/_search", search_everything),
    ("POST", "/", process_bundle),
    ("GET", "/_history", history_of_everything),
    ("GET", TYPE, search_type),
    ("GET", TYPE + "/_search", search_type),
    ("POST", TYPE + "/_search", search_type),
    ("POST", TYPE, create_resource),
    ("PUT", TYPE, update_matching),
    ("PATCH", TYPE, patch_matching),
    ("DELETE", TYPE, delete_matching),
    ("GET", TYPE + "/_history", history_of_type),
    ("GET", INSTANCE, read_resource),
    ("PUT", INSTANCE, update_resource),
    ("PATCH", INSTANCE, patch_resource),
    ("DELETE", INSTANCE, delete_resource),
    ("GET", INSTANCE + "/_history", history_of_resource),
    ("GET", INSTANCE + "/_history/<version>", vread_resource),
    ("GET", COMPARTMENT, search_compartment),
    ("POST", COMPARTMENT + "/_search", search_compartment),
)

OPERATIONS = (  # R4 3.2.0: on the system, on a type (TYPE for every one), or on an instance
    ("POST", "/Patient/$match", match_patient),
    ("GET", "/Patient/$ihe-pix", cross_reference_patient),
    ("POST", "/Patient/$ihe-pix", cross_reference_patient),
    ("POST", "/$closure", keep_closure),
    ("POST", "/$process-message", process_message),
    ("POST", "/ImagingStudy/$share", share_images),
    ("POST", TYPE + "/$validate", validate_resource),
    ("GET", INSTANCE + "/$validate", validate_resource),
    ("POST", INSTANCE + "/$validate", validate_resource),
    ("GET", "/Patient/$everything", everything_of_patients),
    ("POST", "/Patient/$everything", everything_of_patients),
    ("GET", INSTANCE + "/$everything", everything_of),
    ("POST", INSTANCE + "/$everything", everything_of),
    ("GET", "/$meta", meta_in_use),
    ("GET", TYPE + "/$meta", meta_in_use),
    ("GET", INSTANCE + "/$meta", meta_of),
    ("GET", INSTANCE + "/_history/<version>/$meta", meta_of),
    ("POST", INSTANCE + "/$meta-add", add_meta),
    ("POST", INSTANCE + "/$meta-delete", delete_meta),
    ("GET", "/$graphql", query_server),
    ("POST", "/$graphql", query_server),
    ("GET", INSTANCE + "/$graphql", query_resource),
    ("POST", INSTANCE + "/$graphql", query_resource),
    ("GET", "/$export", export_everything),
    ("POST", "/$export", export_everything),
    ("GET", "/Patient/$export", export_patients),
    ("POST", "/Patient/$export", export_patients),
    ("GET", "/Group/<logical_id>/$export", export_group),
    ("POST", "/Group/<logical_id>/$export", export_group),
    ("POST", "/$import", import_data),
    ("GET", "/$bulk-status/<job_id>", bulk_status),
    ("DELETE", "/$bulk-status/<job_id>", cancel_bulk),
    ("GET", "/$bulk-data/<job_id>/<file_id>", bulk_file),
    ("GET", "/Subscription/<logical_id>/$status", subscription_status),
    ("POST", "/Subscription/<logical_id>/$status", subscription_status),
    ("GET", "/Subscription/<logical_id>/$events", subscription_events),
    ("POST", "/Subscription/<logical_id>/$events", subscription_events),
    ("GET", "/Composition/<logical_id>/$document", compose_document),
    ("POST", "/Composition/<logical_id>/$document", compose_document),
    ("GET", "/DocumentReference/$docref", find_documents),
    ("POST", "/DocumentReference/$docref", find_documents),
    ("GET", "/Observation/$lastn", last_observations),
    ("POST", "/Observation/$lastn", last_observations),
)

TERMINOLOGY = (  # R4 4.1: on a type, and on an instance of it; all of them read, so all may be asked by GET
    ("CodeSystem", "$lookup", lookup_code),
    ("CodeSystem", "$validate-code", validate_code_in_system),
    ("CodeSystem", "$subsumes", subsumes_codes),
    ("CodeSystem", "$find-matches", find_codes),
    ("ValueSet", "$expand", expand_set),
    ("ValueSet", "$validate-code", validate_code_in_set),
    ("ConceptMap", "$translate", translate_code),
)

for method, path, view in (*INTERACTIONS, *OPERATIONS):
    blp.add_url_rule(path, f"{method}-{path.count('/')}-{view.__name__}", view, methods=[method])

for resource_type, operation, view in TERMINOLOGY:
    for path in (f"/{resource_type}/{operation}", f"/{resource_type}/<logical_id>/{operation}"):
        blp.add_url_rule(
            path, f"{resource_type}-{view.__name__}-{path.count('/')}", view, methods=["GET", "POST"]
        )
