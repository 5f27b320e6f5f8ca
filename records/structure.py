"""Whether a document is built as its type says: elements, cardinalities, primitive types, required codes,
and the invariants of data types, in one walk over tables that are made once for each type (R4 2.6, 2.24).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from records.definitions import definitions, validation_tables
from records.invariants import DATA_TYPE_RULES
from records.issues import MOST_ISSUES, Issue
from records.narrative import fault_of_narrative
from records.primitives import PRIMITIVES

UNKNOWN = "is not known here"
BACKBONES = frozenset({"BackboneElement", "Element"})
MEDIA_TYPE = re.compile(r"xml|json|ttl|[\w.+*-]{1,127}/[\w!#$&^.+*-]{1,127}(?:\s*;.{1,500})?")
CURRENCY = re.compile(r"[A-Z]{3}")
PATTERN_BINDINGS = {  # value sets whose codes a pattern says
    "http://hl7.org/fhir/ValueSet/mimetypes": MEDIA_TYPE,
    "http://hl7.org/fhir/ValueSet/currencies": CURRENCY,
}


@dataclass(frozen=True, slots=True)
class Element:
    """One JSON key that may stand in an object of some type."""

    path: str  # in the definitions: Patient.contact
    name: str  # in FHIRPath: value for valueQuantity
    type: str  # a primitive, a data type, or the path of a backbone element
    is_list: bool
    is_primitive: bool
    check: Callable[[Any], bool] | None = None
    binding: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """What may stand, and what must, in an object of some type."""

    elements: dict[str, Element]
    required: tuple[tuple[str, tuple[str, ...]], ...]  # names, each with keys of which one must be there
    choices: dict[str, str]  # key: name of the choice that it is one of


@cache
def shape_of(type_: str) -> Shape:
    """The shape of a resource type, a data type, or a backbone element by its path."""
    table = definitions()["elements"]
    elements: dict[str, Element] = {}
    required: list[tuple[str, tuple[str, ...]]] = []
    choices: dict[str, str] = {}
    prefix = f"{type_}."
    for path, row in table.items():
        if not path.startswith(prefix) or "." in path[len(prefix) :]:
            continue
        name = path[len(prefix) :]
        keys = []
        if name.endswith("[x]"):
            name = name[:-3]
            for type_name in row["types"]:
                key = name + type_name[0].upper() + type_name[1:]
                keys.append(key)
                choices[key] = name
                elements[key] = _element(path, name, type_name, row)
        else:
            keys.append(name)
            type_name = row.get("same") or (row["types"] or [""])[0]
            if name == "id" and table[type_.partition(".")[0]]["kind"] == "resource" and "." not in type_:
                type_name = "id"  # R4 writes string there, and means id
            elements[name] = _element(path, name, path if type_name in BACKBONES else type_name, row)
        if row.get("min"):
            required.append((name, tuple(keys)))
    return Shape(elements, tuple(required), choices)


def _element(path: str, name: str, type_: str, row: dict[str, Any]) -> Element:
    return Element(
        path, name, type_, "max" in row, type_ in PRIMITIVES, PRIMITIVES.get(type_), row.get("binding", "")
    )


@dataclass(slots=True)
class Walk:
    """One walk over a document: what was found, and where it has been."""

    issues: list[Issue] = field(default_factory=list)
    visited: set[str] = field(default_factory=set)  # paths of elements that are there
    contained: frozenset[str] = frozenset()  # ids of the contained resources
    resources: list[tuple[dict[str, Any], set[str], str]] = field(default_factory=list)
    """Every resource, inner ones included, with its elements that are there and its place."""

    def add(
        self, code: str, expression: str, diagnostics: str, severity: str = "error", key: str = ""
    ) -> None:
        """Note one issue."""
        if len(self.issues) < MOST_ISSUES:
            self.issues.append(Issue(severity, code, expression, diagnostics, key))


def check_structure(document: dict[str, Any]) -> Walk:
    """Walk over a resource. `issues` is empty when it is built as it should be."""
    walk = Walk()
    resource_type = str(document.get("resourceType"))
    contained = document.get("contained")
    if isinstance(contained, list):
        walk.contained = frozenset(
            str(each.get("id")) for each in contained if isinstance(each, dict) and "id" in each
        )
    _resource(walk, document, resource_type, resource_type)
    return walk


def _resource(walk: Walk, value: dict[str, Any], resource_type: str, at: str) -> None:
    kind = definitions()["elements"].get(resource_type)
    if not isinstance(kind, dict) or kind.get("kind") != "resource" or kind.get("abstract"):
        walk.add("structure", at, f"{resource_type[:64]!r} is not a resource type of R4")
        return
    walk.resources.append((value, walk.visited, at))
    _object(walk, value, resource_type, at, is_resource=True)


def _object(walk: Walk, value: dict[str, Any], type_: str, at: str, is_resource: bool = False) -> None:
    shape = shape_of(type_)
    elements, choices = shape.elements, shape.choices
    chosen: dict[str, str] | None = None
    for key, child in value.items():
        element = elements.get(key)
        if element is None:
            if key == "resourceType" and is_resource:
                continue
            if key.startswith("_") and key[1:] in elements and elements[key[1:]].is_primitive:
                _companion(walk, value, key, elements[key[1:]], at)
                continue
            walk.add("structure", at, f"The element {key[:64]!r} {UNKNOWN}")
            continue
        if key in choices:
            chosen = chosen or {}
            if chosen.setdefault(choices[key], key) != key:
                walk.add("structure", f"{at}.{choices[key]}", f"{choices[key]}[x] is there more than once")
        walk.visited.add(element.path)
        if element.is_list:
            if not isinstance(child, list):
                walk.add("structure", f"{at}.{element.name}", "This has to be an array")
                continue
            if not child:
                walk.add("structure", f"{at}.{element.name}", "An array must not be empty")
            for number, each in enumerate(child):
                if each is None and element.is_primitive and _has_companion(value, key, number):
                    continue
                _value(walk, each, element, f"{at}.{element.name}[{number}]")
        elif isinstance(child, list):
            walk.add("structure", f"{at}.{element.name}", "This must not be an array")
        else:
            _value(walk, child, element, f"{at}.{element.name}")
    for name, keys in shape.required:
        if not any(key in value or f"_{key}" in value for key in keys):
            walk.add("required", f"{at}.{name}", f"The element {name!r} is missing")
    if not value or (len(value) == 1 and "id" in value and not is_resource):
        walk.add("invariant", at, "An element has a value or children (ele-1)", key="ele-1")
    for key_, meaning, holds in DATA_TYPE_RULES.get(type_, ()):
        try:
            is_good = holds(value)
        except (TypeError, AttributeError, ValueError, KeyError):  # its parts are wrong, which was said
            continue
        if not is_good:
            walk.add("invariant", at, f"{meaning} ({key_})", key=key_)
    if type_ == "Reference":
        _reference(walk, value, at)


def _value(walk: Walk, value: Any, element: Element, at: str) -> None:
    if element.is_primitive:
        if element.check is not None and not element.check(value):
            walk.add("value", at, f"This is not a valid {element.type}")
        elif element.binding and not _is_bound(element.binding, "", value):
            walk.add("code-invalid", at, f"The code {str(value)[:64]!r} is not in {element.binding}")
        return
    if element.type == "xhtml":
        fault = fault_of_narrative(value)
        if fault:
            walk.add("invariant" if isinstance(value, str) else "value", at, fault, key="txt-1")
        return
    if not isinstance(value, dict):
        walk.add("structure", at, "This has to be an object")
        return
    if element.type == "Resource":
        _inner_resource(walk, value, element, at)
        return
    _object(walk, value, element.type, at)
    if element.binding:
        _bound_concept(walk, value, element, at)


def _inner_resource(walk: Walk, value: dict[str, Any], element: Element, at: str) -> None:
    resource_type = value.get("resourceType")
    if not isinstance(resource_type, str):
        walk.add("structure", at, "A resource has a resourceType")
        return
    if element.path.endswith(".contained"):
        _contained(walk, value, at)
        inner = Walk(walk.issues, set(), walk.contained, walk.resources)
        _resource(inner, value, resource_type, at)
        return
    # of a Bundle or of Parameters: its contained resources are its own
    inner = Walk(walk.issues, resources=walk.resources)
    contained = value.get("contained")
    if isinstance(contained, list):
        inner.contained = frozenset(str(each.get("id")) for each in contained if isinstance(each, dict))
    _resource(inner, value, resource_type, at)


def _contained(walk: Walk, value: dict[str, Any], at: str) -> None:
    """dom-2, dom-4 and dom-5: what a contained resource has not."""
    meta = value.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    rules = (
        ("dom-2", "contained" in value, "A contained resource contains no others"),
        ("dom-4", "versionId" in meta or "lastUpdated" in meta, "A contained resource has no version"),
        ("dom-5", "security" in meta, "A contained resource has no security label"),
    )
    for key, is_broken, meaning in rules:
        if is_broken:
            walk.add("invariant", at, f"{meaning} ({key})", key=key)


def _reference(walk: Walk, value: dict[str, Any], at: str) -> None:
    literal = value.get("reference")
    if not isinstance(literal, str) or not literal.startswith("#") or literal == "#":
        return
    if literal[1:] not in walk.contained:
        walk.add("invariant", at, f"{literal[:64]!r} is not a contained resource (ref-1)", key="ref-1")


def _has_companion(value: dict[str, Any], key: str, number: int) -> bool:
    companion = value.get(f"_{key}")
    return isinstance(companion, list) and len(companion) > number and isinstance(companion[number], dict)


def _companion(walk: Walk, value: dict[str, Any], key: str, element: Element, at: str) -> None:
    """The id and extensions of a primitive (R4 2.6.2.3)."""
    child = value[key]
    walk.visited.add(element.path)
    given = child if isinstance(child, list) else [child]
    if isinstance(child, list) is not element.is_list or not given:
        walk.add("structure", f"{at}.{element.name}", f"{key[:64]!r} has not the form of its element")
        return
    for number, each in enumerate(given):
        if each is None and element.is_list:
            continue
        place = f"{at}.{element.name}[{number}]" if element.is_list else f"{at}.{element.name}"
        if not isinstance(each, dict):
            walk.add("structure", place, f"{key[:64]!r} has to be an object")
        else:
            _object(walk, each, "Element", place)


@lru_cache(maxsize=1)
def codes_of_value_sets() -> dict[str, dict[str, frozenset[str]]]:
    """The codes of each required value set that can be listed, by their system."""
    return {
        url: {system: frozenset(codes) for system, codes in by_system.items()}
        for url, by_system in validation_tables()["codes"].items()
    }


def _is_bound(value_set: str, system: str, code: Any) -> bool:
    """Whether a code is one of a required value set; what cannot be listed lets everything pass."""
    pattern = PATTERN_BINDINGS.get(value_set)
    if pattern is not None:
        return pattern.fullmatch(str(code)) is not None
    by_system = codes_of_value_sets().get(value_set)
    if by_system is None:
        return True
    if system:
        return code in by_system.get(system, ())
    return any(code in codes for codes in by_system.values())


def _bound_concept(walk: Walk, value: dict[str, Any], element: Element, at: str) -> None:
    if element.type == "CodeableConcept":
        codings = value.get("coding")
        given = [each for each in codings if isinstance(each, dict)] if isinstance(codings, list) else []
    elif element.type in ("Coding", "Quantity"):
        given = [value] if "code" in value else []
    else:
        return
    bound = (_is_bound(element.binding, str(each.get("system", "")), each.get("code")) for each in given)
    if given and not any(bound):
        walk.add("code-invalid", at, f"None of the codes is in {element.binding}")
    elif not given and element.type == "CodeableConcept" and "extension" not in value:
        walk.add("code-invalid", at, f"A code of {element.binding} is required")
