"""The terminology service as its clients see it: the operations over shipped, stored and loaded
definitions."""

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from access.caller import Caller
from access.tokens import issue
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from terminology.layouts import LAYOUTS
from terminology.load import load_csv, load_documents

BODY = "http://film.example.org/CodeSystem/body-part"
HEAD = "http://film.example.org/ValueSet/head"
SYSTEM: dict[str, Any] = {
    "resourceType": "CodeSystem",
    "url": BODY,
    "version": "1",
    "name": "BodyParts",
    "status": "active",
    "content": "complete",
    "caseSensitive": True,
    "language": "zh-CN",
    "property": [{"code": "laterality", "type": "boolean"}],
    "concept": [
        {
            "code": "HEAD",
            "display": "头部",
            "designation": [{"language": "en", "value": "Head"}],
            "concept": [
                {"code": "BRAIN", "display": "脑"},
                {
                    "code": "EYE",
                    "display": "眼",
                    "property": [{"code": "laterality", "valueBoolean": True}],
                    "concept": [{"code": "ORBIT", "display": "眼眶"}],
                },
            ],
        },
        {"code": "CHEST", "display": "胸部"},
        {"code": "OLD", "display": "旧部位", "property": [{"code": "status", "valueCode": "retired"}]},
    ],
}
HEAD_SET = {
    "resourceType": "ValueSet",
    "url": HEAD,
    "status": "active",
    "compose": {
        "include": [{"system": BODY, "filter": [{"property": "concept", "op": "is-a", "value": "HEAD"}]}],
        "exclude": [{"system": BODY, "concept": [{"code": "ORBIT"}]}],
    },
}


class Service:
    """A client of a server that has the two definitions above."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.client: FlaskClient = create_app(rooms).test_client()
        with rooms.database.transaction() as session:
            secret = issue(rooms.access, session, "access", life_s=600, role="operator", scope="user/*.cruds")
        self.headers = {"Authorization": f"Bearer {secret}"}
        for document in (SYSTEM, HEAD_SET):
            self.create(document)

    def create(self, document: dict[str, Any]) -> str:
        answer = self.client.post(f"/fhir/{document['resourceType']}", json=document, headers=self.headers)
        assert answer.status_code == 201, answer.data
        return str(json.loads(answer.data)["id"])

    def ask(self, path: str, status: int = 200) -> dict[str, Any]:
        answer = self.client.get(f"/fhir/{path}", headers=self.headers)
        assert answer.status_code == status, answer.data
        return dict(json.loads(answer.data))

    def post(self, path: str, **parameters: Any) -> dict[str, Any]:
        given = [{"name": name, **value} for name, value in parameters.items()]
        body = {"resourceType": "Parameters", "parameter": given}
        return dict(json.loads(self.client.post(f"/fhir/{path}", json=body, headers=self.headers).data))


@pytest.fixture
def service(rooms: Rooms) -> Service:
    return Service(rooms)


def values(parameters: dict[str, Any]) -> dict[str, Any]:
    """The first value of each parameter by name."""
    found: dict[str, Any] = {}
    for each in parameters["parameter"]:
        found.setdefault(each["name"], next((v for k, v in each.items() if k.startswith("value")), None))
    return found


def codes(value_set: dict[str, Any]) -> list[str]:
    """The codes of an expansion, those below others after them."""
    found: list[str] = []
    stack = list(reversed(value_set["expansion"].get("contains", [])))
    while stack:
        each = stack.pop()
        found.append(each["code"])
        stack.extend(reversed(each.get("contains", [])))
    return found


def test_a_code_system_written_over_rest_is_asked_at_once(service: Service) -> None:
    found = service.ask(f"CodeSystem/$lookup?system={BODY}&code=EYE")
    said = values(found)
    assert (said["name"], said["display"], said["version"]) == ("BodyParts", "眼", "1")
    related = {
        (part["part"][0]["valueCode"], part["part"][1].get("valueCode"))
        for part in found["parameter"]
        if part["name"] == "property"
    }
    assert {("parent", "HEAD"), ("child", "ORBIT")} <= related
    english = service.ask(f"CodeSystem/$lookup?system={BODY}&code=HEAD&displayLanguage=en")
    assert values(english)["display"] == "Head"
    assert service.ask(f"CodeSystem/$lookup?system={BODY}&code=NOSE", 404)["issue"][0]["code"] == "not-found"
    assert service.ask("CodeSystem/$lookup?system=urn:none&code=a", 404)["issue"][0]["code"] == "not-found"


def test_an_expansion_follows_filters_and_excludes_as_a_tree_or_in_pages(service: Service) -> None:
    tree = service.ask(f"ValueSet/$expand?url={HEAD}")
    assert codes(tree) == ["HEAD", "BRAIN", "EYE"]
    assert [each["code"] for each in tree["expansion"]["contains"]] == ["HEAD"]
    page = service.ask(f"ValueSet/$expand?url={HEAD}&offset=1&count=1")["expansion"]
    assert (page["total"], [each["code"] for each in page["contains"]]) == (3, ["BRAIN"])
    assert codes(service.ask(f"ValueSet/$expand?url={HEAD}&filter=眼")) == ["EYE"]
    inline = {"resourceType": "ValueSet", "status": "draft", "compose": {"include": [{"valueSet": [HEAD]}]}}
    assert codes(service.post("ValueSet/$expand", valueSet={"resource": inline})) == ["HEAD", "BRAIN", "EYE"]


@pytest.mark.parametrize(
    ("operator", "property_", "value", "expected"),
    [
        ("is-a", "concept", "EYE", {"EYE", "ORBIT"}),
        ("descendent-of", "concept", "HEAD", {"BRAIN", "EYE", "ORBIT"}),
        ("is-not-a", "concept", "HEAD", {"CHEST", "OLD"}),
        ("generalizes", "concept", "ORBIT", {"HEAD", "EYE", "ORBIT"}),
        ("child-of", "concept", "HEAD", {"BRAIN", "EYE"}),
        ("=", "laterality", "true", {"EYE"}),
        ("exists", "laterality", "true", {"EYE"}),
        ("in", "code", "BRAIN,CHEST", {"BRAIN", "CHEST"}),
        ("not-in", "code", "BRAIN,CHEST", {"HEAD", "EYE", "ORBIT", "OLD"}),
        ("regex", "code", "B.*|C.*", {"BRAIN", "CHEST"}),
        ("=", "parent", "HEAD", {"BRAIN", "EYE"}),
    ],
)
def test_each_filter_operator(
    service: Service, operator: str, property_: str, value: str, expected: set[str]
) -> None:
    rule = {"property": property_, "op": operator, "value": value}
    inline = {
        "resourceType": "ValueSet",
        "status": "draft",
        "compose": {"include": [{"system": BODY, "filter": [rule]}]},
    }
    found = codes(service.post("ValueSet/$expand", valueSet={"resource": inline}))
    assert set(found) == expected
    for code in ("HEAD", "BRAIN", "EYE", "ORBIT", "CHEST", "OLD"):
        asked = service.post(
            "ValueSet/$validate-code",
            valueSet={"resource": inline},
            coding={"valueCoding": {"system": BODY, "code": code}},
        )
        assert values(asked)["result"] is (code in expected)


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({"property": "code", "op": "regex", "value": "(a+)+$"}, 200),
        ({"property": "code", "op": "regex", "value": "("}, 422),
        ({"property": "code", "op": "regex", "value": "a{1000}{1000}{1000}"}, 422),
        ({"property": "code", "op": "resembles", "value": "x"}, 422),
        ({"property": "code", "op": "="}, 422),
    ],
)
def test_a_hostile_filter_is_answered_quickly_or_refused(
    service: Service, rule: dict[str, str], status: int
) -> None:
    inline = {
        "resourceType": "ValueSet",
        "status": "draft",
        "compose": {"include": [{"system": BODY, "filter": [rule]}]},
    }
    body = {"resourceType": "Parameters", "parameter": [{"name": "valueSet", "resource": inline}]}
    answer = service.client.post("/fhir/ValueSet/$expand", json=body, headers=service.headers)
    assert answer.status_code == status


def test_value_sets_that_import_each_other_are_refused(service: Service) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        service.create(
            {
                "resourceType": "ValueSet",
                "url": f"urn:test:{one}",
                "status": "active",
                "compose": {"include": [{"valueSet": [f"urn:test:{other}"]}]},
            }
        )
    refused = service.ask("ValueSet/$expand?url=urn:test:a", 422)
    assert "Cyclic" in refused["issue"][0]["diagnostics"]


def test_validation_says_what_is_wrong_and_where(service: Service) -> None:
    wrong = {"coding": [{"system": BODY, "code": "CHEST"}, {"system": BODY, "code": "NOSE"}]}
    found = service.post(
        "ValueSet/$validate-code", url={"valueUri": HEAD}, codeableConcept={"valueCodeableConcept": wrong}
    )
    assert values(found)["result"] is False
    outcome = next(each["resource"] for each in found["parameter"] if each["name"] == "issues")
    assert "CodeableConcept.coding[1].code" in {
        place for issue in outcome["issue"] for place in issue.get("expression", ())
    }
    good = service.ask(f"ValueSet/$validate-code?url={HEAD}&system={BODY}&code=EYE&display=眼")
    assert (values(good)["result"], values(good)["display"]) == (True, "眼")
    misnamed = service.ask(f"ValueSet/$validate-code?url={HEAD}&system={BODY}&code=EYE&display=耳")
    assert values(misnamed)["result"] is False
    retired = service.ask(f"CodeSystem/$validate-code?url={BODY}&code=OLD")
    assert (values(retired)["result"], values(retired)["inactive"]) == (True, True)


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        ("HEAD", "ORBIT", "subsumes"),
        ("ORBIT", "HEAD", "subsumed-by"),
        ("EYE", "EYE", "equivalent"),
        ("EYE", "CHEST", "not-subsumed"),
    ],
)
def test_subsumption(service: Service, a: str, b: str, outcome: str) -> None:
    found = service.ask(f"CodeSystem/$subsumes?system={BODY}&codeA={a}&codeB={b}")
    assert values(found) == {"outcome": outcome}


def test_versions_stand_side_by_side_and_the_newest_is_asked(service: Service) -> None:
    newer = json.loads(json.dumps(SYSTEM))
    newer["version"] = "10"
    newer["concept"][1]["display"] = "胸"
    service.create(newer)
    lookup = f"CodeSystem/$lookup?system={BODY}&code=CHEST"
    assert values(service.ask(lookup))["display"] == "胸"
    assert values(service.ask(f"{lookup}&version=1"))["display"] == "胸部"
    missing = service.ask(f"{lookup}&version=3", 404)["issue"][0]["diagnostics"]
    assert "10 or 1" in missing


def test_a_supplement_adds_names_in_another_language(service: Service) -> None:
    service.create(
        {
            "resourceType": "CodeSystem",
            "url": "http://film.example.org/CodeSystem/ct-zh",
            "status": "active",
            "content": "supplement",
            "supplements": "http://dicom.nema.org/resources/ontology/DCM",
            "concept": [{"code": "CT", "designation": [{"language": "zh-CN", "value": "计算机体层摄影"}]}],
        }
    )
    dcm = "http://dicom.nema.org/resources/ontology/DCM"
    found = service.ask(f"CodeSystem/$lookup?system={dcm}&code=CT&displayLanguage=zh-CN")
    assert values(found)["display"] == "计算机体层摄影"


def test_a_map_translates_both_ways_and_says_what_has_no_counterpart(service: Service) -> None:
    service.create(
        {
            "resourceType": "ConceptMap",
            "url": "http://film.example.org/ConceptMap/body",
            "status": "active",
            "group": [
                {
                    "source": BODY,
                    "target": "http://snomed.info/sct",
                    "element": [
                        {
                            "code": "HEAD",
                            "target": [{"code": "69536005", "display": "Head", "equivalence": "equivalent"}],
                        },
                        {"code": "OLD", "target": [{"equivalence": "unmatched"}]},
                    ],
                }
            ],
        }
    )
    there = service.ask(f"ConceptMap/$translate?system={BODY}&code=HEAD")
    match = next(each for each in there["parameter"] if each["name"] == "match")
    assert {"system": "http://snomed.info/sct", "code": "69536005", "display": "Head"} in [
        part.get("valueCoding") for part in match["part"]
    ]
    back = service.ask("ConceptMap/$translate?system=http://snomed.info/sct&code=69536005&reverse=true")
    match = next(each for each in back["parameter"] if each["name"] == "match")
    assert {"system": BODY, "code": "HEAD"} in [part.get("valueCoding") for part in match["part"]]
    assert values(service.ask(f"ConceptMap/$translate?system={BODY}&code=OLD"))["result"] is False
    shipped = "ConceptMap/$translate?url=http://hl7.org/fhir/ConceptMap/cm-administrative-gender-v3"
    found = service.ask(f"{shipped}&system=http://hl7.org/fhir/administrative-gender&code=male")
    assert values(found)["result"] is True


def test_a_closure_table_tells_what_is_new(service: Service) -> None:
    def closure(**given: Any) -> dict[str, Any]:
        return service.post("$closure", name={"valueString": "t1"}, **given)

    assert closure()["version"] == "0"
    first = closure(concept={"valueCoding": {"system": BODY, "code": "ORBIT"}})
    assert (first["version"], "group" in first) == ("1", False)
    second = closure(concept={"valueCoding": {"system": BODY, "code": "HEAD"}})
    assert second["group"][0]["element"] == [
        {"code": "ORBIT", "target": [{"code": "HEAD", "equivalence": "subsumes"}]}
    ]
    assert closure(version={"valueString": "1"})["group"] == second["group"]
    assert "group" not in closure(version={"valueString": "2"})


def test_codes_are_found_by_their_properties(service: Service) -> None:
    part = [{"name": "code", "valueCode": "laterality"}, {"name": "value", "valueCode": "true"}]
    found = service.post("CodeSystem/$find-matches", system={"valueUri": BODY}, property={"part": part})
    coding = found["parameter"][0]["part"][0]["valueCoding"]
    assert coding == {"system": BODY, "code": "EYE", "display": "眼"}


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/administrative-gender&code=male", True),
        ("ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/administrative-gender&code=malex", False),
        ("CodeSystem/$validate-code?url=http://unitsofmeasure.org&code=mg/dL", True),
        ("CodeSystem/$validate-code?url=http://unitsofmeasure.org&code=mgdL", False),
        ("CodeSystem/$validate-code?url=http://dicom.nema.org/resources/ontology/DCM&code=113725", True),
        ("ValueSet/$validate-code?url=urn:dicom:cid:29&code=CT&inferSystem=true", True),
        ("ValueSet/$validate-code?url=urn:dicom:cid:29&code=ZZ&inferSystem=true", False),
        ("CodeSystem/$validate-code?url=http://terminology.hl7.org/CodeSystem/v2-0001&code=F", True),
        ("CodeSystem/$validate-code?url=urn:ietf:bcp:13&code=application/dicom", True),
        ("CodeSystem/$validate-code?url=urn:ietf:bcp:47&code=zh-Hans-CN", True),
        ("CodeSystem/$validate-code?url=urn:iso:std:iso:4217&code=CNY", True),
    ],
)
def test_the_definitions_that_come_with_the_program(service: Service, path: str, result: bool) -> None:
    assert values(service.ask(path))["result"] is result


def test_search_by_value_set_and_by_subsumption(service: Service) -> None:
    for code in ("ORBIT", "CHEST"):
        coding = {"coding": [{"system": BODY, "code": code}]}
        body = {"resourceType": "Observation", "status": "final", "code": coding}
        service.create(body)

    def found(query: str) -> list[str]:
        entries = service.ask(f"Observation?{query}").get("entry", [])
        return sorted(each["resource"]["code"]["coding"][0]["code"] for each in entries)

    concepts = service.rooms.records.concepts
    with service.rooms.database.snapshot() as session:
        assert set(concepts.members(session, HEAD)) == {(BODY, "HEAD"), (BODY, "BRAIN"), (BODY, "EYE")}
        assert (BODY, "ORBIT") in set(concepts.below(session, BODY, "HEAD"))
        assert (BODY, "HEAD") in set(concepts.above(session, BODY, "ORBIT"))
    assert found(f"code={BODY}|ORBIT") == ["ORBIT"]


def test_a_national_code_list_is_loaded_by_csv_and_found_by_sound(
    rooms: Rooms, operator: Caller, tmp_path: Path, service: Service
) -> None:
    file = tmp_path / "icd.csv"
    file.write_bytes(
        "诊断编码,诊断名称,章节\r\nA00,霍乱,第一章\r\nA00.0,古典生物型霍乱,第一章\r\nA00.001,霍乱古典型,第一章\r\n"
        "J18.9,肺炎,第十章\r\nM49.0*,脊柱结核,第十三章\r\n".encode("gb18030")
    )
    seen: list[int] = []
    loaded = load_csv(
        rooms.terminology, operator, file, LAYOUTS["icd-10-cn"], version="2022",
        progress=lambda _, count: seen.append(count),
    )  # fmt: skip
    assert (loaded.concepts, loaded.version, seen[-1]) == (5, "2022", 5)
    url = loaded.url
    assert values(service.ask(f"CodeSystem/$subsumes?system={url}&codeA=A00&codeB=A00.001")) == {
        "outcome": "subsumes"
    }
    inline = {"resourceType": "ValueSet", "status": "draft", "compose": {"include": [{"system": url}]}}
    for word, expected in (("feiyan", ["J18.9"]), ("肺", ["J18.9"]), ("hl", ["A00", "A00.0", "A00.001"])):
        found = service.post("ValueSet/$expand", valueSet={"resource": inline}, filter={"valueString": word})
        assert codes(found) == expected
    load_csv(rooms.terminology, operator, file, LAYOUTS["icd-10-cn"], version="2025")
    assert values(service.ask(f"CodeSystem/$lookup?system={url}&code=M49.0"))["version"] == "2025"


def test_a_fhir_package_is_loaded_and_its_parts_refer_to_each_other(
    rooms: Rooms, operator: Caller, tmp_path: Path, service: Service
) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    loaded_system = {**SYSTEM, "url": "urn:test:loaded"}
    value_set = {
        "resourceType": "ValueSet",
        "url": "urn:test:set",
        "status": "active",
        "compose": {
            "include": [
                {
                    "system": "urn:test:loaded",
                    "filter": [{"property": "concept", "op": "is-a", "value": "EYE"}],
                }
            ]
        },
    }
    concept_map = {
        "resourceType": "ConceptMap",
        "url": "urn:test:map",
        "status": "active",
        "group": [
            {
                "source": "urn:test:loaded",
                "target": BODY,
                "element": [{"code": "EYE", "target": [{"code": "EYE", "equivalence": "equal"}]}],
            }
        ],
    }
    for document in (loaded_system, value_set, concept_map):
        (folder / f"{document['resourceType']}.json").write_text(json.dumps(document), "utf-8")
    assert len(load_documents(rooms.terminology, operator, folder)) == 3
    assert codes(service.ask("ValueSet/$expand?url=urn:test:set")) == ["EYE", "ORBIT"]
    found = service.ask("ValueSet/$validate-code?url=urn:test:set&system=urn:test:loaded&code=ORBIT")
    assert values(found)["result"] is True
    assert values(service.ask("ConceptMap/$translate?url=urn:test:map&system=urn:test:loaded&code=EYE"))[
        "result"
    ]


def test_loinc_and_radlex_are_read_from_their_publishers_files(
    rooms: Rooms, operator: Caller, tmp_path: Path, service: Service
) -> None:
    loinc = tmp_path / "Loinc.csv"
    loinc.write_text(
        '"LOINC_NUM","COMPONENT","SCALE_TYP","LONG_COMMON_NAME","SHORTNAME","STATUS"\n'
        '"24627-2","Chest","Doc","CT Chest","CT Chest","ACTIVE"\n"1-8","X","Qn","Old","Old","DEPRECATED"\n'
    )
    radlex = tmp_path / "RADLEX.csv"
    radlex.write_text(
        "Class ID,Preferred Label,Synonyms,Parents,Obsolete\n"
        "http://radlex.org/RID/RID58,liver,hepar,http://radlex.org/RID/RID3,false\n"
        "http://radlex.org/RID/RID3,anatomical entity,,,false\n"
    )
    load_csv(rooms.terminology, operator, loinc, LAYOUTS["loinc"], version="2.78")
    load_csv(rooms.terminology, operator, radlex, LAYOUTS["radlex"], version="4.2")
    assert (
        values(service.ask("CodeSystem/$lookup?system=http://loinc.org&code=24627-2"))["display"]
        == "CT Chest"
    )
    subsumed = service.ask("CodeSystem/$subsumes?system=http://radlex.org&version=4.2&codeA=RID3&codeB=RID58")
    assert values(subsumed) == {"outcome": "subsumes"}


def test_nothing_is_told_without_a_token(service: Service) -> None:
    assert service.client.get(f"/fhir/CodeSystem/$lookup?system={BODY}&code=EYE").status_code == 401
