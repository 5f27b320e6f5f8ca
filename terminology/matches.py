"""CodeSystem/$find-matches: which codes have these properties (R4 CodeSystem-find-matches)."""

from typing import Any

from kernel.errors import CloudfilmError, Kind
from terminology.answers import group, parameters, part
from terminology.catalogue import Catalogue, Document
from terminology.code_system import CodeSystem
from terminology.concept import Concept

MOST_MATCHES = 100


class NothingToFind(CloudfilmError):
    """No property to go by."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("Give at least one property with a code and a value.")


def find_matches(
    catalogue: Catalogue, url: str, version: str, wanted: tuple[tuple[str, str], ...], exact: bool
) -> Document:
    """Codes that have every property, those that lie lowest; with `exact` false those with some, the best
    first.

    Raises DefinitionNotFound or NothingToFind.
    """
    if not wanted:
        raise NothingToFind
    system = catalogue.code_system(url, version)
    sets = [_with(system, code, value) for code, value in wanted]
    everything = set.intersection(*sets)
    found = everything if exact else set.union(*sets)
    scored = sorted(found, key=lambda code: (-sum(code in each for each in sets), code))
    if exact:  # a code whose descendant fits as well says less
        scored = [code for code in scored if not (system.descendants(code) & everything)]
    matches: list[dict[str, Any]] = []
    for code in scored[:MOST_MATCHES]:
        concept = system.find(code)
        if concept is None:
            continue
        unmatched = [
            group("unmatched", part("code", "Code", name), part("value", "String", value))
            for (name, value), each in zip(wanted, sets, strict=True)
            if code not in each
        ]
        coding = {"system": system.url, "code": code} | (
            {"display": concept.display} if concept.display else {}
        )
        matches.append(group("match", part("code", "Coding", coding), *unmatched))
    return parameters(*matches)


def _with(system: CodeSystem, code: str, value: str) -> set[str]:
    if code in ("parent", "subsumedBy"):
        return system.descendants(value)
    if code == "code":
        return {value} if system.find(value) else set()
    if code == "display":
        return {each.code for each in system.concepts() if value in _names(each)}
    return system.with_property(code, value)


def _names(concept: Concept) -> set[str]:
    return {concept.display, *(each.value for each in concept.designations)}
