"""How much of a document is shown, and in which form: _summary, _elements, _pretty, JSON or XML.

What is cut is tagged SUBSETTED, so that nobody takes it for the whole and writes it back.
R4 3.1.1.5.8 and 3.1.1.5.9.
"""

from functools import lru_cache
from typing import Any

from flask import request

from fhir_server.outcomes import XML
from kernel.errors import CloudfilmError, Kind
from records.definitions import definitions, forms
from records.documents import document_text, parse_document, pretty_text
from records.paths import children
from records.xml_form import to_xml

SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}
SUMMARIES = frozenset({"true", "text", "data", "count", "false"})
ALWAYS = frozenset({"resourceType", "id", "meta"})


class InvalidSummary(CloudfilmError):
    """A _summary that R4 does not know."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("Write _summary as true, text, data, count or false.")


def asked(name: str) -> str:
    """A result parameter, in the URL or in the form of a search by POST."""
    value = request.args.get(name)
    if value is None and request.mimetype == "application/x-www-form-urlencoded":
        value = request.form.get(name)
    return value or ""


def is_shaped() -> bool:
    """Whether the client wants less than the whole. Raises InvalidSummary."""
    summary = asked("_summary")
    if summary and summary not in SUMMARIES:
        raise InvalidSummary
    return bool(asked("_elements")) or summary in ("true", "text", "data")


def shaped(text: str) -> str:
    """A document with as much of it as the client asks for."""
    document = parse_document(text)
    type_, summary = str(document["resourceType"]), asked("_summary")
    wanted = {each.strip() for each in asked("_elements").split(",") if each.strip()}
    own = {each.partition(".")[2] for each in wanted if each.startswith(f"{type_}.")}
    plain = {each for each in wanted if "." not in each}
    if own or plain:
        kept = _top(document, own | plain | _mandatory(type_))
    elif wanted:
        kept = document  # elements of other types only
    elif summary == "text":
        kept = _top(document, _mandatory(type_) | {"text"})
    elif summary == "data":
        kept = {key: value for key, value in document.items() if key != "text"}
    else:
        kept = _summarized(document, type_)
    return document_text(kept if kept is document else _tagged(kept))


def _tagged(document: dict[str, Any]) -> dict[str, Any]:
    meta = dict(document.get("meta") or {})
    meta["tag"] = [*(meta.get("tag") or ()), SUBSETTED]
    return document | {"meta": meta}


@lru_cache(maxsize=256)
def _mandatory(type_: str) -> frozenset[str]:
    prefix = f"{type_}."
    return frozenset(
        path.removeprefix(prefix).removesuffix("[x]")
        for path, element in definitions()["elements"].items()
        if path.startswith(prefix) and path.count(".") == 1 and element.get("min")
    )


def _top(document: dict[str, Any], names: set[str] | frozenset[str]) -> dict[str, Any]:
    type_ = str(document["resourceType"])
    keys = {key for name in names for key, _ in children(type_, name)} | ALWAYS
    return {key: value for key, value in document.items() if key.removeprefix("_") in keys}


@lru_cache(maxsize=1)
def _summary_paths() -> frozenset[str]:
    return frozenset(forms()["summary"])


def _summarized(value: dict[str, Any], path: str) -> dict[str, Any]:
    """The elements of a summary, inside of backbone elements too; data types stay whole."""
    kept = {}
    names = {
        key: (name, child_type)
        for name in forms()["order"].get(path, ())
        if f"{path}.{name}" in _summary_paths()
        for key, child_type in children(path, name.removesuffix("[x]"))
    }
    for key, each in value.items():
        if key == "resourceType":
            kept[key] = each
            continue
        found = names.get(key.removeprefix("_"))
        if found is None:
            continue
        if found[1] == f"{path}.{found[0]}" and isinstance(each, list):
            kept[key] = [_summarized(one, found[1]) for one in each if isinstance(one, dict)]
        elif found[1] == f"{path}.{found[0]}" and isinstance(each, dict):
            kept[key] = _summarized(each, found[1])
        else:
            kept[key] = each
    return kept


def in_form(text: str, format_: str, is_pretty: bool) -> str | bytes:
    """The text of a document in a format."""
    if format_ == XML:
        return to_xml(parse_document(text), is_pretty)
    return pretty_text(parse_document(text)) if is_pretty else text
