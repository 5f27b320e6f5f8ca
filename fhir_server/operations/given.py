"""What an operation is given: a Parameters resource, a resource of its own, or the query (R4 3.2.0.1)."""

from typing import Any

from flask import request

from fhir_server.negotiate import request_document, require_json
from kernel.errors import CloudfilmError, Kind
from records.documents import plain


class InvalidParameter(CloudfilmError):
    """A parameter that is missing, or not of its type."""

    kind = Kind.INVALID

    def __init__(self, name: str, form: str) -> None:
        super().__init__(f"The parameter {name!r} has to be {form}.")


class Given:
    """The parameters of one call, by name."""

    def __init__(
        self, values: dict[str, list[dict[str, Any]]], document: dict[str, Any] | None = None
    ) -> None:
        self._values = values
        self.document = document  # the body as it came; None for a call by its URL

    def _of(self, name: str) -> list[dict[str, Any]]:
        return self._values.get(name, [])

    def texts(self, name: str) -> tuple[str, ...]:
        """Every value of a parameter, as text."""
        found = []
        for each in self._of(name):
            for key, value in each.items():
                if key.startswith("value") and not isinstance(value, dict | list):
                    found.append(str(value).lower() if isinstance(value, bool) else str(value))
        return tuple(found)

    def text(self, name: str, *others: str) -> str:
        """The first value of a parameter, or of another name for it; empty when there is none."""
        return next((value for each in (name, *others) for value in self.texts(each)), "")

    def boolean(self, name: str, default: bool = False) -> bool:
        """A true or a false. Raises InvalidParameter."""
        text = self.text(name)
        if text not in ("", "true", "false"):
            raise InvalidParameter(name, "true or false")
        return text == "true" if text else default

    def integer(self, name: str) -> int | None:
        """A whole number, or None. Raises InvalidParameter."""
        text = self.text(name)
        if not text:
            return None
        digits = text.removeprefix("-")
        if not digits.isdecimal() or len(digits) > 9:
            raise InvalidParameter(name, "a whole number")
        return int(text)

    def structures(self, name: str, type_: str) -> list[dict[str, Any]]:
        """Every value of a complex type. Raises InvalidParameter."""
        found = [each.get(f"value{type_}") for each in self._of(name)]
        if any(value is not None and not isinstance(value, dict) for value in found):
            raise InvalidParameter(name, f"a {type_}")
        return [value for value in found if isinstance(value, dict)]

    def resources(self, name: str) -> list[dict[str, Any]]:
        """Every resource given under a name."""
        return [each["resource"] for each in self._of(name) if isinstance(each.get("resource"), dict)]

    def resource(self, name: str, resource_type: str) -> dict[str, Any] | None:
        """The resource given under a name, or as the body itself. Raises InvalidParameter."""
        found = self.resources(name)
        if not found and self.document and self.document.get("resourceType") == resource_type:
            return self.document
        if found and found[0].get("resourceType") != resource_type:
            raise InvalidParameter(name, f"a {resource_type}")
        return found[0] if found else None

    def with_resource(self, name: str, resource: dict[str, Any]) -> "Given":
        """The same with one more resource."""
        more = {**self._values, name: [*self._of(name), {"resource": resource}]}
        return Given(more, self.document)

    def parts(self, name: str) -> list["Given"]:
        """The parts of every occurrence of a parameter."""
        return [Given(_by_name(each.get("part"))) for each in self._of(name)]

    def has(self, name: str) -> bool:
        """Whether a parameter is there at all."""
        return name in self._values


def given(*, keep_numbers: bool = False) -> Given:
    """What this request gives; a POST may give parameters in its URL as well. Raises InvalidDocument.

    keep_numbers: decimals stay as they were written.
    """
    require_json()
    values: dict[str, list[dict[str, Any]]] = {}
    for name, value in request.args.items(multi=True):
        values.setdefault(name, []).append({"valueString": value})
    if request.method != "POST" or not request.content_length:
        return Given(values)
    if request.mimetype == "application/x-www-form-urlencoded":
        for name, value in request.form.items(multi=True):
            values.setdefault(name, []).append({"valueString": value})
        return Given(values)
    document = request_document()
    document = document if keep_numbers else plain(document)
    if document["resourceType"] == "Parameters":
        for name, found in _by_name(document.get("parameter")).items():
            values.setdefault(name, []).extend(found)
    return Given(values, document)


def _by_name(given: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for each in given if isinstance(given, list) else ():
        if isinstance(each, dict):
            found.setdefault(str(each.get("name", "")), []).append(each)
    return found
