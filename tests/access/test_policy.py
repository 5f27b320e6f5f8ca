"""The one decision: rules, consents and broken glass, each with its reason."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.accounts import sign_in
from access.caller import EVERYTHING, Action, Caller, Clause, Door, Permissions, Principal, PrincipalKind
from access.consents import CONFIDENTIALITY, Consent, Provision, read_consent
from access.policy import Decision, Site, decide
from access.roles import ROLES, Role, Span
from access.rules import RULES, InvalidPolicy, Rule, parse_actions, parse_rules
from access.scopes import Scope
from access.site import (
    InvalidConsent,
    NoReason,
    break_glass,
    keep_consent,
    review_glass,
    unreviewed_glass,
)
from access.site_documents import document_history, put_document, roll_back_document
from access.tokens import SESSION, Access, caller_of
from kernel.clock import FixedClock
from kernel.errors import Forbidden
from tests.access.conftest import PASSWORD, MakeAccount

READ, DELETE = Action("ImagingStudy", "r"), Action("ImagingStudy", "d")
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)  # Monday, 12:00 in Shanghai


def person(role: str = "radiologist", **more: Any) -> Principal:
    return Principal(PrincipalKind.ACCOUNT, "a1", "Reader", "MAIN", "CT", role, **more)


def decided(rules: str | None = None, role: str = "radiologist", **more: Any) -> Decision:
    site = Site(parse_rules(rules) if rules else (), more.pop("consents", ()))
    return decide(person(role), Door.DICOMWEB, site=site, **{"at": NOON, "address": "10.1.2.3", **more})


def rule(deny: list[str] | None = None, **when: Any) -> str:
    return json.dumps(
        {"rules": [{"id": "r1", "reason": "Because.", "when": when, "deny": deny or ["ImagingStudy.r"]}]}
    )


@pytest.mark.parametrize(
    ("when", "refuses"),
    [
        ({}, True),
        ({"roles": ["radiologist"]}, True),
        ({"roles": ["physician"]}, False),
        ({"principals": ["a1"]}, True),
        ({"principals": ["Reader"]}, True),
        ({"principals": ["somebody"]}, False),
        ({"institutions": ["OTHER"]}, False),
        ({"departments": ["CT"]}, True),
        ({"doors": ["dicomweb"]}, True),
        ({"doors": ["fhir"]}, False),
        ({"purposes": ["ETREAT"]}, False),
        ({"inside": ["10.0.0.0/8"]}, True),
        ({"inside": ["192.168.0.0/16"]}, False),
        ({"outside": ["10.0.0.0/8"]}, False),
        ({"outside": ["192.168.0.0/16"]}, True),
        ({"hours": ["08:00", "18:00"]}, True),
        ({"hours": ["18:00", "08:00"]}, False),
        ({"hours": ["12:00", "12:01"]}, True),
        ({"hours": ["11:00", "12:00"]}, False),
        ({"days": [1]}, True),
        ({"days": [6, 7]}, False),
        ({"hours": ["03:00", "05:00"], "zone": "UTC"}, True),
    ],
)
def test_a_rule_holds_when_all_of_its_conditions_do(when: dict[str, Any], refuses: bool) -> None:
    refusals = decided(rule(**when), login="reader").refusals(READ)

    assert [step.name for step in refusals] == (["rule:r1"] if refuses else [])
    assert all(step.reason == "Because." for step in refusals)


def test_an_address_that_cannot_be_read_counts_as_outside() -> None:
    assert decided(rule(outside=["10.0.0.0/8"]), address="10.0.0.1, 1.2.3.4").refusals(READ)
    assert not decided(rule(inside=["0.0.0.0/0"]), address="unknown").refusals(READ)


def test_a_rule_may_limit_rows_instead() -> None:
    document = {"rules": [{"id": "ct", "reason": "CT only.", "only": [{"modalities": ["CT"]}]}]}
    reach = decided(json.dumps(document)).caller.reach

    assert frozenset({Clause(modalities=frozenset({"CT"}))}) in reach.limits


@pytest.mark.parametrize(
    "document",
    [
        "", "[]", "{}", "null", '{"rules": {}}', '{"rules": [1]}', '{"rules": [], "more": 1}', "[" * 5000,
        '{"rules": [{"id": "a", "reason": "x"}]}',
        '{"rules": [{"reason": "x", "deny": ["*.*"]}]}',
        '{"rules": [{"id": "a", "reason": "x", "deny": ["nonsense"]}]}',
        '{"rules": [{"id": "a", "reason": "x", "deny": ["*.*"], "when": {"role": ["x"]}}]}',
        '{"rules": [{"id": "a", "reason": "x", "deny": ["*.*"], "when": {"roles": ["king"]}}]}',
        '{"rules": [{"id": "a", "reason": "x", "deny": ["*.*"], "when": {"roles": "physician"}}]}',
        '{"rules": [{"id": "a", "reason": "x", "deny": ["*.*"], "when": {"inside": ["10.0.0.0/40"]}}]}',
        '{"rules": [{"id": "a", "reason": "x", "deny": ["*.*"], "when": {"hours": ["25:00", "1"]}}]}',
        '{"rules": [{"id": "a", "reason": "x", "deny": ["*.*"], "when": {"days": [8]}}]}',
        '{"rules": [{"id": "a", "reason": "x", "deny": ["*.*"], "when": {"zone": "Nowhere/X"}}]}',
        '{"rules": [{"id": "a", "reason": "x", "only": [{"search": ["x"]}]}]}',
        '{"rules": [{"id":"a","reason":"x","deny":["*.r"]},{"id":"a","reason":"x","deny":["*.r"]}]}',
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_read_is_refused_whole(document: str) -> None:
    with pytest.raises(InvalidPolicy):
        parse_rules(document)


ACTIONS = st.sampled_from(
    [READ, DELETE, Action("Patient", "u"), Action("Account", "r"), Action("Share", "c")]
)
ANY_RULE = st.builds(
    Rule,
    id=st.uuids().map(str),
    reason=st.just("x"),
    roles=st.frozensets(st.sampled_from(sorted(ROLES)), max_size=3),
    deny=st.frozensets(ACTIONS, max_size=3),
    only=st.none() | st.frozensets(st.just(Clause(modalities=frozenset({"CT"}))), max_size=1),
)
SCOPES = st.none() | st.tuples(
    st.sampled_from([Scope("user", "*", "rs"), Scope("user", "ImagingStudy", "r")])
)


@given(st.sampled_from(sorted(ROLES)), st.lists(ANY_RULE, max_size=3), ANY_RULE, SCOPES, ACTIONS)
def test_adding_a_rule_or_a_scope_never_widens(
    role: str, rules: list[Rule], more: Rule, scopes: tuple[Scope, ...] | None, action: Action
) -> None:
    before = decide(person(role), Door.WEB, site=Site(tuple(rules)), at=NOON).caller
    after = decide(person(role), Door.WEB, site=Site((*rules, more)), scopes=scopes, at=NOON).caller

    assert before.may(action) or not after.may(action)
    assert set(before.reach.limits) <= set(after.reach.limits)
    assert ROLES[role].permissions.allow(action) or not after.may(action)


MORE_SCOPES = st.lists(
    st.builds(
        Scope,
        st.sampled_from(["patient", "user"]),
        st.sampled_from(["*", "ImagingStudy", "Observation"]),
        st.sampled_from(["r", "rs", "u", "cruds"]),
        st.sampled_from(["", "modality=CT", "modality=MR"]),
    ),
    max_size=4,
)
TYPES, PATIENTS, MODALITIES = ("ImagingStudy", "Observation"), ("p1", "p2"), ("CT", "MR")
ROW = st.tuples(st.sampled_from(TYPES), st.sampled_from(PATIENTS), st.sampled_from(MODALITIES))


@given(MORE_SCOPES, st.sampled_from("cruds"), st.sampled_from([{}, {"patient": "p1"}]), ROW)
def test_a_scope_opens_its_own_verbs_on_its_own_rows(
    scopes: list[Scope], verb: str, context: dict[str, str], row: tuple[str, str, str]
) -> None:
    everybody = Role("operator", EVERYTHING, Span.ALL)
    caller = decide(person(), Door.FHIR, scopes=tuple(scopes), context=context, role=everybody).caller
    type_, patient, modality = row

    reached = caller.may(Action(type_, verb)) and all(
        any(
            type_ in (clause.resource_types or {type_})
            and patient in (clause.patients or {patient})
            and clause.search in ("", f"modality={modality}")
            for clause in limit
        )
        for limit in caller.reach_for(verb).limits
    )

    assert reached == any(
        verb in scope.verbs
        and scope.resource in ("*", type_)
        and (scope.level == "user" or context.get("patient") == patient)
        and scope.query in ("", f"modality={modality}")
        for scope in scopes
    )


@given(st.sampled_from(sorted(ROLES)), st.lists(ANY_RULE, max_size=3), SCOPES, ACTIONS)
def test_a_refusal_has_a_reason_and_a_permission_has_none_against_it(
    role: str, rules: list[Rule], scopes: tuple[Scope, ...] | None, action: Action
) -> None:
    decision = decide(person(role), Door.WEB, site=Site(tuple(rules)), scopes=scopes, at=NOON)

    assert decision.caller.may(action) == (not decision.refusals(action))


def test_the_three_administrators_have_nothing_in_common_and_no_clinical_data() -> None:
    three = [ROLES[f"{name}_administrator"] for name in ("system", "security", "audit")]
    for one in three:
        assert one.span is Span.NOTHING
        for other in three:
            assert one is other or not one.permissions.intersection(other.permissions).verbs


# Consents


def consent(effect: str = "deny", **more: Any) -> Consent:
    return Consent("p1", Provision(effect, **more.pop("base", {})), tuple(more.pop("exceptions", ())))


NOT_P1 = frozenset({Clause(except_patients=frozenset({"p1"}))})


def test_a_consent_that_denies_takes_the_patient_out_of_reach() -> None:
    assert NOT_P1 in decided(consents=(consent(),)).caller.reach.limits


@pytest.mark.parametrize(
    ("base", "is_denied"),
    [
        ({"actors": frozenset({"radiologist"})}, True),
        ({"actors": frozenset({"Organization/MAIN"})}, True),
        ({"actors": frozenset({"a1"})}, True),
        ({"actors": frozenset({"Practitioner/other"})}, False),
        ({"purposes": frozenset({"TREAT"})}, True),
        ({"purposes": frozenset({"HRESCH"})}, False),
        ({"ends": NOON}, False),
        ({"ends": NOON + timedelta(seconds=1)}, True),
        ({"starts": NOON + timedelta(seconds=1)}, False),
        ({"starts": NOON}, True),
    ],
)
def test_a_consent_is_about_its_actors_purposes_and_period(base: dict[str, Any], is_denied: bool) -> None:
    assert (NOT_P1 in decided(consents=(consent(base=base),)).caller.reach.limits) == is_denied


def test_an_exception_for_one_actor_stands_over_the_base() -> None:
    excused = consent(exceptions=(Provision("permit", frozenset({"a1"})),))

    assert NOT_P1 not in decided(consents=(excused,)).caller.reach.limits
    assert NOT_P1 in decide(
        Principal(PrincipalKind.ACCOUNT, "a2", "", "MAIN", "CT", "radiologist"),
        Door.WEB,
        site=Site((), (excused,)),
        at=NOON,
    ).caller.reach.limits  # fmt: skip


def test_a_denied_study_leaves_the_others() -> None:
    denied = consent("permit", exceptions=(Provision("deny", studies=frozenset({"1.2"})),))
    (limit,) = decided(consents=(denied,)).caller.reach.limits[1:]

    assert Clause(except_patients=frozenset({"p1"})) in limit
    assert any(clause.except_studies == frozenset({"1.2"}) for clause in limit)


SENSITIVE = "http://terminology.hl7.org/CodeSystem/v3-ActCode|HIV"


@pytest.mark.parametrize(
    ("base", "exception", "label", "opened"),  # "-": what has no label
    [
        ("permit", "deny", "R", "-ULMN"),
        ("permit", "deny", "N", "ULM"),
        ("permit", "deny", "U", ""),
        ("permit", "deny", SENSITIVE, "-ULMNRV"),
        ("deny", "permit", "R", "-ULMNR"),
        ("deny", "permit", "N", "-ULMN"),
        ("deny", "permit", "L", "UL"),
        ("deny", "permit", SENSITIVE, "S"),
    ],
)
def test_a_consent_tells_security_labels_apart(base: str, exception: str, label: str, opened: str) -> None:
    """A confidentiality is a high water mark; other labels are meant one by one."""

    def name(code: str) -> frozenset[str]:
        named = {"-": "", "S": SENSITIVE}.get(code, f"{CONFIDENTIALITY}|{code}" if len(code) == 1 else code)
        return frozenset({named} - {""})

    said = consent(base, exceptions=(Provision(exception, labels=name(label)),))
    reach = decided(consents=(said,)).caller.reach

    def is_open(labels: frozenset[str]) -> bool:
        return all(
            any(
                clause.except_patients is None
                and (clause.labels is None or bool(labels & clause.labels))
                and not labels & (clause.except_labels or frozenset())
                for clause in limit
            )
            for limit in reach.limits
        )

    codes = "-ULMNRV" + ("S" if label == SENSITIVE else "")
    assert "".join(code for code in codes if is_open(name(code))) == opened


@pytest.mark.parametrize(
    "narrowing", [{"dataPeriod": {"start": "2020"}}, {"code": [{"text": "x"}]}, {"provision": [{}]}]
)
def test_a_permit_that_is_narrowed_in_a_way_that_is_not_read_opens_nothing(narrowing: dict[str, Any]) -> None:
    permit = {"type": "permit", "actor": [{"reference": {"reference": "a1"}}], **narrowing}

    excusing = read_consent(fhir_consent(provision={"type": "deny", "provision": [permit]}))
    assert excusing is not None
    assert NOT_P1 in decided(consents=(excusing,)).caller.reach.limits
    if "provision" not in narrowing:  # a base has exceptions, which are read
        opening = read_consent(fhir_consent(provision=permit))
        assert opening is not None
        assert decided(role="expert", consents=(opening,)).caller.reach.is_nowhere


def test_a_permit_opens_something_only_for_whom_it_names() -> None:
    named = Consent("p9", Provision("permit", frozenset({"a1"})))
    unnamed = Consent("p9", Provision("permit"))

    opened = decided(role="expert", consents=(named,)).caller.reach
    assert opened.limits[0] == frozenset({Clause(patients=frozenset({"p9"}))})
    assert decided(role="expert", consents=(unnamed,)).caller.reach.is_nowhere


def test_a_patient_always_reaches_its_own_records() -> None:
    assert NOT_P1 not in decided(role="patient", consents=(consent(),)).caller.reach.limits


def test_a_proxy_does_not_reach_what_the_patient_denies() -> None:
    """A guardian's account opens the patient's studies, and not those that the patient keeps to itself."""
    label = frozenset({f"{CONFIDENTIALITY}|R"})
    restricted = consent("permit", exceptions=(Provision("deny", frozenset({"proxy"}), labels=label),))
    own = (Clause(patients=frozenset({"p1"})),)

    proxy = decided(role="proxy", consents=(restricted,), granted=own).caller
    assert proxy.reach.limits[0] == frozenset(own)
    assert any(clause.except_labels and label <= clause.except_labels for clause in proxy.reach.limits[1])
    assert decided(role="patient", consents=(restricted,), granted=own).caller.reach.limits == (
        frozenset(own),
    )
    assert NOT_P1 in decided(role="proxy", consents=(consent(),), granted=own).caller.reach.limits


def fhir_consent(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "status": "active",
        "patient": {"reference": "Patient/p1"},
        "provision": {"type": "deny", "period": {"start": "2026-01-01", "end": "2026-03"}},
        **more,
    }


def test_a_fhir_consent_is_read_to_the_end_of_its_last_day() -> None:
    read = read_consent(fhir_consent())

    assert read is not None
    assert read.base.effect == "deny"
    assert read.base.ends == datetime(2026, 4, 1, tzinfo=UTC)
    assert read_consent(fhir_consent(status="inactive")) is None


@pytest.mark.parametrize(
    "provision", [{"period": {"start": "x"}}, {"actor": [1]}, {"period": []}, {"data": "x"}]
)
def test_a_consent_that_would_have_no_effect_is_not_kept(access: Access, provision: Any) -> None:
    with access.database.transaction() as session, pytest.raises(InvalidConsent):
        keep_consent(access.clock.now(), session, "c1", fhir_consent(provision=provision))


# In force


def enter(access: Access, login: str) -> str:
    return sign_in(access, login, PASSWORD, "10.0.0.1").secret


def ask(access: Access, secret: str) -> Caller:
    return caller_of(access, secret, (SESSION,), Door.WEB, "10.0.0.1")


def test_a_rule_and_a_consent_hold_for_living_sessions_from_the_next_request_on(
    access: Access, operator: Caller, make_account: MakeAccount
) -> None:
    make_account("reader", "radiologist", institution="MAIN")
    secret = enter(access, "reader")
    assert ask(access, secret).may(READ)

    put_document(access, operator, RULES, rule(roles=["radiologist"]), "no reading today")
    assert not ask(access, secret).may(READ)
    put_document(access, operator, RULES, '{"rules": []}', "again")
    assert ask(access, secret).may(READ)
    roll_back_document(access, operator, RULES, 1)
    assert not ask(access, secret).may(READ)
    assert [version.number for version in document_history(access, operator, RULES)] == [3, 2, 1]

    with access.database.transaction() as session:
        keep_consent(access.clock.now(), session, "c1", fhir_consent())
    assert NOT_P1 in ask(access, secret).reach.limits
    with access.database.transaction() as session:
        keep_consent(access.clock.now(), session, "c1", None)
    assert NOT_P1 not in ask(access, secret).reach.limits


def test_a_rule_names_people_as_they_sign_in(
    access: Access, operator: Caller, make_account: MakeAccount
) -> None:
    make_account("reader", "radiologist")
    make_account("other", "radiologist")
    put_document(access, operator, RULES, rule(principals=["Reader"]), "one")

    def caller(login: str) -> Caller:
        return caller_of(access, sign_in(access, login, PASSWORD, "").secret, (SESSION,), Door.WEB, "")

    assert not caller("reader").may(READ)
    assert caller("other").may(READ)


def test_the_rules_of_the_guide_are_rules() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
    (written,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)

    assert [each.id for each in parse_rules(written)] == ["night", "trial"]


def test_only_a_security_administrator_changes_rules(access: Access, make_account: MakeAccount) -> None:
    make_account("reader", "radiologist")

    with pytest.raises(Forbidden):
        put_document(access, ask(access, enter(access, "reader")), RULES, rule())


def test_broken_glass_opens_one_patient_for_a_while_and_waits_for_review(
    access: Access, operator: Caller, make_account: MakeAccount, clock: FixedClock
) -> None:
    make_account("doctor", "physician", institution="MAIN", department="ER")
    secret = enter(access, "doctor")
    with access.database.transaction() as session:
        keep_consent(access.clock.now(), session, "c1", fhir_consent())
    opened = Clause(patients=frozenset({"p1"}))
    assert not any(opened in limit for limit in ask(access, secret).reach.limits)
    with pytest.raises(NoReason):
        break_glass(access, ask(access, secret), "p1", "   ", timedelta(hours=1))

    break_glass(access, ask(access, secret), "p1", "Unconscious in the emergency room", timedelta(minutes=20))

    assert all(opened in limit for limit in ask(access, secret).reach.limits)
    clock.advance(timedelta(minutes=21))
    assert not any(opened in limit for limit in ask(access, secret).reach.limits)
    (waiting,) = unreviewed_glass(access, operator)
    review_glass(access, operator, waiting.id, "justified")
    assert unreviewed_glass(access, operator) == ()


@pytest.mark.parametrize("role", ["patient", "referrer", "security_administrator", "expert"])
def test_who_is_no_clinical_staff_of_the_house_does_not_break_glass(
    access: Access, make_account: MakeAccount, role: str
) -> None:
    make_account("other", role)

    with pytest.raises(Forbidden):
        break_glass(access, ask(access, enter(access, "other")), "p1", "a good reason", timedelta(hours=1))


def test_broken_glass_never_opens_what_scopes_closed() -> None:
    scopes = (Scope("patient", "*", "rs"),)
    decision = decided(scopes=scopes, context={"patient": "p2"}, glass=frozenset({"p1"}))

    assert decision.caller.reach.limits[-1] == frozenset({Clause(patients=frozenset({"p2"}))})


def test_actions_are_written_as_in_scopes() -> None:
    assert parse_actions("ImagingStudy.rs") == (READ, Action("ImagingStudy", "s"))
    assert Permissions().without(parse_actions("*.*")).verbs == frozenset()
    with pytest.raises(ValueError, match="not an action"):
        parse_actions("ImagingStudy.x")
