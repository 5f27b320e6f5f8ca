"""Who asks, as a value: principal, door, origin, what it may do, and how far it reaches.

A door makes the Caller; a room's entrance `require`s the action and turns the reach into SQL; there is no
second path to data. What a caller may do is one list of permissions on resource types, in the terms of SMART
(create, read, update, delete, search), for every protocol: STOW-RS and C-STORE need `ImagingStudy.c`,
QIDO-RS and C-FIND `ImagingStudy.s`, WADO-RS, C-GET and C-MOVE `ImagingStudy.r`.

A reach is what rows may be seen at all. It is a conjunction of limits (policy and scope and context and
consent), a limit a choice of clauses (this institution, or these shared studies), a clause a conjunction of
sets. Narrowing adds a limit, so a reach can only become smaller. A clause may speak of some verbs only (a
scope opens its own verbs on its own rows), so a room always asks for the reach of what is being done.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from typing import NamedTuple

from kernel.errors import Forbidden


class Door(StrEnum):
    """Where a caller came in."""

    WEB = "web"
    DICOMWEB = "dicomweb"
    DIMSE = "dimse"
    FHIR = "fhir"
    HL7 = "hl7"
    PORTAL = "portal"
    SHARE = "share"
    SHELL = "shell"
    SYSTEM = "system"


class PrincipalKind(StrEnum):
    """What kind of actor a principal is."""

    ACCOUNT = "account"  # a person who signed in
    CLIENT = "client"  # a program with its own credentials
    NODE = "node"  # a DIMSE or MLLP peer
    VISITOR = "visitor"  # somebody with a share link
    OPERATOR = "operator"  # whoever can start programs on the server itself
    SYSTEM = "system"  # cloudfilm's own jobs


@dataclass(frozen=True, slots=True)
class Principal:
    """An actor. `id` is unique within its kind and safe to log."""

    kind: PrincipalKind
    id: str
    name: str = ""  # for people to read: pages and audit entries
    institution: str = ""  # code of the institution it belongs to
    department: str = ""
    role: str = ""
    fhir_user: str = ""  # reference to who it is in clinical documents, as Practitioner/x


class Action(NamedTuple):  # hashed and compared some hundred times by what is about every type
    """A verb on a resource type: c create, r read, u update, d delete, s search (SMART 2.2, 3.0.2.1)."""

    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.resource}.{self.verb}"


STORE_IMAGES = Action("ImagingStudy", "c")
READ_IMAGES = Action("ImagingStudy", "r")
CORRECT_IMAGES = Action("ImagingStudy", "u")
DELETE_IMAGES = Action("ImagingStudy", "d")
SEARCH_IMAGES = Action("ImagingStudy", "s")


@dataclass(frozen=True, slots=True)
class Permissions:
    """Actions by resource type; `*` stands for every clinical type, never for the site's own ones.

    What is denied is not allowed, however it got among the verbs.
    """

    verbs: frozenset[Action] = frozenset()
    denied: frozenset[Action] = frozenset()

    @classmethod
    def of(cls, **by_resource: str) -> "Permissions":
        """`Permissions.of(ImagingStudy="rs", all="r")`; `all` is written `*` in scopes."""
        return cls(
            frozenset(
                Action("*" if resource == "all" else resource, verb)
                for resource, verbs in by_resource.items()
                for verb in verbs
            )
        )

    def allow(self, action: Action) -> bool:
        """Whether the action is among them."""
        return _holds(self.verbs, action) and not _holds(self.denied, action)

    def intersection(self, other: "Permissions") -> "Permissions":
        """What both allow."""
        common = (
            action
            for action in self.verbs | other.verbs
            if _holds(self.verbs, action) and _holds(other.verbs, action)
        )
        return Permissions(frozenset(common), self.denied | other.denied)

    def union(self, other: "Permissions") -> "Permissions":
        """What either allows."""
        denied = (
            action for action in self.denied | other.denied if not (self.allow(action) or other.allow(action))
        )
        return Permissions(self.verbs | other.verbs, frozenset(denied))

    def without(self, denied: Iterable[Action]) -> "Permissions":
        """The same, less these."""
        return Permissions(self.verbs, self.denied | frozenset(denied))


SITE_RESOURCES = frozenset(
    {
        "Node",
        "Account",
        "Client",
        "Policy",
        "Share",
        "AuditTrail",
        "Setting",
        "Workitem",
        "Message",
        "Job",
        "Glass",
        "Download",
    }
)
"""What a site runs on, beside clinical types; `*` in a scope does not reach them."""


def _holds(actions: frozenset[Action], action: Action) -> bool:
    return action in actions or (
        action.resource not in SITE_RESOURCES and Action("*", action.verb) in actions
    )


EVERYTHING = Permissions(
    frozenset(Action(resource, verb) for resource in ("*", *SITE_RESOURCES) for verb in "cruds")
)


@dataclass(frozen=True, slots=True)
class Clause:
    """Rows that have every one of these; None leaves a dimension open, an empty set matches nothing."""

    institutions: frozenset[str] | None = None
    departments: frozenset[str] | None = None
    patients: frozenset[str] | None = None  # logical ids of Patient documents
    persons: frozenset[int] | None = None  # persons of the master patient index
    studies: frozenset[str] | None = None  # Study Instance UIDs
    series: frozenset[str] | None = None  # Series Instance UIDs
    modalities: frozenset[str] | None = None
    documents: frozenset[str] | None = None  # references such as DiagnosticReport/x
    study_dates: tuple[date | None, date | None] | None = None  # both ends included
    resource_types: frozenset[str] | None = None  # the clause is about these types only; None: all
    except_patients: frozenset[str] | None = None  # none of these; a consent that denies, for one
    except_studies: frozenset[str] | None = None
    except_types: frozenset[str] | None = None
    labels: frozenset[str] | None = None  # security labels, `system|code` or `code`: one of these at least
    except_labels: frozenset[str] | None = None
    search: str = ""  # a granular scope's own query (SMART 2.2, `?category=...`), read by records.search
    verbs: frozenset[str] | None = None  # of cruds; the clause opens rows for these only


OPEN = Clause()


@dataclass(frozen=True, slots=True)
class Reach:
    """The rows a caller may know of: every limit must be met, each by one of its clauses."""

    limits: tuple[frozenset[Clause], ...] = ()

    @classmethod
    def everywhere(cls) -> "Reach":
        """No limit."""
        return cls()

    @classmethod
    def nowhere(cls) -> "Reach":
        """Nothing at all."""
        return cls((frozenset(),))

    def narrowed(self, *clauses: Clause) -> "Reach":
        """Also limited to what one of the clauses holds; with no clause, to nothing."""
        return Reach((*self.limits, frozenset(clauses)))

    def for_verb(self, verb: str) -> "Reach":
        """What it holds for one of cruds: clauses of other verbs are gone, and no clause names verbs."""
        if all(clause.verbs is None for limit in self.limits for clause in limit):
            return self
        limits = (
            frozenset(replace(each, verbs=None) for each in limit if each.verbs is None or verb in each.verbs)
            for limit in self.limits
        )
        return Reach(tuple(limit for limit in limits if OPEN not in limit))

    @property
    def is_everywhere(self) -> bool:
        """Whether there is no limit."""
        return not self.limits

    @property
    def is_nowhere(self) -> bool:
        """Whether some limit cannot be met."""
        return frozenset() in self.limits


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, from where, what for, and what that may touch."""

    principal: Principal
    door: Door
    permissions: Permissions
    reach: Reach = field(default_factory=Reach.nowhere)  # of all verbs; rooms ask `reach_for`
    address: str = ""  # network address it came from
    purpose: str = "TREAT"  # purpose of use (HL7 v3 PurposeOfUse)
    grant: str = ""  # id of the token, session or share it shows; never the secret itself

    def may(self, action: Action) -> bool:
        """Whether the action is permitted at all, before any row is looked at."""
        return self.permissions.allow(action)

    def require(self, action: Action) -> None:
        """Raise Forbidden unless the action is permitted."""
        if not self.may(action):
            raise Forbidden(str(action), "Ask the administrator for the right, or the app for the scope.")

    def reach_for(self, verb: str) -> Reach:
        """The rows on which one of cruds may be done, where the action is permitted at all."""
        return self.reach.for_verb(verb)

    def narrowed(self, *clauses: Clause) -> "Caller":
        """The same caller with a smaller reach."""
        return replace(self, reach=self.reach.narrowed(*clauses))

    def through(self, door: Door) -> "Caller":
        """The same caller seen at another door."""
        return replace(self, door=door)


def operator(institution: str = "", name: str = "") -> Caller:
    """Whoever runs the command line on the server: everything, and audited like everyone."""
    return Caller(
        Principal(PrincipalKind.OPERATOR, name or "operator", name or "operator", institution),
        Door.SHELL,
        EVERYTHING,
        Reach.everywhere(),
    )


def system(task: str) -> Caller:
    """cloudfilm itself, doing a job."""
    return Caller(Principal(PrincipalKind.SYSTEM, task, task), Door.SYSTEM, EVERYTHING, Reach.everywhere())


def clauses_for(institutions: Iterable[str] | None) -> tuple[Clause, ...]:
    """One clause for a set of institutions; None means no limit, as an open clause."""
    return (Clause(institutions=None if institutions is None else frozenset(institutions)),)
