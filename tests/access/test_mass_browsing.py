"""Who looks at unusually many patients raises an alarm: replayed, with the threshold of the site."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from access.audit import note
from access.caller import Caller, Door, Permissions, Principal, PrincipalKind
from access.mass_browsing import MASS_BROWSING, InvalidThreshold, alarmed, parse_threshold, watch_browsing
from access.site_documents import put_document
from access.tokens import Access
from access.trail import TrailQuery, search_trail
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from tests.access.conftest import PASSWORD, MakeAccount


def person(name: str, kind: PrincipalKind = PrincipalKind.ACCOUNT) -> Caller:
    return Caller(Principal(kind, name, name), Door.DICOMWEB, Permissions())


def look(access: Access, caller: Caller, patients: int, action: str = "read ImagingStudy") -> None:
    with access.database.transaction() as session:
        for number in range(patients):
            note(session, access.clock, caller, action, f"1.2.{number}", patient_id=f"p{number}")


def alarms(access: Access, operator: Caller) -> list[str]:
    watch_browsing(access)
    return [row.subject for row in search_trail(access, operator, TrailQuery(action="alarm"))]


def test_who_reads_of_a_thousand_patients_raises_an_alarm_once(
    access: Access, operator: Caller, clock: FixedClock
) -> None:
    look(access, person("curious"), 1000)
    look(access, person("busy"), 200)
    look(access, person("PACS", PrincipalKind.NODE), 1000)

    assert alarms(access, operator) == ["account/curious"]
    assert alarms(access, operator) == ["account/curious"]  # not once more within the hour
    with access.database.snapshot() as session:
        assert alarmed(session, clock.now()) == 1
    clock.advance(timedelta(seconds=3700))
    with access.database.snapshot() as session:
        assert alarmed(session, clock.now()) == 0


def test_one_patient_read_often_and_what_is_long_ago_raise_none(
    access: Access, operator: Caller, clock: FixedClock
) -> None:
    for _ in range(300):
        look(access, person("thorough"), 1)
    look(access, person("slow"), 150)
    clock.advance(timedelta(seconds=3700))
    look(access, person("slow"), 150)

    assert alarms(access, operator) == []


def test_the_site_says_how_many_are_usual(access: Access, operator: Caller) -> None:
    look(access, person("curious"), 11)
    assert alarms(access, operator) == []
    put_document(access, operator, MASS_BROWSING, '{"patients_an_hour": 10}', "small house")

    assert alarms(access, operator) == ["account/curious"]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"patients_an_hour": 0}', '{"patients_an_hour": true}', '{"x": 1}']
)
def test_a_threshold_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidThreshold):
        parse_threshold(text)


def test_the_audit_page_and_the_figures_say_so(
    rooms: Rooms, access: Access, operator: Caller, make_account: MakeAccount
) -> None:
    make_account("auditor", "audit_administrator")
    browser: FlaskClient = create_app(rooms).test_client()
    browser.post(
        "/sign-in",
        data={"login": "auditor", "password": PASSWORD},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    calm = browser.get("/admin/audit?lang=en").text
    look(access, person("curious"), 201)
    watch_browsing(access)

    shown = browser.get("/admin/audit?lang=en").text
    assert 'role="status"' not in calm
    assert "looked at unusually many patients" in shown
    assert "account/curious" in shown
    assert "cloudfilm_mass_browsing 1.0" in browser.get("/metrics").text
