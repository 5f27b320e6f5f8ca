"""What a value set's definition holds: its members in order, and whether a code is one of them (R4 4.9.2,
compose).

Both are made from the same reading of includes, filters and excludes, so that what is expanded is what
validates.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import re2

from kernel.errors import CloudfilmError, Kind
from records.indexing import fold
from terminology.catalogue import Catalogue, Document, SupplementMissing
from terminology.code_system import CodeSystem, has_words
from terminology.concept import Concept, Designation, matches_version
from terminology.ucum import UcumCodeSystem

DEEPEST_IMPORT = 16
LONGEST_REGEX = 500


class InvalidValueSet(CloudfilmError):
    """A definition that cannot be worked out: an unknown filter, a circle of imports."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, message: str, code: str = "invalid") -> None:
        super().__init__(message)
        self.issue_type = code


class TooCostly(CloudfilmError):
    """More codes than are listed at once."""

    kind = Kind.UNPROCESSABLE
    issue_type = "too-costly"

    def __init__(self, url: str, most: int) -> None:
        super().__init__(
            f"The value set '{url}' expansion has too many codes to display (>{most}). Give a "
            "filter or a count."
        )


@dataclass(frozen=True, slots=True)
class Member:
    """One code of a value set."""

    system: CodeSystem
    concept: Concept
    display: str = ""  # as the value set itself calls it
    designations: tuple[Designation, ...] = ()  # that the value set adds
    version_is_pinned: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """System and code."""
        return self.system.url, self.concept.code


@dataclass(slots=True)
class Used:
    """Which versions of what an answer was made from."""

    code_systems: dict[str, CodeSystem] = field(default_factory=dict)
    value_sets: dict[str, Document] = field(default_factory=dict)
    supplements: dict[str, Document] = field(default_factory=dict)

    def add(self, system: CodeSystem) -> CodeSystem:
        """Remember a code system; returns it."""
        self.code_systems[system.canonical] = system
        return system


class Composer:
    """Reads definitions from a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.used = Used()
        self._contained: dict[str, Document] = {}

    def members(
        self, value_set: Document, words: tuple[str, ...] = (), chain: tuple[str, ...] = ()
    ) -> Iterator[Member]:
        """Every member, each once; with folded words, those that have every one of them in some name.

        Raises DefinitionNotFound or InvalidValueSet.
        """
        compose = value_set.get("compose")
        if not isinstance(compose, dict):
            yield from self._from_expansion(value_set, words)
            return
        chain = self.prepare(value_set, chain)
        excludes = [self._membership(each, chain) for each in _parts(compose, "exclude")]
        drop_inactive = compose.get("inactive") is False
        seen: set[tuple[str, str, str]] = set()
        for include in _parts(compose, "include"):
            for member in self._include(include, words, chain):
                key = (*member.key, member.system.version)
                if key in seen or (drop_inactive and member.concept.inactive):
                    continue
                if any(holds(member.system, member.concept) for holds in excludes):
                    continue
                seen.add(key)
                yield member

    def _from_expansion(self, value_set: Document, words: tuple[str, ...]) -> Iterator[Member]:
        """A value set that is known by its expansion alone."""
        stack = list(reversed((value_set.get("expansion") or {}).get("contains") or ()))
        while stack:
            each = stack.pop()
            stack.extend(reversed(each.get("contains") or ()))
            if each.get("system") and each.get("code"):
                system = self.used.add(self.catalogue.code_system(each["system"], each.get("version", "")))
                concept = system.find(each["code"]) or Concept(each["code"], each.get("display", ""))
                if has_words(concept, words):
                    yield Member(system, concept, each.get("display", ""))

    def _include(self, include: Document, words: tuple[str, ...], chain: tuple[str, ...]) -> Iterator[Member]:
        imports = [self._import(canonical, chain) for canonical in include.get("valueSet") or ()]
        if not include.get("system"):
            if not imports:
                raise InvalidValueSet("An include names neither a code system nor a value set.")
            first, *others = imports
            checks = [self._contains_of(each, chain) for each in others]
            for member in self.members(first, words, chain):
                if all(check(member.system, member.concept) for check in checks):
                    yield member
            return
        checks = [self._contains_of(each, chain) for each in imports]
        for member in self._of_system(include, words):
            if all(check(member.system, member.concept) for check in checks):
                yield member

    def _of_system(self, include: Document, words: tuple[str, ...]) -> Iterator[Member]:
        system = self.used.add(self.catalogue.code_system(include["system"], include.get("version", "")))
        pinned = bool(include.get("version"))
        enumerated = include.get("concept")
        if enumerated:
            for given in enumerated:
                concept = system.find(str(given.get("code", "")))
                if concept is None:
                    if system.content == "complete":
                        continue
                    concept = Concept(str(given.get("code", "")), str(given.get("display", "")))
                own = tuple(_designations(given))
                if words and not (has_words(concept, words) or _given_has_words(given, own, words)):
                    continue
                yield Member(system, concept, str(given.get("display", "")), own, pinned)
            return
        if not system.is_enumerable and not include.get("filter"):
            raise TooCostly(system.url, 0)
        if system.content == "not-present":
            raise InvalidValueSet(
                f"The code system definition for {system.url} has no content, so it cannot be listed.",
                "not-found",
            )
        tests = [predicate(system, each) for each in include.get("filter") or ()]
        for concept in system.concepts(words):
            if all(test(concept) for test in tests):
                yield Member(system, concept, version_is_pinned=pinned)

    def contains(
        self, value_set: Document, system: CodeSystem, concept: Concept, chain: tuple[str, ...] = ()
    ) -> bool:
        """Whether a code is a member. Raises DefinitionNotFound or InvalidValueSet."""
        compose = value_set.get("compose")
        if not isinstance(compose, dict):
            return any(
                member.key == (system.url, concept.code) for member in self._from_expansion(value_set, ())
            )
        if compose.get("inactive") is False and concept.inactive:
            return False
        chain = self.prepare(value_set, chain)
        if not any(self._membership(each, chain)(system, concept) for each in _parts(compose, "include")):
            return False
        return not any(self._membership(each, chain)(system, concept) for each in _parts(compose, "exclude"))

    def _contains_of(
        self, value_set: Document, chain: tuple[str, ...]
    ) -> Callable[[CodeSystem, Concept], bool]:
        return lambda system, concept: self.contains(value_set, system, concept, chain)

    def _membership(self, part: Document, chain: tuple[str, ...]) -> Callable[[CodeSystem, Concept], bool]:
        """Whether one include, or exclude, holds a code."""
        tests: list[Callable[[CodeSystem, Concept], bool]] = []
        if part.get("system"):
            url, version = str(part["system"]), str(part.get("version", ""))
            if part.get("concept"):
                codes = {str(each.get("code", "")) for each in part["concept"]}
                folded = {code.lower() for code in codes}

                def enumerated(system: CodeSystem, concept: Concept) -> bool:
                    if system.is_case_sensitive:
                        return concept.code in codes
                    return concept.code.lower() in folded

                tests.append(enumerated)
            for each in part.get("filter") or ():
                tests.append(lambda system, concept, each=each: predicate(system, each)(concept))  # type: ignore[misc]
            effective = self.catalogue.forced_versions.get(url) or version
            tests.insert(0, lambda system, _: system.url == url and _is_version(system, effective))
        for canonical in part.get("valueSet") or ():
            tests.append(self._contains_of(self._import(canonical, chain), chain))
        if not tests:
            raise InvalidValueSet("An include names neither a code system nor a value set.")
        return lambda system, concept: all(test(system, concept) for test in tests)

    def _import(self, canonical: str, chain: tuple[str, ...]) -> Document:
        if canonical in self._contained:
            return self._contained[canonical]
        found = self.catalogue.value_set(canonical)
        if _named(found) in chain or len(chain) >= DEEPEST_IMPORT:
            raise InvalidValueSet(
                f"Cyclic reference detected when including {canonical} via {list(chain)}", "processing"
            )
        self.used.value_sets[_named(found)] = found
        return found

    def prepare(self, value_set: Document, chain: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Note what a value set contains itself, and what it counts on; returns the chain of imports with
        it."""
        for each in value_set.get("contained") or ():
            if isinstance(each, dict) and each.get("resourceType") == "ValueSet":
                self._contained[f"#{each.get('id')}"] = each
        self._supplements_of(value_set)
        named = _named(value_set)
        return (*chain, named) if named else chain

    def _supplements_of(self, value_set: Document) -> None:
        """Supplements that a value set, or the request, counts on must be there (valueset-supplement)."""
        named = [
            str(each.get("valueCanonical") or each.get("valueUri") or "")
            for each in value_set.get("extension") or ()
            if str(each.get("url", "")).endswith("valueset-supplement")
        ]
        for canonical in (*named, *self.catalogue.wanted_supplements):
            if canonical in self.used.supplements:
                continue
            document = self.catalogue.supplement(canonical)
            if document is None:
                raise SupplementMissing(canonical)
            self.used.supplements[canonical] = document
            if canonical not in self.catalogue.wanted_supplements:
                self.catalogue.want_supplement(canonical)


def _named(value_set: Document) -> str:
    return f"{value_set.get('url', '')}|{value_set.get('version', '')}".rstrip("|")


def _is_version(system: CodeSystem, version: str) -> bool:
    return not version or matches_version(system.version, version)


def _parts(compose: Document, name: str) -> list[Document]:
    return [each for each in compose.get(name) or () if isinstance(each, dict)]


def _designations(given: Document) -> Iterator[Designation]:
    for each in given.get("designation") or ():
        use = each.get("use")
        use = use if isinstance(use, dict) else {}
        yield Designation(
            str(each.get("value", "")),
            str(each.get("language", "")),
            tuple((str(key), str(value)) for key, value in use.items()),
        )


def _given_has_words(given: Document, own: tuple[Designation, ...], words: tuple[str, ...]) -> bool:
    text = " ".join(fold(name) for name in (str(given.get("display", "")), *(each.value for each in own)))
    return all(word in text for word in words)


def predicate(system: CodeSystem, filter_: Document) -> Callable[[Concept], bool]:
    """A filter of an include as a test of concepts (R4 filter-operator). Raises InvalidValueSet."""
    name, operator, value = str(filter_.get("property", "")), str(filter_.get("op", "")), filter_.get("value")
    if value is None or value == "":
        raise InvalidValueSet(
            f"The system {system.url} filter with property = {name}, op = {operator} has no value"
        )
    make = OPERATORS.get(operator)
    if make is None:
        raise InvalidValueSet(f"The filter operator {operator!r} is not known.", "not-supported")
    return make(system, name, str(value))


def _codes(found: set[str]) -> Callable[[Concept], bool]:
    return lambda concept: concept.code in found


def _is_a(system: CodeSystem, _name: str, value: str) -> Callable[[Concept], bool]:
    return _codes({value} | system.descendants(value))


def _leaves(system: CodeSystem, value: str) -> set[str]:
    return {code for code in system.descendants(value) if not system.children(code)}


def _not(test: Callable[[Concept], bool]) -> Callable[[Concept], bool]:
    return lambda concept: not test(concept)


def _equals(system: CodeSystem, name: str, value: str) -> Callable[[Concept], bool]:
    if isinstance(system, UcumCodeSystem) and name == "canonical":
        return lambda concept: system.has_dimension(concept.code, value)
    if name in ("code", "concept"):
        return lambda concept: concept.code == value
    if name == "display":
        return lambda concept: concept.display == value
    if name == "parent":
        return _codes(set(system.children(value)))
    if name == "child":
        return _codes(set(system.parents(value)))
    if name in ("inactive", "notSelectable") and not system.with_property(name, value):
        attribute = "inactive" if name == "inactive" else "abstract"
        return lambda concept: (value == "true") == getattr(concept, attribute)
    return _codes(system.with_property(name, value))


def _texts(concept: Concept, name: str) -> list[str]:
    if name in ("code", "concept"):
        return [concept.code]
    if name == "display":
        return [concept.display]
    return concept.property_texts(name)


@lru_cache(maxsize=256)
def _pattern(value: str) -> Any:
    """A regular expression that takes linear time, whatever it is: nobody's pattern holds up the server."""
    options = re2.Options()
    options.max_mem = 1 << 20
    options.log_errors = False
    try:
        if len(value) > LONGEST_REGEX:
            raise re2.error("it is too long")
        return re2.compile(value, options)
    except re2.error as wrong:
        raise InvalidValueSet(f"The regular expression {value[:80]!r} cannot be used: {wrong}") from None


def _regex(_system: CodeSystem, name: str, value: str) -> Callable[[Concept], bool]:
    pattern = _pattern(value)
    return lambda concept: any(pattern.fullmatch(text) for text in _texts(concept, name))


def _in(_system: CodeSystem, name: str, value: str) -> Callable[[Concept], bool]:
    wanted = {each.strip() for each in value.split(",")}
    return lambda concept: any(text in wanted for text in _texts(concept, name))


def _exists(_system: CodeSystem, name: str, value: str) -> Callable[[Concept], bool]:
    return lambda concept: any(_texts(concept, name)) == (value == "true")


OPERATORS: dict[str, Callable[[CodeSystem, str, str], Callable[[Concept], bool]]] = {
    "is-a": _is_a,
    "descendent-of": lambda system, _name, value: _codes(system.descendants(value)),
    "is-not-a": lambda system, name, value: _not(_is_a(system, name, value)),
    "generalizes": lambda system, _name, value: _codes({value} | system.ancestors(value)),
    "child-of": lambda system, _name, value: _codes(set(system.children(value))),
    "descendent-leaf": lambda system, _name, value: _codes(_leaves(system, value)),
    "=": _equals,
    "regex": _regex,
    "in": _in,
    "not-in": lambda system, name, value: _not(_in(system, name, value)),
    "exists": _exists,
}
