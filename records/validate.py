"""Validation, in three levels: built as the type says; required codes and invariants; profiles.

The first two are asked of every resource that comes in over REST, and cost well under a millisecond or two,
for their tables are made once. Profiles are asked by `$validate`, and on write where the site's `validation`
document names some for a type. What profiles and codes are is passed in, for they live above this room.
R4 6.1 (validation), 5.1 (profiling).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.orm import Session

from access.document_kind import DocumentKind, current_document
from kernel.errors import CloudfilmError, Kind
from records.documents import plain
from records.invariants import check_invariants
from records.issues import MOST_ISSUES, InvalidResource, Issue
from records.parameters import resource_types
from records.profiles import ProfileCheck
from records.structure import UNKNOWN, check_structure


class Definitions(Protocol):
    """Profiles and codes, from the session's database and what comes with the program."""

    def profile(self, session: Session, url: str) -> dict[str, Any] | None:
        """A StructureDefinition by its canonical URL."""
        ...

    def has_code(self, session: Session, value_set: str, system: str, code: str) -> bool | None:
        """Whether a code is in a value set; None when it cannot be told."""
        ...


class NoDefinitions:
    """Neither profiles nor codes."""

    def profile(self, session: Session, url: str) -> dict[str, Any] | None:
        """None is known."""
        return None

    def has_code(self, session: Session, value_set: str, system: str, code: str) -> bool | None:
        """It cannot be told."""
        return None


class InvalidPolicy(CloudfilmError):
    """A validation document that names an unknown type, or no list of profiles."""

    kind = Kind.UNPROCESSABLE


def parse_policy(text: str) -> dict[str, tuple[str, ...]]:
    """The profiles that a site asks of each type. Raises InvalidPolicy."""
    given = json.loads(text).get("profiles", {})
    if not isinstance(given, dict):
        raise InvalidPolicy('Write "profiles" as an object: a resource type, and the profiles asked of it.')
    for name, urls in given.items():
        if name not in resource_types():
            raise InvalidPolicy(f"{name[:64]!r} is not a resource type of FHIR R4.")
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise InvalidPolicy(f"Write the profiles of {name} as a list of canonical URLs.")
    return {name: tuple(urls) for name, urls in given.items()}


VALIDATION = DocumentKind(
    "validation",
    "Profiles that resources must keep when they are written, by type: "
    '{"profiles": {"DiagnosticReport": ["http://example.org/StructureDefinition/report"]}}',
    parse_policy,
)


@dataclass(frozen=True, slots=True)
class Validation:
    """Validates what comes in."""

    definitions: Definitions = field(default_factory=NoDefinitions)

    def require_valid(self, session: Session, documents: Sequence[dict[str, Any]]) -> None:
        """Raise InvalidResource unless resources may be written: for the first that may not."""
        policy: dict[str, tuple[str, ...]] | None = None
        for document in documents:
            issues = findings(document)
            if not any(each.severity == "error" for each in issues):
                if policy is None:  # asked once, however many there are
                    text = current_document(session, VALIDATION)
                    policy = {} if text == VALIDATION.default else parse_policy(text)
                profiles = policy.get(str(document["resourceType"]), ())
                issues += self.against(session, document, profiles)
            if any(each.severity == "error" for each in issues):
                raise InvalidResource(issues)

    def against(self, session: Session, document: dict[str, Any], profiles: Iterable[str]) -> list[Issue]:
        """What a resource breaks of profiles."""
        issues: list[Issue] = []
        for url in profiles:
            definition = self.definitions.profile(session, url.partition("|")[0])
            if definition is None:
                told = f"The profile {url[:200]} is not known"
                issues.append(Issue("error", "not-found", str(document["resourceType"]), told))
                continue
            check = ProfileCheck(
                lambda canonical: self.definitions.profile(session, canonical),
                lambda value_set, system, code: self.definitions.has_code(session, value_set, system, code),
            )
            issues += check.run(plain(document), definition)
        return issues


LET_PASS = (UNKNOWN, "not a valid decimal")


def require_shape(document: dict[str, Any]) -> None:
    """Raise InvalidResource for a document whose elements have other forms than its type says.

    For definitions that a request brings along, also in the form of a later release: elements that R4 does
    not know are let pass, and decimals that are written as texts.
    """
    issues = check_structure(document).issues
    forms = [each for each in issues if each.code in ("structure", "value")]
    wrong = [each for each in forms if not each.diagnostics.endswith(LET_PASS)]
    if wrong or len(issues) >= MOST_ISSUES:
        raise InvalidResource(wrong or issues)


def findings(document: dict[str, Any]) -> list[Issue]:
    """What a resource breaks of its type: structure, required codes, invariants, those of inner resources
    too."""
    walk = check_structure(document)
    issues = list(walk.issues)
    if not issues:  # expressions mean nothing on what is not built right
        for resource, visited, at in walk.resources:
            issues += check_invariants(resource, visited, at)
    return issues
