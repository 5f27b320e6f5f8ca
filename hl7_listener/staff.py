"""Practitioner and Organization: the people and houses that a message names, as documents of their own.

One that has a number or a name of its own is kept once for each institution, and references lead to it; so
reports are found by who wrote them. HL7 v2-to-FHIR guide: XCN[Practitioner], XON[Organization].
"""

from typing import TYPE_CHECKING, Any

from kernel.clock import new_id
from records.identifiers import find_by_identifier, present_document
from records.repository import write

if TYPE_CHECKING:
    from hl7_listener.room import Work

NAMED = ("Practitioner", "Organization")


def with_documents(work: "Work", value: Any) -> Any:
    """The same elements, in which references by identifier lead to documents, made if they are new."""
    if isinstance(value, list):
        return [with_documents(work, each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") in NAMED and isinstance(value.get("identifier"), dict):
        logical_id = keep(work, value["type"], value["identifier"], value.get("display", ""))
        return {"reference": f"{value['type']}/{logical_id}", **value}
    return {key: with_documents(work, each) for key, each in value.items()}


def keep(work: "Work", resource_type: str, identifier: dict[str, str], name: str) -> str:
    """The logical id of the document with this identifier; its name is what was said last."""
    system, number = identifier.get("system", ""), identifier["value"]
    known_id = find_by_identifier(work.session, resource_type, system, number, work.institution)
    names: Any = [{"text": name}] if resource_type == "Practitioner" else name
    if known_id is not None:
        known = present_document(work.session, resource_type, known_id) or {}
        if not name or known.get("name") == names:
            return known_id
    document = {
        "resourceType": resource_type,
        "active": True,
        "identifier": [identifier],
        **({"name": names} if name else {}),
    }
    logical_id = known_id or new_id()
    write(
        work.hl7.records, work.session, work.caller, document,
        logical_id=logical_id, institution=work.institution,
    )  # fmt: skip
    return logical_id
