"""A site's own rules: by role, person, institution, department, door, network, time and purpose.

A rule says when it applies and what it then takes away: actions (`deny`) or rows (`only`). Rules narrow and
never widen, so their order does not matter and adding one is always safe. The whole set is one document with
history (`access.site_documents`): exported, imported and rolled back as JSON.

    {"rules": [{"id": "night", "reason": "No downloads at night from outside the hospital.",
                "when": {"roles": ["physician"], "outside": ["10.0.0.0/8"], "hours": ["20:00", "07:00"]},
                "deny": ["ImagingStudy.r", "Share.*"]}]}
"""

import ipaddress
import json
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from access.caller import SITE_RESOURCES, Action, Clause, Door, Principal
from access.document_kind import DocumentKind
from access.roles import ROLES
from kernel.errors import CloudfilmError, Kind

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class InvalidPolicy(CloudfilmError):
    """A rule that cannot be read; says which and why."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class Rule:
    """When it applies (an empty set: always) and what it then takes away."""

    id: str
    reason: str
    roles: frozenset[str] = frozenset()
    principals: frozenset[str] = frozenset()  # sign-in names, AE titles, ids of apps and accounts; casefolded
    institutions: frozenset[str] = frozenset()
    departments: frozenset[str] = frozenset()
    doors: frozenset[str] = frozenset()
    purposes: frozenset[str] = frozenset()
    inside: tuple[Network, ...] = ()  # applies to addresses within one of these
    outside: tuple[Network, ...] = ()  # applies to addresses within none of these
    hours: tuple[time, time] | None = None  # from and until, local time; may go past midnight
    days: frozenset[int] = frozenset()  # 1 Monday to 7 Sunday
    zone: str = "Asia/Shanghai"
    deny: frozenset[Action] = frozenset()
    only: frozenset[Clause] | None = None

    def applies(
        self,
        principal: Principal,
        door: Door,
        address: str,
        purpose: str,
        at: datetime | None,
        login: str = "",
    ) -> bool:
        """Whether the rule speaks of this request. An address that cannot be read counts as outside.

        login: the name by which an account signs in.
        """
        names = {principal.id.casefold(), login.casefold()}
        named = (
            (self.roles, principal.role),
            (self.institutions, principal.institution),
            (self.departments, principal.department),
            (self.doors, door.value),
            (self.purposes, purpose),
        )
        return (
            all(not wanted or value in wanted for wanted, value in named)
            and (not self.principals or bool(self.principals & names))
            and (not self.inside or _within(address, self.inside))
            and (not self.outside or not _within(address, self.outside))
            and self._is_time(at)
        )

    def _is_time(self, at: datetime | None) -> bool:
        if self.hours is None and not self.days:
            return True
        if at is None:
            return False
        local = at.astimezone(ZoneInfo(self.zone))
        if self.days and local.isoweekday() not in self.days:
            return False
        if self.hours is None:
            return True
        first, last = self.hours
        now = local.time()
        return first <= now < last if first <= last else now >= first or now < last


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def parse_rules(document: str) -> tuple[Rule, ...]:
    """Read a policy document. Raises InvalidPolicy, naming the rule and what is wrong with it."""
    try:
        parsed = json.loads(document)
        rules = parsed["rules"]
        if not isinstance(rules, list) or set(parsed) - {"rules"}:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidPolicy('A policy document is {"rules": [...]}.') from None
    read = tuple(_rule(each) for each in rules)
    if len({rule.id for rule in read}) != len(read):
        raise InvalidPolicy("Two rules have the same id.")
    return read


def _rule(fields: Any) -> Rule:
    name = str(fields.get("id", ""))[:64] if isinstance(fields, dict) else ""
    if not name or set(fields) - {"id", "reason", "when", "deny", "only"}:
        raise InvalidPolicy(f"Rule {name!r}: write id, reason, when, and deny or only.")
    try:
        when = dict(fields.get("when", {}))
        rule = Rule(
            id=name,
            reason=str(fields["reason"]),
            roles=_strings(when.pop("roles", ())),
            principals=frozenset(map(str.casefold, _strings(when.pop("principals", ())))),
            institutions=_strings(when.pop("institutions", ())),
            departments=_strings(when.pop("departments", ())),
            doors=_strings(when.pop("doors", ())),
            purposes=_strings(when.pop("purposes", ())),
            inside=_networks(when.pop("inside", ())),
            outside=_networks(when.pop("outside", ())),
            hours=_hours(when.pop("hours", None)),
            days=frozenset(int(day) for day in when.pop("days", ())),
            zone=ZoneInfo(str(when.pop("zone", "Asia/Shanghai"))).key,
            deny=frozenset(action for text in fields.get("deny", ()) for action in parse_actions(text)),
            only=_clauses(fields.get("only")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as failure:
        raise InvalidPolicy(f"Rule {name!r}: {type(failure).__name__}: {failure}") from None
    unknown = rule.roles - set(ROLES) or set(when) or rule.doors - {door.value for door in Door}
    if unknown or not rule.days <= set(range(1, 8)):
        raise InvalidPolicy(f"Rule {name!r}: not known: {', '.join(sorted(map(str, unknown)))}.")
    if not rule.deny and rule.only is None:
        raise InvalidPolicy(f"Rule {name!r} takes nothing away: give deny or only.")
    return rule


def parse_actions(text: str) -> tuple[Action, ...]:
    """`ImagingStudy.r`, `*.d`, `Share.*`, and `*.*` for everything. Raises ValueError."""
    resource, _, verbs = text.rpartition(".")
    letters = "cruds" if verbs == "*" else verbs
    if not resource or not letters or set(letters) - set("cruds"):
        raise ValueError(f"{text!r} is not an action; write ImagingStudy.r")
    resources = ("*", *SITE_RESOURCES) if resource == "*" else (resource,)
    return tuple(Action(each, verb) for each in resources for verb in letters)


CLAUSE_FIELDS = frozenset({"institutions", "departments", "patients", "studies", "modalities",
                           "except_patients", "except_studies", "labels", "except_labels"})  # fmt: skip


def _clauses(choices: Any) -> frozenset[Clause] | None:
    if choices is None:
        return None
    clauses = set()
    for choice in choices:
        if set(choice) - CLAUSE_FIELDS:
            raise ValueError(f"only takes {', '.join(sorted(CLAUSE_FIELDS))}")
        named: dict[str, Any] = {name: _strings(values) for name, values in choice.items()}
        clauses.add(Clause(**named))
    return frozenset(clauses)


def _strings(values: Any) -> frozenset[str]:
    if isinstance(values, str):
        raise ValueError(f"{values!r} stands where a list is wanted")
    return frozenset(str(value) for value in values)


def _networks(values: Any) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(value, strict=False) for value in sorted(_strings(values)))


def _hours(pair: Any) -> tuple[time, time] | None:
    if pair is None:
        return None
    first, last = pair
    return time.fromisoformat(first), time.fromisoformat(last)


RULES = DocumentKind(
    "rules", "Who may do what, by role, place, time, purpose.", parse_rules, '{"rules": []}', "Policy"
)
