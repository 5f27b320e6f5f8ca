"""A patient's own account: password with a second factor, WeChat, e-mail; guesses, and whose it is."""

import json
import re

import pyotp
import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from access.accounts import create_account
from access.grants import InvalidTerms
from access.model import Account, SecondFactor
from messaging.gateways import put_gateways
from messaging.model import OutboundMessage
from tests.film_world import OWN_PAGE, World
from tests.settling import settle
from tests.sharing import OTHER_PHONE, PHONE, last_code, register, report

PASSWORD = "Heron-am-See-42"


def signed_in(world: World, phone: str = PHONE) -> FlaskClient:
    """A browser in which a patient signed in by a code to its phone."""
    browser = world.browser()
    world.tick(minutes=5)
    world.post(browser, "/patient/sign-in/code", phone=phone)
    world.post(browser, "/patient/sign-in/enter", code=last_code(world.rooms))
    return browser


def change(browser: FlaskClient, **form: str) -> tuple[int, str]:
    """Status and text of the account's page after a form."""
    answer = browser.post("/patient/account?lang=en", data=form, headers=OWN_PAGE)
    return answer.status_code, answer.get_data(as_text=True)


def test_a_password_is_chosen_after_a_code_and_needs_a_second_factor(world: World) -> None:
    browser = signed_in(world)
    assert change(browser, new="short")[0] == 422
    assert "password is set" in change(browser, new=PASSWORD)[1]
    assert change(browser, old="wrong", new="Another-Heron-7")[0] == 422

    other = world.browser()
    half = other.post("/sign-in", data={"login": "138 1234 5678", "password": PASSWORD}, headers=OWN_PAGE)
    assert other.get("/patient").status_code == 303  # the password alone opens nothing
    assert half.status_code == 200
    other.post("/sign-in/sms", headers=OWN_PAGE)
    assert other.post("/sign-in/code", data={"code": "000000"}, headers=OWN_PAGE).status_code == 401
    code = last_code(world.rooms)
    done = other.post("/sign-in/code", data={"code": code}, headers=OWN_PAGE)
    assert done.headers["Location"] == "/patient"
    assert other.get("/patient").status_code == 200
    wrong = world.browser().post(
        "/sign-in", data={"login": OTHER_PHONE, "password": PASSWORD}, headers=OWN_PAGE
    )
    assert wrong.status_code == 401


def test_an_authenticator_of_the_patients_own_is_a_second_factor(world: World) -> None:
    browser = signed_in(world, OTHER_PHONE)
    change(browser, new=PASSWORD)
    page = browser.post("/my/factor", headers=OWN_PAGE).get_data(as_text=True)
    factor = re.search(r'name="id" value="([\w-]+)"', page)
    assert factor
    with world.rooms.database.snapshot() as session:
        row = session.get_one(SecondFactor, factor[1])
    totp = pyotp.TOTP(world.rooms.keys.open_bytes(row.secret, f"totp {row.id}").decode())
    browser.post(
        "/my/factor", data={"id": row.id, "code": totp.at(world.rooms.clock.now())}, headers=OWN_PAGE
    )
    world.tick()

    other = world.browser()
    other.post("/sign-in", data={"login": OTHER_PHONE, "password": PASSWORD}, headers=OWN_PAGE)
    done = other.post("/sign-in/code", data={"code": totp.at(world.rooms.clock.now())}, headers=OWN_PAGE)
    assert done.headers["Location"] == "/patient"


def test_a_session_that_is_not_fresh_chooses_no_first_password(world: World) -> None:
    browser = signed_in(world, "13812345678")
    with world.rooms.database.transaction() as session:
        for account in session.scalars(select(Account).where(Account.role == "patient")):
            account.password = ""
    world.tick(minutes=16)

    assert change(browser, new=PASSWORD)[0] == 422


def test_an_address_is_told_of_reports_once_its_code_was_shown(world: World) -> None:
    gateways = {"email": {"host": "mail.example.org", "from": "film@example.org"}}
    put_gateways(world.rooms.messaging, world.operator, json.dumps(gateways))
    register(world.rooms, "P1", "张伟", PHONE, identity_number="11010519491231002X")
    settle(world.rooms)
    stranger, browser = signed_in(world, OTHER_PHONE), signed_in(world)
    claimed = browser.post("/patient/records", data={"name": "张伟", "number": "31002X"}, headers=OWN_PAGE)
    assert claimed.status_code == 303
    for wrong in ("x", "a@b", "a@b.c d", "a@b.example,c@d.example", "@example.org"):
        assert change(browser, email=wrong)[0] == 422
    assert "code was sent" in change(browser, email="wei@example.org")[1]
    code = last_code(world.rooms)
    assert "wrong" in change(browser, code="000000")[1]
    asked = browser.get_cookie("cloudfilm_email", path="/patient/account")
    assert asked
    stranger.set_cookie("cloudfilm_email", asked.value, path="/patient/account")
    assert "wrong" in change(stranger, code=code)[1]  # what one account asked for proves nothing for another
    assert "code was sent" in change(browser, email="wei@example.org")[1]
    assert "wei@example.org" in change(browser, code=last_code(world.rooms))[1]

    report(world.rooms, world.patient_a, "A0001-MAIL")
    settle(world.rooms)

    with world.rooms.database.snapshot() as session:
        rows = session.scalars(select(OutboundMessage).where(OutboundMessage.channel == "email")).all()
    told = {row.template: world.rooms.keys.open_bytes(row.recipient, f"message {row.id}") for row in rows}
    assert told["report-ready"] == b"wei@example.org"
    change(browser, forget="email")
    assert "wei@example.org" not in browser.get("/patient/account").get_data(as_text=True)


def test_a_share_for_one_account_opens_for_nobody_else(world: World) -> None:
    with world.rooms.database.transaction() as session:
        for login in ("dr.wang", "dr.li"):
            create_account(
                world.rooms.access, session, world.operator, login, "Correct-Horse-7", "radiologist",
                institution="MAIN",
            )  # fmt: skip
    _, secret = world.link(binding="account", account="Dr.Wang")
    _, of_patient = world.link(binding="account", account="139 8765 4321")

    def come(browser: FlaskClient, secret: str) -> int:
        world.post(browser, "/share/begin", secret=secret)
        return world.post(browser, "/share/enter", account=True).status_code

    def staff(login: str) -> FlaskClient:
        browser = world.browser()
        form = {"login": login, "password": "Correct-Horse-7"}
        browser.post("/sign-in", data=form, headers=OWN_PAGE)
        return browser

    assert come(world.browser(), secret) == 401
    assert come(staff("dr.li"), secret) == 401
    wang = staff("dr.wang")
    assert come(wang, of_patient) == 401
    assert come(wang, secret) == 200
    assert come(signed_in(world, OTHER_PHONE), of_patient) == 200  # its holder, by the phone of the account
    for way in ({"code": "000000"}, {"passcode": ""}, {"wechat": True}, {}):
        browser = staff("dr.wang")
        world.post(browser, "/share/begin", secret=secret)
        assert world.post(browser, "/share/enter", **way).status_code == 401
    with pytest.raises(InvalidTerms):
        world.link(binding="account")
