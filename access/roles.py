"""Roles: what each may do, and how far it reaches. One row holds all that is known of a role.

The three administrators of MLPS level 3 (GB/T 22239, system, security, audit) are apart, and none of
them sees clinical data; a site's policies may narrow a role further, never widen it.
"""

from dataclasses import dataclass
from enum import Enum, auto

from access.caller import EVERYTHING, Permissions


class Span(Enum):
    """How far a role reaches before policies narrow it."""

    ALL = auto()  # every institution
    INSTITUTION = auto()  # the principal's own institution
    DEPARTMENT = auto()  # the principal's own department in its institution
    GRANTED = auto()  # only what was shared with the principal, or is its own
    NOTHING = auto()  # no clinical data


@dataclass(frozen=True, slots=True)
class Role:
    """A row of the table of roles."""

    code: str
    permissions: Permissions
    span: Span
    types: frozenset[str] = frozenset()  # resource types that it reaches whole, beside its span


ADMINISTRATORS = ("system_administrator", "security_administrator", "audit_administrator")
"""Apart at MLPS level 3. An account has one role, so none holds two."""

BEYOND_SECURITY = frozenset({"operator", "audit_administrator"})
"""Whose accounts a security administrator does not touch: who watches it is not in its hands."""

PERSONAL = frozenset({"patient", "proxy"})
"""Who comes on a patient's behalf: the patient, or who acts for it, for whom the patient's consents hold."""

CLINICAL_READ = Permissions.of(all="rs")

ROLES = {
    role.code: role
    for role in (
        Role("operator", EVERYTHING, Span.ALL),
        Role(
            "system_administrator",
            Permissions.of(Node="cruds", Setting="cruds", Job="cruds", Message="rs", Workitem="rs"),
            Span.NOTHING,
        ),
        Role(
            "security_administrator",
            Permissions.of(Account="cruds", Client="cruds", Policy="cruds"),
            Span.NOTHING,
        ),
        Role(
            "audit_administrator",
            Permissions.of(AuditTrail="rs", AuditEvent="rs"),
            Span.NOTHING,
            frozenset({"AuditEvent"}),
        ),
        Role(
            "radiologist",
            CLINICAL_READ.union(
                Permissions.of(
                    ImagingStudy="cu",
                    DiagnosticReport="cu",
                    Observation="cu",
                    Share="crds",
                    Workitem="rus",
                    Glass="c",
                )
            ),
            Span.INSTITUTION,
        ),
        Role("physician", CLINICAL_READ.union(Permissions.of(Share="crds", Glass="c")), Span.DEPARTMENT),
        Role(
            "technician",
            CLINICAL_READ.union(
                Permissions.of(
                    ImagingStudy="cu", Patient="cu", Share="cr", Workitem="crus", Message="rs", Glass="c"
                )
            ),
            Span.INSTITUTION,
        ),
        Role("expert", CLINICAL_READ.union(Permissions.of(Observation="c", Communication="c")), Span.GRANTED),
        Role("referrer", CLINICAL_READ, Span.GRANTED),
        Role("patient", CLINICAL_READ.union(Permissions.of(Share="crds", Consent="cu")), Span.GRANTED),
        Role("proxy", CLINICAL_READ.union(Permissions.of(Share="crds")), Span.GRANTED),
        Role(
            "integration",
            Permissions.of(all="cruds", Workitem="cruds", Message="c", Share="crds"),
            Span.INSTITUTION,
        ),
    )
}
