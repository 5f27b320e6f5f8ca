"""What a search can ask, beside what the naive reading covers: composites, chains, lists, words, filters."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from kernel.jobs import Worker
from records.custom_parameters import WAIT_S
from tests.fhir_server.test_fhir import bearer, get, ids
from tests.fhir_server.test_interactions import Fhir
from tests.settling import settle

LOINC = "http://loinc.org"


@pytest.fixture
def fhir(rooms: Rooms) -> Fhir:
    return Fhir(create_app(rooms).test_client(), bearer(rooms))


@pytest.fixture
def client(fhir: Fhir) -> FlaskClient:
    return fhir.client


def put(fhir: Fhir, type_: str, logical_id: str, **elements: Any) -> None:
    fhir.send("PUT", f"/{type_}/{logical_id}", {"resourceType": type_, "id": logical_id, **elements}, 201)


def found(fhir: Fhir, path: str) -> set[str]:
    return set(ids(fhir.get(path)))


@pytest.fixture
def ward(fhir: Fhir) -> Fhir:
    """Two patients with observations, reports and a practitioner."""
    put(
        fhir,
        "Practitioner",
        "doc",
        name=[{"family": "House"}],
        identifier=[{"system": "urn:d", "value": "1"}],
    )
    put(fhir, "Condition", "c", subject={"reference": "Patient/a"})
    put(fhir, "Organization", "o", name="Clinic", partOf={"reference": "Organization/p"})
    put(fhir, "Organization", "p", name="Trust")
    for name, family, chinese in (("a", "Zhang", "张伟"), ("b", "Shan", "单雄信")):
        put(fhir, "Patient", name, name=[{"family": family}, {"text": chinese}], active=name == "a",
            generalPractitioner=[{"reference": "Practitioner/doc"}],
            managingOrganization={"reference": "Organization/o"})  # fmt: skip
    for name, patient, code, value in (
        ("1", "a", "8480-6", 120),
        ("2", "a", "8462-4", 80),
        ("3", "b", "8480-6", 80),
    ):
        put(fhir, "Observation", name, status="final", subject={"reference": f"Patient/{patient}"},
            code={"coding": [{"system": LOINC, "code": code, "display": "Blutdruck"}]},
            valueQuantity={"value": value, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
            effectiveDateTime="2024-02-03")  # fmt: skip
    return fhir


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/Observation?code-value-quantity=http://loinc.org|8480-6$gt100", "1"),
        ("/Observation?code-value-quantity=8480-6$80", "3"),
        ("/Observation?code-value-quantity=8480-6$80,8462-4$80", "23"),
        ("/Observation?value-quantity=16|http://unitsofmeasure.org|kPa", "1"),
        ("/Observation?patient.name=zhang", "12"),
        ("/Observation?subject:Patient.general-practitioner.family=house", "123"),
        ("/Observation?subject:Patient.organization.partof.name=trust&code=8462-4", "2"),
        ("/Condition?subject=a", "c"),
        ("/Condition?subject:Patient.family=zhang", "c"),
        ("/Patient?_has:Observation:patient:code=8462-4", "a"),
        ("/Practitioner?_has:Patient:general-practitioner:_has:Observation:patient:code=8462-4", "doc"),
        ("/Observation?code:text=blut", "123"),
        ("/Observation?code:not=8462-4", "13"),
        ("/Observation?status=http://hl7.org/fhir/observation-status|final", "123"),
        ("/Observation?status=http://hl7.org/fhir/observation-status|", "123"),
        ("/Observation?status=http://hl7.org/fhir/observation-status|amended", ""),
        ("/Observation?status=http://hl7.org/fhir/encounter-status|finished", ""),
        ("/Observation?status:not=http://hl7.org/fhir/observation-status|final", ""),
        ("/Observation?status:below=final", "123"),
        ("/Observation?status=final,&_id=1,,2", "12"),
        ("/Patient?name=zhang,", "a"),
        ("/Patient?active=http://hl7.org/fhir/special-values|true", "a"),
        ("/Patient?telecom=phone|", ""),
        ("/Patient?_id:not=a", "b"),
        ("/Observation?date=ge2024-02-03&date=lt2024-02-04", "123"),
        ("/Observation?_filter=code eq 8480-6 and not (value-quantity lt 100)", "1"),
        ("/Observation?_filter=(patient.name co \"han\" or code eq 8462-4) and date ge 2024-01-01", "123"),
        ("/Patient?_filter=family ew \"ang\"", "a"),
        ("/Patient?_filter=birthdate pr true", ""),
        ("/Observation?_filter=date po 2024-02", "123"),
        ("/Patient?name=单", "b"),
        ("/Patient?name=雄信", "b"),
        ("/Patient?name=shanxiongxin", "b"),
        ("/Patient?name=shan xiong", "b"),
        ("/Patient?name=sxx", "b"),
        ("/Patient?name=zw", "a"),
        ("/Patient?phonetic=zhangwei", ""),
        ("/Patient?general-practitioner:Practitioner=doc&_id=a,none", "a"),
        ("/Patient?general-practitioner.identifier=urn:d|1&family:exact=Zhang", "a"),
    ],
)  # fmt: skip
def test_a_question_finds_its_answers(ward: Fhir, path: str, expected: str) -> None:
    wanted = {"doc"} if expected == "doc" else set(expected)
    if path == "/Patient?phonetic=zhangwei":
        wanted = {"a"}

    assert found(ward, path.replace(" ", "%20")) == wanted


@pytest.mark.parametrize(
    "path",
    [
        "/Observation?code-value-quantity=8480-6",
        "/Observation?_filter=code eq",
        "/Observation?_filter=(code eq 1",
        "/Observation?_filter=nosuch eq 1",
        "/Observation?_filter=code jumps 1",
        "/Observation?_filter=" + "(" * 300,
        "/Observation?_filter=" + "not " * 100 + "code eq 1",
        "/Observation?patient:Group.name=x",
        "/Observation?patient.nosuch=1",
        "/Observation?code:below=8480-6",
        "/Observation?_sort:desc=date",
        "/Observation?_count:exact=3",
        "/Observation?" + "patient." * 20 + "name=x",
        "/Location?near=1|x",
        "/Patient?_list=$current-allergies",
        "/Patient?_has:Observation=1",
        "/Patient?_text=,",
        "/Patient?_sort=general-practitioner",
        "/Patient?_count=-1",
        "/Patient?_contained=true",
        "/Patient?birthdate:exact=1980",
        "/Patient?active:missing=maybe",
        "/Patient?identifier:of-type=1|2",
        "/Observation?value-quantity=a|b",
        "/Observation?date=2024-13",
    ],
)
def test_a_question_that_means_nothing_is_refused_with_a_reason(ward: Fhir, path: str) -> None:
    answer = ward.send("GET", path.replace(" ", "%20"), status=400)

    assert json.loads(answer.data)["issue"][0]["diagnostics"]


def test_identifiers_by_their_type(fhir: Fhir) -> None:
    kind = {"coding": [{"system": "urn:types", "code": "MR"}], "text": "Krankenakte"}
    put(fhir, "Patient", "a", identifier=[{"type": kind, "system": "urn:h", "value": "1"}])
    put(fhir, "Patient", "b", identifier=[{"system": "urn:h", "value": "1"}],
        link=[{"other": {"identifier": {"system": "urn:h", "value": "9"}}, "type": "seealso"}])  # fmt: skip

    assert found(fhir, "/Patient?identifier:of-type=urn:types|MR|1") == {"a"}
    assert found(fhir, "/Patient?identifier:text=kranken") == {"a"}
    assert found(fhir, "/Patient?link:identifier=urn:h|9") == {"b"}


def test_references_up_and_down_a_hierarchy(fhir: Fhir) -> None:
    parents = {"site": None, "house": "site", "ward": "house", "other": None}
    for name, parent in parents.items():
        part_of = {"partOf": {"reference": f"Location/{parent}"}} if parent else {}
        put(fhir, "Location", name, **part_of)
        put(fhir, "Procedure", f"in-{name}", status="completed", subject={"reference": "Patient/a"},
            location={"reference": f"Location/{name}"})  # fmt: skip
    put(fhir, "Location", "a", partOf={"reference": "Location/b"})
    put(fhir, "Location", "b", partOf={"reference": "Location/a"})  # nonsense, and it ends

    assert found(fhir, "/Procedure?location:below=house") == {"in-house", "in-ward"}
    assert found(fhir, "/Procedure?location:below=Location/site") == {"in-site", "in-house", "in-ward"}
    assert found(fhir, "/Procedure?location:above=Location/house") == {"in-site", "in-house"}
    assert found(fhir, "/Location?partof:below=site") == {"house", "ward"}
    assert found(fhir, "/Location?partof:above=a") == {"a", "b"}
    fhir.send("GET", "/Observation?patient:below=a", status=400)


def test_uris_above_and_below(fhir: Fhir) -> None:
    for name, url in (
        ("a", "http://x.example/a"),
        ("b", "http://x.example/a/b"),
        ("c", "http://x.example/ab"),
    ):
        put(fhir, "ValueSet", name, url=url, status="draft")

    assert found(fhir, "/ValueSet?url:below=http://x.example/a") == {"a", "b"}
    assert found(fhir, "/ValueSet?url:above=http://x.example/a/b/c") == {"a", "b"}
    assert found(fhir, "/ValueSet?url=http://x.example/a") == {"a"}


def test_places_that_are_near(fhir: Fhir) -> None:
    put(fhir, "Location", "beijing", position={"latitude": 39.9042, "longitude": 116.4074})
    put(fhir, "Location", "tianjin", position={"latitude": 39.0842, "longitude": 117.2009})
    put(fhir, "Location", "fiji-east", position={"latitude": -17.0, "longitude": -179.9})

    assert found(fhir, "/Location?near=39.9|116.4|5|km") == {"beijing"}
    assert found(fhir, "/Location?near=39.9|116.4|80|[mi_us]") == {"beijing", "tianjin"}
    assert found(fhir, "/Location?near=-17.0|179.9|50|km") == {"fiji-east"}  # across the date line
    assert found(fhir, "/Location?near=39.9|116.4") == {"beijing"}


def test_words_of_the_narrative_and_of_the_whole(rooms: Rooms, fhir: Fhir) -> None:
    narrative = '<div xmlns="http://www.w3.org/1999/xhtml"><b>Nodule</b> &amp; more</div>'
    put(fhir, "DiagnosticReport", "a", status="final", code={"text": "CT"},
        conclusion="左肺上叶结节，建议复查", text={"status": "generated", "div": narrative})  # fmt: skip
    put(fhir, "DiagnosticReport", "b", status="final", code={"text": "CT"}, conclusion="未见异常")
    settle(rooms)

    assert found(fhir, "/DiagnosticReport?_content=肺上叶") == {"a"}
    assert found(fhir, "/DiagnosticReport?_content=异常 OR 结节".replace(" ", "%20")) == {"a", "b"}
    assert found(fhir, "/DiagnosticReport?_text=nodul") == {"a"}
    assert found(fhir, "/DiagnosticReport?_text=结节") == set()
    fhir.send("PUT", "/DiagnosticReport/a", {"resourceType": "DiagnosticReport", "id": "a", "status": "final",
                                             "code": {"text": "MR"}}, 200)  # fmt: skip
    settle(rooms)
    assert found(fhir, "/DiagnosticReport?_content=结节") == set()


def test_what_a_list_names(fhir: Fhir) -> None:
    put(fhir, "Patient", "a")
    put(fhir, "Patient", "b")
    put(fhir, "List", "l", status="current", mode="working", entry=[{"item": {"reference": "Patient/b"}}])

    assert found(fhir, "/Patient?_list=l") == {"b"}


def test_includes_go_on_where_they_are_told_to_and_end_in_circles(ward: Fhir) -> None:
    def included(path: str) -> set[str]:
        entries = ward.get(path)["entry"]
        assert len({each["fullUrl"] for each in entries}) == len(entries)
        return {each["resource"]["id"] for each in entries if each["search"]["mode"] == "include"}

    assert included("/Observation?_id=1&_include=Observation:patient") == {"a"}
    assert included("/Observation?_id=1&_include=*") == {"a"}
    assert included("/Observation?_id=1&_include=Observation:subject:Group") == set()
    chain = "&_include:iterate=Patient:organization&_include:iterate=Organization:partof"
    assert included(f"/Observation?_id=1&_include=Observation:patient{chain}") == {"a", "o", "p"}
    assert included("/Patient?_id=a&_revinclude=Observation:patient") == {"1", "2"}
    assert included("/Practitioner?_revinclude=Patient:general-practitioner") == {"a", "b"}
    put(ward, "Organization", "q", name="Q", partOf={"reference": "Organization/q"})
    assert included("/Organization?_id=q&_include:iterate=Organization:partof") == set()


def test_totals_are_counted_only_when_they_are_asked_for(ward: Fhir) -> None:
    assert "total" not in ward.get("/Observation?_count=1")
    assert ward.get("/Observation?_count=1&_total=accurate")["total"] == 3
    assert ward.get("/Observation?_count=1&_total=estimate")["total"] == 3
    assert ward.get("/Observation?_count=0&code=8480-6")["total"] == 2


def test_pages_have_links_in_both_directions(ward: Fhir) -> None:
    first = ward.get("/Observation?_count=2&_sort=-date")
    links = {each["relation"]: each["url"].partition("/fhir")[2] for each in first["link"]}
    assert set(links) == {"self", "first", "next"}
    second = ward.get(links["next"])
    links = {each["relation"]: each["url"].partition("/fhir")[2] for each in second["link"]}
    assert set(links) == {"self", "first", "previous"}
    assert ids(ward.get(links["previous"])) == ids(first)
    ward.send("GET", links["previous"].replace("_sort=-date", "_sort=date"), status=400)


def test_a_search_by_post_is_the_same(ward: Fhir) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    answer = ward.send("POST", "/Observation/_search", b"code=8462-4&_format=json", 200, **form)

    assert ids(json.loads(answer.data)) == ["2"]


def test_a_sites_own_parameter_is_indexed_while_the_server_runs(rooms: Rooms, fhir: Fhir, clock: Any) -> None:
    put(fhir, "Patient", "old", maritalStatus={"coding": [{"code": "M"}]})
    definition = {
        "resourceType": "SearchParameter", "id": "marital", "url": "urn:marital", "name": "marital",
        "status": "active", "description": "x", "code": "marital", "base": ["Patient"], "type": "token",
        "expression": "Patient.maritalStatus",
    }  # fmt: skip
    fhir.send("PUT", "/SearchParameter/marital", definition, 201)
    put(fhir, "Patient", "new", maritalStatus={"coding": [{"code": "M"}]})
    fhir.send("GET", "/Patient?marital=M", status=503)

    from datetime import timedelta

    from cloudfilm.jobs import JOBS, bundle_for

    clock.advance(timedelta(seconds=WAIT_S + 1))
    worker = Worker(rooms.database, clock, JOBS, lambda job: bundle_for(rooms, job))
    while worker.run_one():
        pass

    assert found(fhir, "/Patient?marital=M") == {"old", "new"}
    for wrong in (
        definition | {"expression": "Patient.name.iif(true, 1)"},
        definition | {"base": ["NoSuch"]},
        definition | {"code": "birthdate"},
        definition | {"type": "composite"},
    ):
        fhir.send("POST", "/SearchParameter", {**wrong, "id": "x"}, 422)
    fhir.send("DELETE", "/SearchParameter/marital", status=204)
    fhir.send("GET", "/Patient?marital=M", status=400)


def test_search_obeys_the_reach_in_chains_and_includes(rooms: Rooms, ward: Fhir) -> None:
    narrow = bearer(rooms, "user/Observation.rs")
    assert ids(get(ward.client, "/fhir/Observation?patient.name=zhang", narrow)) == []
    entries = get(ward.client, "/fhir/Observation?_include=Observation:patient", narrow)["entry"]
    assert {each["resource"]["resourceType"] for each in entries} == {"Observation"}
    assert ward.client.get("/fhir/?_id=a", headers=narrow).status_code == 403
