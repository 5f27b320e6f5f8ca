"""FHIR history of one document (R4 3.1.0.9), the newest version first."""

from flask import Response

from access.bearer import current_caller
from access.caller import Door
from fhir_server.bundles import Entry, bundle_answer
from fhir_server.negotiate import fhir_base, require_json
from kernel.http import room
from records.documents import instant
from records.repository import history
from records.room import Records

STATUS = {"POST": "201", "PUT": "200", "PATCH": "200", "DELETE": "204"}


def history_of_resource(resource_type: str, logical_id: str) -> Response:
    """Every version, a deletion without its document."""
    require_json()
    versions = history(room(Records), current_caller(Door.FHIR), resource_type, logical_id)
    url = f"{fhir_base()}/{resource_type}/{logical_id}"
    entries = [
        Entry(
            url,
            stored.body,
            request={
                "method": method,
                "url": resource_type if method == "POST" else f"{resource_type}/{logical_id}",
            },
            response={
                "status": STATUS[method],
                "etag": f'W/"{stored.version}"',
                "lastModified": instant(stored.updated_at),
            },
        )
        for method, stored in versions
    ]
    return bundle_answer("history", entries, [("self", f"{url}/_history")], total=len(entries))
