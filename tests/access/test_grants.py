"""Grants: who is let in, what a visitor reaches, how it ends; codes, tries and limits."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from access.caller import Caller, Door, Principal, PrincipalKind
from access.family import add_person, list_persons, remove_person
from access.grant_model import PhoneChallenge, ShareGrant
from access.grants import (
    InvalidTerms,
    Made,
    NoSuchShare,
    Terms,
    list_grants,
    own_patients,
    revoke_grant,
    visit_of,
)
from access.model import AuditEntry
from access.phone_codes import (
    LetIn,
    LinkExpired,
    WrongCode,
    begin_opening,
    enter_by_code,
    enter_by_passcode,
    enter_freely,
    send_code,
)
from access.rates import TooOften
from access.share_policy import SHARING, InvalidSharePolicy, parse_sharing
from access.site_documents import put_document
from archive.exams import list_exams
from archive.model import Study
from archive.shares import relation_of, share_accession_number, share_studies
from cloudfilm.rooms import Rooms
from kernel.clock import FixedClock
from kernel.errors import Forbidden, Unauthenticated
from messaging.send import queue_message
from tests.sharing import FAMILY_PHONE, OTHER_PHONE, PHONE, last_code, sent, store, two_patients


def share(rooms: Rooms, caller: Caller, *studies: str, **terms: object) -> Made:
    return share_studies(
        rooms.archive,
        rooms.access,
        caller,
        studies,
        Terms(**{"binding": "bearer", **terms}),  # type: ignore[arg-type]
    )


def ask(rooms: Rooms, opening: str, phone: str, address: str = "10.0.0.1") -> None:
    send_code(
        rooms.access, opening, phone, address,
        lambda session, grant, number: relation_of(rooms.archive, rooms.access, session, grant, number),
        lambda session, number, template, values: _queue(rooms, session, number, template, values),
    )  # fmt: skip


def _queue(rooms: Rooms, session, number, template, values) -> None:  # type: ignore[no-untyped-def]
    queue_message(rooms.messaging, session, "sms", number, template, values)


def freely(rooms: Rooms, made: Made) -> LetIn:
    return enter_freely(rooms.access, begin_opening(rooms.access, made.secret, "10.0.0.1").secret, "10.0.0.1")


def test_a_visitor_is_a_caller_whose_reach_is_the_grant(rooms: Rooms, operator: Caller) -> None:
    a, *_ = two_patients(rooms)
    let_in = freely(rooms, share(rooms, operator, a))

    caller = visit_of(rooms.access, let_in.secret, "10.0.0.1").caller

    assert (caller.principal.kind, caller.door) == (PrincipalKind.VISITOR, Door.SHARE)
    assert [each.study_instance_uid for each in list_exams(rooms.archive, caller)] == [a]
    with pytest.raises(Forbidden):
        share(rooms, caller, a)  # sharing on is the patient's, not a recipient's


def test_the_secret_is_kept_nowhere(rooms: Rooms, operator: Caller) -> None:
    a, *_ = two_patients(rooms)
    made = share(rooms, operator, a)

    with rooms.database.engine.connect() as connection:
        for table in ("share_grant", "audit_entry", "change", "job", "share_item"):
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            assert made.secret not in repr(rows)
    assert len(made.secret) == 43


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_grant_that_ends_ends_for_who_is_in(
    rooms: Rooms, operator: Caller, clock: FixedClock, how: str
) -> None:
    a, *_ = two_patients(rooms)
    made = share(rooms, operator, a, days=1)
    let_in = freely(rooms, made)
    assert visit_of(rooms.access, let_in.secret, "")

    if how == "revoked":
        revoke_grant(rooms.access, operator, made.id)
    else:
        clock.advance(timedelta(days=1, seconds=1))

    with pytest.raises(Unauthenticated):
        visit_of(rooms.access, let_in.secret, "")
    with pytest.raises(LinkExpired):
        begin_opening(rooms.access, made.secret, "")


def test_a_clock_that_is_moved_back_does_not_lengthen_a_revoked_grant(
    rooms: Rooms, operator: Caller, clock: FixedClock
) -> None:
    a, *_ = two_patients(rooms)
    made = share(rooms, operator, a)
    let_in = freely(rooms, made)
    revoke_grant(rooms.access, operator, made.id)
    clock.advance(timedelta(hours=-5))

    with pytest.raises(Unauthenticated):
        visit_of(rooms.access, let_in.secret, "")


def test_unknown_expired_and_revoked_links_look_alike(
    rooms: Rooms, operator: Caller, clock: FixedClock
) -> None:
    a, *_ = two_patients(rooms)
    revoked, expired = share(rooms, operator, a), share(rooms, operator, a, days=1)
    revoke_grant(rooms.access, operator, revoked.id)
    clock.advance(timedelta(days=2))

    said = []
    for secret in (revoked.secret, expired.secret, "x" * 43, ""):
        with pytest.raises(LinkExpired) as refusal:
            begin_opening(rooms.access, secret, "")
        said.append(str(refusal.value))
    assert len(set(said)) == 1


def test_a_use_is_counted_when_a_visitor_comes_in_and_not_before(rooms: Rooms, operator: Caller) -> None:
    a, *_ = two_patients(rooms)
    made = share(rooms, operator, a, most_uses=1)
    for _ in range(3):  # previews of a link in a chat
        begin_opening(rooms.access, made.secret, "")
    let_in = freely(rooms, made)

    with pytest.raises(LinkExpired):
        begin_opening(rooms.access, made.secret, "")
    assert visit_of(rooms.access, let_in.secret, "")  # who is in stays in


def test_a_study_that_turns_out_to_be_another_patients_leaves_the_grant(
    rooms: Rooms, operator: Caller
) -> None:
    a, _, _, patient_b = two_patients(rooms)
    let_in = freely(rooms, share(rooms, operator, a))
    with rooms.database.transaction() as session:
        study = session.scalar(select(Study).where(Study.study_instance_uid == a))
        assert study is not None
        study.patient_logical_id = patient_b

    caller = visit_of(rooms.access, let_in.secret, "").caller

    assert list_exams(rooms.archive, caller) == ()


def test_studies_of_two_patients_are_not_shared_together(rooms: Rooms, operator: Caller) -> None:
    a, b, *_ = two_patients(rooms)

    with pytest.raises(InvalidTerms):
        share(rooms, operator, a, b)


def test_a_paper_code_opens_for_the_patients_phone_alone(rooms: Rooms, operator: Caller) -> None:
    two_patients(rooms)
    made = share_accession_number(rooms.archive, rooms.access, operator, "A0001", "MAIN", Terms())
    opening = begin_opening(rooms.access, made.secret, "").secret

    ask(rooms, opening, OTHER_PHONE)
    assert list(sent(rooms)) == []
    with pytest.raises(WrongCode):
        enter_by_code(rooms.access, opening, "000000", "")

    ask(rooms, opening, PHONE)
    assert [phone for phone, _ in sent(rooms)] == ["+86" + PHONE]
    let_in = enter_by_code(rooms.access, opening, last_code(rooms), "10.0.0.7")

    visit = visit_of(rooms.access, let_in.secret, "10.0.0.7")
    assert (visit.relation, visit.visitor) == ("patient", "138****5678")
    assert len(visit.studies) == 1
    assert len(visit.reports) == 1


def test_a_paper_code_is_printed_before_the_images_are_there(rooms: Rooms, operator: Caller) -> None:
    made = share_accession_number(rooms.archive, rooms.access, operator, "LATER-1", "MAIN", Terms())
    two_patients(rooms)
    uid = store(rooms, 7, AccessionNumber="LATER-1")
    opening = begin_opening(rooms.access, made.secret, "").secret

    ask(rooms, opening, PHONE)
    let_in = enter_by_code(rooms.access, opening, last_code(rooms), "")

    assert visit_of(rooms.access, let_in.secret, "").studies == (uid,)


def test_two_persons_under_one_accession_number_open_to_neither(rooms: Rooms, operator: Caller) -> None:
    two_patients(rooms)
    store(rooms, 8, AccessionNumber="TWICE")
    store(rooms, 9, PatientID="P2", PatientName="Li^Na=李^娜", AccessionNumber="TWICE")
    made = share_accession_number(rooms.archive, rooms.access, operator, "TWICE", "MAIN", Terms())
    opening = begin_opening(rooms.access, made.secret, "").secret

    ask(rooms, opening, PHONE)

    assert list(sent(rooms)) == []


def test_five_wrong_codes_kill_a_code_however_many_try_at_once(rooms: Rooms, operator: Caller) -> None:
    two_patients(rooms)
    made = share_accession_number(rooms.archive, rooms.access, operator, "A0001", "MAIN", Terms())
    opening = begin_opening(rooms.access, made.secret, "").secret
    ask(rooms, opening, PHONE)
    right = last_code(rooms)
    wrong = [f"{number:06d}" for number in range(200) if f"{number:06d}" != right][:60]
    outcomes: list[str] = []

    def guess(code: str) -> None:
        try:
            enter_by_code(rooms.access, opening, code, "10.9.9.9")
        except (WrongCode, LinkExpired) as refusal:
            outcomes.append(type(refusal).__name__)
        else:
            outcomes.append("in")

    threads = [threading.Thread(target=guess, args=(code,)) for code in wrong]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(outcomes) == {"WrongCode"}
    with rooms.database.snapshot() as session:
        assert session.scalar(select(PhoneChallenge.tries).where(PhoneChallenge.phone_index != "")) == 60
    with pytest.raises(WrongCode):
        enter_by_code(rooms.access, opening, right, "")  # the right one comes too late


def test_a_code_of_another_browser_or_time_opens_nothing(
    rooms: Rooms, operator: Caller, clock: FixedClock
) -> None:
    two_patients(rooms)
    made = share_accession_number(rooms.archive, rooms.access, operator, "A0001", "MAIN", Terms())
    mine = begin_opening(rooms.access, made.secret, "").secret
    theirs = begin_opening(rooms.access, made.secret, "").secret
    ask(rooms, mine, PHONE)
    code = last_code(rooms)

    with pytest.raises(WrongCode):
        enter_by_code(rooms.access, theirs, code, "")
    clock.advance(timedelta(seconds=301))
    with pytest.raises(WrongCode):
        enter_by_code(rooms.access, mine, code, "")


def test_codes_are_few_for_a_phone_whether_or_not_it_may_open(
    rooms: Rooms, operator: Caller, clock: FixedClock
) -> None:
    two_patients(rooms)
    made = share_accession_number(rooms.archive, rooms.access, operator, "A0001", "MAIN", Terms())
    for phone in (PHONE, OTHER_PHONE):
        opening = begin_opening(rooms.access, made.secret, "").secret
        ask(rooms, opening, phone)
        with pytest.raises(TooOften):
            ask(rooms, opening, phone)
        for _ in range(3):  # the refused one counted as well
            clock.advance(timedelta(seconds=61))
            ask(rooms, opening, phone)
        clock.advance(timedelta(seconds=61))
        with pytest.raises(TooOften):
            ask(rooms, opening, phone)
        clock.advance(timedelta(hours=1))
    assert len(list(sent(rooms))) == 4


def test_the_site_pays_for_no_more_codes_than_it_said(
    rooms: Rooms, operator: Caller, clock: FixedClock
) -> None:
    two_patients(rooms)
    put_document(rooms.access, operator, SHARING, '{"limits": {"sms_a_day": 2}}')
    made = share_accession_number(rooms.archive, rooms.access, operator, "A0001", "MAIN", Terms())
    opening = begin_opening(rooms.access, made.secret, "").secret
    for _ in range(4):
        ask(rooms, opening, PHONE)
        clock.advance(timedelta(seconds=61))

    assert len(list(sent(rooms))) == 2
    with rooms.database.engine.connect() as connection:
        told = connection.exec_driver_sql(
            "SELECT count(*) FROM change WHERE kind = 'sms-budget-spent'"
        ).scalar()
    assert told == 1


def test_a_passcode_has_ten_wrong_tries_in_its_whole_life(rooms: Rooms, operator: Caller) -> None:
    a, *_ = two_patients(rooms)
    made = share(rooms, operator, a, binding="passcode", passcode="crane-77")
    with pytest.raises(InvalidTerms):
        share(rooms, operator, a, binding="passcode", passcode="123")
    opening = begin_opening(rooms.access, made.secret, "").secret
    for number in range(9):
        with pytest.raises(WrongCode):
            enter_by_passcode(rooms.access, opening, f"wrong-{number}", "")
    assert enter_by_passcode(rooms.access, opening, " crane-77 ", "").grant_id == made.id

    opening = begin_opening(rooms.access, made.secret, "").secret
    for _ in range(2):
        with pytest.raises(WrongCode):
            enter_by_passcode(rooms.access, opening, "wrong", "")
    with pytest.raises(WrongCode):
        enter_by_passcode(rooms.access, opening, "crane-77", "")


def test_the_patient_names_family_and_takes_it_back(
    rooms: Rooms, operator: Caller, clock: FixedClock
) -> None:
    _, _, patient, other = two_patients(rooms)
    made = share_accession_number(rooms.archive, rooms.access, operator, "A0001", "MAIN", Terms())
    opening = begin_opening(rooms.access, made.secret, "").secret
    ask(rooms, opening, PHONE)
    caller = visit_of(
        rooms.access, enter_by_code(rooms.access, opening, last_code(rooms), "").secret, ""
    ).caller
    assert own_patients(caller) == {patient}
    person = add_person(rooms.access, caller, patient, FAMILY_PHONE, "张丽", "child")
    with pytest.raises(NoSuchShare):
        add_person(rooms.access, caller, other, FAMILY_PHONE, "张丽", "child")

    clock.advance(timedelta(seconds=61))
    opening = begin_opening(rooms.access, made.secret, "").secret
    ask(rooms, opening, FAMILY_PHONE)
    let_in = enter_by_code(rooms.access, opening, last_code(rooms), "")
    assert visit_of(rooms.access, let_in.secret, "").relation == "family"
    assert [each.phone for each in list_persons(rooms.access, caller, frozenset({patient}))] == [
        "137****1234"
    ]

    remove_person(rooms.access, caller, person)
    with pytest.raises(Unauthenticated):
        visit_of(rooms.access, let_in.secret, "")


def test_who_shares_sees_and_ends_its_own_and_nobody_elses(rooms: Rooms, operator: Caller) -> None:
    a, b, *_ = two_patients(rooms)
    mine = share(rooms, operator, a)
    principal = Principal(PrincipalKind.ACCOUNT, "x", institution="OTHER", role="physician")
    stranger = replace(operator, principal=principal, reach=operator.reach.narrowed())

    assert [seen.grant.id for seen in list_grants(rooms.access, operator, study=a)] == [mine.id]
    assert list_grants(rooms.access, operator, study=b) == ()
    assert list_grants(rooms.access, stranger) == ()
    with pytest.raises(NoSuchShare):
        revoke_grant(rooms.access, stranger, mine.id)


def test_every_step_is_in_the_audit_trail_with_address_and_masked_phone(
    rooms: Rooms, operator: Caller
) -> None:
    _, _, patient, _ = two_patients(rooms)
    made = share_accession_number(rooms.archive, rooms.access, operator, "A0001", "MAIN", Terms())
    opening = begin_opening(rooms.access, made.secret, "10.1.1.1").secret
    ask(rooms, opening, PHONE, "10.1.1.1")
    enter_by_code(rooms.access, opening, last_code(rooms), "10.1.1.1")

    with rooms.database.snapshot() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.grant == made.id)).all()
    assert [(each.action, each.principal_name, each.address) for each in entries] == [
        ("send code", "138****5678", "10.1.1.1"),
        ("open Share", "138****5678", "10.1.1.1"),
    ]
    assert {each.patient_id for each in entries} == {patient}
    assert PHONE not in repr([each.__dict__ for each in entries])


@pytest.mark.parametrize(
    "document",
    [
        "[]", '{"default": {"link_days": 0}}', '{"default": {"link_days": "7"}}', '{"default": {"no": 1}}',
        '{"default": {"bindings": ["anyone"]}}', '{"limits": {"tries": 0}}', '{"default": {"watermark": 1}}',
        '{"institutions": {"A": {"link_days": 100}}}',
    ],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_refused(document: str) -> None:
    with pytest.raises(InvalidSharePolicy):
        parse_sharing(document)


def test_an_institutions_policy_stands_over_the_default(rooms: Rooms, operator: Caller) -> None:
    a, *_ = two_patients(rooms)
    document = '{"default": {"download": true}, "institutions": {"MAIN": {"most_days": 7, "link_days": 2}}}'
    put_document(rooms.access, operator, SHARING, document)

    made = share(rooms, operator, a, download=True)
    with pytest.raises(InvalidTerms):
        share(rooms, operator, a, days=8)
    with rooms.database.snapshot() as session:
        grant = session.get(ShareGrant, made.id)
        assert grant is not None
        assert grant.expires_at - grant.created_at == timedelta(days=2)
