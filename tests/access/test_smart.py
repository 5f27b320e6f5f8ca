"""SMART App Launch 2.2, rule by rule: discovery, launch, scopes, tokens (names in brackets: the section)."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import select
from werkzeug.test import TestResponse

from access.caller import Caller
from access.model import Account, Token
from access.oauth.clients import disable_client, find_client
from access.tokens import ACCESS, REGISTRATION, issue
from archive.ingest import ingest
from archive.model import Study
from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from records.repository import write
from tests.access.conftest import PASSWORD, MakeAccount
from tests.access.smart import FHIR, OWN_PAGE, REDIRECT, App, patients_shown, query_of, register
from tests.builders import ct_slice
from tests.settling import settle


@pytest.fixture
def browser(rooms: Rooms) -> FlaskClient:
    return create_app(rooms).test_client()


def store_study(rooms: Rooms, operator: Caller, number: int = 1, **attributes: Any) -> str:
    """Ingest one image; returns the logical id of its patient."""
    ingest(rooms.archive, operator, io.BytesIO(ct_slice(study=number, **attributes)))
    settle(rooms)
    with rooms.database.snapshot() as session:
        return str(session.scalars(select(Study.patient_logical_id).order_by(Study.id.desc())).first())


@pytest.fixture
def patient(rooms: Rooms, operator: Caller) -> str:
    return store_study(rooms, operator)


def sign_in(browser: FlaskClient, login: str) -> None:
    answer = browser.post("/sign-in", data={"login": login, "password": PASSWORD}, headers=OWN_PAGE)
    assert answer.status_code == 303


@pytest.fixture
def app(rooms: Rooms, browser: FlaskClient, make_account: MakeAccount, patient: str) -> App:
    """A public app in the browser of a radiologist who is signed in."""
    account_id = make_account("reader", "radiologist", institution=rooms.settings.access.institution)
    with rooms.database.transaction() as session:
        session.get_one(Account, account_id).fhir_user = "Practitioner/p1"
    sign_in(browser, "reader")
    return App(browser, register(rooms.access))


# Discovery


def test_d1_discovery_is_json_for_anyone_whatever_they_accept(browser: FlaskClient) -> None:
    answer = browser.get("/fhir/.well-known/smart-configuration", headers={"Accept": "text/html"})

    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    for name, value in answer.get_json().items():
        if name.endswith(("_endpoint", "_uri", "issuer", "_bundle")):
            assert value.startswith("http://localhost"), name


def test_d2_d3_d4_discovery_names_what_apps_need(browser: FlaskClient) -> None:
    said = browser.get("/fhir/.well-known/smart-configuration").get_json()

    assert said["code_challenge_methods_supported"] == ["S256"]
    assert {"authorization_code", "client_credentials", "refresh_token"} <= set(said["grant_types_supported"])
    for needed in (
        "token_endpoint", "authorization_endpoint", "issuer", "jwks_uri", "capabilities", "scopes_supported",
        "introspection_endpoint", "revocation_endpoint", "management_endpoint", "registration_endpoint",
        "user_access_brand_bundle", "user_access_brand_identifier",
    ):  # fmt: skip
        assert said[needed], needed


@pytest.mark.parametrize(
    "needed",
    [
        {"launch-standalone", "client-public", "client-confidential-symmetric", "context-standalone-patient",
         "permission-patient"},
        {"launch-ehr", "client-public", "context-ehr-patient", "permission-patient"},
        {"launch-standalone", "permission-user", "permission-patient"},
        {"launch-ehr", "permission-user", "context-ehr-patient", "context-ehr-encounter"},
        {"smart-imaging-access", "sso-openid-connect", "permission-v1", "permission-v2", "authorize-post"},
    ],
)  # fmt: skip
def test_q1_all_four_capability_sets_are_claimed(browser: FlaskClient, needed: set[str]) -> None:
    assert needed <= set(browser.get("/fhir/.well-known/smart-configuration").get_json()["capabilities"])


NAMED_BY_HL7 = {  # SMART App Launch 2.2, 5.1 (and the app state and imaging access drafts, both HL7's)
    "launch-ehr", "launch-standalone", "authorize-post", "client-public", "client-confidential-symmetric",
    "client-confidential-asymmetric", "sso-openid-connect", "context-banner", "context-style",
    "context-ehr-patient", "context-ehr-encounter", "context-standalone-patient",
    "context-standalone-encounter", "permission-offline", "permission-online", "permission-patient",
    "permission-user", "permission-v1", "permission-v2", "smart-app-state", "smart-imaging-access",
}  # fmt: skip


def test_d5_a_capability_is_one_that_hl7_named_or_an_address(browser: FlaskClient) -> None:
    claimed = browser.get("/fhir/.well-known/smart-configuration").get_json()["capabilities"]

    assert len(claimed) == len(set(claimed))
    assert {each for each in claimed if "://" not in each} <= NAMED_BY_HL7


def test_d4_every_listed_scope_is_granted(app: App, make_account: MakeAccount, patient: str) -> None:
    listed = app.browser.get("/fhir/.well-known/smart-configuration").get_json()["scopes_supported"]
    for scope in listed:
        if scope == "launch" or scope.startswith("system/"):
            continue  # with a handle, and to services: rows L1 and B1
        app.scope = f"launch/patient {scope}"
        form = {"study": study_of(app, patient)} if scope == "launch/imagingstudy" else {"patient": patient}
        assert scope in app.tokens(**form)["scope"].split(), scope


def study_of(app: App, patient: str) -> str:
    """The logical id of a patient's study."""
    page = app.ask(scope="launch/imagingstudy").get_data(as_text=True)
    return str(re.findall(r'name="study" value="([^"]+)"', page)[0])


def test_p1_the_primary_brand_is_one_organization_and_is_not_sent_twice(browser: FlaskClient) -> None:
    said = browser.get("/fhir/.well-known/smart-configuration").get_json()
    answer = browser.get("/fhir/.well-known/user-access-brands.json")
    values = [
        identifier["value"]
        for entry in answer.get_json(force=True)["entry"]
        for identifier in entry["resource"].get("identifier", ())
    ]

    assert values.count(said["user_access_brand_identifier"]["value"]) == 1
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    tag = answer.headers["ETag"]
    assert tag.startswith("W/")
    again = browser.get("/fhir/.well-known/user-access-brands.json", headers={"If-None-Match": tag})
    assert again.status_code == 304


# Authorization requests


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a1_the_consent_screen_comes_by_get_and_by_post(app: App, method: str, patient: str) -> None:
    page = app.ask(method)

    assert page.status_code == 200
    assert patients_shown(page) == [patient]
    assert "form-action 'self' https://app.example.org" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"aud": None}, "invalid_request"),
        ({"aud": "https://elsewhere.example.org/fhir"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"state": None}, "invalid_request"),
        ({"scope": "patient/Patient.sr"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "launch", "launch": None}, "invalid_request"),
        ({"scope": "launch", "launch": "unknown"}, "invalid_request"),
    ],
)
def test_a2_a3_e1_a_wrong_request_goes_back_with_its_error(
    app: App, changes: dict[str, Any], error: str
) -> None:
    answer = app.ask(**changes)

    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(REDIRECT)
    said = query_of(answer)
    assert said["error"] == error
    assert said["iss"] == "http://localhost"
    if "state" not in changes:
        assert said["state"] == "s-1"


@pytest.mark.parametrize(
    "redirect_uri",
    [
        None,
        REDIRECT + "/",
        REDIRECT + "?x=1",
        REDIRECT + "#x",
        REDIRECT.upper(),
        "https://app.example.org:443/callback",
        "https://app.example.org",
        "https://app.example.org.evil.example/callback",
        "https://app.example.org@evil.example/callback",
        "https://app.example.org/callback/../evil",
        "https://app.example.org\\@evil.example/callback",
        "https://аpp.example.org/callback",
        "javascript:alert(1)",
        "//app.example.org/callback",
        "http://app.example.org/callback",
    ],
)
def test_a4_only_the_registered_redirect_uri_is_ever_gone_to(app: App, redirect_uri: str | None) -> None:
    answer = app.ask(redirect_uri=redirect_uri)

    assert answer.status_code == 400
    assert "Location" not in answer.headers


def test_an_unknown_client_gets_a_page_and_no_redirect(app: App) -> None:
    answer = app.ask(client_id="nobody")

    assert answer.status_code == 400
    assert "Location" not in answer.headers


def test_who_is_not_signed_in_signs_in_and_comes_back(rooms: Rooms, app: App) -> None:
    app.browser = create_app(rooms).test_client()
    answer = app.ask()

    assert answer.headers["Location"].startswith("/sign-in?next=%2Foauth%2Fauthorize%3F")
    assert query_of(app.ask(prompt="none"))["error"] == "login_required"


def test_who_denies_sends_the_app_back_with_nothing(app: App) -> None:
    assert app.approve(decision="deny")["error"] == "access_denied"


def test_approval_from_another_sites_page_is_refused(app: App, patient: str) -> None:
    answer = app.browser.post(
        "/oauth/approve",
        data={**app.parameters, "decision": "approve", "patient": patient},
        headers={"Sec-Fetch-Site": "cross-site"},
    )

    assert answer.status_code == 403


# Codes and tokens


def test_t1_a_token_comes_with_what_was_granted_and_its_context(app: App, patient: str) -> None:
    app.extra = {"scope": app.scope + " system/*.rs user/Account.r"}
    answer = app.exchange(app.approve(patient=patient)["code"])
    said = answer.get_json()

    assert said["token_type"] == "Bearer"
    assert said["expires_in"] <= 3600
    assert said["patient"] == patient
    assert set(said["scope"].split()) == {"openid", "fhirUser", "launch/patient", "patient/*.rs"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Pragma"] == "no-cache"
    assert "refresh_token" not in said


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": None},
        {"code_verifier": "x" * 50},
        {"redirect_uri": "https://app.example.org/other"},
        {"redirect_uri": None},
        {"code": "wrong"},
        {"client_id": "wrong"},
        {"grant_type": "password"},
        {"grant_type": None},
    ],
)
def test_a3_a_code_is_worth_nothing_without_all_that_belongs_to_it(
    app: App, patient: str, changes: dict[str, Any]
) -> None:
    code = app.approve(patient=patient)["code"]
    answer = app.exchange(**{"code": code, **changes})

    assert answer.status_code in (400, 401)
    assert "error" in answer.get_json()


def test_a5_a_code_is_short_lived(app: App, patient: str, clock: FixedClock) -> None:
    code = app.approve(patient=patient)["code"]
    clock.advance(timedelta(seconds=61))

    assert app.exchange(code).get_json()["error"] == "invalid_grant"


def test_a5_a_code_that_is_used_twice_ends_what_it_gave(app: App, patient: str) -> None:
    code = app.approve(patient=patient)["code"]
    token = app.exchange(code).get_json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert app.browser.get("/fhir/Patient", headers=headers).status_code == 200

    assert app.exchange(code).get_json()["error"] == "invalid_grant"

    assert app.browser.get("/fhir/Patient", headers=headers).status_code == 401


def test_another_app_cannot_use_a_code(rooms: Rooms, app: App, patient: str) -> None:
    code = app.approve(patient=patient)["code"]
    other = App(app.browser, register(rooms.access), verifier=app.verifier)

    assert other.exchange(code).get_json()["error"] == "invalid_grant"
    assert app.exchange(code).status_code == 200


def test_s6_a_patient_scope_needs_a_patient(app: App) -> None:
    app.scope = "patient/*.rs"
    answer = app.browser.post(
        "/oauth/approve", data={**app.parameters, "decision": "approve"}, headers=OWN_PAGE
    )

    assert answer.status_code == 200
    assert "code=" not in answer.headers.get("Location", "")


def test_l2_the_picker_obeys_the_persons_own_reach(
    rooms: Rooms, app: App, operator: Caller, make_account: MakeAccount, patient: str
) -> None:
    make_account("elsewhere", "radiologist", institution="OTHER")
    app.browser = create_app(rooms).test_client()
    sign_in(app.browser, "elsewhere")

    assert patients_shown(app.ask()) == []
    refused = app.browser.post(
        "/oauth/approve", data={**app.parameters, "decision": "approve", "patient": patient}, headers=OWN_PAGE
    )
    assert refused.status_code == 200
    assert "Location" not in refused.headers


def test_a_patient_approves_for_its_own_records_only(
    rooms: Rooms, app: App, operator: Caller, make_account: MakeAccount, patient: str
) -> None:
    store_study(rooms, operator, 2, PatientID="P2", PatientName="Li^Na")
    account_id = make_account("patient", "patient")
    with rooms.database.transaction() as session:
        session.get_one(Account, account_id).patients = patient
    app.browser = create_app(rooms).test_client()
    sign_in(app.browser, "patient")

    assert patients_shown(app.ask()) == [patient]
    token = app.tokens(patient=patient)["access_token"]
    found = app.browser.get("/dicomweb/studies", headers={"Authorization": f"Bearer {token}"}).get_json()
    assert len(found) == 1


def test_s2_version_1_scopes_are_granted_as_asked(app: App, patient: str) -> None:
    app.scope = "patient/*.read"

    assert app.tokens(patient=patient)["scope"] == "patient/*.read"


def test_s5_scopes_never_exceed_what_the_person_may(app: App, patient: str) -> None:
    app.scope = "user/ImagingStudy.cruds user/Account.cruds"

    assert app.tokens(patient=patient)["scope"] == "user/ImagingStudy.crus"


def test_s3_a_granular_scope_narrows_dicomweb_and_fhir(
    rooms: Rooms, app: App, operator: Caller, patient: str
) -> None:
    store_study(rooms, operator, 2, Modality="MR")
    app.scope = "user/ImagingStudy.rs?modality=MR"
    headers = {"Authorization": f"Bearer {app.tokens()['access_token']}"}

    found = app.browser.get("/dicomweb/studies", headers=headers).get_json()

    assert [study["00080061"]["Value"] for study in found] == [["MR"]]


def test_s3_each_scope_opens_its_own_verbs_on_its_own_rows_in_dicomweb(
    rooms: Rooms, app: App, operator: Caller, patient: str
) -> None:
    store_study(rooms, operator, 2, Modality="MR")
    app.scope = "user/ImagingStudy.s user/ImagingStudy.r?modality=MR"
    headers = {"Authorization": f"Bearer {app.tokens()['access_token']}"}

    found = app.browser.get("/dicomweb/studies", headers=headers).get_json()
    read = {
        study["00080061"]["Value"][0]: app.browser.get(
            f"/dicomweb/studies/{study['0020000D']['Value'][0]}/metadata", headers=headers
        ).status_code
        for study in found
    }

    assert read == {"CT": 404, "MR": 200}


@pytest.fixture
def tell(app: App, patient: str) -> Callable[..., TestResponse]:
    """A FHIR request with a token of some scope."""

    def ask(scope: str, method: str, path: str, **more: Any) -> TestResponse:
        app.scope = scope
        headers = {"Authorization": f"Bearer {app.tokens(patient=patient)['access_token']}"}
        return app.browser.open(f"/fhir{path}", method=method, headers=headers, **more)

    return ask


@pytest.mark.parametrize(
    ("path", "verb"),
    [
        ("/Patient/{patient}", "r"),
        ("/Patient/{patient}/_history", "r"),
        ("/Patient/{patient}/_history/1", "r"),
        ("/Patient", "s"),
        ("/Patient/_history", "s"),
        ("/?_type=Patient", "s"),
    ],
)
def test_s4_reading_versions_and_searching_take_their_own_verbs(
    tell: Callable[..., TestResponse], patient: str, path: str, verb: str
) -> None:
    for given in "rs":
        answer = tell(f"user/Patient.{given}", "GET", path.replace("{patient}", patient))
        assert answer.status_code == (200 if given == verb else 403), (given, answer.data)


def test_s3_each_scope_opens_its_own_verbs_on_its_own_rows_in_fhir(
    tell: Callable[..., TestResponse], patient: str
) -> None:
    def observation(category: str, **more: str) -> dict[str, Any]:
        return {
            "resourceType": "Observation", "status": "final", "code": {"text": "x"},
            "subject": {"reference": f"Patient/{patient}"}, "category": [{"coding": [{"code": category}]}],
            **more,
        }  # fmt: skip

    def made(category: str) -> str:
        answer = tell("user/Observation.c", "POST", "/Observation", json=observation(category))
        return str(answer.get_json(force=True)["id"])

    read, changed = made("laboratory"), made("vital-signs")
    scope = "user/Observation.rs?category=laboratory user/Observation.u?category=vital-signs"

    def statuses(id_: str, category: str) -> tuple[int, int]:
        path, body = f"/Observation/{id_}", observation(category, id=id_)
        return tell(scope, "GET", path).status_code, tell(scope, "PUT", path, json=body).status_code

    assert statuses(read, "laboratory") == (200, 404)
    assert statuses(changed, "vital-signs") == (404, 200)
    assert statuses(changed, "laboratory") == (404, 404)  # it may not be made one that is not to be changed
    found = tell(scope, "GET", "/Observation").get_json(force=True)["entry"]
    assert [each["resource"]["id"] for each in found] == [read]


def test_s4_the_history_of_everything_is_a_search(tell: Callable[..., TestResponse]) -> None:
    assert tell("user/*.r", "GET", "/_history").status_code == 403
    assert tell("user/*.s", "GET", "/_history").status_code == 200


def test_s4_each_entry_of_a_batch_is_judged_by_itself(
    tell: Callable[..., TestResponse], patient: str
) -> None:
    requests = [
        ("GET", f"Patient/{patient}"), ("GET", "Patient"), ("GET", "ImagingStudy"),
        ("GET", "Patient/_history"), ("DELETE", f"Patient/{patient}"),
    ]  # fmt: skip
    batch = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": method, "url": url}} for method, url in requests],
    }
    answer = tell("user/Patient.r user/ImagingStudy.s", "POST", "/", json=batch)
    statuses = [each["response"]["status"][:3] for each in answer.get_json(force=True)["entry"]]

    assert statuses == ["200", "403", "200", "403", "403"]
    kept = tell("user/Patient.r", "GET", f"/Patient/{patient}")
    assert kept.status_code == 200


def test_s4_a_transaction_with_one_forbidden_entry_does_nothing(
    tell: Callable[..., TestResponse], patient: str
) -> None:
    made = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": made, "request": {"method": "POST", "url": "Observation"}},
            {"request": {"method": "DELETE", "url": f"Patient/{patient}"}},
        ],
    }

    assert tell("user/Observation.cs user/Patient.r", "POST", "/", json=bundle).status_code == 403
    assert tell("user/Observation.s", "GET", "/Observation").get_json(force=True).get("entry", []) == []


def test_t2_a_token_of_another_server_is_nothing_here(
    rooms: Rooms, app: App, patient: str, tmp_path: Path, clock: FixedClock
) -> None:
    token = app.tokens(patient=patient)["access_token"]
    (tmp_path / "other").mkdir()
    settings = replace(rooms.settings, data_dir=tmp_path / "other")  # same rows, keys of its own
    other = build_rooms(settings, clock)
    try:
        elsewhere = create_app(other).test_client()
        headers = {"Authorization": f"Bearer {token}"}
        for path in ("/fhir/Patient", "/dicomweb/studies"):
            assert elsewhere.get(path, headers=headers).status_code == 401
            assert app.browser.get(path, headers=headers).status_code == 200
    finally:
        other.close()


def test_t2_introspection_names_the_audience(rooms: Rooms, app: App, patient: str) -> None:
    app.client = register(rooms.access, token_endpoint_auth_method="client_secret_post")
    token = app.tokens(patient=patient)["access_token"]

    assert app.post("/oauth/introspect", {"token": token}).get_json()["aud"] == FHIR


def test_c1_a_study_that_was_chosen_is_in_the_context(app: App, patient: str) -> None:
    app.scope = "launch/imagingstudy launch/patient patient/*.rs"
    study = study_of(app, patient)

    said = app.tokens(study=study)

    assert said["fhirContext"] == [{"reference": f"ImagingStudy/{study}"}]
    assert said["patient"] == patient
    answer = app.browser.post(
        "/oauth/approve", data={**app.parameters, "decision": "approve", "study": patient}, headers=OWN_PAGE
    )
    assert (answer.status_code, answer.headers.get("Location")) == (200, None)


def test_c3_the_role_that_was_asked_for_stands_with_the_context(app: App, patient: str) -> None:
    role = "https://example.org/roles/prior"
    app.scope = f"launch/imagingstudy?role={role} user/*.rs"
    study = study_of(app, patient)
    said = app.tokens(study=study)

    assert said["fhirContext"] == [{"reference": f"ImagingStudy/{study}", "role": role}]
    assert f"launch/imagingstudy?role={role}" in said["scope"].split()


# EHR launch


def launched(app: App, rooms: Rooms, **context: str) -> str:
    answer = app.browser.post(f"/apps/{app.client['client_id']}/launch", data=context, headers=OWN_PAGE)
    assert answer.status_code == 303, answer.data
    said = query_of(answer)
    assert said["iss"] == FHIR
    return said["launch"]


def test_l1_a_launch_carries_the_patient_and_the_study_at_hand(rooms: Rooms, app: App, patient: str) -> None:
    app.scope = "launch openid fhirUser user/*.rs"
    app.extra = {"launch": launched(app, rooms, patient=patient)}
    said = app.tokens()

    assert said["patient"] == patient
    assert said["need_patient_banner"] is False

    study = study_of(app, patient)
    app.extra = {"launch": launched(app, rooms, imagingstudy=study)}
    said = app.tokens()
    assert said["fhirContext"] == [{"reference": f"ImagingStudy/{study}"}]
    assert said["patient"] == patient


def test_l1_a_physician_opens_an_app_from_the_page_of_an_examination(
    rooms: Rooms, app: App, operator: Caller, patient: str
) -> None:
    other = store_study(rooms, operator, 2, PatientID="P2", PatientName="Li^Na")
    register(rooms.access, client_name="Without address", launch_url="")
    found = app.browser.get("/my/apps?find=Li&lang=en").text
    (chosen,) = re.findall(r'href="(\?study=[^"]+)"', found)
    opened = app.browser.get(f"/my/apps{chosen}&lang=en")

    assert re.findall(r"Open with “(.+?)”", opened.text) == ["Viewer"]
    assert "form-action 'self' https://app.example.org;" in opened.headers["Content-Security-Policy"]
    context = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', opened.text))
    with rooms.database.snapshot() as session:
        study = session.scalar(select(Study.logical_id).where(Study.patient_logical_id == other))
    assert context == {"patient": other, "imagingstudy": study}
    address = f"/apps/{app.client['client_id']}/launch"
    assert f'action="{address}"' in opened.text
    answer = app.browser.post(address, data=context, headers=OWN_PAGE)
    assert answer.headers["Location"].startswith("https://app.example.org/launch?iss=")


def test_c1_an_encounter_at_hand_is_in_the_context_and_has_to_be_of_the_patient(
    rooms: Rooms, app: App, operator: Caller, patient: str
) -> None:
    other = store_study(rooms, operator, 2, PatientID="P2", PatientName="Li^Na")
    encounters = []
    with rooms.database.transaction() as session:
        for each in (patient, other):
            document = {
                "resourceType": "Encounter", "status": "in-progress", "class": {"code": "AMB"},
                "subject": {"reference": f"Patient/{each}"},
            }  # fmt: skip
            encounters.append(write(rooms.records, session, operator, document).logical_id)
    app.scope = "launch user/*.rs"
    app.extra = {"launch": launched(app, rooms, encounter=encounters[0])}
    said = app.tokens()

    assert (said["encounter"], said["patient"]) == (encounters[0], patient)
    for context in ({"patient": patient, "encounter": encounters[1]}, {"encounter": "nothing"}):
        answer = app.browser.post(f"/apps/{app.client['client_id']}/launch", data=context, headers=OWN_PAGE)
        assert answer.status_code == 404


def test_c2_a_launch_carries_banner_intent_tenant_and_style(rooms: Rooms, app: App, patient: str) -> None:
    app.scope = "launch user/*.rs"
    context = {"patient": patient, "intent": "review-prior", "banner": "yes"}
    app.extra = {"launch": launched(app, rooms, **context)}
    said = app.tokens()

    assert said["need_patient_banner"] is True
    assert said["intent"] == "review-prior"
    assert said["tenant"] == rooms.settings.access.institution
    style = app.browser.get(urlsplit(said["smart_style_url"]).path)
    assert style.headers["Access-Control-Allow-Origin"] == "*"
    assert {"color_background", "color_text", "dim_font_size"} <= set(style.get_json())
    wrong = app.browser.post(
        f"/apps/{app.client['client_id']}/launch", data={"intent": "<b>"}, headers=OWN_PAGE
    )
    assert wrong.status_code == 404


def test_l1_a_launch_is_good_once_for_one_app_in_one_session_for_a_while(
    rooms: Rooms, app: App, patient: str, clock: FixedClock
) -> None:
    app.scope = "launch user/*.rs"
    app.extra = {"launch": launched(app, rooms, patient=patient)}
    other_app = App(app.browser, register(rooms.access), app.scope, extra=app.extra)
    other_session = App(create_app(rooms).test_client(), app.client, app.scope, extra=app.extra)
    sign_in(other_session.browser, "reader")

    assert query_of(other_app.ask())["error"] == "invalid_request"
    assert query_of(other_session.ask())["error"] == "invalid_request"
    assert "code" in app.approve()
    assert query_of(app.ask())["error"] == "invalid_request"

    app.extra = {"launch": launched(app, rooms, patient=patient)}
    clock.advance(timedelta(minutes=6))
    assert query_of(app.ask())["error"] == "invalid_request"


def test_a_launch_with_a_patient_that_one_may_not_know_is_refused(
    rooms: Rooms, app: App, make_account: MakeAccount, patient: str
) -> None:
    make_account("elsewhere", "radiologist", institution="OTHER")
    browser = create_app(rooms).test_client()
    sign_in(browser, "elsewhere")
    answer = browser.post(
        f"/apps/{app.client['client_id']}/launch", data={"patient": patient}, headers=OWN_PAGE
    )

    assert answer.status_code == 404


# OpenID Connect


def test_i1_the_id_token_is_signed_and_says_who_and_for_whom(app: App, patient: str) -> None:
    said = app.tokens(patient=patient)
    keys = KeySet.import_key_set(app.browser.get("/oauth/jwks.json").get_json())
    verified = jwt.decode(said["id_token"], keys, algorithms=["RS256"])

    assert verified.header["alg"] == "RS256"
    claims = verified.claims
    assert claims["iss"] == "http://localhost"
    assert claims["aud"] == app.client["client_id"]
    assert claims["nonce"] == "n-1"
    assert claims["fhirUser"] == f"{FHIR}/Practitioner/p1"
    userinfo = app.browser.get(
        "/oauth/userinfo", headers={"Authorization": f"Bearer {said['access_token']}"}
    ).get_json()
    assert userinfo["sub"] == claims["sub"]
    assert userinfo["fhirUser"] == claims["fhirUser"]


def test_i1_the_id_token_says_when_the_person_signed_in(app: App, patient: str, clock: FixedClock) -> None:
    since = int(clock.now().timestamp())
    clock.advance(timedelta(minutes=20))

    keys = KeySet.import_key_set(app.browser.get("/oauth/jwks.json").get_json())
    said = jwt.decode(app.tokens(patient=patient)["id_token"], keys, algorithms=["RS256"])
    assert said.claims["auth_time"] == since


@pytest.mark.parametrize(
    "asked",
    [{"prompt": "login"}, {"prompt": "login consent"}, {"prompt": "select_account"}, {"max_age": "600"}],
)
def test_i1_an_app_has_its_person_sign_in_anew(app: App, clock: FixedClock, asked: dict[str, str]) -> None:
    clock.advance(timedelta(minutes=11))
    answer = app.ask(**asked)

    assert answer.status_code == 303
    (back,) = parse_qs(urlsplit(answer.headers["Location"]).query)["next"]
    assert app.ask(**asked, response_type="nonsense").status_code == 303  # a wrong request goes to the app
    signed_in = app.browser.post(
        "/sign-in", data={"login": "reader", "password": PASSWORD, "next": back}, headers=OWN_PAGE
    )
    assert signed_in.headers["Location"] == back
    assert app.browser.get(back).status_code == 200


def test_i1_who_signed_in_a_while_ago_is_asked_by_no_hidden_frame(app: App, clock: FixedClock) -> None:
    assert app.ask(max_age="600").status_code == 200
    clock.advance(timedelta(minutes=11))

    assert query_of(app.ask(max_age="600", prompt="none"))["error"] == "login_required"


@pytest.mark.parametrize("name", ["request", "request_uri"])
def test_i1_an_object_in_place_of_parameters_is_refused_by_name(app: App, name: str) -> None:
    assert query_of(app.ask(**{name: "x"}))["error"] == f"{name}_not_supported"


def test_no_app_learns_who_somebody_is_before_the_sign_in_counts(
    rooms: Rooms, app: App, patient: str
) -> None:
    app.scope = "openid fhirUser"
    with rooms.database.transaction() as session:
        session.scalars(select(Account)).one().must_change = True

    assert app.ask().headers["Location"] == "/my/password?must=1"
    assert query_of(app.ask(prompt="none"))["error"] == "interaction_required"
    assert app.approve(patient=patient)["error"] == "access_denied"


def test_i1_openid_discovery_agrees_with_smart_discovery(browser: FlaskClient) -> None:
    openid = browser.get("/.well-known/openid-configuration").get_json()
    smart = browser.get("/fhir/.well-known/smart-configuration").get_json()

    assert openid["id_token_signing_alg_values_supported"] == ["RS256"]
    for name in ("issuer", "jwks_uri", "token_endpoint", "authorization_endpoint"):
        assert openid[name] == smart[name]
    keys = browser.get("/oauth/jwks.json").get_json()["keys"]
    assert all({"kty", "kid", "n", "e", "use", "alg"} == set(key) for key in keys)


GOES_ON = {"post_logout_redirect_uri": REDIRECT, "state": "l-1"}


def test_i1_who_shows_the_sessions_own_id_token_logs_out(app: App, patient: str) -> None:
    hint = {"id_token_hint": app.tokens(patient=patient)["id_token"]}
    answer = app.browser.get("/oauth/logout", query_string={**hint, **GOES_ON})

    assert answer.headers["Location"] == f"{REDIRECT}?state=l-1"
    assert app.ask().headers["Location"].startswith("/sign-in")


def test_i1_a_link_without_a_token_of_the_session_asks_first(
    rooms: Rooms, app: App, make_account: MakeAccount, patient: str
) -> None:
    make_account("other", "radiologist")
    other = App(create_app(rooms).test_client(), app.client, scope="openid")
    sign_in(other.browser, "other")
    named = {"client_id": app.client["client_id"], **GOES_ON}
    for hint in ({}, {"id_token_hint": "x.y.z"}, {"id_token_hint": other.tokens()["id_token"]}):
        page = app.browser.get("/oauth/logout", query_string={**named, **hint})
        assert page.status_code == 200
        assert app.ask().status_code == 200
    forged = app.browser.post("/oauth/logout", data=named, headers={"Sec-Fetch-Site": "cross-site"})
    assert forged.status_code == 200

    answer = app.browser.post("/oauth/logout", data=named, headers=OWN_PAGE)

    assert answer.headers["Location"] == f"{REDIRECT}?state=l-1"
    assert app.ask().headers["Location"].startswith("/sign-in")


@pytest.mark.parametrize("uri", ["https://evil.example/", REDIRECT + "/x", "//evil.example"])
def test_i1_logging_out_leads_to_registered_addresses_only(app: App, patient: str, uri: str) -> None:
    hint = app.tokens(patient=patient)["id_token"]
    asked = {"id_token_hint": hint, "post_logout_redirect_uri": uri}

    assert app.browser.get("/oauth/logout", query_string=asked).headers["Location"] == "/sign-in"


# Refresh, revocation, introspection


def test_r1_r2_a_refresh_token_is_used_once_and_its_reuse_ends_the_family(app: App, patient: str) -> None:
    app.scope += " offline_access"
    first = app.tokens(patient=patient)
    second = app.refresh(first["refresh_token"]).get_json()
    assert second["scope"] == first["scope"]
    assert second["expires_in"]
    assert second["patient"] == patient

    assert app.refresh(first["refresh_token"]).get_json()["error"] == "invalid_grant"

    assert app.refresh(second["refresh_token"]).get_json()["error"] == "invalid_grant"
    headers = {"Authorization": f"Bearer {second['access_token']}"}
    assert app.browser.get("/fhir/Patient", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("asked", "is_granted"),
    [
        ("patient/Patient.r", True),
        ("patient/*.r", True),
        ("patient/ImagingStudy.rs?modality=CT", True),
        ("patient/*.rsu", False),
        ("patient/*.cruds", False),
        ("user/*.rs", False),
        ("openid patient/*.rs launch/encounter", False),
        ("patient/*.sr", False),
    ],
)
def test_r2_scopes_may_shrink_in_meaning_and_never_grow(
    app: App, patient: str, asked: str, is_granted: bool
) -> None:
    app.scope += " offline_access"
    answer = app.refresh(app.tokens(patient=patient)["refresh_token"], scope=asked)

    assert (answer.status_code == 200) == is_granted
    if not is_granted:
        assert answer.get_json()["error"] == "invalid_scope"


def test_r1_online_access_ends_with_the_session_and_offline_access_does_not(
    rooms: Rooms, app: App, patient: str
) -> None:
    app.scope = "launch/patient patient/*.rs offline_access"
    offline = app.tokens(patient=patient)
    app.scope = "launch/patient patient/*.rs online_access"
    online = app.tokens(patient=patient)

    app.browser.post("/sign-out", headers=OWN_PAGE)

    assert app.refresh(online["refresh_token"]).status_code == 400
    assert app.refresh(offline["refresh_token"]).status_code == 200


def test_r2_a_refresh_token_of_another_app_is_refused(rooms: Rooms, app: App, patient: str) -> None:
    app.scope += " offline_access"
    tokens = app.tokens(patient=patient)
    other = App(app.browser, register(rooms.access))

    assert other.refresh(tokens["refresh_token"]).get_json()["error"] == "invalid_grant"
    assert app.refresh(tokens["refresh_token"]).status_code == 200


@pytest.mark.parametrize("path", ["/fhir/Patient", "/dicomweb/studies"])
def test_v1_a_revoked_token_is_refused_at_the_next_request_at_every_door(
    app: App, patient: str, path: str
) -> None:
    token = app.tokens(patient=patient)["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert app.browser.get(path, headers=headers).status_code == 200

    values = {"token": token, "client_id": app.client["client_id"]}
    assert app.browser.post("/oauth/revoke", data=values).status_code == 200

    assert app.browser.get(path, headers=headers).status_code == 401


def test_v1_another_app_revokes_nothing(rooms: Rooms, app: App, patient: str) -> None:
    token = app.tokens(patient=patient)["access_token"]
    other = register(rooms.access)
    app.browser.post("/oauth/revoke", data={"token": token, "client_id": other["client_id"]})

    headers = {"Authorization": f"Bearer {token}"}
    assert app.browser.get("/fhir/Patient", headers=headers).status_code == 200


def test_a_disabled_app_has_no_token_that_lives(
    rooms: Rooms, app: App, operator: Caller, patient: str
) -> None:
    token = app.tokens(patient=patient)["access_token"]
    assert disable_client(rooms.access, operator, app.client["client_id"])

    headers = {"Authorization": f"Bearer {token}"}
    assert app.browser.get("/fhir/Patient", headers=headers).status_code == 401
    assert find_client(rooms.access, app.client["client_id"]) is None


def test_n1_introspection_tells_scope_client_expiry_context_and_user(
    rooms: Rooms, app: App, patient: str
) -> None:
    confidential = register(rooms.access, token_endpoint_auth_method="client_secret_post")
    app.client = confidential
    tokens = app.tokens(patient=patient)
    said = app.post("/oauth/introspect", {"token": tokens["access_token"]}).get_json()

    assert said["active"] is True
    assert said["scope"] == tokens["scope"]
    assert said["client_id"] == confidential["client_id"]
    assert said["patient"] == patient
    assert said["iss"] == "http://localhost"
    assert said["fhirUser"].endswith("/Practitioner/p1")
    by_bearer = app.browser.post(
        "/oauth/introspect",
        data={"token": tokens["access_token"]},
        headers={"Authorization": f"Bearer {tokens['access_token']}"},
    )
    assert by_bearer.get_json()["active"] is True


@pytest.mark.parametrize("kind", ["revoked", "unknown", "foreign"])
def test_n1_what_is_not_active_says_nothing_more(rooms: Rooms, app: App, patient: str, kind: str) -> None:
    app.client = register(rooms.access, token_endpoint_auth_method="client_secret_post")
    token = app.tokens(patient=patient)["access_token"]
    if kind == "revoked":
        app.post("/oauth/revoke", {"token": token})
    elif kind == "unknown":
        token = "nothing"
    else:
        app.client = register(rooms.access, token_endpoint_auth_method="client_secret_post")

    assert app.post("/oauth/introspect", {"token": token}).get_json() == {"active": False}


def test_n1_nobody_introspects_without_credentials(app: App, patient: str) -> None:
    token = app.tokens(patient=patient)["access_token"]

    answer = app.browser.post("/oauth/introspect", data={"token": token})
    assert answer.status_code == 401
    wrong = app.browser.post(
        "/oauth/introspect", data={"token": token}, headers={"Authorization": "Bearer x"}
    )
    assert wrong.status_code == 401


# Registration, browsers


def test_g1_an_app_registers_itself_with_an_initial_token_only(rooms: Rooms, browser: FlaskClient) -> None:
    with rooms.database.transaction() as session:
        initial = issue(rooms.access, session, REGISTRATION, life_s=600)
        other = issue(rooms.access, session, ACCESS, life_s=600, role="operator", scope="user/*.rs")
    metadata = {"redirect_uris": [REDIRECT], "client_name": "App", "scope": "patient/*.rs"}

    assert browser.post("/oauth/register", json=metadata).status_code == 401
    refused = browser.post("/oauth/register", json=metadata, headers={"Authorization": f"Bearer {other}"})
    assert refused.status_code == 401
    said = browser.post("/oauth/register", json=metadata, headers={"Authorization": f"Bearer {initial}"})
    assert said.status_code == 201
    assert said.get_json()["client_secret"]
    wrong = browser.post(
        "/oauth/register",
        json={"redirect_uris": ["http://evil.example/x"]},
        headers={"Authorization": f"Bearer {initial}"},
    )
    assert wrong.get_json()["error"] == "invalid_redirect_uri"


@pytest.mark.parametrize(
    ("path", "origin", "is_allowed"),
    [
        ("/fhir/Patient", "https://app.example.org", True),
        ("/dicomweb/studies", "https://app.example.org", True),
        ("/oauth/token", "https://app.example.org", True),
        ("/fhir/Patient", "https://evil.example", False),
        ("/oauth/token", "https://app.example.org.evil.example", False),
        ("/oauth/token", "null", False),
        ("/sign-in", "https://app.example.org", False),
    ],
)
def test_x1_pages_of_registered_apps_may_call_and_others_may_not(
    rooms: Rooms, browser: FlaskClient, path: str, origin: str, is_allowed: bool
) -> None:
    register(rooms.access)
    answer = browser.options(path, headers={"Origin": origin, "Access-Control-Request-Method": "GET"})

    assert (answer.headers.get("Access-Control-Allow-Origin") == origin) == is_allowed
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/fhir/metadata", "/fhir/.well-known/smart-configuration"])
def test_x1_discovery_is_read_by_any_page(browser: FlaskClient, path: str) -> None:
    origin = {"Origin": "https://unknown.example"}
    asked = browser.options(path, headers={**origin, "Access-Control-Request-Method": "GET"})

    for answer in (asked, browser.get(path, headers=origin)):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_secrets_are_not_kept_as_they_are(rooms: Rooms, app: App, patient: str) -> None:
    app.scope += " offline_access"
    tokens = app.tokens(patient=patient)
    with rooms.database.snapshot() as session:
        kept = json.dumps([str(vars(row)) for row in session.scalars(select(Token))])

    assert tokens["access_token"] not in kept
    assert tokens["refresh_token"] not in kept
