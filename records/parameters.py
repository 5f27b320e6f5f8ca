"""The search parameters of every resource type, from the standard's definitions, compiled when first used."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from records.definitions import definitions
from records.paths import Node, Path, UnsupportedPath, compile_path, first_keys

EVERY_TYPE = ("Resource", "DomainResource")
FROM_THE_ROW = {"_id": "token", "_lastUpdated": "date"}
"""Answered from the resource's own row; they have no index rows."""

NOT_INDEXED = frozenset(
    {"_content", "_filter", "_query", "_text", "_id", "_lastUpdated", "_list", "_has", "_type"}
)


_OF_PEOPLE = frozenset({"identifier", "telecom", "phone", "email", "address"})
HIDDEN_PARAMETERS = {
    **dict.fromkeys(("Patient", "Person", "RelatedPerson", "Practitioner", "PractitionerRole"), _OF_PEOPLE),
    "Observation": frozenset({"value-string"}),  # texts of reports come as such
    "DocumentReference": frozenset({"description"}),  # a report's conclusion
    "AuditEvent": frozenset({"agent-name"}),
    "Subscription": frozenset({"criteria"}),  # whoever is looked for by them
}
"""What the index holds as keyed hashes only, by type and code: numbers, ways to reach somebody, lines of
addresses, texts, who did something, and what somebody wants to be told of. It is found by equality; what such
a value begins with leads to nothing."""

PEOPLE = frozenset({"Patient", "Person", "RelatedPerson", "Practitioner"})


@dataclass(frozen=True, slots=True)
class Component:
    """One value of a composite parameter."""

    parameter: "Parameter"  # the parameter that it is searched as
    path: Path  # from the element that the values stand in together
    from_root: bool = False  # or from the document itself


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter of one resource type."""

    resource_type: str
    code: str
    type: str  # token, string, date, number, quantity, reference, uri, composite or special
    number: int  # stands for type and code in the index tables
    expression: str
    targets: tuple[str, ...] = ()
    path: Path | None = None  # None: not made from the document
    components: tuple[Component, ...] = ()
    is_ready: bool = True  # False: documents that were there before it have no rows yet
    keys: frozenset[str] | None = None  # a document with none of these has no values; None: look

    @property
    def is_hidden(self) -> bool:
        """Whether its values stand in the index as keyed hashes."""
        return self.code in HIDDEN_PARAMETERS.get(self.resource_type, ())

    @property
    def is_veiled(self) -> bool:
        """Whether its values are names of people, which a site may have veiled (`kernel.veil`)."""
        is_name = self.type == "string" and not self.code.startswith("address")
        return is_name and self.resource_type in PEOPLE


def parameter_number(resource_type: str, code: str) -> int:
    """A 31-bit number for a parameter of a type, the same on every machine."""
    digest = hashlib.blake2b(f"{resource_type}.{code}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) & 0x7FFFFFFF


def parameters_of(resource_type: str) -> Mapping[str, Parameter]:
    """The parameters of a type by code: the standard's, and those that the site added."""
    custom = _custom.get(resource_type)
    return _standard(resource_type) if custom is None else custom


_custom: dict[str, dict[str, Parameter]] = {}


def set_custom(parameters: Iterable[Parameter]) -> None:
    """Let these be all the parameters that the site added (`records.custom_parameters` reads them)."""
    found: dict[str, dict[str, Parameter]] = {}
    for parameter in parameters:
        of_type = found.setdefault(parameter.resource_type, dict(_standard(parameter.resource_type)))
        of_type[parameter.code] = parameter
    _custom.clear()
    _custom.update(found)


@lru_cache(maxsize=256)
def _standard(resource_type: str) -> dict[str, Parameter]:
    tables = definitions()["parameters"]
    found: dict[str, Parameter] = {}
    composites: list[tuple[str, dict[str, Any]]] = []
    for base in (*EVERY_TYPE, resource_type):
        for code, row in tables.get(base, {}).items():
            if row["type"] == "composite":
                composites.append((code, row))
            else:
                found[code] = _parameter(resource_type, code, row)
    for code, row in composites:
        found[code] = _composite(resource_type, code, row, found)
    return found


PARENT_CODES = ("partof", "part-of", "parent")


def parent_parameter(resource_type: str) -> Parameter | None:
    """The parameter by which documents of a type refer to another of their type that they are part of."""
    found = parameters_of(resource_type)
    parents = (found[code] for code in PARENT_CODES if code in found)
    return next((each for each in parents if resource_type in each.targets), None)


def is_standard(resource_type: str, code: str) -> bool:
    """Whether R4 itself defines a parameter."""
    return code in _standard(resource_type)


def _is_deceased(nodes: list[Node]) -> list[Node]:
    """`Patient.deceased.exists() and Patient.deceased != false`: without the element, false."""
    document = nodes[0][0]
    return [("deceasedDateTime" in document or document.get("deceasedBoolean") is True, "boolean")]


COMPUTED: dict[tuple[str, str], Path] = {("Patient", "deceased"): _is_deceased}
"""Expressions outside of the compiled part of FHIRPath."""


def _parameter(resource_type: str, code: str, row: dict[str, Any]) -> Parameter:
    path, keys = COMPUTED.get((resource_type, code)), None
    if path is None and code not in NOT_INDEXED and row["expression"]:
        try:
            path = compile_path(row["expression"], resource_type)
            keys = first_keys(row["expression"], resource_type)
        except UnsupportedPath:
            path = None
    return Parameter(
        resource_type,
        code,
        row["type"],
        parameter_number(resource_type, code),
        row["expression"],
        tuple(row.get("target", ())),
        path,
        keys=keys,
    )


def custom_parameter(
    resource_type: str, code: str, type_: str, expression: str, targets: tuple[str, ...], is_ready: bool
) -> Parameter:
    """A parameter of the site's own. Raises UnsupportedPath for an expression that cannot be compiled."""
    path = compile_path(expression, resource_type)
    number = parameter_number(resource_type, code)
    keys = first_keys(expression, resource_type)
    return Parameter(
        resource_type, code, type_, number, expression, targets, path, is_ready=is_ready, keys=keys
    )


def _composite(
    resource_type: str, code: str, row: dict[str, Any], others: Mapping[str, Parameter]
) -> Parameter:
    components = []
    for component_code, expression in row["components"]:
        from_root = expression.startswith("%resource.")
        path = compile_path(expression.removeprefix("%resource."), resource_type)
        searched_as = others.get(component_code) or _parameter(resource_type, component_code, {})
        components.append(Component(searched_as, path, from_root))
    return Parameter(
        resource_type,
        code,
        "composite",
        parameter_number(resource_type, code),
        row["expression"],
        (),
        compile_path(row["expression"], resource_type),
        tuple(components),
        keys=first_keys(row["expression"], resource_type),
    )


@lru_cache(maxsize=1)
def resource_types() -> frozenset[str]:
    """Every resource type that can be stored."""
    return frozenset(
        name
        for name, element in definitions()["elements"].items()
        if "." not in name and element["kind"] == "resource" and not element["abstract"]
    )
