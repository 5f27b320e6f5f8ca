"""Every interaction of the RESTful API as a client sees it (R4 3.1.0)."""

import base64
import gzip
import json
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from tests.fhir_server.test_fhir import JSON, bearer, ids

PATIENT = {"resourceType": "Patient", "active": True, "name": [{"family": "Li", "given": ["Wei"]}]}


class Fhir:
    """A client with a token."""

    def __init__(self, client: FlaskClient, headers: dict[str, str]) -> None:
        self.client, self.headers = client, headers

    def send(self, method: str, path: str, body: Any = None, status: int = 0, **headers: str) -> Any:
        """One request; the answer, its status as it should be."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        answer = self.client.open(
            f"/fhir{path}", method=method, data=data, headers=self.headers | JSON | named
        )
        if status:
            assert answer.status_code == status, answer.data
        return answer

    def get(self, path: str, **headers: str) -> dict[str, Any]:
        """The resource at a place."""
        return dict(json.loads(self.send("GET", path, status=200, **headers).data))

    def make(self, document: dict[str, Any]) -> str:
        """Create; the new id."""
        answer = self.send("POST", f"/{document['resourceType']}", document, status=201)
        return str(json.loads(answer.data)["id"])


@pytest.fixture
def fhir(rooms: Rooms) -> Fhir:
    return Fhir(create_app(rooms).test_client(), bearer(rooms))


def patch(*operations: dict[str, Any]) -> list[dict[str, Any]]:
    return list(operations)


JSON_PATCH = {"Content_Type": "application/json-patch+json"}


def test_a_json_patch_changes_what_it_names_and_nothing_else(fhir: Fhir) -> None:
    body = (
        b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.50}}'
    )
    logical_id = json.loads(fhir.send("POST", "/Observation", body, 201).data)["id"]
    answer = fhir.send(
        "PATCH", f"/Observation/{logical_id}",
        patch({"op": "test", "path": "/status", "value": "final"},
              {"op": "replace", "path": "/status", "value": "amended"},
              {"op": "add", "path": "/note", "value": [{"text": "a"}]},
              {"op": "add", "path": "/note/-", "value": {"text": "b"}}),
        200, **JSON_PATCH,
    )  # fmt: skip

    assert answer.headers["ETag"] == 'W/"2"'
    assert b'"value":1.50' in answer.data
    assert [note["text"] for note in json.loads(answer.data)["note"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ({"op": "test", "path": "/active", "value": False}, 422),
        ({"op": "replace", "path": "/nothing", "value": 1}, 400),
        ({"op": "remove", "path": "/name/7"}, 400),
        ({"op": "replace", "path": "/id", "value": "other"}, 400),
        ({"op": "add", "path": "name", "value": 1}, 400),
        ({"op": "jump", "path": "/name"}, 400),
        ({"op": "add", "path": ""}, 400),
        ({"op": "replace", "path": "", "value": 3}, 400),
    ],
)
def test_a_patch_that_cannot_be_made_changes_nothing(
    fhir: Fhir, operation: dict[str, Any], status: int
) -> None:
    logical_id = fhir.make(PATIENT)
    fhir.send("PATCH", f"/Patient/{logical_id}", [operation], status, **JSON_PATCH)

    assert fhir.get(f"/Patient/{logical_id}")["meta"]["versionId"] == "1"


def fhirpath_patch(*operations: dict[str, Any]) -> dict[str, Any]:
    """Parameters: `value` is a whole value[x] pair, the rest are texts and numbers."""
    parameters = []
    for operation in operations:
        parts = []
        for name, value in operation.items():
            if name == "value":
                parts.append({"name": "value", **value})
            else:
                key = "valueInteger" if isinstance(value, int) else "valueString"
                parts.append({"name": name, key: value})
        parameters.append({"name": "operation", "part": parts})
    return {"resourceType": "Parameters", "parameter": parameters}


def test_a_fhirpath_patch_adds_inserts_replaces_moves_and_deletes(fhir: Fhir) -> None:
    document = PATIENT | {
        "birthDate": "1980-01-01",
        "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}],
        "contact": [{"name": {"text": "another"}}],
    }
    logical_id = fhir.make(document)
    answer = fhir.send(
        "PATCH", f"/Patient/{logical_id}",
        fhirpath_patch(
            {"type": "replace", "path": "Patient.birthDate", "value": {"valueDate": "1981-02-02"}},
            {"type": "add", "path": "Patient", "name": "maritalStatus",
             "value": {"valueCodeableConcept": {"text": "married"}}},
            {"type": "insert", "path": "Patient.name.where(family='Li').given", "index": 0,
             "value": {"valueString": "Xiao"}},
            {"type": "move", "path": "Patient.telecom", "source": 1, "destination": 0},
            {"type": "delete", "path": "Patient.telecom.where(system='phone')"},
            {"type": "add", "path": "Patient", "name": "contact",
             "value": {"part": [{"name": "name", "part": [{"name": "text", "valueString": "a name"}]}]}},
            {"type": "delete", "path": "Patient.deceased"},
            {"type": "add", "path": "Patient", "name": "deceased", "value": {"valueBoolean": False}},
            {"type": "add", "path": "Patient", "name": "multipleBirthInteger", "value": {"valueInteger": 2}},
        ),
        200,
    )  # fmt: skip
    changed = json.loads(answer.data)

    assert changed["birthDate"] == "1981-02-02"
    assert changed["maritalStatus"] == {"text": "married"}
    assert (changed["deceasedBoolean"], changed["multipleBirthInteger"]) == (False, 2)
    assert changed["name"][0]["given"] == ["Xiao", "Wei"]
    assert changed["telecom"] == [{"system": "email", "value": "2"}]
    assert changed["contact"][1] == {"name": {"text": "a name"}}
    for wrong in (
        {"type": "replace", "path": "Patient.telecom.value()", "value": {"valueString": "x"}},
        {"type": "delete", "path": "Patient.name.given"},
        {"type": "insert", "path": "Patient.name", "index": 9, "value": {"valueString": "x"}},
        {"type": "replace", "path": "Patient.where(", "value": {"valueString": "x"}},
        {"type": "add", "path": "Patient", "name": "no-such", "value": {"valueString": "x"}},
        {"type": "add", "path": "Patient", "name": "deceased", "value": {"valueString": "x"}},
    ):
        fhir.send("PATCH", f"/Patient/{logical_id}", fhirpath_patch(wrong), 400)
    assert fhir.get(f"/Patient/{logical_id}")["meta"]["versionId"] == "2"


def test_conditional_create_makes_one_of_a_kind(fhir: Fhir) -> None:
    document = PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]}
    condition = {"If_None_Exist": "identifier=urn:x|1"}
    first = fhir.send("POST", "/Patient", document, 201, **condition)
    second = fhir.send("POST", "/Patient", document, 200, **condition)

    assert second.headers["Location"] == first.headers["Location"]
    fhir.make(document)
    fhir.send("POST", "/Patient", document, 412, **condition)
    fhir.send("POST", "/Patient", document, 400, If_None_Exist="")
    fhir.send("POST", "/Patient", document, 400, If_None_Exist="nosuch=1")


def test_conditional_update_patch_and_delete_go_by_what_is_found(fhir: Fhir) -> None:
    place = "/Patient?identifier=urn:x|1"
    document = PATIENT | {"identifier": [{"system": "urn:x", "value": "1"}]}
    created = fhir.send("PUT", place, document, 201)
    logical_id = json.loads(created.data)["id"]
    updated = fhir.send("PUT", place, document | {"active": False}, 200)
    assert json.loads(updated.data)["id"] == logical_id
    fhir.send("PUT", place, document | {"id": "another"}, 400)
    patched = fhir.send(
        "PATCH", place, patch({"op": "replace", "path": "/active", "value": True}), 200, **JSON_PATCH
    )
    assert patched.headers["ETag"] == 'W/"3"'
    fhir.send("PATCH", "/Patient?identifier=urn:x|none", patch(), 404, **JSON_PATCH)
    fhir.send("DELETE", place, status=204)
    fhir.send("DELETE", place, status=204)
    fhir.send("GET", f"/Patient/{logical_id}", status=410)
    fhir.send("DELETE", "/Patient", status=400)


def test_several_are_deleted_only_where_that_is_said(fhir: Fhir) -> None:
    for number in range(3):
        fhir.make(PATIENT | {"identifier": [{"system": "urn:several", "value": str(number)}]})
    kept = fhir.make(PATIENT)
    place = "/Patient?identifier=urn:several|"
    fhir.send("DELETE", place, status=412)
    fhir.send("DELETE", f"{place}&_count=2", status=412)
    fhir.send("DELETE", "/Patient?_count=9", status=400)
    told = fhir.send("DELETE", f"{place}&_count=9", status=200, Prefer="return=OperationOutcome")
    assert "3" in json.loads(told.data)["issue"][0]["diagnostics"]
    assert fhir.get("/Patient")["entry"][0]["resource"]["id"] == kept
    fhir.send("DELETE", f"{place}&_count=9", status=204)


def test_conditional_reads_and_writes(fhir: Fhir, clock: FixedClock) -> None:
    fhir.send("PUT", "/Patient/a", PATIENT | {"id": "a"}, 201, If_None_Match="*")
    fhir.send("PUT", "/Patient/a", PATIENT | {"id": "a"}, 412, If_None_Match="*")
    first = fhir.send("GET", "/Patient/a", status=200)
    fhir.send("GET", "/Patient/a", status=304, If_None_Match=first.headers["ETag"])
    fhir.send("GET", "/Patient/a", status=304, If_Modified_Since=first.headers["Last-Modified"])
    clock.advance(timedelta(seconds=2))
    fhir.send("PUT", "/Patient/a", PATIENT | {"id": "a"}, 200, If_Match='W/"1"')
    fhir.send("GET", "/Patient/a", status=200, If_Modified_Since=first.headers["Last-Modified"])
    fhir.send("DELETE", "/Patient/a", status=412, If_Match='W/"1"')
    fhir.send("PUT", "/Patient/a", PATIENT | {"id": "a"}, 400, If_Match="yes")


def test_what_a_client_prefers_to_be_told(fhir: Fhir) -> None:
    assert fhir.send("POST", "/Patient", PATIENT, 201, Prefer="return=minimal").data == b""
    told = fhir.send("POST", "/Patient", PATIENT, 201, Prefer="return=OperationOutcome")
    assert json.loads(told.data)["resourceType"] == "OperationOutcome"
    shown = fhir.send("POST", "/Patient", PATIENT, 201, Prefer="return=representation")
    assert json.loads(shown.data)["resourceType"] == "Patient"


def test_histories_of_a_document_a_type_and_everything_go_on_by_pages(fhir: Fhir, clock: FixedClock) -> None:
    for at in range(3):
        clock.advance(timedelta(minutes=1))
        fhir.send("PUT", "/Patient/a", PATIENT | {"id": "a", "active": at == 2})
    clock.advance(timedelta(minutes=1))
    fhir.send("PUT", "/Organization/o", {"resourceType": "Organization", "id": "o", "name": "x"})
    clock.advance(timedelta(minutes=1))
    fhir.send("DELETE", "/Patient/a")

    def all_of(path: str) -> list[str]:
        found, url = [], f"{path}?_count=2"
        while url:
            page = fhir.get(url)
            assert page["type"] == "history"
            found += [entry["request"]["method"] + " " + entry["response"]["etag"] for entry in page["entry"]]
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
            url = url.partition("/fhir")[2]
        return found

    of_patient = ['DELETE W/"4"', 'PUT W/"3"', 'PUT W/"2"', 'PUT W/"1"']
    assert all_of("/Patient/a/_history") == of_patient
    assert all_of("/Patient/_history") == of_patient
    assert all_of("/_history") == [of_patient[0], 'PUT W/"1"', *of_patient[1:]]
    since = (clock.now() - timedelta(seconds=90)).isoformat().replace("+00:00", "Z")
    assert len(fhir.get(f"/_history?_since={since}")["entry"]) == 2
    moment = (clock.now() - timedelta(minutes=3)).isoformat().replace("+00:00", "Z")
    (present,) = fhir.get(f"/Patient/a/_history?_at={moment}")["entry"]
    assert present["resource"]["meta"]["versionId"] == "2"
    fhir.send("GET", "/_history?_since=x", status=400)
    fhir.send("GET", "/_history?_cursor=x", status=400)


def test_the_same_resource_as_xml_and_as_json(fhir: Fhir) -> None:
    text = (
        '<Observation xmlns="http://hl7.org/fhir"><text><status value="generated"/>'
        '<div xmlns="http://www.w3.org/1999/xhtml">x<br/>y</div></text><status value="final"/>'
        '<code><text value="体重 &amp; Größe"/></code><valueQuantity><value value="1.50"/></valueQuantity>'
        "</Observation>"
    )
    xml = {"Content_Type": "application/fhir+xml", "Accept": "application/fhir+xml"}
    created = fhir.send("POST", "/Observation", text.encode(), 201, **xml)
    assert created.mimetype == "application/fhir+xml"
    assert '<value value="1.50"/>' in created.text
    logical_id = created.headers["Location"].split("/")[-3]
    assert b'"value":1.50' in fhir.send("GET", f"/Observation/{logical_id}", status=200).data
    bundle = fhir.send("GET", f"/Observation?_id={logical_id}&_format=xml", status=200)
    assert bundle.text.startswith(
        '<?xml version="1.0" encoding="UTF-8"?><Bundle xmlns="http://hl7.org/fhir">'
    )
    refused = fhir.send("GET", "/Observation/none", status=404, Accept="application/fhir+xml")
    assert "<OperationOutcome" in refused.text
    fhir.send("GET", f"/Observation/{logical_id}", status=406, Accept="application/pdf")
    fhir.send("POST", "/Observation", b"<a/>", 415, Content_Type="text/csv")


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        '<Patient xmlns="http://hl7.org/fhir"><id value="&x;"/></Patient>',
        '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
        '<Patient xmlns="http://hl7.org/fhir"><language value="&b;"/></Patient>',
        '<Patient xmlns="http://hl7.org/fhir"><nothing value="1"/></Patient>',
        '<Patient xmlns="urn:other"/>',
        '<Patient xmlns="http://hl7.org/fhir"><active value="maybe"/></Patient>',
        "<Patient",
        '<Patient xmlns="http://hl7.org/fhir">'
        + "<contained><Patient>" * 200
        + "</Patient></contained>" * 200,
    ],
)
def test_hostile_xml_is_refused(fhir: Fhir, text: str) -> None:
    fhir.send("POST", "/Patient", text.encode(), 400, Content_Type="application/fhir+xml")


def test_as_much_of_a_document_as_is_asked_for(fhir: Fhir) -> None:
    document = PATIENT | {
        "id": "a", "text": {"status": "generated", "div": "<div>x</div>"},
        "photo": [{"url": "urn:x"}], "birthDate": "1980-01-01",
    }  # fmt: skip
    fhir.send("PUT", "/Patient/a", document, 201)

    summary = fhir.get("/Patient/a?_summary=true")
    assert "photo" not in summary
    assert "text" not in summary
    assert summary["birthDate"] == "1980-01-01"
    assert summary["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert set(fhir.get("/Patient/a?_elements=birthDate")) == {"resourceType", "id", "meta", "birthDate"}
    assert "text" not in fhir.get("/Patient/a?_summary=data")
    assert set(fhir.get("/Patient/a?_summary=text")) == {"resourceType", "id", "meta", "text"}
    (entry,) = fhir.get("/Patient?_elements=birthDate")["entry"]
    assert "name" not in entry["resource"]
    counted = fhir.get("/Patient?_summary=count")
    assert (counted["total"], counted.get("entry")) == (1, None)
    assert b'\n  "resourceType"' in fhir.send("GET", "/Patient/a?_pretty=true").data
    fhir.send("GET", "/Patient/a?_summary=some", status=400)


def test_a_binary_is_its_bytes_and_never_a_page_of_ours(fhir: Fhir) -> None:
    page = b"<script>alert(1)</script>"
    created = fhir.send("POST", "/Binary", page, 201, Content_Type="text/html", Accept="*/*")
    place = created.headers["Location"].partition("/fhir")[2].partition("/_history")[0]
    native = fhir.send("GET", place, status=200, Accept="*/*")
    assert (native.data, native.mimetype) == (page, "text/html")
    assert "sandbox" in native.headers["Content-Security-Policy"]
    resource = fhir.get(place, Accept="application/fhir+json")
    assert base64.b64decode(resource["data"]) == page
    fhir.send("PUT", place, b"\x00\x01", 200, Content_Type="image/png")
    assert fhir.send("GET", place, Accept="image/png").data == b"\x00\x01"


def test_answers_and_bodies_may_be_compressed(fhir: Fhir) -> None:
    document = PATIENT | {"text": {"status": "generated", "div": "<div>" + "x" * 5000 + "</div>"}}
    body = gzip.compress(json.dumps(document).encode())
    created = fhir.send("POST", "/Patient", body, 201, Content_Encoding="gzip", Accept_Encoding="gzip")
    assert created.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(created.data))["name"] == PATIENT["name"]
    fhir.send("POST", "/Patient", b"not gzip", 415, Content_Encoding="gzip")


def bundle(type_: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": type_, "entry": list(entries)}


def entry(method: str, url: str, resource: Any = None, **more: Any) -> dict[str, Any]:
    request = {"method": method, "url": url} | {
        name: more.pop(name) for name in ("ifNoneExist", "ifMatch", "ifNoneMatch") if name in more
    }
    return {"request": request, **more} | ({"resource": resource} if resource else {})


def test_a_transaction_gives_ids_and_rewrites_references_between_its_entries(fhir: Fhir) -> None:
    fhir.make({"resourceType": "Practitioner", "identifier": [{"system": "urn:p", "value": "7"}]})
    patient = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
    observation = {
        "resourceType": "Observation", "status": "final", "code": {"text": "a"},
        "subject": {"reference": patient},
        "performer": [{"reference": "Practitioner?identifier=urn:p|7"}],
        "text": {"status": "generated", "div": f'<div><a href="{patient}">x</a> {patient}</div>'},
    }  # fmt: skip
    answer = fhir.send(
        "POST", "/", bundle("transaction", entry("POST", "Observation", observation),
                            entry("POST", "Patient", PATIENT, fullUrl=patient),
                            entry("GET", "Patient?family=Li")),
        200, Prefer="return=representation",
    )  # fmt: skip
    first, second, third = json.loads(answer.data)["entry"]
    made = second["resource"]["id"]

    assert [each["response"]["status"] for each in (first, second, third)] == ["201", "201", "200"]
    assert first["resource"]["subject"]["reference"] == f"Patient/{made}"
    assert first["resource"]["performer"][0]["reference"].startswith("Practitioner/")
    assert f'href="Patient/{made}"' in first["resource"]["text"]["div"]
    assert patient in first["resource"]["text"]["div"]
    assert ids(third["resource"]) == [made]
    assert second["response"]["location"] == f"Patient/{made}/_history/1"


def test_a_transaction_happens_whole_or_not_at_all(fhir: Fhir) -> None:
    fhir.send("PUT", "/Patient/a", PATIENT | {"id": "a"}, 201)
    for bad in (
        entry("PUT", "Patient/a", PATIENT | {"id": "a"}, ifMatch='W/"9"'),
        entry("POST", "NoSuch", PATIENT),
        entry(
            "POST",
            "Observation",
            {"resourceType": "Observation", "subject": {"reference": "Patient?_id=none"}},
        ),
        entry("PATCH", "Patient/none", fhirpath_patch()),
        entry("PUT", "Patient/b", PATIENT | {"id": "c"}),
        {"request": {"method": "JUMP", "url": "Patient"}},
    ):
        made = entry("POST", "Organization", {"resourceType": "Organization", "name": "never"})
        answer = fhir.send("POST", "/", bundle("transaction", made, bad))
        assert 400 <= answer.status_code < 500, answer.data
        assert json.loads(answer.data)["resourceType"] == "OperationOutcome"
    twice = bundle("transaction", *[entry("PUT", "Patient/a", PATIENT | {"id": "a"})] * 2)
    fhir.send("POST", "/", twice, 400)
    assert ids(fhir.get("/Organization?name=never")) == []
    assert fhir.get("/Patient/a")["meta"]["versionId"] == "1"


def test_a_transaction_deletes_before_it_creates_and_patches_both_ways(fhir: Fhir) -> None:
    for name in ("a", "b", "c"):
        document = PATIENT | {"id": name, "identifier": [{"system": "urn:n", "value": name}]}
        fhir.send("PUT", f"/Patient/{name}", document, 201)
    json_patch = {
        "resourceType": "Binary", "contentType": "application/json-patch+json",
        "data": base64.b64encode(b'[{"op":"replace","path":"/active","value":false}]').decode(),
    }  # fmt: skip
    change = fhirpath_patch({"type": "replace", "path": "Patient.active", "value": {"valueBoolean": False}})
    new = PATIENT | {"identifier": [{"system": "urn:n", "value": "d"}]}
    answer = fhir.send(
        "POST", "/",
        bundle("transaction",
               entry("POST", "Patient", new, ifNoneExist="identifier=urn:n|d"),
               entry("POST", "Patient", new, ifNoneExist="identifier=urn:n|b"),
               entry("PATCH", "Patient/b", json_patch),
               entry("PATCH", "Patient?identifier=urn:n|c", change),
               entry("DELETE", "Patient?identifier=urn:n|a"),
               entry("DELETE", "Patient/not-there")),
        200,
    )  # fmt: skip

    statuses = [each["response"]["status"] for each in json.loads(answer.data)["entry"]]
    assert statuses == ["201", "200", "200", "200", "204", "204"]
    assert [fhir.get(f"/Patient/{name}")["active"] for name in "bc"] == [False, False]
    fhir.send("GET", "/Patient/a", status=410)


def test_each_entry_of_a_batch_stands_for_itself(fhir: Fhir) -> None:
    answer = fhir.send(
        "POST", "/",
        bundle("batch", entry("POST", "Patient", PATIENT), entry("GET", "Patient/none"),
               entry("PUT", "Patient/b", PATIENT | {"id": "b"}), entry("GET", "Patient?family=Li&_count=1"),
               entry("DELETE", "Patient/b"), {"request": {"method": "GET"}}, entry("GET", "metadata")),
        200,
    )  # fmt: skip
    entries = json.loads(answer.data)["entry"]

    assert [each["response"]["status"][:3] for each in entries] == [
        "201", "404", "201", "200", "204", "400", "200",
    ]  # fmt: skip
    assert entries[1]["response"]["outcome"]["resourceType"] == "OperationOutcome"
    assert entries[3]["resource"]["type"] == "searchset"


def test_a_compartment_holds_what_belongs_to_it(fhir: Fhir) -> None:
    for name in ("a", "b"):
        fhir.send("PUT", f"/Patient/{name}", PATIENT | {"id": name}, 201)
        fhir.make({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
                   "subject": {"reference": f"Patient/{name}"},
                   "performer": [{"reference": "Practitioner/p"}]})  # fmt: skip

    assert len(ids(fhir.get("/Patient/a/Observation"))) == 1
    assert len(ids(fhir.get("/Patient/a/Observation?status=final"))) == 1
    assert len(ids(fhir.get("/Patient/a/*"))) == 2
    assert len(ids(fhir.get("/Practitioner/p/Observation"))) == 2
    fhir.send("GET", "/Observation/a/Patient", status=404)


def test_a_search_in_several_types(fhir: Fhir) -> None:
    fhir.make(PATIENT | {"meta": {"tag": [{"system": "urn:t", "code": "x"}]}})
    fhir.make(
        {"resourceType": "Organization", "meta": {"tag": [{"system": "urn:t", "code": "x"}]}, "name": "o"}
    )
    fhir.make({"resourceType": "Organization", "name": "x"})

    def types(path: str) -> set[str]:
        return {each["resource"]["resourceType"] for each in fhir.get(path).get("entry", ())}

    assert types("/?_tag=urn:t|x") == {"Patient", "Organization"}
    assert types("/?_type=Patient&_tag=x") == {"Patient"}
    assert len(ids(fhir.get("/?_type=Organization,Patient"))) == 3
    assert len(ids(fhir.get("/?_type=Organization,Patient&_sort=-_lastUpdated&_count=2"))) == 2
    fhir.send("GET", "/?_type=NoSuch", status=404)
    fhir.send("GET", "/?family=x", status=400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/Patient/1/Observation/2/3", 404),
        ("TRACE", "/Patient", 405),
        ("GET", "/Patient/1/Observation/_search", 405),
        ("GET", "/StructureDefinition/Patient/$snapshot", 404),
    ],
)
def test_what_no_interaction_is_found_for_is_an_operation_outcome(
    fhir: Fhir, method: str, path: str, status: int
) -> None:
    answer = fhir.send(method, path, status=status)

    assert answer.mimetype == "application/fhir+json"
    assert json.loads(answer.data)["resourceType"] == "OperationOutcome"


def test_a_search_by_post_is_a_form_and_by_get_may_name_itself(fhir: Fhir) -> None:
    fhir.make(PATIENT)
    form = {"Content_Type": "application/x-www-form-urlencoded"}

    refused = fhir.send("POST", "/Patient/_search", {"name": "nobody"}, status=415)

    assert json.loads(refused.data)["resourceType"] == "OperationOutcome"
    assert (
        ids(json.loads(fhir.send("POST", "/Patient/_search", b"name=nobody", status=200, **form).data)) == []
    )
    assert len(ids(json.loads(fhir.send("POST", "/Patient/_search?name=li", status=200).data))) == 1
    assert len(ids(fhir.get("/Patient/_search?name=li"))) == 1


def test_another_version_of_fhir_is_neither_given_nor_taken(fhir: Fhir) -> None:
    logical_id = fhir.make(PATIENT)

    for version, read, written in (("3.0", 406, 415), ("4.0", 200, 201)):
        media_type = f"application/fhir+json; fhirVersion={version}"
        fhir.send("GET", f"/Patient/{logical_id}", status=read, Accept=media_type)
        fhir.send("POST", "/Patient", PATIENT, status=written, Content_Type=media_type)


def test_an_entry_that_has_not_changed_is_told_of_without_its_resource(fhir: Fhir) -> None:
    logical_id = fhir.make(PATIENT)
    url = f"Patient/{logical_id}"
    requests = [{"method": "GET", "url": url, "ifNoneMatch": 'W/"1"'}, {"method": "HEAD", "url": url}]
    entries = [{"request": request} for request in requests]
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}

    answered = json.loads(fhir.send("POST", "", bundle, status=200).data)["entry"]

    assert [each["response"]["status"] for each in answered] == ["304", "200"]
    assert not any("resource" in each for each in answered)


def test_a_reference_by_criteria_is_kept_as_what_it_refers_to_however_it_is_written(fhir: Fhir) -> None:
    logical_id = fhir.make(PATIENT | {"identifier": [{"system": "urn:mrn", "value": "1"}]})

    def about(value: str) -> dict[str, Any]:
        subject = {"reference": f"Patient?identifier=urn:mrn|{value}"}
        return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": subject}

    def in_batch(value: str) -> Any:
        entry = {"request": {"method": "POST", "url": "Observation"}, "resource": about(value)}
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
        return json.loads(fhir.send("POST", "", bundle, status=200).data)["entry"][0]

    written = [
        json.loads(fhir.send("POST", "/Observation", about("1"), status=201).data),
        json.loads(fhir.send("PUT", "/Observation/o", about("1") | {"id": "o"}, status=201).data),
        json.loads(fhir.send("PUT", "/Observation?code=none", about("1"), status=201).data),
        in_batch("1")["resource"],
    ]

    assert [each["subject"]["reference"] for each in written] == [f"Patient/{logical_id}"] * 4
    fhir.send("POST", "/Observation", about("2"), status=400)
    assert in_batch("2")["response"]["status"] == "400"


@pytest.mark.parametrize(
    ("path", "some", "none"),
    [
        ("/SearchParameter?base=Patient&code=gender", "individual-gender", "Patient-gender"),
        ("/SearchParameter?base=Resource", "Resource-id", "Patient-gender"),
        ("/SearchParameter?base=Patient&code=phonetic", "individual-phonetic", "Patient-phonetic"),
        ("/SearchParameter?url=http://hl7.org/fhir/SearchParameter/Resource-tag", "Resource-tag", ""),
        ("/OperationDefinition?code=everything", "Patient-everything", "Resource-meta"),
        (
            "/StructureDefinition?base=http://hl7.org/fhir/StructureDefinition/Observation",
            "cholesterol",
            "Observation",
        ),
        ("/StructureDefinition?type=Patient&derivation=specialization", "Patient", "cholesterol"),
        ("/ValueSet?name:contains=gender&status=active", "administrative-gender", "languages"),
        ("/ValueSet?url:below=http://hl7.org/fhir/ValueSet/lang", "languages", "administrative-gender"),
        ("/ValueSet?title=CID 29 ", "dicom-cid-29", "dicom-cid-290"),
        ("/CompartmentDefinition?code=Patient", "patient", "device"),
    ],
)
def test_what_the_program_ships_is_found_by_what_describes_it(
    fhir: Fhir, path: str, some: str, none: str
) -> None:
    found = ids(fhir.get(path.replace(" ", "%20")))

    assert some in found
    assert none not in found
    assert fhir.get(f"{path.partition('?')[0]}/{some}")["id"] == some
