"""The sign-in pages: certificates by the trusted proxy, forged headers, and what every page says."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from access.accounts import create_account, first_run_codes, set_certificate
from access.caller import Caller
from access.certificate import ensure_certificate
from access.model import AuditEntry
from access.second_factor import set_phone
from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock, SystemClock
from messaging.model import OutboundMessage
from tests.certificates import Authority

CHROMIUM = (  # what it asks for when somebody types an address
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def rooms(rooms: Rooms):  # type: ignore[no-untyped-def]
    """The same host behind a proxy at 10.9.9.9, with a clock that certificates know."""
    settings = replace(rooms.settings, web=replace(rooms.settings.web, trusted_proxies=("10.9.9.9",)))
    built = build_rooms(settings, SystemClock())
    yield built
    built.close()


@pytest.fixture
def browser(rooms: Rooms) -> FlaskClient:
    return create_app(rooms).test_client()


@pytest.fixture
def pem(rooms: Rooms, operator: Caller, tmp_path: Path) -> bytes:
    """The certificate of an account."""
    with rooms.database.transaction() as session:
        create_account(rooms.access, session, operator, "doctor", "Correct-Horse-7", "physician")
    content = ensure_certificate(tmp_path / "doctor").certificate.read_bytes()
    set_certificate(rooms.access, operator, "doctor", content)
    return content


def show(browser: FlaskClient, pem: bytes, address: str, verified: str = "SUCCESS") -> int:
    headers = {"X-SSL-Client-Verify": verified, "X-SSL-Client-Cert": quote(pem), **OWN_PAGE}
    return browser.post(
        "/sign-in/certificate", headers=headers, environ_overrides={"REMOTE_ADDR": address}
    ).status_code


def test_a_certificate_that_the_proxy_verified_signs_its_account_in(browser: FlaskClient, pem: bytes) -> None:
    assert show(browser, pem, "10.9.9.9") == 303
    assert browser.get("/my/access").status_code == 200


def test_an_account_gets_a_phone_and_a_certificate_on_its_page(
    rooms: Rooms, browser: FlaskClient, operator: Caller, tmp_path: Path
) -> None:
    password = "Correct-Horse-7"
    with rooms.database.transaction() as session:
        for login, role in (("guard", "security_administrator"), ("reader", "radiologist")):
            create_account(rooms.access, session, operator, login, password, role)
    browser.post("/sign-in", data={"login": "guard", "password": password}, headers=OWN_PAGE)
    shown = ensure_certificate(tmp_path / "reader").certificate.read_bytes()

    def said(**form: str) -> str:
        page = browser.post("/admin/accounts/reader?lang=en", data=form, headers=OWN_PAGE).text
        return page.partition("<h1>")[2].partition("<form")[0]

    assert "Not accepted" in said(act="give-phone", phone="12")
    assert "Code by text message" in said(act="give-phone", phone="138 0013 8000")
    assert "Not accepted" in said(act="give-certificate", certificate="none")
    assert "Radiologist · Code by text message · Certificate" in said(
        act="give-certificate", certificate=shown.decode()
    )
    assert show(create_app(rooms).test_client(), shown, "10.9.9.9") == 303
    said(act="give-phone", phone="")
    assert said(act="give-certificate", certificate="").rstrip().endswith("reader · Radiologist</p>")
    assert show(create_app(rooms).test_client(), shown, "10.9.9.9") == 401


@pytest.mark.parametrize(
    ("address", "verified"), [("10.1.1.1", "SUCCESS"), ("10.9.9.9", "FAILED:expired"), ("10.9.9.9", "NONE")]
)
def test_a_certificate_header_of_anybody_else_means_nothing(
    browser: FlaskClient, pem: bytes, address: str, verified: str
) -> None:
    assert show(browser, pem, address, verified) == 401
    assert browser.get("/my/access").status_code == 303


@pytest.mark.parametrize(
    "content", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_what_is_no_known_certificate_is_refused(browser: FlaskClient, pem: bytes, content: bytes) -> None:
    assert show(browser, content, "10.9.9.9") == 401


def test_a_strange_certificate_is_refused(browser: FlaskClient, pem: bytes, tmp_path: Path) -> None:
    other = ensure_certificate(tmp_path / "other").certificate.read_bytes()

    assert show(browser, other, "10.9.9.9") == 401


def test_a_revoked_certificate_signs_nobody_in_and_its_session_ends(
    rooms: Rooms, operator: Caller, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    with rooms.database.transaction() as session:
        create_account(rooms.access, session, operator, "doctor", "Correct-Horse-7", "physician")
    ours = authority.issue("doctor").certificate.read_bytes()
    set_certificate(rooms.access, operator, "doctor", ours)
    named = replace(
        rooms.settings,
        access=replace(rooms.settings.access, revocation_lists=(str(authority.revocation_list()),)),
        web=replace(rooms.settings.web, tls_client_ca=str(authority.certificate)),
    )
    clock = FixedClock(SystemClock().now())
    rooms = build_rooms(named, clock)
    browser = create_app(rooms).test_client()
    assert show(browser, ours, "10.9.9.9") == 303
    assert browser.get("/my/access").status_code == 200

    authority.revocation_list(authority.issue("doctor"))

    assert show(create_app(rooms).test_client(), ours, "10.9.9.9") == 401
    clock.advance(timedelta(minutes=1))
    assert browser.get("/my/access").status_code == 303
    with rooms.database.snapshot() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.action == "sign in")).all()
    assert [(each.outcome, each.detail[:38]) for each in entries] == [
        ("done", "swk"), ("refused", "certificate: its issuer revoked it, nu"),
    ]  # fmt: skip
    rooms.close()


@pytest.mark.parametrize(("address", "seen"), [("10.9.9.9", "203.0.113.7"), ("10.1.1.1", "10.1.1.1")])
def test_forwarded_addresses_are_believed_of_the_trusted_proxy_only(
    rooms: Rooms, browser: FlaskClient, address: str, seen: str
) -> None:

    browser.post(
        "/sign-in",
        data={"login": "nobody", "password": "x"},
        headers={"X-Forwarded-For": "203.0.113.7", **OWN_PAGE},
        environ_overrides={"REMOTE_ADDR": address},
    )
    with rooms.database.snapshot() as session:
        entry = session.scalars(select(AuditEntry).order_by(AuditEntry.seq.desc())).first()
    assert entry is not None
    assert entry.address == seen


def test_pages_forbid_framing_sniffing_foreign_scripts_and_referrers(browser: FlaskClient) -> None:
    headers = browser.get("/sign-in").headers

    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "no-store" in headers["Cache-Control"]
    assert "Strict-Transport-Security" not in headers
    secured = browser.get("/sign-in", base_url="https://film.example.org").headers
    assert secured["Strict-Transport-Security"].startswith("max-age=31536000")


def test_metadata_names_the_authorization_server_for_old_clients(browser: FlaskClient) -> None:
    (extension,) = browser.get("/fhir/metadata").get_json()["rest"][0]["security"]["extension"]
    named = {each["url"]: each["valueUri"] for each in extension["extension"]}

    assert named["token"] == "http://localhost/oauth/token"
    assert named["authorize"] == "http://localhost/oauth/authorize"


def test_a_code_by_text_message_is_asked_for_on_the_page(rooms: Rooms, operator: Caller) -> None:
    with rooms.database.transaction() as session:
        account_id = create_account(
            rooms.access, session, operator, "caller", "Correct-Horse-7", "radiologist"
        )
    set_phone(rooms.access, operator, account_id, "+8613800138000")
    browser = create_app(rooms).test_client()
    own_page = {"Sec-Fetch-Site": "same-origin"}
    begun = browser.post(
        "/sign-in?lang=en", data={"login": "caller", "password": "Correct-Horse-7"}, headers=own_page
    )
    assert "Send a code to my phone" in begun.get_data(as_text=True)

    sent = browser.post("/sign-in/sms?lang=en", headers=own_page)
    again = browser.post("/sign-in/sms?lang=en", headers=own_page)

    assert "A code is on its way" in sent.get_data(as_text=True)
    assert again.status_code == 429
    with rooms.database.snapshot() as session:
        (queued,) = session.scalars(select(OutboundMessage))
        assert (queued.channel, queued.template) == ("sms", "sign-in-code")
    assert create_app(rooms).test_client().post("/sign-in/sms", headers=own_page).status_code == 401


def test_who_chose_a_bad_password_for_the_first_account_chooses_again(
    rooms: Rooms, browser: FlaskClient
) -> None:
    code = first_run_codes(rooms.access)["operator"]
    form = {"code": code, "login": "first", "password": "password"}
    refused = browser.post("/set-up", data=form, headers=OWN_PAGE)
    page = refused.get_data(as_text=True)

    assert refused.status_code == 422
    assert '<form id="sign-in" method="post" action="/sign-in" hidden>' in page
    assert '<form id="set-up" method="post" action="/set-up">' in page
    assert f'name="code" value="{code}"' in page
    assert 'value="first"' in page
    again = browser.post("/set-up", data=form | {"password": "Correct-Horse-7"}, headers=OWN_PAGE)
    assert again.status_code == 303


def test_a_used_link_of_the_first_account_leads_to_the_sign_in(browser: FlaskClient) -> None:
    form = {"code": "used", "login": "first", "password": "Correct-Horse-7"}
    page = browser.post("/set-up", data=form, headers=OWN_PAGE).get_data(as_text=True)

    assert '<form id="sign-in" method="post" action="/sign-in">' in page


@pytest.mark.parametrize(("asked", "said"), [("zh-CN", "没有这个页面"), ("en-US", "There is no such page")])
def test_an_address_that_leads_nowhere_is_a_page_for_people_and_a_problem_for_programs(
    browser: FlaskClient, asked: str, said: str
) -> None:
    shown = browser.get("/nowhere", headers={"Accept": CHROMIUM, "Accept-Language": asked})
    told = browser.get("/nowhere", headers={"Accept": "*/*"})

    assert (shown.status_code, shown.mimetype) == (404, "text/html")
    assert said in shown.get_data(as_text=True)
    assert (told.status_code, told.mimetype) == (404, "application/problem+json")
