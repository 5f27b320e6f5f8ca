"""$meta, $meta-add, $meta-delete: tags, profiles and security labels of one resource (R4 Resource-meta).

A change of them is a new version like any other, so that history shows who labelled what and when.
"""

from typing import Any

from flask import Response

from access.bearer import current_caller
from access.caller import Door
from fhir_server.negotiate import document_answer
from fhir_server.operations.given import Given, InvalidParameter, given
from kernel.errors import CloudfilmError, Kind
from kernel.http import room
from records.documents import parse_document
from records.labels import labels_in_use
from records.repository import read, read_version, require_type, write
from records.room import Records
from terminology.answers import parameters, part

CODINGS = ("tag", "security")


class NoMeta(CloudfilmError):
    """A version that is none."""

    kind = Kind.NOT_FOUND


def meta_of(resource_type: str, logical_id: str, version: str = "") -> Response:
    """The meta of one resource, or of one version of it."""
    caller, records = current_caller(Door.FHIR), room(Records)
    given()
    if version:
        if not version.isdigit():
            raise NoMeta(f"There is no version {version[:20]!r}.")
        stored = read_version(records, caller, resource_type, logical_id, int(version))
    else:
        stored = read(records, caller, resource_type, logical_id)
    return _answer(parse_document(stored.body).get("meta") or {})


def meta_in_use(resource_type: str = "") -> Response:
    """Every profile, tag and label that resources of a type, or any resources, have."""
    caller, records = current_caller(Door.FHIR), room(Records)
    given()
    if resource_type:
        require_type(resource_type)
    return _answer(labels_in_use(records, caller, resource_type))


def add_meta(resource_type: str, logical_id: str) -> Response:
    """Add what is not there yet."""
    return _change(resource_type, logical_id, _with)


def delete_meta(resource_type: str, logical_id: str) -> Response:
    """Take away what is named; what is not there is no error."""
    return _change(resource_type, logical_id, _without)


def _change(resource_type: str, logical_id: str, change: Any) -> Response:
    caller, records = current_caller(Door.FHIR), room(Records)
    wanted = _meta(given(keep_numbers=True))
    present = read(records, caller, resource_type, logical_id)
    document = parse_document(present.body)
    meta = document.get("meta") or {}
    document["meta"] = change(meta, wanted)
    if document["meta"] == meta:
        return _answer(meta)
    with records.database.transaction() as session:  # somebody else's change in between is a conflict
        stored = write(records, session, caller, document, logical_id=logical_id, if_match=present.version)
    return _answer(parse_document(stored.body)["meta"])


def _meta(said: Given) -> dict[str, Any]:
    found = said.structures("meta", "Meta")
    if len(found) != 1:
        raise InvalidParameter("meta", "given once, as a Meta")
    for name in ("profile", *CODINGS):
        if not isinstance(found[0].get(name, []), list):
            raise InvalidParameter("meta", "a Meta with lists of profile, tag and security")
    return found[0]


def _key(name: str, value: Any) -> Any:
    """What makes two entries the same: the URL of a profile, system and code of a coding."""
    return (value.get("system"), value.get("code")) if name in CODINGS and isinstance(value, dict) else value


def _with(present: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    changed = dict(present)
    for name in ("profile", *CODINGS):
        known = [_key(name, each) for each in present.get(name, ())]
        fresh = [each for each in wanted.get(name, ()) if _key(name, each) not in known]
        if fresh:
            changed[name] = [*present.get(name, ()), *fresh]
    return changed


def _without(present: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    changed = dict(present)
    for name in ("profile", *CODINGS):
        gone = [_key(name, each) for each in wanted.get(name, ())]
        kept = [each for each in present.get(name, ()) if _key(name, each) not in gone]
        if name in changed and not kept:
            del changed[name]
        elif name in changed:
            changed[name] = kept
    return changed


def _answer(meta: dict[str, Any]) -> Response:
    return document_answer(parameters(part("return", "Meta", meta)))
