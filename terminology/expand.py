"""ValueSet/$expand: the codes of a value set, a page of them, or a tree (R4 ValueSet-expand)."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from kernel.errors import CloudfilmError, Kind
from records.documents import instant
from records.indexing import fold
from terminology.catalogue import Catalogue, Document
from terminology.compose import Composer, Member, TooCostly
from terminology.concept import Designation

MOST_CODES = 10_000
PROPERTY = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ValueSet.expansion.contains.property"
USED = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ValueSet.expansion.property"
UNCLOSED = "http://hl7.org/fhir/StructureDefinition/valueset-unclosed"
KNOWN_PROPERTIES = {"definition": "definition", "status": "status", "inactive": "inactive"}


class InvalidPage(CloudfilmError):
    """A count or an offset that is none."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("Write count and offset as whole numbers of 0 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the client asks of an expansion."""

    text: str = ""  # filter
    offset: int = 0
    count: int | None = None
    languages: tuple[str, ...] = ()
    include_designations: bool = False
    include_definition: bool = False
    active_only: bool = False
    exclude_nested: bool | None = None
    exclude_not_for_ui: bool = False
    designations: tuple[str, ...] = ()  # languages, or system|code of uses, that are wanted
    properties: tuple[str, ...] = ()
    echoed: tuple[tuple[str, str, Any], ...] = ()  # parameters to be repeated: name, type, value


def expand(catalogue: Catalogue, value_set: Document, wanted: Wanted, at: datetime) -> Document:
    """The value set with its expansion. Raises DefinitionNotFound, InvalidValueSet or TooCostly."""
    if wanted.offset < 0 or (wanted.count is not None and wanted.count < 0):
        raise InvalidPage
    if not wanted.languages and value_set.get("language"):
        language = str(value_set["language"])
        echoed = (("displayLanguage", "Code", language), *wanted.echoed)
        wanted = replace(wanted, languages=(language,), echoed=echoed)
    composer = Composer(catalogue)
    url = str(value_set.get("url", ""))
    words = tuple(fold(wanted.text).split())
    members: list[Member] = []
    total: int | None = 0
    last = wanted.offset + wanted.count if wanted.count is not None else None
    for member in composer.members(value_set, words):
        if wanted.active_only and member.concept.inactive:
            continue
        if wanted.exclude_not_for_ui and member.concept.abstract:
            continue
        if total is not None:
            total += 1
        if len(members) >= MOST_CODES:
            if last is None or last > MOST_CODES:
                raise TooCostly(url, MOST_CODES)
            total = None  # to go on would be for the count alone
            break
        members.append(member)
    page = members[wanted.offset : last]
    whole = len(page) == len(members) and total is not None
    contains = [_contains(member, wanted, composer) for member in page]
    if whole and wanted.exclude_nested is not True and _is_tree(value_set):
        contains = _nested(page, contains)
    expansion: dict[str, Any] = {"identifier": f"urn:uuid:{uuid.uuid4()}", "timestamp": instant(at)}
    if any(system.content == "fragment" for system in composer.used.code_systems.values()):
        expansion["extension"] = [{"url": UNCLOSED, "valueBoolean": True}]
    if wanted.properties:
        expansion.setdefault("extension", []).extend(_property_definitions(wanted.properties, composer))
    if total is not None:
        expansion["total"] = total
    if wanted.count is not None or wanted.offset:
        expansion["offset"] = wanted.offset
    expansion["parameter"] = [
        *({"name": name, f"value{type_}": value} for name, type_, value in wanted.echoed),
        *_used(composer, catalogue),
    ]
    if contains:
        expansion["contains"] = contains
    answer = {key: value for key, value in value_set.items() if key not in ("expansion", "text", "compose")}
    if not url or wanted.include_definition:
        answer = {key: value for key, value in value_set.items() if key not in ("expansion", "text")}
    return answer | {"expansion": expansion}


def _is_tree(value_set: Document) -> bool:
    """Whether the codes may be shown as a tree: all of them come from rules, not from a list in an order."""
    includes = (value_set.get("compose") or {}).get("include") or ()
    return bool(includes) and not any(each.get("concept") or each.get("valueSet") for each in includes)


def _nested(page: list[Member], contains: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The codes under the nearest of their parents that is there."""
    by_key = {member.key: entry for member, entry in zip(page, contains, strict=True)}
    roots = []
    for member, entry in zip(page, contains, strict=True):
        parents = [(member.system.url, code) for code in member.system.parents(member.concept.code)]
        parent = next((by_key[key] for key in parents if key in by_key), None)
        if parent is None or parent is entry:
            roots.append(entry)
        else:
            parent.setdefault("contains", []).append(entry)
    return roots


def _contains(member: Member, wanted: Wanted, composer: Composer) -> dict[str, Any]:
    concept, system = member.concept, member.system
    entry: dict[str, Any] = {"system": system.url}
    if concept.abstract:
        entry["abstract"] = True
    if concept.inactive:
        entry["inactive"] = True
    versions = {each.version for each in composer.used.code_systems.values() if each.url == system.url}
    if system.version and len(versions) > 1:
        entry["version"] = system.version
    entry["code"] = concept.code
    name = _name(member, wanted.languages)
    if name:
        entry["display"] = name
    if wanted.include_designations or wanted.designations:
        shown = [each.as_fhir() for each in _designations(member, wanted)]
        if shown:
            entry["designation"] = shown
    properties = [each for name in wanted.properties for each in _properties(member, name)]
    if properties:
        entry["extension"] = properties
    return entry


def _name(member: Member, languages: tuple[str, ...]) -> str:
    if not languages:
        return member.display or member.concept.display
    for each in languages:
        for designation in member.designations:
            if designation.language.lower().startswith(each.lower()):
                return designation.value
    translated = member.concept.name_in(languages, member.system.language)
    if translated != member.concept.display:
        return translated
    return member.display or translated


def _designations(member: Member, wanted: Wanted) -> Iterable[Designation]:
    own = member.system.language
    if member.display and member.display != member.concept.display and member.concept.display:
        yield Designation(member.concept.display, own)
    for each in (*member.designations, *member.concept.designations):
        if not wanted.designations or _is_asked_for(each, wanted.designations):
            yield each


def _is_asked_for(designation: Designation, asked: tuple[str, ...]) -> bool:
    use = dict(designation.use)
    return any(
        each in (f"{use.get('system', '')}|{use.get('code', '')}", f"urn:ietf:bcp:47|{designation.language}")
        for each in asked
    )


def _properties(member: Member, name: str) -> Iterable[dict[str, Any]]:
    concept = member.concept
    values: list[tuple[str, Any]] = [
        (each.type, each.value) for each in concept.properties if each.code == name
    ]
    if name == "definition" and concept.definition:
        values = [("String", concept.definition)]
    for type_, value in values:
        yield {
            "url": PROPERTY,
            "extension": [{"url": "code", "valueCode": name}, {"url": "value", f"value{type_}": value}],
        }


def _property_definitions(names: tuple[str, ...], composer: Composer) -> Iterable[dict[str, Any]]:
    for name in names:
        uris = [
            str(each.get("uri"))
            for system in composer.used.code_systems.values()
            for each in system.header.get("property") or ()
            if each.get("code") == name and each.get("uri")
        ]
        uri = (
            uris[0] if uris else f"http://hl7.org/fhir/concept-properties#{KNOWN_PROPERTIES.get(name, name)}"
        )
        yield {
            "url": USED,
            "extension": [{"url": "code", "valueCode": name}, {"url": "uri", "valueUri": uri}],
        }


STANDING = {  # warnings that definitions carry (the statuses of standards-status and of the definition)
    "draft": "warning-draft",
    "retired": "warning-retired",
    "deprecated": "warning-deprecated",
    "withdrawn": "warning-withdrawn",
}
STATUS = "http://hl7.org/fhir/StructureDefinition/structuredefinition-standards-status"


def standing(document: Document) -> str:
    """What there is to be warned of in using a definition: draft, experimental, deprecated, ..."""
    for each in document.get("extension") or ():
        if each.get("url") == STATUS and each.get("valueCode") in ("deprecated", "withdrawn", "draft"):
            return str(each["valueCode"])
    if document.get("status") in ("draft", "retired"):
        return str(document["status"])
    return "experimental" if document.get("experimental") is True else ""


def _used(composer: Composer, catalogue: Catalogue) -> Iterable[dict[str, Any]]:
    for system in composer.used.code_systems.values():
        yield {"name": "used-codesystem", "valueUri": system.canonical}
    for canonical in composer.used.value_sets:
        yield {"name": "used-valueset", "valueUri": canonical}
    for document in composer.used.supplements.values():
        named = f"{document.get('url')}|{document.get('version', '')}".rstrip("|")
        yield {"name": "used-supplement", "valueUri": named}
    for system in composer.used.code_systems.values():
        warned = standing(system.header)
        if warned and warned != "experimental":
            yield {"name": STANDING[warned], "valueUri": system.canonical}
    for canonical, document in composer.used.value_sets.items():
        warned = standing(document)
        if warned in ("deprecated", "withdrawn"):
            yield {"name": STANDING[warned], "valueUri": canonical}
