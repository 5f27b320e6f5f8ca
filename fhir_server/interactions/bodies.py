"""The document in a request's body, and that it is what the URL says."""

from typing import Any

from kernel.errors import CloudfilmError, Kind
from records.documents import parse_document


class BodyDisagrees(CloudfilmError):
    """The body's type or id is not that of the URL (R4 3.1.0.4)."""

    kind = Kind.INVALID

    def __init__(self, what: str) -> None:
        super().__init__(f"The {what} of the body is not that of the URL.")


def document_of_type(body: bytes, resource_type: str) -> dict[str, Any]:
    """Read the body. Raises InvalidDocument, or BodyDisagrees for another type."""
    document = parse_document(body)
    if document["resourceType"] != resource_type:
        raise BodyDisagrees("resourceType")
    return document
