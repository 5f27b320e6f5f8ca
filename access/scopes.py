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
LAUNCH_SCOPE = re.compile(
    r"(launch/[a-z]{1,64})(?:\?role=(launch|[A-Za-z][A-Za-z0-9+.\-]*:[!-%'-~]{1,200}))?"
)
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
        elif (LAUNCH_SCOPE if word.startswith("launch/") else PLAIN_SCOPE).fullmatch(word):
            others.add(word)
        else:
            raise InvalidScope(word)
    return tuple(resources), frozenset(others)


def launch_scope(word: str) -> tuple[str, str]:
    """A scope of the launch context without its role, and the role: one for each scope, a URI or `launch`
    (SMART 2.2, 3.0.6); empty when there is none."""
    match = LAUNCH_SCOPE.fullmatch(word)
    return (match[1], match[2] or "") if match else (word, "")


def permissions_of(scopes: Iterable[Scope]) -> Permissions:
    """What the scopes together delegate."""
    together = Permissions()
    for scope in scopes:
        together = together.union(scope.permissions())
    return together


def intersect(requested: Iterable[Scope], allowed: Iterable[Scope]) -> tuple[Scope, ...]:
    """The parts of the requested scopes that lie within the allowed ones, in the order asked.

    A query narrows: a scope without one covers a scope with any, two different ones have nothing in common
    that could be told without looking at rows.
    """
    choices = tuple(allowed)
    found: dict[Scope, None] = {}
    for scope in requested:
        whole = [each for each in choices if covers(each, scope)]
        parts = [scope] if whole else [part for each in choices if (part := _common(scope, each))]
        found.update(dict.fromkeys(parts))
    return tuple(found)


def covers(wide: Scope, narrow: Scope) -> bool:
    """Whether everything that `narrow` delegates lies within `wide`."""
    return (
        wide.level == narrow.level
        and wide.resource in ("*", narrow.resource)
        and set(narrow.verbs) <= set(wide.verbs)
        and wide.query in ("", narrow.query)
    )


def _common(one: Scope, other: Scope) -> Scope | None:
    if one.level != other.level or (one.query and other.query and one.query != other.query):
        return None
    if "*" not in (one.resource, other.resource) and one.resource != other.resource:
        return None
    verbs = "".join(verb for verb in "cruds" if verb in one.verbs and verb in other.verbs)
    resource = other.resource if one.resource == "*" else one.resource
    return Scope(one.level, resource, verbs, one.query or other.query) if verbs else None


def permitted(scopes: Iterable[Scope], permissions: Permissions) -> tuple[Scope, ...]:
    """The scopes with the verbs only that somebody has the permission for; empty ones are left out."""
    found = []
    for scope in scopes:
        verbs = "".join(verb for verb in scope.verbs if _some(permissions, Action(scope.resource, verb)))
        if verbs == scope.verbs:
            found.append(scope)
        elif verbs:
            found.append(Scope(scope.level, scope.resource, verbs, scope.query))
    return tuple(found)


def _some(permissions: Permissions, action: Action) -> bool:
    """Whether an action, or for `*` the same one on any type, is permitted."""
    if action.resource != "*":
        return permissions.allow(action)
    return any(each.verb == action.verb and permissions.allow(each) for each in permissions.verbs)
