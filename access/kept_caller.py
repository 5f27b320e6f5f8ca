"""A caller as text: who began something that goes on without them, and how far that may reach.

Permissions and reach are kept as they stood, so that what is done later for somebody never reaches further.
"""

import json
from dataclasses import fields
from datetime import date
from typing import Any

from access.caller import Action, Caller, Clause, Door, Permissions, Principal, PrincipalKind, Reach


def caller_text(caller: Caller) -> str:
    """The caller as JSON."""
    principal = {field.name: getattr(caller.principal, field.name) for field in fields(Principal)}
    return json.dumps(
        {
            "principal": principal | {"kind": caller.principal.kind.value},
            "verbs": sorted([each.resource, each.verb] for each in caller.permissions.verbs),
            "denied": sorted([each.resource, each.verb] for each in caller.permissions.denied),
            "limits": [[_clause_value(clause) for clause in limit] for limit in caller.reach.limits],
            "address": caller.address,
            "purpose": caller.purpose,
            "grant": caller.grant,
        },
        ensure_ascii=False,
    )


def caller_from(text: str, door: Door = Door.FHIR) -> Caller:
    """The caller that a text keeps, seen at a door."""
    kept = json.loads(text)
    principal = kept["principal"] | {"kind": PrincipalKind(kept["principal"]["kind"])}
    return Caller(
        Principal(**principal),
        door,
        Permissions(
            frozenset(Action(resource, verb) for resource, verb in kept["verbs"]),
            frozenset(Action(resource, verb) for resource, verb in kept["denied"]),
        ),
        Reach(tuple(frozenset(_clause(each) for each in limit) for limit in kept["limits"])),
        kept["address"],
        kept["purpose"],
        kept["grant"],
    )


def _clause_value(clause: Clause) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(Clause):
        value = getattr(clause, field.name)
        if isinstance(value, frozenset):
            found[field.name] = sorted(value)
        elif isinstance(value, tuple):
            found[field.name] = [each.isoformat() if each else None for each in value]
        elif value:
            found[field.name] = value
    return found


def _clause(kept: dict[str, Any]) -> Clause:
    values: dict[str, Any] = {}
    for name, value in kept.items():
        if name == "study_dates":
            values[name] = tuple(date.fromisoformat(each) if each else None for each in value)
        else:
            values[name] = frozenset(value) if isinstance(value, list) else value
    return Clause(**values)
