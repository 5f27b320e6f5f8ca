"""CodeSystem/$lookup: what is known of a code (R4 CodeSystem-lookup), and $subsumes (CodeSystem-subsumes)."""

from typing import Any

from kernel.errors import CloudfilmError, Kind
from terminology.answers import group, parameters, part
from terminology.catalogue import Catalogue
from terminology.code_system import CodeSystem
from terminology.concept import Concept, Property


class CodeNotFound(CloudfilmError):
    """A code system that does not have the code."""

    kind = Kind.NOT_FOUND

    def __init__(self, system: CodeSystem, code: str) -> None:
        super().__init__(f"Unknown code '{code[:100]}' in the CodeSystem '{system.canonical}'.")


def lookup(
    catalogue: Catalogue,
    system: str,
    code: str,
    version: str = "",
    languages: tuple[str, ...] = (),
    properties: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The Parameters that $lookup answers. properties: names of those wanted, `*` for all; none: all.

    Raises DefinitionNotFound, SupplementMissing or CodeNotFound.
    """
    catalogue.require_supplements()
    code_system = catalogue.code_system(system, version)
    concept = code_system.find(code)
    if concept is None:
        raise CodeNotFound(code_system, code)
    wanted = frozenset(properties) - {"*"}

    def is_wanted(name: str) -> bool:
        return not wanted or name in wanted

    found: list[dict[str, Any] | None] = [
        part("name", "String", str(code_system.header.get("name") or code_system.url)),
        part("code", "Code", concept.code),
        part("system", "Uri", code_system.url),
        part("version", "String", code_system.version) if code_system.version else None,
        part("display", "String", concept.name_in(languages, code_system.language) or concept.code),
        part("abstract", "Boolean", concept.abstract),
    ]
    if concept.definition and is_wanted("definition"):
        found.append(part("definition", "String", concept.definition))
    if is_wanted("designation"):
        found += _designations(concept, code_system)
    if is_wanted("inactive"):
        found.append(_property(Property("inactive", "Boolean", concept.inactive)))
    if is_wanted("parent"):
        found += [_related("parent", each, code_system) for each in code_system.parents(concept.code)]
    if is_wanted("child"):
        found += [_related("child", each, code_system) for each in code_system.children(concept.code)]
    found += [
        _property(each)
        for each in concept.properties
        if is_wanted(each.code) and each.code not in ("parent", "child", "inactive")
    ]
    return parameters(*found)


def _designations(concept: Concept, system: CodeSystem) -> list[dict[str, Any]]:
    found = []
    if system.language and concept.display:
        found.append(
            group(
                "designation",
                part("language", "Code", system.language),
                part("value", "String", concept.display),
            )
        )
    for each in concept.designations:
        found.append(
            group(
                "designation",
                part("language", "Code", each.language) if each.language else None,
                part("use", "Coding", dict(each.use)) if each.use else None,
                part("value", "String", each.value),
            )
        )
    return found


def _property(each: Property) -> dict[str, Any]:
    return group("property", part("code", "Code", each.code), part("value", each.type, each.value))


def _related(name: str, code: str, system: CodeSystem) -> dict[str, Any]:
    concept = system.find(code)
    return group(
        "property",
        part("code", "Code", name),
        part("value", "Code", code),
        part("description", "String", concept.display) if concept and concept.display else None,
    )


def subsumes(catalogue: Catalogue, system: str, code_a: str, code_b: str, version: str = "") -> str:
    """How A and B lie to each other: equivalent, subsumes, subsumed-by or not-subsumed.

    Raises DefinitionNotFound or CodeNotFound.
    """
    code_system = catalogue.code_system(system, version)
    for code in (code_a, code_b):
        if code_system.find(code) is None:
            raise CodeNotFound(code_system, code)
    if code_a == code_b or (not code_system.is_case_sensitive and code_a.lower() == code_b.lower()):
        return "equivalent"
    if code_system.subsumes(code_a, code_b):
        return "subsumes"
    return "subsumed-by" if code_system.subsumes(code_b, code_a) else "not-subsumed"
