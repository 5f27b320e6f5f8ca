"""Patient/$ihe-pix: what else is this patient called (IHE PIXm, ITI-83)."""

import json
from typing import Any

from flask import Response, request

from access.bearer import current_caller
from access.caller import Door
from fhir_server.negotiate import document_answer, fhir_base, request_document, require_json
from fhir_server.outcomes import JSON, outcome
from kernel.errors import CloudfilmError, Kind
from kernel.http import room
from mpi.matching import UnknownDomain, cross_reference
from mpi.room import Mpi


class InvalidSource(CloudfilmError):
    """No sourceIdentifier, or one that is not `system|value`."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("Give one sourceIdentifier as system|value.")


def cross_reference_patient() -> Response:
    """The identifiers and Patients of the same person in other domains (ITI TF-2: 3.83.4.2)."""
    require_json()
    caller = current_caller(Door.FHIR)
    source, targets = _from_body() if request.method == "POST" else _from_url()
    system, bar, value = source.partition("|")
    if not bar or not system or not value:
        raise InvalidSource
    try:
        found = cross_reference(room(Mpi), caller, system, value, targets)
    except UnknownDomain as refused:  # 3.83.4.2.2: 400 for the source's, 403 for a target's
        body = outcome("error", "code-invalid", str(refused))
        return Response(json.dumps(body), 403 if refused.is_target else 400, mimetype=JSON)
    parameters: list[dict[str, Any]] = []
    for each in found:
        identifier = {"system": each.system, "value": each.identifier}
        reference = {"reference": f"{fhir_base()}/Patient/{each.patient_id}"}
        parameters.append({"name": "targetIdentifier", "valueIdentifier": identifier})
        parameters.append({"name": "targetId", "valueReference": reference})
    answer = {"resourceType": "Parameters", **({"parameter": parameters} if parameters else {})}
    return document_answer(answer)


def _from_url() -> tuple[str, tuple[str, ...]]:
    sources = request.args.getlist("sourceIdentifier")
    if len(sources) != 1:
        raise InvalidSource
    return sources[0], tuple(request.args.getlist("targetSystem"))


def _from_body() -> tuple[str, tuple[str, ...]]:
    given = request_document().get("parameter", [])
    sources, targets = [], []
    for each in given if isinstance(given, list) else []:
        if each.get("name") == "sourceIdentifier":
            identifier = each.get("valueIdentifier", {})
            sources.append(each.get("valueString") or f"{identifier.get('system')}|{identifier.get('value')}")
        elif each.get("name") == "targetSystem":
            targets.append(str(each.get("valueUri") or each.get("valueString")))
    if len(sources) != 1:
        raise InvalidSource
    return str(sources[0]), tuple(targets)
