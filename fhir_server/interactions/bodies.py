"""The document in a request's body, and that it is what the URL says."""

import re
from typing import Any

from fhir_server.negotiate import request_document
from kernel.errors import CloudfilmError, Kind
from records.documents import InvalidDocument

LOGICAL_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


class BodyDisagrees(CloudfilmError):
    """The body's type or id is not that of the URL (R4 3.1.0.4)."""

    kind = Kind.INVALID

    def __init__(self, what: str) -> None:
        super().__init__(f"The {what} of the body is not that of the URL.")


def document_of_type(resource_type: str) -> dict[str, Any]:
    """Read the body. Raises InvalidDocument, or BodyDisagrees for another type."""
    document = request_document()
    require_type_of(document, resource_type)
    return document


def require_type_of(document: dict[str, Any], resource_type: str) -> None:
    """Raise BodyDisagrees for a document of another type."""
    if document["resourceType"] != resource_type:
        raise BodyDisagrees("resourceType")


def require_id(document: dict[str, Any], logical_id: str) -> None:
    """Raise BodyDisagrees unless the document has this id, or InvalidDocument for what can be no id."""
    if not LOGICAL_ID.fullmatch(logical_id):
        raise InvalidDocument("an id has 1 to 64 letters, digits, - and .")
    if document.get("id") != logical_id:
        raise BodyDisagrees("id")
