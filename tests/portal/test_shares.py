"""Shares at the web's doors: opening, pages, images, two patients, what stands in URLs, and staff."""

import io
import json
import re
from typing import Any

import pytest
from PIL import Image
from pypdf import PdfReader

from access.accounts import create_account
from access.caller import Caller
from access.grants import revoke_grant
from access.share_policy import SHARING
from access.site_documents import put_document
from access.tokens import ACCESS, issue
from portal.report_page import split_sections
from tests.builders import ROOT
from tests.film_world import LIMITS, OWN_PAGE, World
from tests.settling import settle
from tests.sharing import (
    FAMILY_PHONE,
    OTHER_PHONE,
    PHONE,
    last_code,
    register,
    report,
    secret_of,
    store,
)

OF_B = (b"GEHEIM-B", "李".encode(), b"Li^Na", b"B-2", f"{ROOT}.2".encode())


def test_a_link_opens_report_and_images_of_its_study(world: World) -> None:
    browser, home = world.visitor()

    page = browser.get(home)
    images = browser.get(f"{home}/studies/{world.a}/images")
    metadata = browser.get(f"{home}/dicomweb/studies/{world.a}/metadata")
    search = browser.get(f"{home}/dicomweb/studies").get_json()

    assert (page.status_code, images.status_code, metadata.status_code) == (200, 200, 200)
    assert "右上肺小结节" in page.get_data(as_text=True)
    assert [each["0020000D"]["Value"] for each in search] == [[world.a]]
    assert f"https://film.example.org{home}/dicomweb" in metadata.get_data(as_text=True)
    reports = browser.get(f"{home}/fhir/DiagnosticReport").get_json()
    assert len(reports["entry"]) == 1


def test_a_picture_carries_the_visitors_mark_and_is_kept_nowhere(world: World) -> None:
    large: dict[str, Any] = {"Rows": 256, "Columns": 256, "PixelData": bytes(256 * 256 * 2)}
    study = store(world.rooms, 3, slices=1, AccessionNumber="", **large)
    browser, home = world.visitor(studies=(study,))
    path = f"{home}/studies/{study}/preview/{ROOT}.3.1/{ROOT}.3.1.1/1"
    marked = browser.get(path)
    document = json.loads(LIMITS) | {"default": {"watermark": False}}
    put_document(world.rooms.access, world.operator, SHARING, json.dumps(document))
    plain = browser.get(path)
    put_document(world.rooms.access, world.operator, SHARING, LIMITS)

    assert marked.mimetype == "image/jpeg"
    assert Image.open(io.BytesIO(marked.data)).size == Image.open(io.BytesIO(plain.data)).size
    assert marked.data != plain.data
    for answer in (marked, browser.get(home), browser.get(f"{home}/dicomweb/studies/{study}/metadata")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_nothing_of_another_patient_is_seen_through_a_link(world: World) -> None:
    browser, home = world.visitor()
    b_series, b_instance = f"{ROOT}.2.1", f"{ROOT}.2.1.1"
    paths = [
        "", "/share", f"/studies/{world.b}", f"/studies/{world.b}/images",
        f"/studies/{world.b}/preview/{b_series}/{b_instance}/1",
        f"/studies/{world.a}/preview/{b_series}/{b_instance}/1", "/dicomweb/studies", "/dicomweb/series",
        "/dicomweb/instances", f"/dicomweb/studies/{world.b}/metadata",
        f"/dicomweb/studies/{world.b}/series", f"/dicomweb/studies/{world.a}/series/{b_series}/instances",
        f"/dicomweb/studies/{world.b}/series/{b_series}/instances/{b_instance}/frames/1",
        "/dicomweb/studies?PatientID=P2", "/fhir/ImagingStudy", "/fhir/DiagnosticReport", "/fhir/Patient",
        f"/fhir/Patient/{world.patient_b}", "/fhir/DiagnosticReport?_include=*", "/fhir/Observation",
        f"/fhir/ImagingStudy?patient={world.patient_b}", "/seen", "/family", "/shares",
    ]  # fmt: skip
    for path in paths:
        answer = browser.get(home + path)
        assert answer.status_code < 500, path
        assert not any(mark in answer.data for mark in OF_B[:4]), path
        if f"{ROOT}.2" not in path:
            assert OF_B[4] not in answer.data.replace(f"{ROOT}.1.2".encode(), b""), path
    for path in (f"/studies/{world.b}", f"/dicomweb/studies/{world.b}/metadata"):
        assert browser.get(home + path).status_code in (403, 404)


def test_a_share_is_for_looking_unless_it_says_otherwise(world: World) -> None:
    browser, home = world.visitor()
    whole = f"{home}/dicomweb/studies/{world.a}/series/{ROOT}.1.1/instances/{ROOT}.1.1.1"

    assert browser.get(f"{whole}/frames/1").status_code == 200
    assert browser.get(f"{whole}/metadata").status_code == 200
    for path in (whole, f"{home}/dicomweb/studies/{world.a}", f"{whole}/rendered"):
        assert browser.get(path).status_code == 403, path
    assert browser.post(f"{home}/dicomweb/studies", headers=OWN_PAGE).status_code == 403
    assert browser.delete(f"{home}/fhir/DiagnosticReport/x", headers=OWN_PAGE).status_code in (403, 405)

    document = json.loads(LIMITS) | {"default": {"download": True}}
    put_document(world.rooms.access, world.operator, SHARING, json.dumps(document))
    taker, home = world.visitor(download=True)
    put_document(world.rooms.access, world.operator, SHARING, LIMITS)
    whole = f"{home}/dicomweb/studies/{world.a}/series/{ROOT}.1.1/instances/{ROOT}.1.1.1"
    assert taker.get(whole, headers={"Accept": "application/dicom"}).status_code == 200


def test_the_list_shows_a_picture_of_each_examination(world: World) -> None:
    second = store(world.rooms, 4, slices=1, AccessionNumber="")
    browser, home = world.visitor(studies=(world.a, second))

    page = browser.get(home).get_data(as_text=True)
    pictures = re.findall(r'src="(/share/[^"]+/thumbnail)"', page)

    assert pictures == [f"{home}/studies/{each}/thumbnail" for each in (second, world.a)]
    for path in pictures:
        answer = browser.get(path)
        assert (answer.mimetype, answer.headers["Cache-Control"]) == ("image/jpeg", "no-store")
        assert max(Image.open(io.BytesIO(answer.data)).size) <= 160
    assert browser.get(f"{home}/studies/{world.b}/thumbnail").status_code == 404


RESULT = re.compile(r'<tr(?: class="(\w*)")?><th scope="row">([^<]+)</th><td>([^<]+?)\s*<.*?<td>([^<]*)<')


def test_results_of_a_report_are_a_table_on_the_page_in_the_pdf_and_at_the_fhir_door(world: World) -> None:
    study = store(world.rooms, 5, slices=1, AccessionNumber="OBS-1")
    nodule = {
        "code": {"text": "结节直径"}, "valueQuantity": {"value": 4.2, "unit": "mm"},
        "referenceRange": [{"low": {"value": 0}, "high": {"value": 3, "unit": "mm"}}],
        "interpretation": [{"coding": [{"code": "H"}]}],
    }  # fmt: skip
    bones = {
        "code": {"coding": [{"display": "Bone density"}]}, "valueCodeableConcept": {"text": "正常"},
        "component": [{"code": {"text": "T 值"}, "valueString": "-0.3"}],
    }  # fmt: skip
    secret = {"code": {"text": "GEHEIM-B"}, "valueString": "1"}
    report(world.rooms, world.patient_a, "OBS-1", observations=(nodule, bones))
    report(world.rooms, world.patient_b, "B-3", observations=(secret,))
    browser, home = world.visitor(studies=(study,))

    page = browser.get(home).get_data(as_text=True)
    report_id = browser.get(f"{home}/fhir/DiagnosticReport").get_json()["entry"][0]["resource"]["id"]
    pdf = browser.get(f"{home}/reports/{report_id}.pdf")
    observations = browser.get(f"{home}/fhir/Observation").get_json()["entry"]

    assert RESULT.findall(page) == [
        ("high", "结节直径", "4.2 mm", "0 – 3 mm"),
        ("", "Bone density", "正常", ""),
        ("", "T 值", "-0.3", ""),
    ]
    text = "".join(each.extract_text() for each in PdfReader(io.BytesIO(pdf.data)).pages)
    assert "4.2 mm" in text
    assert "Bone density" in text
    assert [each["resource"]["id"] for each in observations] == [f"{report_id}-1", f"{report_id}-2"]
    without, home = world.visitor(studies=(study,), with_report=False)
    assert without.get(f"{home}/fhir/Observation").status_code == 403


def test_images_that_a_report_points_to_stand_beside_it_and_open_there(world: World) -> None:
    study = store(world.rooms, 6, slices=5, AccessionNumber="MEDIA-1")
    named = {"system": "urn:dicom:uid", "value": f"urn:oid:{ROOT}.6.1.4"}
    held = {"resourceType": "Media", "id": "m", "status": "completed", "identifier": [named | {
        "value": f"urn:oid:{ROOT}.6.1.2"}], "content": {"title": "x"}}  # fmt: skip
    elsewhere = {"system": "urn:dicom:uid", "value": f"urn:oid:{ROOT}.2.1.1"}  # of another patient
    said = {
        "contained": [held],
        "media": [{"comment": "箭头处结节", "link": {"identifier": named}}, {"link": {"reference": "#m"}},
                  {"comment": "GEHEIM-B", "link": {"identifier": elsewhere}}],
    }  # fmt: skip
    report(world.rooms, world.patient_a, "MEDIA-1", said=said)
    browser, home = world.visitor(studies=(study,))

    page = browser.get(home).get_data(as_text=True)
    links = re.findall(r'<li><a href="([^"]+\?image=[^"]+)">.*?<span>([^<]*)</span>', page)
    opened = browser.get(links[0][0]).get_data(as_text=True)

    assert [(path.rpartition("=")[2], text.partition(" · ")[0]) for path, text in links] == [
        (f"{ROOT}.6.1.4", "箭头处结节"), (f"{ROOT}.6.1.2", "CT")
    ]  # fmt: skip
    assert "GEHEIM-B" not in page
    assert f'class="hero" href="{links[0][0]}"' in page  # what the report speaks of comes first
    assert f"/preview/{ROOT}.6.1/{ROOT}.6.1.4/1?side=1024" in opened
    assert "4 / 5" in opened
    unknown = browser.get(f"{home}/studies/{study}/images?image={ROOT}.2.1.1").get_data(as_text=True)
    assert "3 / 5" in unknown
    without, home = world.visitor(studies=(study,), with_report=False)
    assert "?image=" not in without.get(home).get_data(as_text=True)


def test_what_is_not_there_leads_back(world: World) -> None:
    browser, home = world.visitor()
    for path in ("/reports/none", f"/studies/{world.b}"):
        answer = browser.get(home + path)
        assert answer.status_code == 404
        assert f'<a class="button plain wide" href="{home}">' in answer.get_data(as_text=True)


def test_a_link_without_the_report_shows_none(world: World) -> None:
    browser, home = world.visitor(with_report=False)

    assert "小结节" not in browser.get(home).get_data(as_text=True)
    assert browser.get(f"{home}/fhir/DiagnosticReport").status_code == 403


@pytest.mark.parametrize("how", ["revoked", "expired", "left"])
def test_the_end_is_felt_at_the_next_request_by_pages_and_images(world: World, how: str) -> None:
    browser = world.browser()
    grant_id, secret = world.link(days=1)
    world.post(browser, "/share/begin", secret=secret)
    home = world.post(browser, "/share/enter").get_json()["to"]
    frame = f"{home}/dicomweb/studies/{world.a}/series/{ROOT}.1.1/instances/{ROOT}.1.1.1/frames/1"
    assert browser.get(frame).status_code == 200

    if how == "revoked":
        revoke_grant(world.rooms.access, world.operator, grant_id)
    elif how == "expired":
        world.tick(days=1, seconds=1)
    else:
        browser.post(f"{home}/leave", headers=OWN_PAGE)

    page = browser.get(home, headers={"Accept-Language": "zh"})
    assert page.status_code == 410
    assert "链接已过期" in page.get_data(as_text=True)
    assert browser.get(frame).status_code == 401
    assert browser.get(f"{home}/studies/{world.a}/preview/{ROOT}.1.1/{ROOT}.1.1.1/1").status_code == 410


def test_wrong_and_unknown_are_answered_alike(world: World) -> None:
    _, secret = world.paper()
    answers = []
    for phone in (PHONE, OTHER_PHONE, "15000000001"):
        browser = world.browser()
        world.post(browser, "/share/begin", secret=secret)
        world.tick()
        sent = world.post(browser, "/share/code", phone=phone)
        wrong = world.post(browser, "/share/enter", code="000000")
        answers.append((sent.status, sent.data, wrong.status, wrong.data, sorted(sent.headers.keys())))
    assert answers[0] == answers[1] == answers[2]

    gone = [world.post(world.browser(), "/share/begin", secret=each) for each in ("x" * 43, "", secret[:-1])]
    assert {(each.status, each.data) for each in gone} == {(gone[0].status, gone[0].data)}


def test_a_page_of_a_share_is_not_opened_by_knowing_its_path(world: World) -> None:
    _, home = world.visitor()
    stranger = world.browser()

    for path in ("", f"/studies/{world.a}/images", "/seen", "/watermark.svg"):
        answer = stranger.get(home + path)
        assert answer.status_code == 410
        assert world.a.encode() not in answer.data
    other, _ = world.visitor()  # let in by another share
    assert other.get(home).status_code == 410
    unknown = stranger.get("/share/00000000-0000-4000-8000-000000000000")
    assert unknown.data == stranger.get(home).data.replace(home.encode(), b"")


def test_the_secret_goes_in_a_body_and_stands_in_no_address(world: World) -> None:
    browser = world.browser()
    _, secret = world.link()
    answers = [
        browser.get("/share"), world.post(browser, "/share/begin", secret=secret),
        world.post(browser, "/share/enter"),
    ]  # fmt: skip

    for answer in answers:
        assert secret not in answer.get_data(as_text=True) + str(answer.headers)
    set_cookies = [value for name, value in answers[-1].headers if name == "Set-Cookie"]
    cookies = [each for each in set_cookies if "Max-Age=0" not in each]
    assert all("HttpOnly" in each and "Path=/share" in each and "SameSite=Lax" in each for each in cookies)
    assert browser.get(f"/share/begin?secret={secret}").status_code == 405
    assert browser.post("/share/begin", json={"secret": secret}).status_code == 403  # another site's page


def test_the_patient_shares_on_sees_who_looked_and_takes_it_back(world: World) -> None:
    browser, home = world.patient()
    form = {"study": world.a, "binding": "phone", "phone": FAMILY_PHONE, "recipient": "姑姑", "report": "1"}
    made = browser.post(f"{home}/share", data=form, headers=OWN_PAGE).get_data(as_text=True)
    secret = secret_of(re.search(r"https://film\.example\.org/share#[\w-]+", made)[0])  # type: ignore[index]
    assert re.search(r'<img class="qr" alt="[^"]+" src="data:image/png;base64,', made)  # for a long press

    aunt = world.browser()
    world.post(aunt, "/share/begin", secret=secret)
    world.tick()
    world.post(aunt, "/share/code", phone=FAMILY_PHONE)
    aunts_home = world.post(aunt, "/share/enter", code=last_code(world.rooms)).get_json()["to"]
    assert aunt.get(aunts_home).status_code == 200
    assert aunt.post(f"{aunts_home}/share", data=form, headers=OWN_PAGE).status_code == 403  # not on and on
    assert aunt.get(f"{aunts_home}/seen").status_code == 200
    assert "138****" not in aunt.get(f"{aunts_home}/seen").get_data(as_text=True)

    seen = browser.get(f"{home}/seen").get_data(as_text=True)
    assert "137****1234" in seen
    assert "查看报告" in seen or "read the report" in seen
    assert FAMILY_PHONE not in seen
    grant_id = aunts_home.rpartition("/")[2]
    assert browser.post(f"{home}/shares", data={"grant": grant_id}, headers=OWN_PAGE).status_code == 303
    assert aunt.get(aunts_home).status_code == 410


def test_the_log_says_from_which_place_where_the_site_named_it(world: World) -> None:
    document = json.loads(LIMITS) | {"places": {"127.0.0.0/8": "院内", "127.0.0.1/32": "影像科"}}
    put_document(world.rooms.access, world.operator, SHARING, json.dumps(document))
    browser, home = world.patient()
    seen = browser.get(f"{home}/seen").get_data(as_text=True)
    put_document(world.rooms.access, world.operator, SHARING, LIMITS)

    assert "影像科 · IP 127.0.0.1" in seen
    assert "院内" not in seen


def test_family_named_by_the_patient_opens_the_paper_code(world: World) -> None:
    browser, home = world.patient()
    form = {"phone": "13611112222", "name": "张丽", "relation": "child"}
    assert browser.post(f"{home}/family", data=form, headers=OWN_PAGE).status_code == 303

    family, family_home = world.patient("13611112222")

    assert family.get(family_home).status_code == 200
    assert "136****2222" in browser.get(f"{home}/family").get_data(as_text=True)


def test_a_report_is_a_pdf_with_the_visitors_mark_on_every_page(world: World) -> None:
    browser, home = world.visitor()
    report_id = browser.get(f"{home}/fhir/DiagnosticReport").get_json()["entry"][0]["resource"]["id"]

    answer = browser.get(f"{home}/reports/{report_id}.pdf", headers={"Accept-Language": "en"})

    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(answer.data)).pages)
    assert answer.mimetype == "application/pdf"
    assert "右上肺小结节" in text
    assert "Visitor" in text
    assert "张*" in text
    assert "张伟" not in text


def test_pages_are_light(world: World) -> None:
    browser, home = world.visitor()
    page = browser.get(home)
    parts = [
        page.data,
        *(
            browser.get(path).data
            for path in re.findall(r'(?:href|src)="(/(?:assets|ui)/[^"]+)"', page.get_data(as_text=True))
        ),
    ]

    assert sum(len(part) for part in parts) < 150_000  # uncompressed, even


def test_a_staff_member_shares_sees_and_ends(world: World) -> None:
    browser = world.browser()
    with world.rooms.database.transaction() as session:
        create_account(
            world.rooms.access, session, world.operator, "doctor", "Correct-Horse-7", "radiologist",
            institution="MAIN",
        )  # fmt: skip
    browser.post("/sign-in", data={"login": "doctor", "password": "Correct-Horse-7"}, headers=OWN_PAGE)

    found = browser.get("/staff/shares?find=张").get_data(as_text=True)
    assert world.a in found
    assert world.b not in found
    world.tick()
    made = browser.post(
        "/staff/shares", data={"study": world.a, "binding": "bearer", "days": "3"}, headers=OWN_PAGE
    ).get_data(as_text=True)
    secret = secret_of(re.search(r"https://film\.example\.org/share#[\w-]+", made)[0])  # type: ignore[index]
    assert world.post(world.browser(), "/share/begin", secret=secret).status_code == 200
    grant_id = re.search(r'name="end" value="([\w-]+)"', made)[1]  # type: ignore[index]
    browser.post("/staff/shares", data={"study": world.a, "end": grant_id}, headers=OWN_PAGE)
    assert world.post(world.browser(), "/share/begin", secret=secret).status_code == 410
    assert browser.post("/staff/shares", data={"study": world.a}).status_code == 403  # another site's form


def test_a_program_gets_codes_as_json_svg_png_and_pdf(world: World) -> None:
    with world.rooms.database.transaction() as session:
        token = issue(
            world.rooms.access,
            session,
            ACCESS,
            life_s=600,
            role="integration",
            scope="system/*.cruds system/Share.cruds",
        )
    client = world.browser()
    headers = {"Authorization": f"Bearer {token}"}

    anything = {**headers, "Accept": "*/*"}  # as programs say that do not care
    made = client.post("/shares", json={"accession_number": "NEW-1"}, headers=anything)
    assert made.status_code == 201
    assert secret_of(made.get_json()["url"])
    for form, magic in (("image/svg+xml", b"<?xml"), ("image/png", b"\x89PNG"), ("application/pdf", b"%PDF")):
        answer = client.post(
            "/shares", json={"accession_number": "NEW-1"}, headers={**headers, "Accept": form}
        )
        assert answer.data.startswith(magic)
    listed = client.get("/shares?accession_number=NEW-1", headers=headers).get_json()
    assert len(listed) == 4
    assert client.delete(f"/shares/{listed[0]['id']}", headers=headers).status_code == 204
    wrong: tuple[dict[str, Any], ...] = (
        {}, {"studies": "x"}, {"studies": []}, {"accession_number": "x" * 65},
        {"accession_number": "N", "days": "two"},
    )  # fmt: skip
    for body in wrong:
        assert client.post("/shares", json=body, headers=headers).status_code == 422
    operation = client.post(
        "/fhir/ImagingStudy/$share", headers=headers,
        json={"resourceType": "Parameters",
              "parameter": [{"name": "accession-number", "valueString": "NEW-2"}]},
    )  # fmt: skip
    values = {each["name"]: each for each in operation.get_json()["parameter"]}
    assert secret_of(values["url"]["valueUrl"])


def test_a_patient_signs_in_adds_a_person_and_sees_everything_of_it(world: World, operator: Caller) -> None:
    browser = world.browser()
    world.tick(hours=1)
    world.post(browser, "/patient/sign-in/code", phone=PHONE)
    told = world.post(browser, "/patient/sign-in/enter", code=last_code(world.rooms))
    assert told.get_json()["to"] == "/patient"
    assert world.a not in browser.get("/patient").get_data(as_text=True)  # a phone alone shows nothing

    wrong = browser.post("/patient/records", data={"name": "张伟", "number": "999999"}, headers=OWN_PAGE)
    assert wrong.status_code == 422
    register(world.rooms, "P1", "张伟", PHONE, identity_number="11010519491231002X")
    settle(world.rooms)
    right = browser.post("/patient/records", data={"name": "张伟", "number": "31002X"}, headers=OWN_PAGE)

    assert right.status_code == 303
    home = browser.get("/patient").get_data(as_text=True)
    assert world.a in home
    assert world.b not in home
    assert browser.get(f"/patient/studies/{world.b}").status_code == 404
    assert browser.get(f"/patient/studies/{world.a}/images").status_code == 200
    for path in ("/patient/shares", "/patient/family", "/patient/seen", "/patient/messages"):
        assert browser.get(path).status_code == 200


def test_the_patient_is_told_of_a_report_and_of_a_first_opening(world: World) -> None:
    browser = world.browser()
    world.tick(hours=1)
    world.post(browser, "/patient/sign-in/code", phone=PHONE)
    world.post(browser, "/patient/sign-in/enter", code=last_code(world.rooms))
    report(world.rooms, world.patient_a, "A0001-X")
    world.visitor()
    settle(world.rooms)

    topics = [each["topic"] for each in browser.get("/patient/messages.json").get_json()]

    assert sorted(topics[:2]) == ["report-ready", "share-opened"]
    assert "访客" in browser.get("/patient/messages?lang=zh").get_data(as_text=True)  # who gave no name
    assert browser.get("/patient/messages").status_code == 200
    assert all(each["read"] for each in browser.get("/patient/messages.json").get_json())


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("检查所见：肝大。\n诊断意见：\n脂肪肝。", [("findings", "肝大。"), ("impression", "脂肪肝。")]),
        ("【影像所见】\n正常", [("findings", "正常")]),
        ("FINDINGS:\nNone.\nIMPRESSION: Normal.", [("findings", "None."), ("impression", "Normal.")]),
        ("结论性意见不足", [("", "结论性意见不足")]),
        ("", []),
    ],
)
def test_a_reports_text_is_parted_at_its_headings(text: str, sections: list[tuple[str, str]]) -> None:
    assert split_sections(text) == sections
