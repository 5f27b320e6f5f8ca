"""The one decision: principal, role, scopes and context give what a caller may do and how far it reaches.

Pure: no clock, no database. What a token can do is what its holder's role can do, and its scopes, and the
context of its launch; each narrows, none widens (SMART 2.2: scopes delegate, they never exceed the user's
own rights).
"""

from collections.abc import Mapping

from access.caller import Caller, Clause, Door, Permissions, Principal, Reach
from access.roles import ROLES, Role, Span
from access.scopes import Scope, permissions_of

NO_ROLE = Role("", Permissions(), Span.NOTHING)


def decide(
    principal: Principal,
    door: Door,
    *,
    scopes: tuple[Scope, ...] | None = None,
    context: Mapping[str, str] | None = None,
    granted: tuple[Clause, ...] = (),
    address: str = "",
    grant: str = "",
) -> Caller:
    """Make the Caller.

    scopes: of the token; None for a browser session of the account itself, which has all that its role has.
    context: of the launch (`patient`). granted: clauses of what was shared with the principal or is its own.
    """
    role = ROLES.get(principal.role, NO_ROLE)
    permissions = role.permissions
    reach = _span(role.span, principal, granted)
    if scopes is not None:
        permissions = permissions.intersection(permissions_of(scopes))
        reach = _scoped(reach, scopes, context or {})
    return Caller(principal, door, permissions, reach, address=address, grant=grant)


def _span(span: Span, principal: Principal, granted: tuple[Clause, ...]) -> Reach:
    everywhere = Reach.everywhere()
    if span is Span.ALL:
        return everywhere
    if span is Span.INSTITUTION and principal.institution:
        return everywhere.narrowed(Clause(institutions=frozenset({principal.institution})), *granted)
    if span is Span.DEPARTMENT and principal.institution:
        own = Clause(
            institutions=frozenset({principal.institution}),
            departments=frozenset({principal.department}) if principal.department else None,
        )
        return everywhere.narrowed(own, *granted)
    if span is Span.GRANTED:
        return everywhere.narrowed(*granted)
    return Reach.nowhere()


def _scoped(reach: Reach, scopes: tuple[Scope, ...], context: Mapping[str, str]) -> Reach:
    """Limit a reach to what the scopes speak of: the patient in context, and the queries of granular
    scopes."""
    clauses: set[Clause] = set()
    for scope in scopes:
        types = None if scope.resource == "*" else frozenset({scope.resource})
        patients = (
            frozenset({context["patient"]}) if scope.level == "patient" and "patient" in context else None
        )
        if scope.level == "patient" and patients is None:
            continue  # a patient scope without a patient in context opens nothing
        clauses.add(Clause(patients=patients, resource_types=types, search=scope.query))
    if Clause() in clauses:
        return reach
    return reach.narrowed(*clauses)
