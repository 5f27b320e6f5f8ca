"""A code system as the operations see it, wherever it is kept, and the one that is a document in memory.

The other kinds are rows of the database (`rows`), a grammar (`grammars`, `ucum`) and one with a supplement
over it. R4 4.8 (CodeSystem).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

from records.indexing import fold
from terminology.concept import INACTIVE_STATUSES, Concept, Designation, Property

CONCEPT_PROPERTIES = "http://hl7.org/fhir/concept-properties#"


class CodeSystem(ABC):
    """One version of a code system."""

    header: dict[str, Any]  # the CodeSystem document without its concepts
    is_enumerable = True  # False: a grammar, whose codes cannot be listed

    @property
    def url(self) -> str:
        """Its canonical URL, the `system` of its codings."""
        return str(self.header.get("url", ""))

    @property
    def version(self) -> str:
        """Its version, or an empty text."""
        return str(self.header.get("version", ""))

    @property
    def language(self) -> str:
        """The language of its displays."""
        return str(self.header.get("language", ""))

    @property
    def content(self) -> str:
        """Whether all of it is here: complete, fragment, not-present (R4 codesystem-content-mode)."""
        return str(self.header.get("content", "complete"))

    @property
    def is_case_sensitive(self) -> bool:
        """Whether codes that differ in case differ in meaning."""
        return self.header.get("caseSensitive") is not False

    @property
    def canonical(self) -> str:
        """`url|version`."""
        return f"{self.url}|{self.version}" if self.version else self.url

    @abstractmethod
    def find(self, code: str) -> Concept | None:
        """The concept of a code, or None."""

    @abstractmethod
    def parents(self, code: str) -> tuple[str, ...]:
        """The codes right above."""

    @abstractmethod
    def children(self, code: str) -> tuple[str, ...]:
        """The codes right below, in their order."""

    @abstractmethod
    def concepts(self, words: tuple[str, ...] = ()) -> Iterator[Concept]:
        """Every concept in the order of the source, parents before children; with folded words, those that
        have every one of them in some name."""

    @abstractmethod
    def with_property(self, code: str, value: str) -> set[str]:
        """The codes that have a property with a value."""

    def roots(self) -> tuple[str, ...]:
        """The codes that lie below no other."""
        return tuple(each.code for each in self.concepts() if not self.parents(each.code))

    def descendants(self, code: str) -> set[str]:
        """Every code below, however deep."""
        return _closure(code, self.children)

    def ancestors(self, code: str) -> set[str]:
        """Every code above, however high."""
        return _closure(code, self.parents)

    def subsumes(self, broader: str, narrower: str) -> bool:
        """Whether one code lies above another."""
        return broader in self.ancestors(narrower)


def _closure(start: str, step: Any) -> set[str]:
    found: set[str] = set()
    fresh = [start]
    while fresh:
        fresh = [code for each in fresh for code in step(each) if code not in found and code != start]
        found.update(fresh)
    return found


def names_of(concept: Concept) -> Iterator[str]:
    """Everything that a concept is called."""
    yield concept.display
    for each in concept.designations:
        yield each.value


def has_words(concept: Concept, words: tuple[str, ...]) -> bool:
    """Whether every folded word stands in its code or in some name."""
    text = " ".join((fold(concept.code), *(fold(name) for name in names_of(concept))))
    return all(word in text for word in words)


class DocumentCodeSystem(CodeSystem):
    """A code system that is a whole CodeSystem document, held in memory."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.header = {key: value for key, value in document.items() if key != "concept"}
        self._definitions = {
            str(each.get("code")): each for each in document.get("property", ()) if isinstance(each, dict)
        }
        self._concepts: dict[str, Concept] = {}
        self._parents: dict[str, list[str]] = {}
        self._children: dict[str, list[str]] = {}
        self._read(document.get("concept") or (), None)
        for concept in self._concepts.values():
            self._link_by_properties(concept)

    def _read(self, concepts: Iterable[Any], parent: str | None) -> None:
        stack = [(each, parent) for each in reversed(list(concepts))]
        while stack:
            given, above = stack.pop()
            if not isinstance(given, dict) or not isinstance(given.get("code"), str):
                continue
            code = given["code"]
            self._concepts.setdefault(code, self._concept(given))
            if above is not None:
                self._link(above, code)
            stack.extend((each, code) for each in reversed(list(given.get("concept") or ())))

    def _link(self, parent: str, child: str) -> None:
        if parent not in self._parents.setdefault(child, []):
            self._parents[child].append(parent)
            self._children.setdefault(parent, []).append(child)

    def _link_by_properties(self, concept: Concept) -> None:
        """`parent`, `subsumedBy` and `child` properties say the same as nesting does (R4 4.8.11)."""
        for each in concept.properties:
            name = self._definitions.get(each.code, {}).get("uri", "").removeprefix(CONCEPT_PROPERTIES)
            name = name or each.code
            if name in ("parent", "subsumedBy") and each.text in self._concepts:
                self._link(each.text, concept.code)
            elif name == "child" and each.text in self._concepts:
                self._link(concept.code, each.text)

    def _concept(self, given: dict[str, Any]) -> Concept:
        return read_concept(given, self._definitions)

    @cached_property
    def _by_folded_code(self) -> dict[str, str]:
        return {code.lower(): code for code in self._concepts}

    def find(self, code: str) -> Concept | None:
        """The concept of a code, or None."""
        found = self._concepts.get(code)
        if found is None and not self.is_case_sensitive:
            found = self._concepts.get(self._by_folded_code.get(code.lower(), ""))
        return found

    def parents(self, code: str) -> tuple[str, ...]:
        """The codes right above."""
        return tuple(self._parents.get(code, ()))

    def children(self, code: str) -> tuple[str, ...]:
        """The codes right below, in their order."""
        return tuple(self._children.get(code, ()))

    def concepts(self, words: tuple[str, ...] = ()) -> Iterator[Concept]:
        """Every concept in the order of the source; with folded words, those that have every one."""
        for concept in self._concepts.values():
            if not words or has_words(concept, words):
                yield concept

    def with_property(self, code: str, value: str) -> set[str]:
        """The codes that have a property with a value."""
        return {each.code for each in self._concepts.values() if value in each.property_texts(code)}


def read_concept(given: dict[str, Any], definitions: dict[str, Any]) -> Concept:
    """A concept of a CodeSystem document; `definitions` are its property definitions by code."""
    properties = tuple(_properties(given))
    inactive, abstract, status = False, False, ""
    for each in properties:
        uri = str(definitions.get(each.code, {}).get("uri", ""))
        meaning = uri.partition("#")[2] if uri.startswith(CONCEPT_PROPERTIES) else each.code
        if meaning == "status":
            status = each.text
            inactive = inactive or each.text in INACTIVE_STATUSES - {"deprecated"}
        elif meaning == "inactive":
            inactive = inactive or each.text == "true"
        elif meaning in ("notSelectable", "abstract"):
            abstract = abstract or each.text == "true"
    return Concept(
        given["code"],
        str(given.get("display", "")),
        str(given.get("definition", "")),
        tuple(_designations(given)),
        properties,
        abstract,
        inactive,
        status,
    )


def _designations(given: dict[str, Any]) -> Iterator[Designation]:
    for each in given.get("designation") or ():
        if isinstance(each, dict) and each.get("value"):
            use = each.get("use")
            use = use if isinstance(use, dict) else {}
            yield Designation(
                str(each["value"]),
                str(each.get("language", "")),
                tuple((str(key), str(value)) for key, value in use.items()),
            )


def _properties(given: dict[str, Any]) -> Iterator[Property]:
    for each in given.get("property") or ():
        if isinstance(each, dict):
            for key, value in each.items():
                if key.startswith("value"):
                    yield Property(str(each.get("code", "")), key.removeprefix("value"), value)


class SupplementedCodeSystem(CodeSystem):
    """A code system with the designations and properties of supplements over it (R4 4.8.2)."""

    def __init__(self, base: CodeSystem, supplements: Iterable[DocumentCodeSystem]) -> None:
        self.header = base.header
        self.is_enumerable = base.is_enumerable
        self.supplements = tuple(supplements)
        self._base = base

    def _over(self, concept: Concept) -> Concept:
        for supplement in self.supplements:
            more = supplement.find(concept.code)
            if more is not None:
                own = (Designation(more.display, supplement.language),) if more.display else ()
                concept = replace(
                    concept,
                    designations=(*concept.designations, *own, *more.designations),
                    properties=(*concept.properties, *more.properties),
                )
        return concept

    def find(self, code: str) -> Concept | None:
        """The concept of a code, or None."""
        found = self._base.find(code)
        return None if found is None else self._over(found)

    def parents(self, code: str) -> tuple[str, ...]:
        """The codes right above."""
        return self._base.parents(code)

    def children(self, code: str) -> tuple[str, ...]:
        """The codes right below, in their order."""
        return self._base.children(code)

    def descendants(self, code: str) -> set[str]:
        """Every code below, however deep."""
        return self._base.descendants(code)

    def ancestors(self, code: str) -> set[str]:
        """Every code above, however high."""
        return self._base.ancestors(code)

    def concepts(self, words: tuple[str, ...] = ()) -> Iterator[Concept]:
        """Every concept; with folded words, those that have every one, supplements' names included."""
        for concept in self._base.concepts():
            over = self._over(concept)
            if not words or has_words(over, words):
                yield over

    def with_property(self, code: str, value: str) -> set[str]:
        """The codes that have a property with a value."""
        found = self._base.with_property(code, value)
        for supplement in self.supplements:
            found |= supplement.with_property(code, value)
        return found
