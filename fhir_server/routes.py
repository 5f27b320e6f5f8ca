"""Every URL of the FHIR door on one screen (R4 3.1.0)."""

from flask import Blueprint

from fhir_server.interactions.create import create_resource
from fhir_server.interactions.delete import delete_resource
from fhir_server.interactions.history import history_of_resource
from fhir_server.interactions.read import read_resource, vread_resource
from fhir_server.interactions.search import search_type
from fhir_server.interactions.update import update_resource
from fhir_server.metadata import metadata
from fhir_server.operations.ihe_pix import cross_reference_patient
from fhir_server.operations.match import match_patient
from fhir_server.outcomes import refuse
from kernel.errors import CloudfilmError

blp = Blueprint("fhir", __name__)
blp.register_error_handler(CloudfilmError, refuse)

TYPE = "/<resource_type>"
INSTANCE = TYPE + "/<logical_id>"

INTERACTIONS = (  # R4 3.1.0
    ("GET", "/metadata", metadata),
    ("GET", TYPE, search_type),
    ("POST", TYPE + "/_search", search_type),
    ("POST", TYPE, create_resource),
    ("GET", INSTANCE, read_resource),
    ("PUT", INSTANCE, update_resource),
    ("DELETE", INSTANCE, delete_resource),
    ("GET", INSTANCE + "/_history", history_of_resource),
    ("GET", INSTANCE + "/_history/<version>", vread_resource),
)

OPERATIONS = (  # R4 3.2.0: on the system, on a type (TYPE for every one), or on an instance
    ("POST", "/Patient/$match", match_patient),
    ("GET", "/Patient/$ihe-pix", cross_reference_patient),
    ("POST", "/Patient/$ihe-pix", cross_reference_patient),
)

for method, path, view in (*INTERACTIONS, *OPERATIONS):
    blp.add_url_rule(path, f"{method}-{view.__name__}", view, methods=[method])
