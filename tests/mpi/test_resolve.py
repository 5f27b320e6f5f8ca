"""Who is who, through the one entrance."""

from dataclasses import replace
from datetime import date

import pytest
from sqlalchemy import event, func, select

from access.caller import Caller
from cloudfilm.rooms import Rooms
from mpi.candidates import hashes_of
from mpi.demographics import Authority, Demographics, Identifier
from mpi.features import features_of
from mpi.identity_number import check_digit
from mpi.links import CannotMerge, decide_review, link, merge, unlink, unmerge
from mpi.matching import UnknownDomain, UnknownIdentifier, cross_reference, match
from mpi.model import BlockKey, Link, MergeEvent, PatientRecord, ReviewItem
from mpi.persons import golden_record, sources_of
from mpi.resolve import Identified, State, identify
from mpi.review import open_reviews

NUMBER = "51010419850612001" + check_digit("51010419850612001")
ZHANG = Demographics(
    "HIS1", "1001", "H1", "Zhang^Wei=张^伟", date(1985, 6, 12), "M", NUMBER, "510412345678", "13912345678",
    "四川省成都市锦江区青龙街道学府路306号", authority=Authority.REGISTRATION,
)  # fmt: skip
ELSEWHERE = replace(ZHANG, issuer="HIS2", identifier="77", institution="H2")


def said_by(rooms: Rooms, operator: Caller, said: Demographics) -> Identified:
    with rooms.database.transaction() as session:
        return identify(rooms.mpi, session, operator, said)


def test_a_number_that_is_known_is_one_select_and_no_write(rooms: Rooms, operator: Caller) -> None:
    said_by(rooms, operator, ZHANG)
    statements: list[str] = []
    with rooms.database.transaction() as session:
        session.execute(select(1))
        event.listen(session.get_bind(), "before_cursor_execute", lambda *seen: statements.append(seen[2]))
        found = identify(rooms.mpi, session, operator, ZHANG)
        session.flush()
        seen = list(statements)
    assert found.state is State.KNOWN
    assert len(seen) == 1
    assert seen[0].startswith("SELECT")


def test_the_same_person_at_two_hospitals_is_linked(rooms: Rooms, operator: Caller) -> None:
    first = said_by(rooms, operator, ZHANG)
    second = said_by(rooms, operator, replace(ELSEWHERE, name="=張偉", address="", phone=""))
    assert (first.state, second.state) == (State.NEW, State.LINKED)
    assert first.person_id == second.person_id
    assert first.patient_id != second.patient_id


def test_a_number_that_another_source_knows_too_leads_to_its_record(rooms: Rooms, operator: Caller) -> None:
    first = said_by(rooms, operator, Demographics("EMR", "77", "H1", "=张伟", sex="M"))
    both = Demographics(
        "HIS1",
        "1001",
        "H1",
        "=张伟",
        date(1985, 6, 12),
        "M",
        other_identifiers=(Identifier("EMR", "77", "MR"),),
    )
    second = said_by(rooms, operator, both)
    third = said_by(rooms, operator, replace(both, issuer="LIS", identifier="5", birth_date=None))
    assert {each.person_id for each in (first, second, third)} == {first.person_id}
    assert (second.state, third.state) == (State.LINKED, State.LINKED)
    other = replace(both, issuer="RIS", identifier="6", name="=李娜", sex="F", birth_date=date(1990, 2, 3))
    assert said_by(rooms, operator, other).person_id != first.person_id


def test_why_two_records_were_linked_is_kept(rooms: Rooms, operator: Caller) -> None:
    said_by(rooms, operator, ZHANG)
    second = said_by(rooms, operator, ELSEWHERE)
    with rooms.database.snapshot() as session:
        kept = session.scalar(select(Link).where(Link.patient_record_id == second.patient_record_id))
    assert kept is not None
    assert '"identity": ["same"' in kept.scores
    assert kept.weights_version == rooms.mpi.scorer.weights.version


def test_namesakes_stay_apart(rooms: Rooms, operator: Caller) -> None:
    first = said_by(rooms, operator, ZHANG)
    other = Demographics("HIS2", "8", "H2", "=张伟", date(1962, 1, 9), "M", phone="13711112222")
    assert said_by(rooms, operator, other).person_id != first.person_id


def test_twins_are_never_linked(rooms: Rooms, operator: Caller) -> None:
    home = {
        "phone": "13912345678",
        "address": "四川省成都市锦江区学府路306号",
        "birth_date": date(2015, 5, 1),
    }
    first = said_by(rooms, operator, Demographics("HIS1", "1", "H1", "=李明轩", sex="M", **home))  # type: ignore[arg-type]
    second = said_by(rooms, operator, Demographics("HIS2", "2", "H2", "=李明浩", sex="M", **home))  # type: ignore[arg-type]
    assert first.person_id != second.person_id


def test_a_child_with_its_parents_number_is_not_the_parent(rooms: Rooms, operator: Caller) -> None:
    first = said_by(rooms, operator, ZHANG)
    child = replace(ELSEWHERE, name="=李子轩", insurance_number="", birth_date=None)
    assert said_by(rooms, operator, child).person_id != first.person_id
    child = replace(child, identifier="78", birth_date=date(2019, 3, 1))
    assert said_by(rooms, operator, child).person_id != first.person_id


def test_twins_of_whom_the_year_alone_is_known_are_never_linked(rooms: Rooms, operator: Caller) -> None:
    home = {"phone": "13912345678", "address": "四川省成都市锦江区学府路306号", "sex": "M"}
    first, second = (
        said_by(rooms, operator, Demographics(f"HIS{at}", "1", "H1", name, born, **home))  # type: ignore[arg-type]
        for at, (name, born) in enumerate((("=李明轩", date(2015, 5, 1)), ("=李明浩", date(2015, 1, 1))))
    )
    assert first.person_id != second.person_id


@pytest.mark.parametrize(
    "names",
    [
        ("Baby Boy A Smith", "Baby Boy B Smith"),
        ("Smith^Baby Boy", "Smith^Baby Boy"),
        ("=李娜之子1", "=李娜之子2"),
        ("=李娜之大双", "=李娜之小双"),
    ],
)
def test_newborn_twins_are_never_linked(rooms: Rooms, operator: Caller, names: tuple[str, str]) -> None:
    home = {"phone": "13912345678", "address": "12 Main Street Springfield", "birth_date": date(2026, 1, 5)}
    first, second = (
        said_by(rooms, operator, Demographics(f"HIS{at}", "1", "H1", name, sex="M", **home))  # type: ignore[arg-type]
        for at, name in enumerate(names)
    )
    assert first.person_id != second.person_id


@pytest.mark.parametrize("name", ["李娜之子", "李娜"])
def test_a_newborn_is_never_linked_by_itself(rooms: Rooms, operator: Caller, name: str) -> None:
    home = {"phone": "13912345678", "address": "四川省成都市锦江区学府路306号"}
    born = date(2026, 1, 5) if name != "李娜" else date(1995, 2, 3)
    first = said_by(rooms, operator, Demographics("HIS1", "1", "H1", f"={name}", born, "M", **home))  # type: ignore[arg-type]
    newborn = Demographics("HIS2", "2", "H2", "=李娜之子", date(2026, 1, 5), "M", **home)  # type: ignore[arg-type]
    assert said_by(rooms, operator, newborn).person_id != first.person_id


def test_a_header_that_contradicts_the_registration_is_held_apart(rooms: Rooms, operator: Caller) -> None:
    first = said_by(rooms, operator, ZHANG)
    header = Demographics("HIS1", "1001", "H1", "Li^Na=李^娜", date(1990, 1, 2), "F")
    held = said_by(rooms, operator, header)
    again = said_by(rooms, operator, header)
    assert held.state is again.state is State.HELD
    assert held.patient_record_id == again.patient_record_id != first.patient_record_id
    reviews, total = open_reviews(rooms.mpi, operator)
    assert total == 1
    assert reviews[0].kind == "conflict"


def test_a_registration_that_contradicts_an_earlier_header_gets_the_number(
    rooms: Rooms, operator: Caller
) -> None:
    header = Demographics("HIS1", "1001", "H1", "Li^Na=李^娜", date(1990, 1, 2), "F")
    imaged = said_by(rooms, operator, header)
    registered = said_by(rooms, operator, ZHANG)
    assert registered.patient_record_id != imaged.patient_record_id
    assert said_by(rooms, operator, ZHANG).patient_record_id == registered.patient_record_id
    assert said_by(rooms, operator, header).patient_record_id == imaged.patient_record_id
    assert open_reviews(rooms.mpi, operator)[1] == 1


def test_a_header_spelt_otherwise_is_no_contradiction_and_changes_nothing(
    rooms: Rooms, operator: Caller
) -> None:
    first = said_by(rooms, operator, ZHANG)
    header = Demographics("HIS1", "1001", "H1", "ZHANG WEI", date(1985, 6, 12), "M")
    assert said_by(rooms, operator, header).patient_record_id == first.patient_record_id
    with rooms.database.snapshot() as session:
        (source,) = sources_of(rooms.mpi, session, first.person_id)
    assert source.said == ZHANG


def test_what_is_empty_changes_nothing_and_what_is_erased_goes(rooms: Rooms, operator: Caller) -> None:
    first = said_by(rooms, operator, ZHANG)
    update = Demographics("HIS1", "1001", "H1", authority=Authority.REGISTRATION, erased=frozenset({"phone"}))
    said_by(rooms, operator, update)
    with rooms.database.snapshot() as session:
        (source,) = sources_of(rooms.mpi, session, first.person_id)
    assert (source.said.name, source.said.phone) == (ZHANG.name, "")


def test_a_record_that_changes_is_found_by_what_it_says_now_and_its_old_keys_by_their_hashes(
    rooms: Rooms, operator: Caller
) -> None:
    """Not by its number alone: no index has that, and a million records have seventeen million keys."""
    first = said_by(rooms, operator, ZHANG)
    statements: list[str] = []
    married = replace(ZHANG, name="Li^Na=李^娜", phone="13811112222", address="重庆市渝中区人民路1号")
    with rooms.database.transaction() as session:
        engine = session.get_bind()
        event.listen(engine, "before_cursor_execute", lambda *seen: statements.append(seen[2]))
        identify(rooms.mpi, session, operator, married)
    (gone,) = [each for each in statements if each.startswith("DELETE FROM block_key")]
    assert "hash IN" in gone
    with rooms.database.snapshot() as session:
        keys = session.scalars(
            select(BlockKey.hash).where(BlockKey.patient_record_id == first.patient_record_id)
        )
        assert sorted(keys) == sorted(hashes_of(rooms.mpi.keys, features_of(married)))


def test_patients_without_a_number_are_not_one_patient(rooms: Rooms, operator: Caller) -> None:
    one = said_by(rooms, operator, Demographics("H1", "", "H1", "Wang^Fang"))
    other = said_by(rooms, operator, Demographics("H1", "", "H1", "Li^Na"))
    nameless = [said_by(rooms, operator, Demographics("H1", "", "H1")) for _ in range(2)]
    assert len({found.patient_record_id for found in (one, other, *nameless)}) == 4
    assert said_by(rooms, operator, Demographics("H1", "", "H1", "Wang^Fang")) == replace(
        one, state=State.KNOWN, is_changed=False
    )


def test_a_merge_leads_the_old_number_to_the_survivor_and_can_be_taken_back(
    rooms: Rooms, operator: Caller
) -> None:
    old = said_by(rooms, operator, Demographics("HIS1", "999", "H1", "=王芳", date(1970, 1, 2)))
    new = said_by(rooms, operator, ZHANG)
    with rooms.database.transaction() as session:
        merged = merge(rooms.mpi, session, operator, replace(ZHANG, identifier="999"), ZHANG, "A40")
        assert merged is not None
        event_id = merged.id
    assert said_by(rooms, operator, replace(ZHANG, identifier="999")).patient_id == new.patient_id
    with rooms.database.transaction() as session:
        unmerge(rooms.mpi, session, operator, event_id)
    with rooms.database.snapshot() as session:
        row = session.get_one(PatientRecord, old.patient_record_id)
        event = session.get_one(MergeEvent, event_id)
    assert (row.replaced_by, row.person_id) == (None, old.person_id)
    assert event.undone_at is not None


def test_a_number_cannot_be_merged_into_itself_or_into_another_domain(rooms: Rooms, operator: Caller) -> None:
    with rooms.database.transaction() as session:
        with pytest.raises(CannotMerge):
            merge(rooms.mpi, session, operator, ZHANG, ZHANG, "A40")
        with pytest.raises(CannotMerge):
            merge(rooms.mpi, session, operator, ELSEWHERE, ZHANG, "A40")


def test_an_unlinked_record_stays_apart_when_it_changes(rooms: Rooms, operator: Caller) -> None:
    said_by(rooms, operator, ZHANG)
    second = said_by(rooms, operator, ELSEWHERE)
    with rooms.database.transaction() as session:
        own = unlink(rooms.mpi, session, operator, second.patient_id)
    changed = said_by(rooms, operator, replace(ELSEWHERE, phone="13700001234"))
    assert changed.person_id == own != second.person_id


def test_a_link_by_hand_joins_all_records_of_both(rooms: Rooms, operator: Caller) -> None:
    first = said_by(rooms, operator, ZHANG)
    other = said_by(rooms, operator, Demographics("HIS3", "5", "H3", "=张三", date(1940, 2, 2), "M"))
    with rooms.database.transaction() as session:
        link(rooms.mpi, session, operator, first.patient_id, other.patient_id)
    with rooms.database.snapshot() as session:
        assert len(sources_of(rooms.mpi, session, first.person_id)) == 2


@pytest.mark.parametrize("same_person", [True, False])
def test_a_review_is_decided_once(rooms: Rooms, operator: Caller, same_person: bool) -> None:
    said_by(rooms, operator, ZHANG)
    held = said_by(rooms, operator, Demographics("HIS1", "1001", "H1", "Li^Na=李^娜", date(1990, 1, 2), "F"))
    (review,), _ = open_reviews(rooms.mpi, operator)
    with rooms.database.transaction() as session:
        decide_review(rooms.mpi, session, operator, review.id, same_person=same_person)
    with rooms.database.snapshot() as session:
        assert session.scalar(select(func.count()).where(ReviewItem.state == "open")) == 0
        row = session.get_one(PatientRecord, held.patient_record_id)
    assert (row.replaced_by is not None) is same_person


def test_the_golden_record_takes_each_field_from_the_best_source(rooms: Rooms, operator: Caller) -> None:
    first = said_by(rooms, operator, replace(ZHANG, phone="13800000000"))
    said_by(rooms, operator, replace(ELSEWHERE, authority=Authority.ORDER, phone="13912345678"))
    with rooms.database.snapshot() as session:
        golden = golden_record(sources_of(rooms.mpi, session, first.person_id))
    assert golden.demographics.phone == "13912345678"
    assert golden.source_of["name"] == first.patient_id


def test_a_person_is_found_by_description_and_by_another_domains_number(
    rooms: Rooms, operator: Caller
) -> None:
    first = said_by(rooms, operator, ZHANG)
    second = said_by(rooms, operator, ELSEWHERE)
    found = match(rooms.mpi, operator, replace(ZHANG, issuer="", identifier="", insurance_number=""))
    assert {one.patient_id for one in found} == {first.patient_id, second.patient_id}
    assert found[0].grade == "certain"
    (other,) = cross_reference(rooms.mpi, operator, "HIS1", "1001", ("HIS2",))
    assert (other.identifier, other.patient_id) == ("77", second.patient_id)
    with pytest.raises(UnknownIdentifier):
        cross_reference(rooms.mpi, operator, "HIS1", "nobody")
    with pytest.raises(UnknownDomain):
        cross_reference(rooms.mpi, operator, "nowhere", "1001")
