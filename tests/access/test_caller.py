"""Permissions and reach: what narrows, narrows; what is denied, stays denied."""

import ast
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.caller import (
    EVERYTHING,
    SITE_RESOURCES,
    Action,
    Caller,
    Clause,
    Door,
    Permissions,
    Principal,
    PrincipalKind,
    Reach,
)
from kernel.errors import Forbidden
from tests.access.test_outgoing import sources

RESOURCES = st.sampled_from(["*", "ImagingStudy", "Patient", "Share", "Account"])
ACTIONS = st.builds(Action, RESOURCES, st.sampled_from(list("cruds")))
PERMISSIONS = st.builds(Permissions, st.frozensets(ACTIONS, max_size=6), st.frozensets(ACTIONS, max_size=2))
SINGLE = ACTIONS.filter(lambda action: action.resource != "*")


@given(PERMISSIONS, PERMISSIONS, SINGLE)
def test_an_intersection_allows_what_both_allow(one: Permissions, other: Permissions, action: Action) -> None:
    assert one.intersection(other).allow(action) == (one.allow(action) and other.allow(action))


@given(PERMISSIONS, PERMISSIONS, SINGLE)
def test_a_union_allows_nothing_that_neither_allows(
    one: Permissions, other: Permissions, action: Action
) -> None:
    if one.union(other).allow(action):
        assert one.allow(action) or other.allow(action)


@given(PERMISSIONS, st.frozensets(ACTIONS, max_size=3), SINGLE)
def test_denying_never_widens(one: Permissions, denied: frozenset[Action], action: Action) -> None:
    if one.without(denied).allow(action):
        assert one.allow(action)
        assert action not in denied


def test_the_star_of_a_scope_does_not_reach_what_the_site_runs_on() -> None:
    clinical = Permissions.of(all="cruds")

    assert clinical.allow(Action("Observation", "r"))
    assert not any(clinical.allow(Action(resource, "r")) for resource in SITE_RESOURCES)
    assert all(EVERYTHING.allow(Action(resource, "r")) for resource in SITE_RESOURCES)


def test_a_reach_is_narrowed_and_never_forgets_a_limit() -> None:
    reach = Reach.everywhere().narrowed(Clause(institutions=frozenset({"A"})))
    narrower = reach.narrowed(Clause(patients=frozenset({"p"})))

    assert narrower.limits[: len(reach.limits)] == reach.limits
    assert Reach.everywhere().is_everywhere
    assert reach.narrowed().is_nowhere
    assert Reach.nowhere().narrowed(Clause()).is_nowhere


def test_a_caller_without_the_right_is_refused_by_name_of_the_action() -> None:
    caller = Caller(Principal(PrincipalKind.ACCOUNT, "a"), Door.WEB, Permissions.of(ImagingStudy="r"))

    caller.require(Action("ImagingStudy", "r"))
    with pytest.raises(Forbidden, match=r"ImagingStudy\.d"):
        caller.require(Action("ImagingStudy", "d"))


def test_a_clause_of_some_verbs_opens_its_rows_for_these_only() -> None:
    ct, mr = (Clause(modalities=frozenset({each})) for each in ("CT", "MR"))
    reach = Reach.everywhere().narrowed(replace(ct, verbs=frozenset("rs")), replace(mr, verbs=frozenset("u")))

    assert [reach.for_verb(verb) for verb in "ru"] == [Reach((frozenset({each}),)) for each in (ct, mr)]
    assert reach.for_verb("d").is_nowhere
    assert reach.narrowed(Clause(verbs=frozenset("r"))).for_verb("r") == reach.for_verb("r")


def test_no_door_and_no_room_takes_a_reach_without_saying_what_for() -> None:
    """A caller's reach is that of a verb everywhere outside of this room: `caller.reach_for("r")`."""
    taken = [
        f"{name}:{node.lineno}"
        for name, module in sources()
        for node in ast.walk(module)
        if not name.startswith("access/")
        and isinstance(node, ast.Attribute)
        and node.attr == "reach"
        and ast.unparse(node.value) != "subscriber"  # a row's text
    ]

    assert taken == []
