"""The CapabilityStatement, made from the tables that the code runs on (R4 CapabilityStatement)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from records.documents import instant
from records.parameters import parameters_of, resource_types

READ_ONLY = ("read", "vread", "history-instance", "search-type")
ALL = (*READ_ONLY, "create", "update", "delete")
SECURITY = "http://terminology.hl7.org/CodeSystem/restful-security-service"


def capability_statement(
    base: str, version: str, at: datetime, projected: frozenset[str], oauth: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What this server can do.

    base: the URL of the FHIR endpoint. projected: types that are drawn from elsewhere and not written here.
    oauth: endpoints for clients that know only the old extension (`authorize`, `token`, ...).
    """
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(at),
        "kind": "instance",
        "software": {"name": "cloudfilm", "version": version},
        "implementation": {"description": "cloudfilm imaging hub", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "security": _security(oauth or {}),
                "resource": [_resource(name, name in projected) for name in sorted(resource_types())],
                "searchParam": [
                    {"name": "_id", "type": "token"},
                    {"name": "_lastUpdated", "type": "date"},
                ],
            }
        ],
    }


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


def _resource(name: str, is_projected: bool) -> dict[str, Any]:
    """One type: what may be done with it, and by which parameters it is found."""
    parameters = [
        {"name": parameter.code, "type": parameter.type}
        for parameter in parameters_of(name).values()
        if parameter.path is not None
    ]
    references = [
        f"{name}:{parameter.code}"
        for parameter in parameters_of(name).values()
        if parameter.type == "reference" and parameter.path is not None
    ]
    return {
        "type": name,
        "interaction": [{"code": code} for code in (READ_ONLY if is_projected else ALL)],
        "versioning": "versioned-update",
        "readHistory": not is_projected,
        "updateCreate": not is_projected,
        "conditionalRead": "full-support",
        **({"searchInclude": references} if references else {}),
        "searchParam": sorted(parameters, key=lambda parameter: parameter["name"]),
    }
