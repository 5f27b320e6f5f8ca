"""The console's pages: who sees which, what they do, and what they never let out."""

import csv
import io
import json
import re
from dataclasses import replace
from datetime import timedelta
from hashlib import md5
from html import unescape
from pathlib import Path

import pyotp
import pytest
from flask.testing import FlaskClient
from joserfc.jwk import ECKey
from sqlalchemy import select

from access.accounts import create_account
from access.audit import note
from access.caller import Caller
from access.model import Account, SecondFactor
from access.oauth.clients import list_clients
from access.site import break_glass
from access.tokens import ACCESS, issue
from archive.ingest import ingest
from archive.model import Study
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from messaging.model import Notice
from portal.catalogue import LANGUAGES, texts
from portal.console import MENU
from portal.film import local_time
from tests.builders import ROOT, ct_slice
from tests.settling import settle

PASSWORD = "Correct-Horse-7"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def browser(rooms: Rooms) -> FlaskClient:
    return create_app(rooms).test_client()


def enter(rooms: Rooms, browser: FlaskClient, operator: Caller, role: str, login: str = "person") -> str:
    with rooms.database.transaction() as session:
        account_id = create_account(rooms.access, session, operator, login, PASSWORD, role)
    answer = browser.post("/sign-in", data={"login": login, "password": PASSWORD}, headers=OWN_PAGE)
    assert answer.status_code == 303
    return account_id


ALLOWED = {
    "security_administrator": {"accounts", "documents", "glass", "explain", "clients", "sharing"},
    "audit_administrator": {"audit"},
    "system_administrator": {"nodes", "documents", "gateways"},
    "radiologist": {"apps", "emergency", "shares"},
    "patient": {"apps"},
}
OWN = {"mine", "password", "factor", "log", "order"}


@pytest.mark.parametrize("role", ALLOWED)
def test_each_role_sees_its_pages_and_is_refused_the_others(
    rooms: Rooms, browser: FlaskClient, operator: Caller, role: str
) -> None:
    enter(rooms, browser, operator, role)
    for name, path, _ in MENU:
        answer = browser.get(path)
        assert (answer.status_code == 200) == (name in ALLOWED[role] | OWN), path
        if answer.status_code == 200 and not path.startswith("/staff"):  # a page of its own kind
            linked = set(re.findall(r'<a href="(/(?:admin|my|staff)/[a-z]+)"', answer.get_data(as_text=True)))
            assert linked == {path for name, path, _ in MENU if name in ALLOWED[role] | OWN}


@pytest.mark.parametrize("path", [path for _, path, _ in MENU])
def test_who_is_not_signed_in_is_led_to_the_sign_in_page(browser: FlaskClient, path: str) -> None:
    answer = browser.get(path)

    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/sign-in?next=")


def test_an_account_is_added_and_disabled(rooms: Rooms, browser: FlaskClient, operator: Caller) -> None:
    enter(rooms, browser, operator, "security_administrator")
    values = {"login": "reader", "role": "radiologist", "password": PASSWORD, "name": "<script>x</script>"}
    added = browser.post("/admin/accounts", data=values, headers=OWN_PAGE).get_data(as_text=True)

    assert "&lt;script&gt;x" in added
    assert "<script>x" not in added
    browser.post("/admin/accounts/reader", data={"act": "disable"}, headers=OWN_PAGE)
    with rooms.database.snapshot() as session:
        assert session.scalars(select(Account.disabled).where(Account.login == "reader")).one()


def test_an_account_is_changed_on_its_page(rooms: Rooms, browser: FlaskClient, operator: Caller) -> None:
    enter(rooms, browser, operator, "security_administrator")
    with rooms.database.transaction() as session:
        create_account(rooms.access, session, operator, "reader", PASSWORD, "radiologist")
        create_account(rooms.access, session, operator, "auditor", PASSWORD, "audit_administrator")
    values = {"act": "change", "name": "Reader", "role": "physician", "institution": "B", "department": "ER"}
    browser.post("/admin/accounts/reader", data=values, headers=OWN_PAGE)
    browser.post(
        "/admin/accounts/reader", data={"act": "give-password", "password": "Given-Horse-1"}, headers=OWN_PAGE
    )

    with rooms.database.snapshot() as session:
        row = session.scalars(select(Account).where(Account.login == "reader")).one()
    assert (row.role, row.institution, row.department, row.must_change) == ("physician", "B", "ER", True)
    for act in ("disable", "forget-factors"):
        refused = browser.post("/admin/accounts/auditor", data={"act": act}, headers=OWN_PAGE)
        assert refused.status_code == 403
    assert browser.get("/admin/accounts/nobody").status_code == 404


def test_a_service_with_its_own_key_is_registered_on_the_page(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    enter(rooms, browser, operator, "security_administrator")
    key = ECKey.generate_key("P-384", {"kid": "k1", "use": "sig", "alg": "ES384"})
    sent = {
        "name": "Robot", "client_kind": "service", "method": "private_key_jwt",
        "scope": "system/ImagingStudy.rs",
    }  # fmt: skip

    def send(jwks: str) -> str:
        form = {**sent, "jwks": jwks}
        return browser.post("/admin/clients?lang=en", data=form, headers=OWN_PAGE).text

    assert "Not accepted" in send("{")
    assert "Robot" in send(json.dumps({"keys": [key.as_dict(private=False)]}))
    (robot,) = list_clients(rooms.access, operator)
    assert (robot.grant_types, robot.redirect_uris, robot.role) == (
        ("client_credentials",),
        (),
        "integration",
    )


@pytest.mark.parametrize(
    ("role", "begins"),
    [("radiologist", "/ohif/"), ("audit_administrator", "/admin/audit"), ("patient", "/patient")],
)
def test_the_front_page_leads_to_where_the_work_of_a_role_begins(
    rooms: Rooms, browser: FlaskClient, operator: Caller, role: str, begins: str
) -> None:
    assert browser.get("/").headers["Location"] == "/sign-in"
    enter(rooms, browser, operator, role)

    assert browser.get("/").headers["Location"] == begins
    assert '<a href="/">' in browser.get("/my/access").get_data(as_text=True)


def test_who_shares_finds_the_other_pages_of_the_house(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    enter(rooms, browser, operator, "radiologist")
    for path in ("/staff/shares", "/staff/labels"):
        page = browser.get(path).get_data(as_text=True)
        for other in ("/ohif/", "/staff/shares", "/staff/labels", "/my/access"):
            assert f'href="{other}"' in page
        assert 'action="/sign-out"' in page
    configuration = browser.get("/ohif/app-config.js", headers={"Accept-Language": "zh"}).data.decode()
    assert '["\\u5f71\\u50cf\\u5206\\u4eab", "/staff/shares"]' in configuration


def test_the_menu_is_put_in_order_by_who_uses_it(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    enter(rooms, browser, operator, "security_administrator")

    def listed() -> list[str]:
        header = browser.get("/my/order").get_data(as_text=True).partition("</header>")[0]
        return list(dict.fromkeys(re.findall(r'<a href="/(?:admin|my)/([a-z]+)"', header)))

    usual = listed()
    for name in ("explain", "clients", "audit", "no.such;page"):  # who may not see a page does not list it
        assert browser.post("/my/order", data={"key": name}, headers=OWN_PAGE).status_code == 303
        if name == "clients":
            assert listed() == ["clients", "explain", *(n for n in usual if n not in ("clients", "explain"))]
    assert listed() == usual  # what is no page of its own gives the usual order back
    browser.post("/my/order", data={"key": "log"}, headers=OWN_PAGE)
    assert listed()[0] == "log"
    browser.post("/my/order", headers=OWN_PAGE)
    assert listed() == usual


def test_a_node_is_added_changed_and_forgotten(rooms: Rooms, browser: FlaskClient, operator: Caller) -> None:
    enter(rooms, browser, operator, "system_administrator")
    row = {"ae_title": "CT 1", "host": "10.1.2.3", "port": "104", "permissions": "store, find", "tls": "yes",
           "alternates": "10.1.2.4:105", "max_sending": "2"}  # fmt: skip

    assert "CT 1" in browser.post("/admin/nodes", data=row, headers=OWN_PAGE).get_data(as_text=True)
    edited = browser.get("/admin/nodes?edit=CT%201").get_data(as_text=True)
    for kept in ("10.1.2.3", "10.1.2.4:105", "2"):
        assert f'value="{kept}"' in edited
    wrong = browser.post("/admin/nodes?lang=en", data={**row, "port": "x"}, headers=OWN_PAGE)
    assert "Not accepted: port" in wrong.get_data(as_text=True)
    gone = browser.post("/admin/nodes", data={"key": "CT 1"}, headers=OWN_PAGE).get_data(as_text=True)
    assert 'href="/admin/nodes?edit=' not in gone


def test_a_form_of_another_site_changes_nothing(rooms: Rooms, browser: FlaskClient, operator: Caller) -> None:
    enter(rooms, browser, operator, "security_administrator")
    for path in ("/admin/accounts", "/admin/documents/rules", "/admin/clients", "/my/access", "/my/password"):
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
            assert browser.post(path, data={"key": "person"}, headers=headers).status_code == 403


def test_rules_are_edited_and_a_wrong_one_is_named(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    enter(rooms, browser, operator, "security_administrator")
    wrong = browser.post(
        "/admin/documents/rules?lang=en", data={"document": '{"rules": [{"id": "a"}]}'}, headers=OWN_PAGE
    )
    assert "Not accepted: Rule" in wrong.get_data(as_text=True)
    right = browser.post(
        "/admin/documents/rules?lang=en", data={"document": '{"rules": []}'}, headers=OWN_PAGE
    )
    assert "Done." in right.get_data(as_text=True)
    stale = {"document": '{"rules": []}', "version": "0"}
    late = browser.post("/admin/documents/rules?lang=en", data=stale, headers=OWN_PAGE)
    assert "changed in the meantime" in late.get_data(as_text=True)
    browser.post("/admin/documents/rules", data={"key": "1"}, headers=OWN_PAGE)
    assert 'value="2"' in browser.get("/admin/documents/rules").get_data(as_text=True)
    assert browser.get("/admin/documents/nonsense").status_code == 404


def test_a_refusal_is_explained(rooms: Rooms, browser: FlaskClient, operator: Caller) -> None:
    enter(rooms, browser, operator, "security_administrator")
    said = browser.get("/admin/explain?lang=en&login=person&action=ImagingStudy.r").get_data(as_text=True)

    assert "Refused: ImagingStudy.r" in said
    assert "The role is security_administrator" in said


def test_what_hides_a_study_is_shown(rooms: Rooms, browser: FlaskClient, operator: Caller) -> None:
    ingest(rooms.archive, operator, io.BytesIO(ct_slice(study=1)))
    with rooms.database.snapshot() as session:
        study = session.scalar(select(Study.study_instance_uid))
    enter(rooms, browser, operator, "referrer", "guest")
    enter(rooms, browser, operator, "security_administrator")
    query = "lang=en&login=guest&action=ImagingStudy.r"

    assert "Permitted: ImagingStudy.r" in browser.get(f"/admin/explain?{query}").text
    said = browser.get(f"/admin/explain?{query}&study={study}").text
    assert "Refused: ImagingStudy.r" in said
    assert "hides this study" in said
    assert "Study 1.2 was not found" in browser.get(f"/admin/explain?{query}&study=1.2").text


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        ((1, 2), ("The study is complete.", "2 objects, 0 of them damaged")),
        ((1, 4), ("The study is NOT complete.", "2, 3")),
    ],
)
def test_whether_a_study_is_whole_is_shown_and_each_object_saved_with_its_digests(
    rooms: Rooms, browser: FlaskClient, operator: Caller, slices: tuple[int, ...], said: tuple[str, ...]
) -> None:
    objects = [ct_slice(instance=number) for number in slices]
    for data in objects:
        ingest(rooms.archive, operator, io.BytesIO(data))
    enter(rooms, browser, operator, "operator")
    assert f'href="/staff/studies/{ROOT}.1/completeness"' in browser.get(f"/staff/shares?study={ROOT}.1").text

    shown = browser.get(f"/staff/studies/{ROOT}.1/completeness?lang=en").text
    assert all(each in shown for each in said)
    saved = browser.get(re.search(r'href="([^"]+\.csv)"', shown)[1])  # type: ignore[index]
    assert "attachment" in saved.headers["Content-Disposition"]
    rows = csv.DictReader(io.StringIO(saved.text))
    assert [row["md5"] for row in rows] == [md5(each, usedforsecurity=False).hexdigest() for each in objects]


def test_a_study_that_is_out_of_reach_is_not_checked(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    ingest(rooms.archive, operator, io.BytesIO(ct_slice()))
    enter(rooms, browser, operator, "referrer")

    for file in ("completeness", "completeness.csv"):
        assert browser.get(f"/staff/studies/{ROOT}.1/{file}").status_code == 404


def test_a_person_ends_its_apps_and_nobody_elses(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    mine = enter(rooms, browser, operator, "radiologist")
    with rooms.database.transaction() as session:
        secret = issue(
            rooms.access, session, ACCESS, life_s=600, account_id=mine, scope="user/*.rs", label="App"
        )
        issue(
            rooms.access, session, ACCESS, life_s=600, account_id="other", scope="user/*.rs", label="Theirs"
        )
    page = browser.get("/my/access").get_data(as_text=True)
    assert "App" in page
    assert "Theirs" not in page
    (key,) = re.findall(r'<td[^>]*>App</td>.*?name="key" value="([^"]+)"', page, re.DOTALL)

    browser.post("/my/access", data={"key": key}, headers=OWN_PAGE)

    answer = browser.get("/dicomweb/studies", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 401


def test_clinical_staff_breaks_the_glass_with_a_reason_and_a_patient_does_not(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    sent = {"patient": "p1", "reason": "Unconscious in the emergency room", "hours": "4"}
    enter(rooms, browser, operator, "patient", "patient")
    assert browser.post("/my/glass", data=sent, headers=OWN_PAGE).status_code == 403
    enter(rooms, browser, operator, "radiologist")
    assert "Done." in browser.post("/my/glass?lang=en", data=sent, headers=OWN_PAGE).get_data(as_text=True)
    short = browser.post("/my/glass?lang=en", data={**sent, "reason": "x"}, headers=OWN_PAGE)
    assert "Say why" in short.get_data(as_text=True)


def test_a_patient_sees_who_saw_its_images(rooms: Rooms, browser: FlaskClient, operator: Caller) -> None:
    account_id = enter(rooms, browser, operator, "patient")
    with rooms.database.transaction() as session:
        session.get_one(Account, account_id).patients = "p1"
        session.flush()
        note(session, rooms.clock, operator, "read ImagingStudy", "1.2.3", patient_id="p1")
        note(session, rooms.clock, operator, "delete ImagingStudy", "1.2.4", patient_id="p2")
    said = browser.get("/my/log").get_data(as_text=True)

    assert "查看影像检查" in said
    assert "删除影像检查" not in said


@pytest.mark.parametrize(
    ("user_agent", "device"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
         "Safari/537.36", "Chrome · Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 "
         "MicroMessenger/8.0.50", "WeChat · iPhone"),
        ("<script>x</script>", ""),
    ],
)  # fmt: skip
def test_a_session_is_listed_as_the_browser_that_it_is(
    rooms: Rooms, browser: FlaskClient, operator: Caller, user_agent: str, device: str
) -> None:
    browser.environ_base["HTTP_USER_AGENT"] = user_agent
    enter(rooms, browser, operator, "radiologist")
    listed = browser.get("/my/access").text

    assert f'<td data-label="设备或应用">{f"{device} · " if device else ""}127.0.0.1</td>' in listed


def test_broken_glass_is_told_to_who_reviews_it_and_to_the_patient(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    with rooms.database.transaction() as session:
        patient, other = (
            create_account(rooms.access, session, operator, login, PASSWORD, "patient")
            for login in ("p1", "p2")
        )
        for row in session.scalars(select(Account).where(Account.role == "patient")):
            row.patients = row.login
        create_account(rooms.access, session, operator, "auditor", PASSWORD, "audit_administrator")
    reviewer = enter(rooms, browser, operator, "security_administrator")
    break_glass(rooms.access, operator, "p1", "unconscious, no relatives", timedelta(hours=1))
    settle(rooms)

    with rooms.database.snapshot() as session:
        told = session.execute(select(Notice.account_id, Notice.topic, Notice.link)).all()
    assert {tuple(each) for each in told} == {
        (reviewer, "glass-broken", "/admin/glass"), (patient, "glass-broken", "/patient/seen"),
    }  # fmt: skip
    assert other not in {each.account_id for each in told}
    assert '<b class="count">1</b>' in browser.get("/my/access").text
    browser.post("/admin/glass", data={"number": "1", "verdict": "right"}, headers=OWN_PAGE)
    assert 'class="count"' not in browser.get("/my/access").text


def test_an_authenticator_is_set_up_and_then_asked_for(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    enter(rooms, browser, operator, "radiologist")
    page = browser.post("/my/factor", headers=OWN_PAGE).get_data(as_text=True)
    (factor_id,) = re.findall(r'name="id" value="([^"]+)"', page)
    with rooms.database.snapshot() as session:
        row = session.get_one(SecondFactor, factor_id)
    totp = pyotp.TOTP(rooms.keys.open_bytes(row.secret, f"totp {factor_id}").decode())
    sent = {"id": factor_id, "code": totp.at(rooms.clock.now())}
    assert browser.post("/my/factor", data=sent, headers=OWN_PAGE).status_code == 200

    browser.post("/sign-out", headers=OWN_PAGE)
    half = browser.post("/sign-in", data={"login": "person", "password": PASSWORD}, headers=OWN_PAGE)
    assert half.status_code == 200
    assert browser.get("/my/access").status_code == 303
    wrong = browser.post("/sign-in/code", data={"code": "000000"}, headers=OWN_PAGE)
    assert wrong.status_code == 401
    rooms.clock.advance(timedelta(seconds=30))  # type: ignore[attr-defined]
    right = browser.post("/sign-in/code", data={"code": totp.at(rooms.clock.now())}, headers=OWN_PAGE)
    assert right.status_code == 303
    assert browser.get("/my/access").status_code == 200


def test_a_given_password_is_changed_before_anything_else(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    enter(rooms, browser, operator, "radiologist")
    with rooms.database.transaction() as session:
        session.scalars(select(Account)).one().must_change = True
    answer = browser.post("/sign-in", data={"login": "person", "password": PASSWORD}, headers=OWN_PAGE)

    assert answer.headers["Location"] == "/my/password?must=1"
    changed = {"old": PASSWORD, "new": "Another-Horse-8"}
    assert "Done" in browser.post("/my/password?lang=en", data=changed, headers=OWN_PAGE).get_data(
        as_text=True
    )


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\nb", "x"]
)
def test_signing_in_never_leads_to_another_site(
    rooms: Rooms, browser: FlaskClient, operator: Caller, target: str
) -> None:
    enter(rooms, browser, operator, "radiologist")
    answer = browser.post(
        "/sign-in", data={"login": "person", "password": PASSWORD, "next": target}, headers=OWN_PAGE
    )

    assert answer.headers["Location"] == "/ohif/"


def test_session_cookies_are_kept_from_scripts_and_other_sites(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    enter(rooms, browser, operator, "radiologist")
    answer = browser.post(
        "/sign-in",
        data={"login": "person", "password": PASSWORD},
        headers=OWN_PAGE,
        base_url="https://film.example.org",
    )
    cookie = answer.headers["Set-Cookie"]

    assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=Lax", "Path=/"))


def test_every_text_is_there_in_every_language_and_every_text_of_a_page_is_known() -> None:
    known = [set(texts(language)) for language in LANGUAGES]
    assert known[0] == known[1]
    folder = Path(__file__).parents[2] / "portal"
    for source in [*folder.glob("*.py"), *folder.glob("templates/*.html")]:
        for key in re.findall(
            r"""say\(\s*["']([a-z][a-z./*-]*[a-z*])["']\s*[,)]""", source.read_text("utf-8")
        ):
            assert key in known[0], f"{source.name}: {key}"


def noted(rooms: Rooms, caller: Caller, action: str, subject: str = "") -> None:
    with rooms.database.transaction() as session:
        note(session, rooms.clock, caller, action, subject)


def linked(page: str, words: str) -> str:
    """Where a link of these words leads."""
    found = re.search(rf'<a href="([^"]+)">{words}</a>', page)
    assert found is not None, words
    return unescape(found[1])


def test_an_auditor_turns_the_pages_of_what_was_looked_for(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    for number in range(102):
        noted(rooms, operator, "delete ImagingStudy", f"1.2.{number}")
        noted(rooms, operator, "read ImagingStudy", f"1.3.{number}")
    enter(rooms, browser, operator, "audit_administrator")

    first = browser.get("/admin/audit?action=delete&lang=en").text
    second = browser.get("/admin/audit" + linked(first, "Older entries")).text

    assert re.findall(r">(1\.\d\.\d+)<", first) == [f"1.2.{number}" for number in range(101, 1, -1)]
    assert re.findall(r">(1\.\d\.\d+)<", second) == ["1.2.1", "1.2.0"]
    assert 'value="delete"' in second
    assert "Older entries" not in second


def test_an_auditor_looks_for_a_time_an_outcome_and_an_address(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    clock = rooms.clock
    assert isinstance(clock, FixedClock)
    noted(rooms, operator, "read ImagingStudy", "1.2.1")
    clock.advance(timedelta(hours=2))
    noted(rooms, replace(operator, address="10.9.8.7"), "read ImagingStudy", "1.2.2")
    middle = local_time(clock.now() - timedelta(hours=1)).replace(" ", "T")
    enter(rooms, browser, operator, "audit_administrator")

    def found(query: str) -> list[str]:
        return re.findall(r">(1\.2\.\d)<", browser.get(f"/admin/audit?lang=en&action=read&{query}").text)

    assert found("outcome=any") == found("outcome=done") == ["1.2.2", "1.2.1"]
    assert found("outcome=refused") == []
    assert found("address=10.9.8.7") == ["1.2.2"]
    assert (found(f"after={middle}"), found(f"before={middle}")) == (["1.2.2"], ["1.2.1"])
    assert "Write a moment as" in browser.get("/admin/audit?lang=en&after=yesterday").text


def test_an_auditor_saves_what_was_found(rooms: Rooms, browser: FlaskClient, operator: Caller) -> None:
    for subject in ("1.2.1", "1.2.2"):
        noted(rooms, operator, "read ImagingStudy", subject)
    enter(rooms, browser, operator, "audit_administrator")
    page = browser.get("/admin/audit?action=read&subject=1.2.2&lang=en").text

    as_csv = browser.get(linked(page, "Save as CSV"))
    as_fhir = browser.get(linked(page, "Save as FHIR AuditEvents"))

    assert as_csv.headers["Content-Disposition"] == "attachment; filename=audit.csv"
    rows = list(csv.DictReader(as_csv.text.removeprefix("\ufeff").splitlines()))
    assert [(row["action"], row["subject"]) for row in rows] == [("read ImagingStudy", "1.2.2")]
    (event,) = (json.loads(line) for line in as_fhir.text.splitlines())
    assert (event["resourceType"], event["action"]) == ("AuditEvent", "R")
    trail = browser.get("/admin/audit?action=export&lang=en").text
    assert trail.count('<td data-label="Action">export') == 2


def test_nobody_else_saves_the_trail(rooms: Rooms, browser: FlaskClient, operator: Caller) -> None:
    assert browser.get("/admin/audit/export").headers["Location"].startswith("/sign-in")
    enter(rooms, browser, operator, "security_administrator")

    assert browser.get("/admin/audit/export").status_code == 403
