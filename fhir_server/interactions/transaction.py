"""A transaction: all of its entries, or none (R4 3.1.0.11.2)."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from flask import Response
from sqlalchemy.orm import Session

from access.caller import Caller
from fhir_server.bundles import Entry, bundle_answer
from fhir_server.interactions.batch import run_entry
from fhir_server.interactions.bodies import require_id, require_type_of
from fhir_server.interactions.bundle_entry import (
    BundleEntry,
    EntryRefused,
    InvalidBundle,
    require_known_type,
)
from fhir_server.interactions.patch import Change, fhirpath_change, json_change, patched
from fhir_server.negotiate import fhir_base, prefers, version_of
from kernel.clock import new_id
from kernel.errors import CloudfilmError
from kernel.http import room
from records.conditional import criteria_of, find_one, lock_criteria, resolve_references
from records.documents import instant, parse_json
from records.parameters import resource_types
from records.references import rewrite_references
from records.repository import ResourceNotFound, Stored, Writing, read_in, write_all
from records.room import Records

ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2}


def run_transaction(entries: Sequence[BundleEntry], caller: Caller) -> Response:
    """Carry out all entries in one transaction of the database. Raises EntryRefused for the first that
    cannot be."""
    records = room(Records)
    writes = [entry for entry in entries if entry.method in ORDER and not _is_read(entry)]
    with records.database.transaction() as session:
        answers = _write(records, session, caller, writes)
    for entry in entries:
        if entry.at not in answers:
            answers[entry.at] = run_entry(entry, caller)
    return bundle_answer("transaction-response", [answers[entry.at] for entry in entries], [])


def _is_read(entry: BundleEntry) -> bool:
    return entry.path[-1] == "_search" or any(part.startswith("$") for part in entry.path)


def _write(
    records: Records, session: Session, caller: Caller, entries: Sequence[BundleEntry]
) -> dict[int, Entry]:
    """What each entry that writes is answered."""
    lock_criteria(records, session, _criteria(entries))
    known: dict[int, Stored] = {}  # conditional creations of what is there already
    ids: dict[int, str] = {}
    for entry in entries:
        with _naming(entry):
            require_known_type(entry)
            found = _identity(records, session, caller, entry)
            if isinstance(found, Stored):
                known[entry.at] = found
            ids[entry.at] = found.logical_id if isinstance(found, Stored) else found
    names = _names(entries, ids)
    resolved: dict[str, str] = {}
    for entry in entries:
        if entry.document is not None and entry.method in ("POST", "PUT"):
            with _naming(entry):
                resolve_references(records, session, caller, entry.document, resolved)
    writings: list[Writing] = []
    for entry in sorted(entries, key=lambda each: ORDER[each.method]):
        if entry.at not in known and (entry.method != "DELETE" or ids[entry.at]):
            with _naming(entry):
                document = entry.document
                if document is not None and entry.method != "PATCH":
                    document = rewrite_references(document, names, resolved)
                writings.append(_writing(records, session, caller, entry, ids[entry.at], document))
    stored = {
        (writing.resource_type, writing.logical_id): each
        for writing, each in zip(writings, write_all(records, session, caller, writings), strict=True)
    }
    return {
        entry.at: _answer(entry, known.get(entry.at) or stored.get((entry.resource_type, ids[entry.at])))
        for entry in entries
    }


class _naming:
    """Says of which entry a refusal is."""

    def __init__(self, entry: BundleEntry) -> None:
        self._entry = entry

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: Any, refusal: BaseException | None, _trace: Any) -> None:
        if isinstance(refusal, CloudfilmError) and not isinstance(refusal, EntryRefused):
            raise EntryRefused(self._entry.at, refusal) from refusal


def _criteria(entries: Sequence[BundleEntry]) -> Iterable[str]:
    for entry in entries:
        if "ifNoneExist" in entry.conditions and entry.method == "POST":
            yield f"{entry.resource_type}?{criteria_text(entry.conditions['ifNoneExist'])}"
        elif entry.query and entry.method != "POST":
            yield f"{entry.resource_type}?{entry.query}"


def criteria_text(text: str) -> str:
    """Criteria without the type and `?` that may stand in front."""
    return text.rpartition("?")[2]


def _identity(records: Records, session: Session, caller: Caller, entry: BundleEntry) -> str | Stored:
    """The id that an entry's resource has or gets; for a conditional creation, what is there already.

    Empty for the deletion of what is not there.
    """
    type_ = entry.resource_type
    if entry.document is not None and entry.method in ("POST", "PUT"):
        require_type_of(entry.document, type_)
    if entry.method == "POST":
        if len(entry.path) > 1:
            raise InvalidBundle("a POST goes to a resource type")
        condition = entry.conditions.get("ifNoneExist")
        if condition is not None:
            found = find_one(records, session, caller, type_, criteria_of(condition))
            if found is not None:
                return read_in(records, session, caller, type_, found)
        return new_id()
    if entry.logical_id:
        if len(entry.path) > 2:
            raise InvalidBundle(f"a {entry.method} goes to a resource")
        if entry.method == "PUT" and entry.document is not None:
            require_id(entry.document, entry.logical_id)
        return entry.logical_id
    found = find_one(records, session, caller, type_, entry.criteria)
    if entry.method == "PATCH" and found is None:
        raise ResourceNotFound(type_, "what the criteria describe")
    if entry.method == "PUT" and entry.document is not None:
        wanted = entry.document.get("id")
        if wanted is not None and found is None:
            require_id(entry.document, str(wanted))
        if wanted is not None and found not in (None, wanted):
            require_id(entry.document, found or "")
        return found or (str(wanted) if wanted is not None else new_id())
    return found or ""


def _names(entries: Sequence[BundleEntry], ids: dict[int, str]) -> dict[str, str]:
    """What entries are called by others in the bundle, and by which reference they are kept."""
    names: dict[str, str] = {}
    base = fhir_base()
    for entry in entries:
        if entry.full_url and entry.method in ("POST", "PUT") and ids[entry.at]:
            if entry.full_url in names and names[entry.full_url] != f"{entry.resource_type}/{ids[entry.at]}":
                raise EntryRefused(entry.at, InvalidBundle("its fullUrl is another entry's too"))
            reference = f"{entry.resource_type}/{ids[entry.at]}"
            names[entry.full_url] = reference
            if "://" in entry.full_url:  # and as it is named relative to the same base
                relative = "/".join(entry.full_url.split("/")[-2:])
                if relative.partition("/")[0] in resource_types():
                    names.setdefault(relative, reference)
            names.setdefault(f"{base}/{reference}", reference)
    return names


def _writing(
    records: Records,
    session: Session,
    caller: Caller,
    entry: BundleEntry,
    logical_id: str,
    document: dict[str, Any] | None,
) -> Writing:
    expected = entry.conditions.get("ifMatch")
    writing = Writing(
        entry.resource_type,
        document,
        logical_id,
        version_of(expected, "ifMatch") if expected is not None else None,
        must_be_new=entry.conditions.get("ifNoneMatch", "").strip() == "*",
        method=entry.method,
    )
    if entry.method == "DELETE":
        return replace(writing, document=None)
    if entry.method == "POST" and document is not None:
        return replace(writing, document={key: value for key, value in document.items() if key != "id"},
                       id_is_ours=True)  # fmt: skip
    if entry.method == "PATCH" and document is not None:
        change = _change(document)
        changed = patched(records, session, caller, entry.resource_type, logical_id, change)
        return replace(writing, document=changed)
    return writing


def _change(document: dict[str, Any]) -> Change:
    """A patch in an entry: Parameters, or a Binary whose data is a JSON Patch."""
    if document["resourceType"] != "Binary":
        return fhirpath_change(document)
    try:
        patch = base64.b64decode(str(document.get("data", "")), validate=True)
    except ValueError:
        raise InvalidBundle("the data of a Binary with a JSON Patch is base64") from None
    return json_change(parse_json(patch))


def _answer(entry: BundleEntry, stored: Stored | None) -> Entry:
    if stored is None:
        return Entry("", response={"status": "204"})
    name = f"{stored.resource_type}/{stored.logical_id}"
    is_gone = entry.method == "DELETE"
    response: dict[str, object] = {"status": "204" if is_gone else "201" if stored.is_new else "200"}
    if not is_gone:
        response["location"] = f"{name}/_history/{stored.version}"
    response |= {"etag": f'W/"{stored.version}"', "lastModified": instant(stored.updated_at)}
    shows = prefers("return") == "representation" and not is_gone
    return Entry(f"{fhir_base()}/{name}", stored.body if shows else "", response=response)
