"""SMART scopes as values (SMART App Launch 2.2, 3.0.2): parse, print, and what they permit.

    (patient|user|system) / (ResourceType|*) . [c][r][u][d][s] [?param=value&...]

Version 1 suffixes are read as their version 2 meaning: `.read` is `.rs`, `.write` is `.cud`, `.*` is
`.cruds`.
Scopes of OpenID Connect and of the launch (`openid`, `launch/patient`, `offline_access`) pass through.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from access.caller import Action, Permissions
from kernel.errors import CloudfilmError, Kind

VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}
RESOURCE_SCOPE = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]{1,63})\.([a-z*]{1,5})(?:\?(.+))?")
PLAIN_SCOPE = re.compile(r"[A-Za-z][A-Za-z0-9_./:?=\-]{0,199}")


class InvalidScope(CloudfilmError):
    """A scope that does not follow the grammar."""

    kind = Kind.INVALID

    def __init__(self, text: str) -> None:
        super().__init__(f"The scope {text[:80]!r} is not one; write it as user/ImagingStudy.rs.")
        self.text = text


@dataclass(frozen=True, slots=True)
class Scope:
    """One resource scope: for whose data, which type, which verbs, and a search that narrows it."""

    level: str  # patient, user or system
    resource: str  # a resource type, or *
    verbs: str  # letters of cruds, in that order
    query: str = ""
    version_1: str = ""  # the suffix as it was asked for, when in version 1 form

    def __str__(self) -> str:
        return f"{self.level}/{self.resource}.{self.version_1 or self.verbs}" + (
            f"?{self.query}" if self.query else ""
        )

    def permissions(self) -> Permissions:
        """The actions that this scope delegates, before any row is looked at."""
        return Permissions(frozenset(Action(self.resource, verb) for verb in self.verbs))


def parse_scope(text: str) -> Scope:
    """Read one resource scope. Raises InvalidScope for another form, or for verbs out of order."""
    match = RESOURCE_SCOPE.fullmatch(text)
    if match is None:
        raise InvalidScope(text)
    level, resource, suffix, query = match.groups()
    if suffix in VERSION_1:
        return Scope(level, resource, VERSION_1[suffix], query or "", suffix)
    if not re.fullmatch("c?r?u?d?s?", suffix):
        raise InvalidScope(text)
    return Scope(level, resource, suffix, query or "")


def parse_scopes(text: str) -> tuple[tuple[Scope, ...], frozenset[str]]:
    """Read a space-separated list: the resource scopes in order, and the others by name. Raises
    InvalidScope."""
    resources: list[Scope] = []
    others: set[str] = set()
    for word in text.split():
        if word.startswith(("patient/", "user/", "system/")):
            resources.append(parse_scope(word))
        elif PLAIN_SCOPE.fullmatch(word):
            others.add(word)
        else:
            raise InvalidScope(word)
    return tuple(resources), frozenset(others)


def permissions_of(scopes: Iterable[Scope]) -> Permissions:
    """What the scopes together delegate."""
    together = Permissions()
    for scope in scopes:
        together = together.union(scope.permissions())
    return together
