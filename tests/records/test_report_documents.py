"""Reports as DocumentReferences: drawn with the report, found by who looks for documents."""

from cloudfilm.rooms import Rooms
from records.report_documents import index_report_documents
from records.repository import forget_projected
from records.validate import findings
from tests.fhir_server.test_record_operations import Client, names
from tests.settling import settle

FORM = {"contentType": "application/pdf", "data": "JVBERi0="}
CODE = {"coding": [{"system": "http://loinc.org", "code": "18748-4"}]}


def test_a_report_on_paper_is_a_document_that_follows_it(rooms: Rooms) -> None:
    client = Client(rooms)
    client.put("Patient", "p1")
    report = client.put(
        "DiagnosticReport", "r1", status="preliminary", code=CODE, subject={"reference": "Patient/p1"},
        presentedForm=[FORM], effectiveDateTime="2026-02-03", imagingStudy=[{"reference": "ImagingStudy/i1"}],
    )  # fmt: skip
    client.put("DiagnosticReport", "r2", status="final", code=CODE, subject={"reference": "Patient/p1"})
    settle(rooms)
    document = client.get("DocumentReference/report-r1")
    assert findings(document) == []
    assert document["content"] == [{"attachment": FORM}]
    assert document["docStatus"] == "preliminary"
    assert {"reference": "DiagnosticReport/r1"} in document["context"]["related"]
    assert names(client.get("DocumentReference?patient=p1")) == {"DocumentReference/report-r1"}
    for query in ("related=DiagnosticReport/r1", "contenttype=application/pdf", "period=2026-02-03"):
        assert names(client.get(f"DocumentReference?{query}")) == {"DocumentReference/report-r1"}
    assert names(client.get("DocumentReference/$docref?patient=p1")) == {"DocumentReference/report-r1"}

    answer = client.flask.put(
        "/fhir/DiagnosticReport/r1", json=report | {"status": "final"}, headers=client.headers
    )
    assert answer.status_code == 200
    settle(rooms)
    final = client.get("DocumentReference/report-r1")
    assert (final["docStatus"], final["meta"]["versionId"]) == ("final", "2")
    refused = client.flask.put("/fhir/DocumentReference/report-r1", json=final, headers=client.headers)
    assert refused.status_code == 405
    client.flask.delete("/fhir/DiagnosticReport/r1", headers=client.headers)
    settle(rooms)
    assert names(client.get("DocumentReference?patient=p1")) == set()
    client.get("DocumentReference/report-r1", 404)


def test_reports_that_were_there_before_are_indexed(rooms: Rooms) -> None:
    client = Client(rooms)
    client.put("DiagnosticReport", "r1", status="final", code=CODE, presentedForm=[FORM])
    settle(rooms)
    with rooms.database.transaction() as session:
        forget_projected(session, "DocumentReference", "report-r1")
    index_report_documents(rooms.records)
    assert names(client.get("DocumentReference?contenttype=application/pdf")) == {
        "DocumentReference/report-r1"
    }
