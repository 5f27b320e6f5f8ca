"""One entry of a batch or transaction as a value: what is asked, of what, with which conditions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from fhir_server.negotiate import fhir_base
from kernel.errors import CloudfilmError, Kind
from records.conditional import criteria_of
from records.parameters import resource_types

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


class InvalidBundle(CloudfilmError):
    """A Bundle that cannot be carried out."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"The Bundle cannot be carried out: {reason}.")


class EntryRefused(CloudfilmError):
    """A refusal of one entry, for which the whole transaction is refused."""

    def __init__(self, at: int, refusal: CloudfilmError) -> None:
        super().__init__(f"Bundle.entry[{at}]: {refusal}")
        self.kind = refusal.kind  # type: ignore[misc]
        self.expression = f"Bundle.entry[{at}]"


@dataclass(slots=True)
class BundleEntry:
    """One interaction as it is asked. `fault` says why it is none."""

    at: int
    method: str = ""
    url: str = ""  # without the base, as Patient/1 or Patient?identifier=x
    full_url: str = ""
    document: dict[str, Any] | None = None
    conditions: dict[str, str] = field(default_factory=dict)  # of entry.request, by name
    fault: CloudfilmError | None = None

    @property
    def path(self) -> Sequence[str]:
        """The parts of the path."""
        return [unquote(part) for part in self.url.partition("?")[0].strip("/").split("/")]

    @property
    def query(self) -> str:
        """What follows the question mark."""
        return self.url.partition("?")[2]

    @property
    def resource_type(self) -> str:
        """The type at the head of the path."""
        return self.path[0]

    @property
    def logical_id(self) -> str:
        """The id in the path; empty for none."""
        return self.path[1] if len(self.path) > 1 else ""

    @property
    def criteria(self) -> list[tuple[str, str]]:
        """The parameters of the query."""
        return criteria_of(self.query)


def parse_entries(bundle: dict[str, Any], *, lenient: bool) -> list[BundleEntry]:
    """The entries in their order. Raises InvalidBundle, or keeps it as the entry's fault when lenient."""
    given = bundle.get("entry") or []
    if not isinstance(given, list):
        raise InvalidBundle("entry is a list")
    found = []
    for at, each in enumerate(given):
        entry = BundleEntry(at)
        try:
            _read(entry, each)
        except CloudfilmError as refusal:
            if not lenient:
                raise EntryRefused(at, refusal) from None
            entry.fault = refusal
        found.append(entry)
    return found


def _read(entry: BundleEntry, given: Any) -> None:
    asked = given.get("request") if isinstance(given, dict) else None
    if not isinstance(asked, dict):
        raise InvalidBundle("an entry has a request")
    entry.method, url = str(asked.get("method", "")), asked.get("url")
    if entry.method not in METHODS:
        raise InvalidBundle("request.method is GET, HEAD, POST, PUT, PATCH or DELETE")
    if not isinstance(url, str):
        raise InvalidBundle("an entry has a request.url")
    entry.url = url.removeprefix(f"{fhir_base()}/").lstrip("/")
    if "://" in entry.url.partition("?")[0] or not re.fullmatch(r"[\x20-\x7e\u0080-\U0010ffff]{0,8192}", url):
        raise InvalidBundle("request.url is relative to this server")
    full_url = given.get("fullUrl")
    entry.full_url = full_url if isinstance(full_url, str) else ""
    for name in ("ifMatch", "ifNoneMatch", "ifNoneExist", "ifModifiedSince"):
        if isinstance(asked.get(name), str):
            entry.conditions[name] = asked[name]
    document = given.get("resource")
    if document is not None and not (
        isinstance(document, dict) and isinstance(document.get("resourceType"), str)
    ):
        raise InvalidBundle("the resource of an entry has a resourceType")
    entry.document = document
    if entry.method in ("POST", "PUT", "PATCH") and document is None and not _is_operation(entry):
        raise InvalidBundle(f"a {entry.method} has a resource")


def _is_operation(entry: BundleEntry) -> bool:
    return any(part.startswith("$") for part in entry.path) or entry.path[-1] == "_search"


def require_known_type(entry: BundleEntry) -> None:
    """Raise InvalidBundle for a URL that does not begin with a resource type."""
    if entry.resource_type not in resource_types():
        raise InvalidBundle(f"{entry.resource_type[:40]!r} is no resource type")
