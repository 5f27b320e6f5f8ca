"""The one decision: who asks, with which scopes and context, from where and when, gives what it may do and
how far it reaches, with a reason for every step.

Pure: no clock, no database. A decision is made in steps, each of which narrows what the steps before it left:
role, the site's rules, consents, scopes, launch context (SMART 2.2: scopes delegate, they never exceed the
user's own rights). Only three things widen a reach, all of them within the role's permissions: what was
granted to the principal, a consent that names it, and breaking the glass; the last also opens what rules and
consents closed for that one patient, never what scopes closed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from access.caller import OPEN, Action, Caller, Clause, Door, Permissions, Principal, Reach
from access.consents import Consent, denied_by, permitted_by
from access.roles import ROLES, Role, Span
from access.rules import Rule
from access.scopes import Scope, permissions_of

NO_ROLE = Role("", Permissions(), Span.NOTHING)

PATIENT_IS_PERSONAL = frozenset({"patient"})  # roles whose own data no consent of theirs closes to them


@dataclass(frozen=True, slots=True)
class Site:
    """What a site has decided, as it stands now: its rules and its patients' consents."""

    rules: tuple[Rule, ...] = ()
    consents: tuple[Consent, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a decision: what it lets through, and why."""

    name: str  # role, sign-in, rule:<id>, consent, scope, break-glass
    reason: str
    permissions: Permissions | None = None  # what it allows at most; None: everything
    denied: frozenset[Action] = frozenset()
    limit: frozenset[Clause] | None = None  # the rows it leaves; None: all

    def lets(self, action: Action) -> bool:
        """Whether this step lets an action through."""
        permissions = self.permissions or Permissions(frozenset({action}))
        return permissions.without(self.denied).allow(action)


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, and the steps that led there."""

    caller: Caller
    steps: tuple[Step, ...]

    def refusals(self, action: Action) -> tuple[Step, ...]:
        """The steps that stand against an action; none: it is permitted."""
        return tuple(step for step in self.steps if not step.lets(action))


def decide(
    principal: Principal,
    door: Door,
    *,
    scopes: tuple[Scope, ...] | None = None,
    context: Mapping[str, str] | None = None,
    granted: tuple[Clause, ...] = (),
    glass: frozenset[str] = frozenset(),
    site: Site | None = None,
    address: str = "",
    at: datetime | None = None,
    purpose: str = "TREAT",
    grant: str = "",
    unproven: str = "",
    role: Role | None = None,
    login: str = "",
) -> Decision:
    """Make the Caller.

    scopes: of the token; None for a browser session of the account itself, which has all that its role has.
    context: of the launch (`patient`). granted: clauses of what was shared with the principal or is its own.
    role: in place of the one that the principal names; a node's own. login: of an account, for rules by name.
    unproven: why the sign-in does not count yet (a second factor is due); nothing is permitted until then.
    glass: patients for whom it broke the glass. at: aware; without it rules about times do not apply.
    """
    site = site or Site()
    role = role or ROLES.get(principal.role, NO_ROLE)
    steps = [_role_step(role, principal, granted, site, purpose, at)]
    if unproven:
        steps.append(Step("sign-in", unproven, Permissions()))
    steps += [
        Step(f"rule:{rule.id}", rule.reason, denied=rule.deny, limit=rule.only)
        for rule in site.rules
        if rule.applies(principal, door, address, purpose, at, login)
    ]
    steps += _consent_steps(principal, site, purpose, at)
    if glass:
        steps = [_opened(step, glass) for step in steps]
    if scopes is not None:
        steps.append(_scope_step(scopes, context or {}))
    return Decision(_caller(principal, door, steps, address, purpose, grant), tuple(steps))


def _caller(
    principal: Principal, door: Door, steps: Iterable[Step], address: str, purpose: str, grant: str
) -> Caller:
    permissions: Permissions | None = None
    reach = Reach.everywhere()
    for step in steps:
        if step.permissions is not None:
            permissions = step.permissions.intersection(permissions) if permissions else step.permissions
        permissions = (permissions or Permissions()).without(step.denied)
        if step.limit is not None:
            reach = reach.narrowed(*step.limit)
    return Caller(principal, door, permissions or Permissions(), reach, address, purpose, grant)


def _role_step(
    role: Role,
    principal: Principal,
    granted: tuple[Clause, ...],
    site: Site,
    purpose: str,
    at: datetime | None,
) -> Step:
    widened = (*granted, *permitted_by(site.consents, principal, purpose, at))
    reason = f"The role is {role.code or 'not known'}; it reaches {role.span.name.lower()}."
    return Step("role", reason, role.permissions, limit=_reached(role, principal, widened))


def _reached(role: Role, principal: Principal, granted: tuple[Clause, ...]) -> frozenset[Clause] | None:
    """The rows that a role reaches; None: all."""
    whole = frozenset({Clause(resource_types=role.types)}) if role.types else frozenset()
    return None if role.span is Span.ALL else _span(role.span, principal, granted) | whole


def _span(span: Span, principal: Principal, granted: tuple[Clause, ...]) -> frozenset[Clause]:
    if span is Span.NOTHING:
        return frozenset()
    own: tuple[Clause, ...] = ()
    if principal.institution and span in (Span.INSTITUTION, Span.DEPARTMENT):
        by_department = span is Span.DEPARTMENT and principal.department
        own = (
            Clause(
                institutions=frozenset({principal.institution}),
                departments=frozenset({principal.department}) if by_department else None,
            ),
        )
    return frozenset((*own, *granted))


def _consent_steps(principal: Principal, site: Site, purpose: str, at: datetime | None) -> list[Step]:
    if principal.role in PATIENT_IS_PERSONAL:
        return []
    return [
        Step("consent", "A patient's consent denies it.", limit=limit)
        for limit in denied_by(site.consents, principal, purpose, at)
    ]


def _opened(step: Step, glass: frozenset[str]) -> Step:
    if step.limit is None or (step.name == "role" and not step.limit):
        return step
    return Step(step.name, step.reason, step.permissions, step.denied, step.limit | {Clause(patients=glass)})


def _scope_step(scopes: tuple[Scope, ...], context: Mapping[str, str]) -> Step:
    """What the scopes speak of: the patient in context, and the queries of granular scopes, each for its own
    verbs. A scope of a patient opens nothing where none is in context."""
    clauses = [
        Clause(
            patients=frozenset({context["patient"]}) if scope.level == "patient" else None,
            resource_types=None if scope.resource == "*" else frozenset({scope.resource}),
            search=scope.query,
            verbs=frozenset(scope.verbs),
        )
        for scope in scopes
        if scope.level != "patient" or "patient" in context
    ]
    if len(clauses) == len(scopes) and len({(each.patients, each.search) for each in clauses}) == 1:
        clauses = [replace(clause, verbs=None) for clause in clauses]  # the permissions tell these apart
    reason = f"The token's scopes are {' '.join(map(str, scopes)) or 'none'}."
    limit = None if OPEN in clauses else frozenset(clauses)
    return Step("scope", reason, permissions_of(scopes), limit=limit)
