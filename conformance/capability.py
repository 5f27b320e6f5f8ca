"""The CapabilityStatement, made from the tables that the code runs on (R4 CapabilityStatement)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from conformance.library import shipped_document
from conformance.search_parameters import parameter_url
from kernel.errors import CloudfilmError
from records.documents import instant
from records.parameters import is_standard, parameters_of, resource_types
from records.query import check_name
from records.repository import DRAWN_ONLY
from records.subscriptions import TOPICS

READ = ("read", "vread", "history-instance", "history-type", "search-type")
WRITE = ("create", "update", "patch", "delete")
SYSTEM = ("transaction", "batch", "search-system", "history-system")
SECURITY = "http://terminology.hl7.org/CodeSystem/restful-security-service"
FORMATS = ("application/fhir+json", "application/fhir+xml", "json", "xml")
PATCH_FORMATS = ("application/json-patch+json", "application/fhir+json")
COMPARTMENTS = ("patient", "encounter", "practitioner", "device", "relatedPerson")
TOPICS_EXTENSION = (
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
    "capabilitystatement-subscriptiontopic-canonical"
)

GUIDES = (  # what is followed of others' guides; docs/fhir-operations.md says how far
    "http://hl7.org/fhir/uv/bulkdata",
    "http://hl7.org/fhir/uv/subscriptions-backport",
    "https://profiles.ihe.net/ITI/PIXm",
    "https://profiles.ihe.net/ITI/PDQm",
    "https://profiles.ihe.net/ITI/MHD",
    "https://profiles.ihe.net/ITI/mCSD",
    "https://profiles.ihe.net/ITI/BALP",
)
ACTORS = (  # CapabilityStatements of actors that this server plays
    "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data",
    "https://profiles.ihe.net/ITI/PIXm/CapabilityStatement/IHE.PIXm.Manager",
    "https://profiles.ihe.net/ITI/PDQm/CapabilityStatement/IHE.PDQm.Supplier",
    "https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentRecipient",
    "https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentResponder",
)
PROFILES = {  # profiles of drawn documents
    "AuditEvent": [f"https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.{name}"
                   for name in ("Create", "Read", "Update", "Delete", "Query")],
}  # fmt: skip
DEFINED_ELSEWHERE = {  # operations that R4 itself does not define
    "ihe-pix": "https://profiles.ihe.net/ITI/PIXm/OperationDefinition/IHE.PIXm.pix",
    "docref": "http://hl7.org/fhir/us/core/OperationDefinition/docref",
    "export": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export",
    "patient-export": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/patient-export",
    "group-export": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/group-export",
    "status": "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-status",
    "events": "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-events",
}

Operations = Mapping[
    str, Iterable[str]
]  # names by resource type; "" for the system, "Resource" for all types


def capability_statement(
    base: str,
    version: str,
    at: datetime,
    projected: frozenset[str],
    oauth: Mapping[str, str] | None = None,
    operations: Operations | None = None,
    *,
    enforced: bool = False,
) -> dict[str, Any]:
    """What this server can do.

    base: the URL of the FHIR endpoint. projected: types of which documents are drawn from elsewhere too.
    oauth: endpoints for clients that know only the old extension (`authorize`, `token`, ...).
    operations: by the types on which routes offer them. enforced: references have to lead somewhere.
    """
    offered = operations or {}
    return {
        "resourceType": "CapabilityStatement",
        "id": "cloudfilm",
        "url": f"{base}/metadata",
        "version": version,
        "name": "CloudfilmCapabilityStatement",
        "status": "active",
        "date": instant(at),
        "kind": "instance",
        "instantiates": list(ACTORS),
        "software": {"name": "cloudfilm", "version": version},
        "implementation": {"description": "cloudfilm imaging hub", "url": base},
        "fhirVersion": "4.0.1",
        "format": list(FORMATS),
        "patchFormat": list(PATCH_FORMATS),
        "implementationGuide": list(GUIDES),
        "rest": [
            {
                "mode": "server",
                "security": _security(oauth or {}),
                "resource": [_resource(base, name, offered, enforced) for name in sorted(resource_types())],
                "interaction": [{"code": code} for code in SYSTEM],
                "searchParam": [
                    {"name": name, "type": kind, "definition": f"{BASE_PARAMETER}{name.removeprefix('_')}"}
                    for name, kind in (("_id", "token"), ("_lastUpdated", "date"), ("_tag", "token"))
                ],
                "operation": _operations(base, "", offered.get("", ())),
                "compartment": [f"http://hl7.org/fhir/CompartmentDefinition/{name}" for name in COMPARTMENTS],
            }
        ],
    }


BASE_PARAMETER = "http://hl7.org/fhir/SearchParameter/Resource-"


def _security(oauth: Mapping[str, str]) -> dict[str, Any]:
    security: dict[str, Any] = {
        "cors": True,
        "service": [{"coding": [{"system": SECURITY, "code": "SMART-on-FHIR"}]}],
    }
    if oauth:
        security["extension"] = [
            {
                "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                "extension": [{"url": name, "valueUri": uri} for name, uri in oauth.items()],
            }
        ]
    return security


def _resource(base: str, name: str, offered: Operations, enforced: bool) -> dict[str, Any]:
    """One type: what may be done with it, and by which parameters it is found."""
    is_drawn = name in DRAWN_ONLY
    found = [each for each in parameters_of(name).values() if _is_searched(name, each.code)]
    references = [f"{name}:{each.code}" for each in found if each.type == "reference"]
    described: dict[str, Any] = {
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        "interaction": [{"code": code} for code in ((*READ,) if is_drawn else (*READ, *WRITE))],
        "versioning": "versioned" if is_drawn else "versioned-update",
        "readHistory": True,
        "updateCreate": not is_drawn,
        "conditionalCreate": not is_drawn,
        "conditionalRead": "full-support",
        "conditionalUpdate": not is_drawn,
        "conditionalDelete": "not-supported" if is_drawn else "multiple",
        "referencePolicy": ["literal", "logical", "local", *(["enforced"] if enforced else [])],
    }
    if name in PROFILES:
        described["supportedProfile"] = PROFILES[name]
    if references:
        described["searchInclude"] = ["*", *references]
    described["searchParam"] = sorted(
        ({"name": each.code, "type": each.type} | _defined(name, each.code) for each in found),
        key=lambda parameter: str(parameter["name"]),
    )
    operations = _operations(base, name, [*offered.get(name, ()), *offered.get("Resource", ())])
    if operations:
        described["operation"] = operations
    if name == "Subscription":
        described["extension"] = [{"url": TOPICS_EXTENSION, "valueCanonical": url} for url in TOPICS]
    return described


def _defined(name: str, code: str) -> dict[str, str]:
    """Where the standard defines a parameter; one of the site's own has its definition in a document."""
    return {"definition": parameter_url(name, code)} if is_standard(name, code) else {}


def _is_searched(name: str, code: str) -> bool:
    """Whether search itself takes the parameter; `_filter` and the like are no parameters of one type."""
    if code in ("_filter", "_query"):
        return False
    try:
        check_name(name, code)
    except CloudfilmError:
        return False
    return True


def _operations(base: str, resource_type: str, names: Iterable[str]) -> list[dict[str, str]]:
    return [
        {"name": name, "definition": operation_url(base, resource_type, name)} for name in sorted(set(names))
    ]


def operation_url(base: str, resource_type: str, name: str) -> str:
    """The canonical URL of an operation: R4's own, another guide's, else one that this server serves."""
    for owner in (resource_type, "Resource", "ConceptMap"):
        found = shipped_document("OperationDefinition", f"{owner}-{name}") if owner else None
        if found is not None:
            return str(found["url"])
    qualified = f"{resource_type.lower()}-{name}" if resource_type else name
    for key in (qualified, name):
        if key in DEFINED_ELSEWHERE:
            return DEFINED_ELSEWHERE[key]
    return f"{base}/OperationDefinition/{resource_type or 'system'}-{name}"


def operation_definition(base: str, offered: Operations, logical_id: str) -> dict[str, Any] | None:
    """The OperationDefinition of an operation that is this server's own, by its id (`Type-name`)."""
    owner, _, name = logical_id.partition("-")
    resource_type = "" if owner == "system" else owner
    if name not in set(offered.get(resource_type, ())):
        return None
    if operation_url(base, resource_type, name) != f"{base}/OperationDefinition/{logical_id}":
        return None
    return {
        "resourceType": "OperationDefinition",
        "id": logical_id,
        "url": f"{base}/OperationDefinition/{logical_id}",
        "name": "".join(part.title() for part in name.split("-")),
        "status": "active",
        "kind": "operation",
        "code": name,
        **({"resource": [resource_type]} if resource_type else {}),
        "system": not resource_type,
        "type": bool(resource_type),
        "instance": False,
    }
