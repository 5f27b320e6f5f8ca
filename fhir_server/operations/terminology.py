"""The operations of a terminology service: $lookup, $validate-code, $subsumes, $find-matches on code systems;
$expand and $validate-code on value sets; $translate on concept maps; $closure (R4 4.1, terminology service).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Response, request
from sqlalchemy.orm import Session

from access.bearer import current_caller
from access.caller import Action, Door
from fhir_server.negotiate import document_answer
from fhir_server.operations.given import Given, InvalidParameter, given
from kernel.http import room
from records.repository import read
from records.validate import require_shape
from terminology.answers import parameters, part
from terminology.catalogue import Catalogue, Document
from terminology.closure import closure
from terminology.expand import Wanted, expand
from terminology.lookup import lookup, subsumes
from terminology.matches import find_matches
from terminology.room import Terminology
from terminology.shipped import document_by_id
from terminology.translate import Question, translate
from terminology.validate import Asked, validate_in_code_system, validate_in_value_set

ECHOED = {  # parameters of $expand that its answer repeats, and their types
    "activeOnly": "Boolean",
    "count": "Integer",
    "displayLanguage": "Code",
    "excludeNested": "Boolean",
    "excludeNotForUI": "Boolean",
    "filter": "String",
    "includeDefinition": "Boolean",
    "includeDesignations": "Boolean",
    "offset": "Integer",
}


@contextmanager
def _catalogue(said: Given, session: Session | None = None) -> Iterator[Catalogue]:
    """The catalogue as this request sees it."""
    terminology = room(Terminology)
    brought = said.resources("tx-resource")
    for each in brought:
        require_shape(each)
    options: dict[str, Any] = {
        "brought": brought,
        "default_versions": _versions(said, "system-version", "default-valueset-version"),
        "forced_versions": _versions(said, "force-system-version"),
        "checked_versions": _versions(said, "check-system-version"),
        "supplements": said.texts("useSupplement"),
    }
    if session is not None:
        yield Catalogue(session, terminology.cache, **options)
        return
    with terminology.database.snapshot() as opened:
        yield Catalogue(opened, terminology.cache, **options)


def _versions(said: Given, *names: str) -> dict[str, str]:
    found = {}
    for name in names:
        for canonical in said.texts(name):
            url, _, version = canonical.partition("|")
            found[url] = version
    return found


def _languages(said: Given) -> tuple[str, ...]:
    """The languages wanted, the best first: `displayLanguage`, else the client's own (RFC 9110 12.5.4)."""
    text = said.text("displayLanguage")
    if text:
        return tuple(part.partition(";")[0].strip() for part in text.split(",") if part.strip(" *"))
    accepted = [each for each, weight in request.accept_languages if weight > 0 and each != "*"]
    return tuple(accepted)


def _by_id(resource_type: str, logical_id: str) -> Document:
    """A definition by its logical id: one of the site's, else one that comes with the program."""
    shipped = document_by_id(resource_type, logical_id)
    if shipped is not None:
        return shipped
    stored = read(room(Terminology).records, current_caller(Door.FHIR), resource_type, logical_id)
    document: Document = json.loads(stored.body)
    return document


def lookup_code(logical_id: str = "") -> Response:
    """CodeSystem/$lookup."""
    current_caller(Door.FHIR).require(Action("CodeSystem", "r"))
    said = given()
    codings = said.structures("coding", "Coding")
    coding = codings[0] if codings else {}
    system, code = (
        said.text("system") or coding.get("system", ""),
        said.text("code") or coding.get("code", ""),
    )
    version = said.text("version") or coding.get("version", "")
    if logical_id:
        own = _by_id("CodeSystem", logical_id)
        system, version = str(own.get("url", "")), str(own.get("version", ""))
    if not system or not code:
        raise InvalidParameter("coding", "given, or system and code")
    with _catalogue(said) as catalogue:
        languages, wanted = _languages(said), said.texts("property")
        return document_answer(lookup(catalogue, str(system), str(code), str(version), languages, wanted))


def subsumes_codes(logical_id: str = "") -> Response:
    """CodeSystem/$subsumes."""
    current_caller(Door.FHIR).require(Action("CodeSystem", "r"))
    said = given()
    system, version = said.text("system"), said.text("version")
    codes = [said.text("codeA"), said.text("codeB")]
    for at, name in enumerate(("codingA", "codingB")):
        for coding in said.structures(name, "Coding"):
            codes[at], system = str(coding.get("code", "")), system or str(coding.get("system", ""))
            version = version or str(coding.get("version", ""))
    if logical_id:
        own = _by_id("CodeSystem", logical_id)
        system, version = str(own.get("url", "")), str(own.get("version", ""))
    if not system or not all(codes):
        raise InvalidParameter("codeA and codeB", "given together with their system")
    with _catalogue(said) as catalogue:
        outcome = subsumes(catalogue, system, codes[0], codes[1], version)
    return document_answer(parameters(part("outcome", "Code", outcome)))


def find_codes(logical_id: str = "") -> Response:
    """CodeSystem/$find-matches."""
    current_caller(Door.FHIR).require(Action("CodeSystem", "r"))
    said = given()
    system, version = said.text("system"), said.text("version")
    if logical_id:
        own = _by_id("CodeSystem", logical_id)
        system, version = str(own.get("url", "")), str(own.get("version", ""))
    if not system:
        raise InvalidParameter("system", "the URL of a code system")
    wanted = tuple((each.text("code"), each.text("value")) for each in said.parts("property"))
    exact = said.boolean("exact", default=True)
    with _catalogue(said) as catalogue:
        return document_answer(find_matches(catalogue, system, version, wanted, exact))


def _asked(said: Given) -> Asked:
    codings = said.structures("coding", "Coding")
    concepts = said.structures("codeableConcept", "CodeableConcept")
    form, concept = "code", None
    if concepts:
        form, concept = "codeableConcept", concepts[0]
        codings = [each for each in concepts[0].get("coding") or () if isinstance(each, dict)]
    elif codings:
        form = "coding"
    elif said.text("code"):
        system, version, display = said.text("system"), said.text("systemVersion"), said.text("display")
        given_ = {"system": system, "code": said.text("code"), "version": version, "display": display}
        codings = [{key: value for key, value in given_.items() if value}]
    return Asked(
        codings=tuple(codings),
        form=form,
        concept=concept,
        languages=_languages(said),
        abstract=said.boolean("abstract", default=True),
        active_only=said.boolean("activeOnly"),
        infer_system=said.boolean("inferSystem"),
        lenient_display=said.boolean("lenient-display-validation"),
        membership_only=said.boolean("valueset-membership-only"),
    )


def validate_code_in_system(logical_id: str = "") -> Response:
    """CodeSystem/$validate-code."""
    current_caller(Door.FHIR).require(Action("CodeSystem", "r"))
    said = given()
    asked = _asked(said)
    url = said.text("url") or next((str(each.get("system", "")) for each in asked.codings), "")
    version = said.text("version")
    brought = said.resource("codeSystem", "CodeSystem")
    if logical_id:
        brought = _by_id("CodeSystem", logical_id)
    if brought is not None:
        url, version = str(brought.get("url", "")), str(brought.get("version", ""))
        said = said.with_resource("tx-resource", brought)
    if not url:
        raise InvalidParameter("url", "the URL of a code system")
    with _catalogue(said) as catalogue:
        return document_answer(validate_in_code_system(catalogue, url, version, asked))


def validate_code_in_set(logical_id: str = "") -> Response:
    """ValueSet/$validate-code."""
    current_caller(Door.FHIR).require(Action("ValueSet", "r"))
    said = given()
    asked = _asked(said)
    with _catalogue(said) as catalogue:
        value_set = _value_set(catalogue, said, logical_id)
        if value_set is None:
            systems = {str(each.get("system", "")) for each in asked.codings} - {""}
            if len(systems) != 1:
                raise InvalidParameter("url", "the URL of a value set")
            return document_answer(validate_in_code_system(catalogue, systems.pop(), "", asked))
        return document_answer(validate_in_value_set(catalogue, value_set, asked))


def expand_set(logical_id: str = "") -> Response:
    """ValueSet/$expand."""
    current_caller(Door.FHIR).require(Action("ValueSet", "r"))
    said = given()
    echoed = []
    for name, type_ in ECHOED.items():
        if said.has(name):
            value: Any = said.text(name)
            if type_ == "Boolean":
                value = said.boolean(name)
            elif type_ == "Integer":
                value = said.integer(name)
            echoed.append((name, type_, value))
    languages = _languages(said)
    if languages and not said.has("displayLanguage"):
        echoed.append(("displayLanguage", "Code", ",".join(languages)))
    echoed += [("designation", "String", each) for each in said.texts("designation")]
    echoed += [("property", "String", each) for each in said.texts("property")]
    wanted = Wanted(
        text=said.text("filter"),
        offset=said.integer("offset") or 0,
        count=said.integer("count"),
        languages=languages,
        include_designations=said.boolean("includeDesignations"),
        include_definition=said.boolean("includeDefinition"),
        active_only=said.boolean("activeOnly"),
        exclude_nested=said.boolean("excludeNested") if said.has("excludeNested") else None,
        exclude_not_for_ui=said.boolean("excludeNotForUI"),
        designations=said.texts("designation"),
        properties=said.texts("property"),
        echoed=tuple(echoed),
    )
    with _catalogue(said) as catalogue:
        value_set = _value_set(catalogue, said, logical_id)
        if value_set is None:
            raise InvalidParameter("url", "the URL of a value set")
        return document_answer(expand(catalogue, value_set, wanted, room(Terminology).clock.now()))


def _value_set(catalogue: Catalogue, said: Given, logical_id: str) -> Document | None:
    """The value set that is meant: by its id, as brought, or by its URL. Raises DefinitionNotFound."""
    if logical_id:
        return _by_id("ValueSet", logical_id)
    brought = said.resource("valueSet", "ValueSet")
    if brought is not None:
        require_shape(brought)
        return brought
    url = said.text("url")
    version = said.text("valueSetVersion")
    return catalogue.value_set(url, version) if url else None


def translate_code(logical_id: str = "") -> Response:
    """ConceptMap/$translate."""
    current_caller(Door.FHIR).require(Action("ConceptMap", "r"))
    said = given()
    reverse = said.boolean("reverse")
    codings = said.structures("coding", "Coding")
    codings += said.structures("sourceCoding", "Coding") + said.structures("targetCoding", "Coding")
    for name in ("codeableConcept", "sourceCodeableConcept"):
        for concept in said.structures(name, "CodeableConcept"):
            codings += [each for each in concept.get("coding") or () if isinstance(each, dict)]
    if said.text("targetCode"):  # as R5 asks the other way round
        reverse = True
    if not codings:
        code = said.text("code", "sourceCode", "targetCode")
        if not code:
            raise InvalidParameter("coding", "given, or code and system")
        system = said.text("targetSystem") if said.text("targetCode") else said.text("system", "sourceSystem")
        codings = [{"code": code, **({"system": system} if system else {})}]
    target_system = said.text("targetsystem", "targetSystem")
    if said.text("targetCode"):
        target_system = said.text("sourceSystem")
    url, version = said.text("url"), said.text("conceptMapVersion")
    brought = said.resource("conceptMap", "ConceptMap")
    if logical_id:
        brought = _by_id("ConceptMap", logical_id)
    if brought is not None:
        url, version = str(brought.get("url", "")), str(brought.get("version", ""))
        said = said.with_resource("tx-resource", brought)
    question = Question(
        codings=tuple(codings),
        url=url,
        version=version,
        source=said.text("source"),
        target=said.text("target"),
        target_system=target_system,
        reverse=reverse,
    )
    with _catalogue(said) as catalogue:
        return document_answer(translate(catalogue, question))


def keep_closure() -> Response:
    """$closure on the system."""
    caller, terminology = current_caller(Door.FHIR), room(Terminology)
    caller.require(Action("ConceptMap", "r"))
    said = given()
    concepts = said.structures("concept", "Coding") if said.has("concept") else None
    with terminology.database.transaction() as session, _catalogue(said, session) as catalogue:
        return document_answer(
            closure(
                catalogue, caller, said.text("name"), concepts, said.text("version"), terminology.clock.now()
            )
        )
