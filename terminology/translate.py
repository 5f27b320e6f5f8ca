"""ConceptMap/$translate: what a code is called in another code system (R4 ConceptMap-translate)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from terminology.answers import group, parameters, part
from terminology.catalogue import Catalogue, Document
from terminology.model import MappingRow

UNMATCHED = frozenset({"unmatched", "disjoint", "not-related-to"})
REVERSED = {"wider": "narrower", "narrower": "wider", "subsumes": "specializes", "specializes": "subsumes"}
R5_RELATIONSHIPS = {  # R5 ConceptMap.relationship: the equivalence of R4
    "related-to": "relatedto",
    "equivalent": "equivalent",
    "source-is-narrower-than-target": "wider",
    "source-is-broader-than-target": "narrower",
    "not-related-to": "unmatched",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be translated, and where to."""

    codings: tuple[dict[str, Any], ...]
    url: str = ""  # of the map; empty: any that fits
    version: str = ""
    source: str = ""  # value set of the source
    target: str = ""  # value set of the target
    target_system: str = ""
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """One translation."""

    equivalence: str
    system: str
    code: str
    display: str
    map: str
    comment: str = ""
    products: tuple[tuple[str, str, str], ...] = ()  # element, system, code


def translate(catalogue: Catalogue, question: Question) -> Document:
    """The Parameters that $translate answers: `result` says whether some match means the same or nearly
    so."""
    matches = list(dict.fromkeys(_matches(catalogue, question)))
    good = [each for each in matches if each.equivalence not in UNMATCHED]
    message = "" if good else _why_not(catalogue, question, matches)
    return parameters(
        part("result", "Boolean", bool(good)),
        part("message", "String", message) if message else None,
        *(_shown(each) for each in matches),
    )


def _why_not(catalogue: Catalogue, question: Question, matches: list[Match]) -> str:
    if matches:
        return "The concept has no counterpart that means the same or nearly so."
    if question.url and not catalogue.concept_maps(question.url, question.version):
        return f"A definition for the ConceptMap '{question.url}' could not be found."
    return "No map translates this concept."


def _shown(match: Match) -> dict[str, Any]:
    coding: dict[str, Any] = {"system": match.system} if match.system else {}
    coding["code"] = match.code
    if match.display:
        coding["display"] = match.display
    products = [
        group(
            "product",
            part("element", "Uri", element),
            part("concept", "Coding", {"system": system, "code": code} if system else {"code": code}),
        )
        for element, system, code in match.products
    ]
    return group(
        "match",
        part("equivalence", "Code", match.equivalence),
        part("concept", "Coding", coding) if match.code else None,
        *products,
        part("source", "Uri", match.map) if match.map else None,
        part("comment", "String", match.comment) if match.comment else None,
    )


def _matches(catalogue: Catalogue, question: Question) -> Iterator[Match]:
    for document, rows in catalogue.concept_maps(question.url, question.version):
        if not _fits(document, question):
            continue
        url, version = str(document.get("url", "")), str(document.get("version", ""))
        named = f"{url}|{version}" if version else url
        for coding in question.codings:
            if rows is not None:
                yield from _from_rows(catalogue, rows, coding, question, named)
            else:
                for group_ in document.get("group") or ():
                    yield from _from_group(catalogue, group_, coding, question, named)


def _fits(document: Document, question: Question) -> bool:
    """Whether a map goes from and to the value sets that are named."""
    ends = [
        (question.source, [document.get(f"source{each}") for each in ("Uri", "Canonical", "ScopeUri")]),
        (question.target, [document.get(f"target{each}") for each in ("Uri", "Canonical", "ScopeUri")]),
    ]
    return all(not wanted or wanted in said for wanted, said in ends)


def _from_rows(
    catalogue: Catalogue, rows: int, coding: dict[str, Any], question: Question, named: str
) -> Iterator[Match]:
    system, code = str(coding.get("system", "")), str(coding.get("code", ""))
    here = (MappingRow.target_system, MappingRow.target_code)
    if not question.reverse:
        here = (MappingRow.source_system, MappingRow.source_code)
    statement = select(MappingRow).where(MappingRow.definition_id == rows, here[1] == code)
    if system:
        statement = statement.where(here[0] == system)
    for row in catalogue.session.scalars(statement.order_by(MappingRow.id)):
        there = row.source_system if question.reverse else row.target_system
        if question.target_system and there != question.target_system:
            continue
        if question.reverse:
            equivalence = REVERSED.get(row.equivalence, row.equivalence)
            yield Match(equivalence, row.source_system, row.source_code, "", named, row.comment)
        else:
            yield Match(
                row.equivalence, row.target_system, row.target_code, row.target_display, named, row.comment
            )


def _from_group(
    catalogue: Catalogue, group_: Document, coding: dict[str, Any], question: Question, named: str
) -> Iterator[Match]:
    system, code = str(coding.get("system", "")), str(coding.get("code", ""))
    source, target = str(group_.get("source", "")), str(group_.get("target", ""))
    here, there = (target, source) if question.reverse else (source, target)
    if (system and here and here != system) or (
        question.target_system and there and there != question.target_system
    ):
        return
    found = False
    for element in group_.get("element") or ():
        for to in element.get("target") or ({"equivalence": "unmatched"},):
            equivalence = equivalence_of(to)
            if question.reverse:
                if str(to.get("code", "")) == code and equivalence not in UNMATCHED:
                    reversed_ = REVERSED.get(equivalence, equivalence)
                    yield Match(
                        reversed_,
                        source,
                        str(element.get("code", "")),
                        str(element.get("display", "")),
                        named,
                    )
            elif str(element.get("code", "")) == code:
                found = True
                yield Match(
                    equivalence,
                    target,
                    str(to.get("code", "")),
                    str(to.get("display", "")),
                    named,
                    str(to.get("comment", "")),
                    tuple(_products(to)),
                )
    unmapped = group_.get("unmapped")
    if not found and not question.reverse and isinstance(unmapped, dict):
        yield from _unmapped(catalogue, unmapped, coding, question, target, named)


def equivalence_of(target: Document) -> str:
    """The equivalence of a target, also of one that is written as R5 does."""
    if "equivalence" in target:
        return str(target["equivalence"])
    return R5_RELATIONSHIPS.get(str(target.get("relationship", "")), "relatedto")


def _products(target: Document) -> Iterable[tuple[str, str, str]]:
    for each in target.get("product") or ():
        yield str(each.get("property", "")), str(each.get("system", "")), str(each.get("value", ""))


def _unmapped(
    catalogue: Catalogue,
    unmapped: Document,
    coding: dict[str, Any],
    question: Question,
    target: str,
    named: str,
) -> Iterator[Match]:
    """What a map says of codes that it does not name (ConceptMap.group.unmapped)."""
    mode = unmapped.get("mode")
    if mode == "provided":
        yield Match("equal", target, str(coding.get("code", "")), str(coding.get("display", "")), named)
    elif mode == "fixed":
        display = str(unmapped.get("display", ""))
        yield Match("inexact", target, str(unmapped.get("code", "")), display, named)
    elif (
        mode == "other-map" and unmapped.get("url") and str(unmapped["url"]).partition("|")[0] != question.url
    ):
        url, _, version = str(unmapped["url"]).partition("|")
        other = Question(codings=(coding,), url=url, version=version, target_system=question.target_system)
        for document, rows in catalogue.concept_maps(url, version)[:1]:
            if rows is not None:
                yield from _from_rows(catalogue, rows, coding, other, url)
            else:
                for each in document.get("group") or ():  # one step: a chain of maps ends here
                    yield from _from_group(catalogue, {**each, "unmapped": None}, coding, other, url)
