"""A concept of a code system as the operations see it, and the order of versions."""

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Designation:
    """Another name of a concept: in a language, for a use."""

    value: str
    language: str = ""
    use: tuple[tuple[str, str], ...] = ()  # the Coding that says what it is for, as pairs

    def as_fhir(self) -> dict[str, Any]:
        """As CodeSystem.concept.designation."""
        found: dict[str, Any] = {"language": self.language} if self.language else {}
        if self.use:
            found["use"] = dict(self.use)
        return found | {"value": self.value}


@dataclass(frozen=True, slots=True)
class Property:
    """What else is known of a concept; `type` is the suffix of value[x]: Code, String, Boolean, ..."""

    code: str
    type: str
    value: Any

    @property
    def text(self) -> str:
        """The value as filters compare it."""
        if isinstance(self.value, bool):
            return str(self.value).lower()
        if isinstance(self.value, dict):
            return str(self.value.get("code", ""))
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Concept:
    """One concept. `abstract`: for grouping only, not to be chosen. `inactive`: not to be used any more."""

    code: str
    display: str = ""
    definition: str = ""
    designations: tuple[Designation, ...] = ()
    properties: tuple[Property, ...] = ()
    abstract: bool = False
    inactive: bool = False
    status: str = ""  # active, retired, deprecated, ... as the code system's property says

    def property_texts(self, code: str) -> list[str]:
        """The values of one of its properties."""
        return [each.text for each in self.properties if each.code == code]

    def name_in(self, languages: tuple[str, ...], own_language: str = "") -> str:
        """Its name in the first of some languages (RFC 4647 lookup) that it has one in, else its display."""
        for language in languages:
            wanted = language.lower()
            if own_language and _speaks(own_language, wanted):
                return self.display
            for each in self.designations:
                if _speaks(each.language, wanted) and not _is_other_use(each):
                    return each.value
            primary = wanted.partition("-")[0]
            for each in self.designations:
                if _speaks(each.language, primary) and not _is_other_use(each):
                    return each.value
        return self.display


def _speaks(language: str, wanted: str) -> bool:
    have = language.lower()
    return have == wanted or have.startswith(wanted + "-")


def _is_other_use(designation: Designation) -> bool:
    """Whether a designation is no name to show: an abbreviation, a definition."""
    code = dict(designation.use).get("code", "")
    return code not in ("", "display", "900000000000003001", "900000000000013009", "preferredForLanguage")


INACTIVE_STATUSES = frozenset({"retired", "deprecated", "inactive", "withdrawn", "entered-in-error"})


def version_key(version: str) -> tuple[Any, ...]:
    """Sorts versions: numbers by size, texts by letters; none comes first."""
    return tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in re.findall(r"\d+|[^\d.\-_]+", version)
    )


def matches_version(version: str, wanted: str) -> bool:
    """Whether a version is the wanted one; `1.x`, `1.x.x` and `1.*` stand for any number there."""
    if version == wanted:
        return True
    if not re.search(r"(^|\.)[xX*?]($|\.)", wanted):
        return False
    have, want = version.split("."), wanted.split(".")
    if wanted.endswith("?") or want[-1] == "*":
        have = have[: len(want)]
    return len(have) == len(want) and all(
        expected in ("x", "X", "*", "?") or part == expected
        for part, expected in zip(have, want, strict=True)
    )
