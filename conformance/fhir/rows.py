"""What a FHIR R4 server does, as rows that are checked from outside. They write a few resources of their own.

The rows stand on one Patient and what refers to it, under an identifier system that nobody else uses.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

JSON = "application/fhir+json"
TIMEOUT_S = 30
SYSTEM = "urn:cloudfilm:selftest"


class Unmet(Exception):
    """A row does not hold; says what was seen."""


@dataclass
class Target:
    """The server under test, and what the rows made on it."""

    url: str
    token: str = ""
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    patient: str = ""
    gone: str = ""

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        self.http = requests.Session()
        self.http.trust_env = False
        if self.token:
            self.http.headers["Authorization"] = f"Bearer {self.token}"

    def ask(
        self, method: str, path: str, body: Any = None, expected: int | tuple[int, ...] = 200, **headers: str
    ) -> requests.Response:
        """One request. Raises Unmet for another status than the expected ones."""
        sent = {"Accept": JSON} | {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent.setdefault("Content-Type", JSON)
        answer = self.http.request(method, f"{self.url}/{path}", json=body, headers=sent, timeout=TIMEOUT_S)
        wanted = (expected,) if isinstance(expected, int) else expected
        if answer.status_code not in wanted:
            raise Unmet(f"{method} {path} answered {answer.status_code}, not {' or '.join(map(str, wanted))}")
        return answer

    def new_patient(self, **more: Any) -> dict[str, Any]:
        """A Patient document of this run."""
        identifier = [{"system": SYSTEM, "value": self.mark}]
        return {"resourceType": "Patient", "identifier": identifier, "name": [{"family": "Selftest"}], **more}


def unless(holds: bool, seen: str) -> None:
    """Raise Unmet unless something holds."""
    if not holds:
        raise Unmet(seen)


def _metadata(target: Target) -> None:
    statement = target.ask("GET", "metadata").json()
    unless(statement.get("resourceType") == "CapabilityStatement", "no CapabilityStatement")
    unless(statement.get("fhirVersion") == "4.0.1", f"fhirVersion {statement.get('fhirVersion')}")


def _create(target: Target) -> None:
    answer = target.ask("POST", "Patient", target.new_patient(), 201, Prefer="return=representation")
    unless("/_history/" in answer.headers.get("Location", ""), "no Location with a version")
    unless("ETag" in answer.headers, "no ETag")
    target.patient = answer.headers["Location"].partition("/_history/")[0].rpartition("/")[2]


def _read(target: Target) -> None:
    answer = target.ask("GET", f"Patient/{target.patient}")
    unless(answer.json().get("id") == target.patient, "another id")
    unless(answer.headers.get("Content-Type", "").startswith(JSON), "another content type")


def _vread(target: Target) -> None:
    version = target.ask("GET", f"Patient/{target.patient}").json()["meta"]["versionId"]
    target.ask("GET", f"Patient/{target.patient}/_history/{version}")


def _not_modified(target: Target) -> None:
    etag = target.ask("GET", f"Patient/{target.patient}").headers["ETag"]
    target.ask("GET", f"Patient/{target.patient}", None, 304, If_None_Match=etag)


def _update(target: Target) -> None:
    etag = target.ask("GET", f"Patient/{target.patient}").headers["ETag"]
    body = target.new_patient(id=target.patient, gender="female")
    target.ask("PUT", f"Patient/{target.patient}", body, 200, If_Match=etag)
    target.ask("PUT", f"Patient/{target.patient}", body, (409, 412), If_Match=etag)


def _update_as_create(target: Target) -> None:
    body = {"resourceType": "Organization", "id": f"st-{target.mark[:20]}", "name": "Selftest"}
    target.ask("PUT", f"Organization/{body['id']}", body, 201)


def _patch(target: Target) -> None:
    operations = [{"op": "add", "path": "/birthDate", "value": "1970-01-01"}]
    target.ask(
        "PATCH", f"Patient/{target.patient}", operations, 200, Content_Type="application/json-patch+json"
    )
    unless(
        target.ask("GET", f"Patient/{target.patient}").json().get("birthDate") == "1970-01-01", "not patched"
    )


def _conditional_create(target: Target) -> None:
    query = f"identifier={SYSTEM}|{target.mark}"
    target.ask("POST", "Patient", target.new_patient(), 200, If_None_Exist=query)


def _validation(target: Target) -> None:
    for wrong in (target.new_patient(gender="x"), target.new_patient(nosuch=1)):
        outcome = target.ask("POST", "Patient", wrong, (400, 422)).json()
        unless(outcome.get("resourceType") == "OperationOutcome", "no OperationOutcome")


def _found(target: Target, query: str) -> list[dict[str, Any]]:
    bundle = target.ask("GET", query).json()
    unless(bundle.get("type") == "searchset", "no searchset")
    return [
        entry["resource"]
        for entry in bundle.get("entry", ())
        if entry["resource"]["resourceType"] != "OperationOutcome"
    ]


def _search(query: str) -> Callable[[Target], None]:
    def check(target: Target) -> None:
        found = _found(target, query.format(id=target.patient, mark=target.mark, system=SYSTEM))
        unless(target.patient in {each["id"] for each in found}, "the patient is not found")

    return check


def _search_by_post(target: Target) -> None:
    answer = target.http.post(
        f"{target.url}/Patient/_search",
        data={"_id": target.patient},
        headers={"Accept": JSON},
        timeout=TIMEOUT_S,
    )
    unless(answer.status_code == 200 and len(answer.json().get("entry", [])) == 1, f"{answer.status_code}")


def _unknown_parameter(target: Target) -> None:
    target.ask("GET", "Patient?nosuchparameter=1", None, 400, Prefer="handling=strict")


def _references(target: Target) -> None:
    code = {"text": target.mark}
    body = {
        "resourceType": "Observation", "status": "final", "code": code,
        "subject": {"reference": f"Patient/{target.patient}"},
    }  # fmt: skip
    target.ask("POST", "Observation", body, 201)
    included = _found(target, f"Observation?subject=Patient/{target.patient}&_include=Observation:subject")
    unless({each["resourceType"] for each in included} == {"Observation", "Patient"}, "not included")
    chained = _found(target, f"Observation?subject:Patient.identifier={SYSTEM}|{target.mark}")
    unless(len(chained) >= 1, "nothing by the chain")
    reverse = _found(target, f"Patient?_id={target.patient}&_has:Observation:subject:status=final")
    unless(len(reverse) == 1, "nothing by the reverse chain")


def _paging(target: Target) -> None:
    for number in range(3):
        target.ask("POST", "Basic", {"resourceType": "Basic", "code": {"text": f"{target.mark} {number}"},
                                     "subject": {"reference": f"Patient/{target.patient}"}}, 201)  # fmt: skip
    url, seen = f"Basic?subject=Patient/{target.patient}&_count=1", list[str]()
    while url and len(seen) < 10:
        bundle = target.ask("GET", url).json()
        seen += [entry["resource"]["id"] for entry in bundle.get("entry", ())]
        following = [link["url"] for link in bundle.get("link", ()) if link["relation"] == "next"]
        url = following[0].removeprefix(f"{target.url}/") if following else ""
    unless(len(seen) == len(set(seen)) == 3, f"{len(seen)} in pages, {len(set(seen))} different")


def _history(target: Target) -> None:
    bundle = target.ask("GET", f"Patient/{target.patient}/_history").json()
    unless(bundle.get("type") == "history" and len(bundle.get("entry", ())) >= 2, "not every version")


def _bundle(type_: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": type_, "entry": entries}


def _transaction(target: Target) -> None:
    urn = f"urn:uuid:{uuid.uuid4()}"
    entries: list[dict[str, Any]] = [
        {"fullUrl": urn, "resource": target.new_patient(), "request": {"method": "POST", "url": "Patient"}},
        {
            "resource": {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": urn}},
            "request": {"method": "POST", "url": "Basic"},
        },
    ]
    answer = target.ask("POST", "", _bundle("transaction", entries)).json()
    locations = [entry["response"]["location"] for entry in answer["entry"]]
    basic = target.ask("GET", locations[1].partition("/_history/")[0].removeprefix(f"{target.url}/")).json()
    unless(basic["subject"]["reference"].startswith("Patient/"), "the reference was not rewritten")


def _transaction_is_whole(target: Target) -> None:
    mark = uuid.uuid4().hex
    good = {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": mark}]}
    entries: list[dict[str, Any]] = [
        {"resource": good, "request": {"method": "POST", "url": "Patient"}},
        {
            "resource": {"resourceType": "Patient", "gender": "x"},
            "request": {"method": "POST", "url": "Patient"},
        },
    ]
    target.ask("POST", "", _bundle("transaction", entries), (400, 409, 412, 422))
    unless(not _found(target, f"Patient?identifier={SYSTEM}|{mark}"), "half of it was kept")


def _batch(target: Target) -> None:
    entries: list[dict[str, Any]] = [
        {"request": {"method": "GET", "url": f"Patient/{target.patient}"}},
        {"request": {"method": "GET", "url": "Patient/nosuch-0"}},
    ]
    answer = target.ask("POST", "", _bundle("batch", entries)).json()
    statuses = [entry["response"]["status"][:3] for entry in answer["entry"]]
    unless(statuses == ["200", "404"], f"{statuses}")


def _delete(target: Target) -> None:
    created = target.ask("POST", "Basic", {"resourceType": "Basic", "code": {"text": "x"}}, 201)
    name = "Basic/" + created.headers["Location"].partition("/_history/")[0].rpartition("/")[2]
    target.ask("DELETE", name, None, (200, 204))
    target.ask("GET", name, None, 410)


def _missing(target: Target) -> None:
    outcome = target.ask("GET", "Patient/nosuch-0", None, 404).json()
    unless(outcome.get("resourceType") == "OperationOutcome", "no OperationOutcome")


def _xml(target: Target) -> None:
    answer = target.ask("GET", f"Patient/{target.patient}?_format=xml", Accept="application/fhir+xml")
    unless("<Patient" in answer.text, "no XML")


def _everything(target: Target) -> None:
    found = target.ask("GET", f"Patient/{target.patient}/$everything").json()
    types = {entry["resource"]["resourceType"] for entry in found.get("entry", ())}
    unless({"Patient", "Observation"} <= types, f"only {sorted(types)}")


def _validate(target: Target) -> None:
    outcome = target.ask("POST", "Patient/$validate", target.new_patient(gender="x"), (200, 400, 422)).json()
    unless(
        any(issue["severity"] in ("error", "fatal") for issue in outcome["issue"]), "nothing is wrong with it"
    )


GENDERS = "http://hl7.org/fhir/ValueSet/administrative-gender"


def _expand(target: Target) -> None:
    found = target.ask("GET", f"ValueSet/$expand?url={GENDERS}").json()
    codes = {each["code"] for each in found["expansion"].get("contains", ())}
    unless(codes == {"male", "female", "other", "unknown"}, f"{sorted(codes)}")


def _lookup(target: Target) -> None:
    system = "http://hl7.org/fhir/administrative-gender"
    found = target.ask("GET", f"CodeSystem/$lookup?system={system}&code=male").json()
    said = {each["name"]: each.get("valueString") for each in found["parameter"]}
    unless(said.get("display") == "Male", f"display {said.get('display')}")


def _validate_code(target: Target) -> None:
    for code, expected in (("male", True), ("malex", False)):
        system = "http://hl7.org/fhir/administrative-gender"
        found = target.ask("GET", f"ValueSet/$validate-code?url={GENDERS}&system={system}&code={code}").json()
        result = next(each["valueBoolean"] for each in found["parameter"] if each["name"] == "result")
        unless(result is expected, f"{code} is {result}")


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that a server does, and the section that says so."""

    section: str
    title: str
    check: Callable[[Target], None]


ROWS = (
    Row("3.1.0.12", "capabilities say FHIR 4.0.1", _metadata),
    Row("3.1.0.8", "create answers 201 with Location and ETag", _create),
    Row("3.1.0.2", "read", _read),
    Row("3.1.0.3", "vread", _vread),
    Row("3.1.0.2", "a read that changes nothing is 304", _not_modified),
    Row("3.1.0.4", "update; a stale If-Match is refused", _update),
    Row("3.1.0.4", "update creates under the client's id", _update_as_create),
    Row("3.1.0.6", "JSON Patch", _patch),
    Row("3.1.0.8", "conditional create finds what is there", _conditional_create),
    Row("3.1.0.8", "a wrong code and an unknown element are refused", _validation),
    Row("3.1.0.1", "what is not there is 404 with an OperationOutcome", _missing),
    Row("3.1.1", "search by _id", _search("Patient?_id={id}")),
    Row("3.1.1.4.10", "search by identifier", _search("Patient?identifier={system}|{mark}")),
    Row("3.1.1.4.8", "search by a name's beginning", _search("Patient?_id={id}&family=self")),
    Row("3.1.1.4.8", "search :exact", _search("Patient?_id={id}&family:exact=Selftest")),
    Row("3.1.1.4.8", "search :contains", _search("Patient?_id={id}&family:contains=lftes")),
    Row("3.1.1.4.5", "search :missing", _search("Patient?_id={id}&death-date:missing=true")),
    Row("3.1.1.4.10", "search :not", _search("Patient?_id={id}&gender:not=male")),
    Row(
        "3.1.1.4.7", "search by a date's range", _search("Patient?_id={id}&birthdate=ge1970&birthdate=lt1971")
    ),
    Row("3.1.1.4.1", "search by alternatives", _search("Patient?_id={id}&gender=male,female")),
    Row("3.1.1.2", "search by POST", _search_by_post),
    Row("3.1.1.3", "an unknown parameter is refused when the client is strict", _unknown_parameter),
    Row("3.1.1.4.16", "include, chain, reverse chain", _references),
    Row("3.1.0.10", "pages without gap or repetition", _paging),
    Row("3.1.0.9", "history", _history),
    Row("3.1.0.11.2", "transaction with references between its entries", _transaction),
    Row("3.1.0.11.2", "a transaction is kept whole or not at all", _transaction_is_whole),
    Row("3.1.0.11.1", "batch answers each entry", _batch),
    Row("3.1.0.7", "delete; then 410", _delete),
    Row("2.6.1", "XML", _xml),
    Row("Patient", "$everything", _everything),
    Row("6.1", "$validate", _validate),
    Row("4.9", "$expand", _expand),
    Row("4.8", "$lookup", _lookup),
    Row("4.9", "$validate-code", _validate_code),
)
