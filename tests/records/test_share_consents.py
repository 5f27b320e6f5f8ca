"""Shares as Consents: what is drawn, how it is found, and that it changes where shares do."""

from typing import Any

from access.caller import operator
from access.grants import Terms, revoke_grant
from archive.shares import share_accession_number, share_studies
from cloudfilm.rooms import Rooms
from records.model import IndexReference, IndexToken, Resource
from records.share_consents import index_shares
from records.validate import findings
from tests.fhir_server.test_record_operations import Client
from tests.settling import settle
from tests.sharing import report, store, two_patients

MAIN = operator("MAIN")


def consents(client: Client, query: str) -> list[dict[str, Any]]:
    return [each["resource"] for each in client.get(f"Consent?{query}").get("entry", ())]


def test_a_share_is_a_consent_until_it_ends(rooms: Rooms) -> None:
    study, _, patient, _ = two_patients(rooms)
    made = share_studies(rooms.archive, rooms.access, MAIN, (study,), Terms(recipient="Dr. Li", days=3))
    settle(rooms)
    client = Client(rooms)
    (consent,) = consents(client, f"patient=Patient/{patient}&status=active")
    assert consent["identifier"] == [{"system": "urn:cloudfilm:share", "value": made.id}]
    assert consent["provision"]["actor"][0]["reference"] == {"display": "Dr. Li"}
    named = [each["reference"] for each in consent["provision"]["data"]]
    assert {
        "type": "ImagingStudy",
        "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{study}"},
    } in named
    assert any(each.get("reference", "").startswith("DiagnosticReport/") for each in named)
    assert findings(consent) == []
    assert consents(client, f"data:identifier=urn:dicom:uid|urn:oid:{study}") == [consent]
    assert client.get(f"Consent/{consent['id']}/_history")["entry"]

    revoke_grant(rooms.access, MAIN, made.id)
    settle(rooms)
    assert consents(client, "status=active") == []
    (ended,) = consents(client, f"identifier=urn:cloudfilm:share|{made.id}")
    assert ended["status"] == "inactive"
    assert int(ended["meta"]["versionId"]) > int(consent["meta"]["versionId"])


def test_a_share_that_comes_to_name_more_is_found_by_it(rooms: Rooms) -> None:
    made = share_accession_number(rooms.archive, rooms.access, MAIN, "A0001", "", Terms())
    settle(rooms)
    client = Client(rooms)
    (empty,) = consents(client, f"identifier={made.id}")
    assert "data" not in empty["provision"]
    study = store(rooms, 1)
    (filled,) = consents(client, f"data:identifier=urn:dicom:uid|urn:oid:{study}")
    patient = filled["patient"]["reference"]
    filed = report(rooms, patient.removeprefix("Patient/"), "A0001")
    assert [each["id"] for each in consents(client, f"data=DiagnosticReport/{filed}&patient={patient}")] == [
        empty["id"]
    ]


def test_it_is_not_written_here_and_kept_apart_from_what_is(rooms: Rooms) -> None:
    study, _, patient, _ = two_patients(rooms)
    made = share_studies(rooms.archive, rooms.access, MAIN, (study,), Terms())
    settle(rooms)
    client = Client(rooms)
    drawn = client.get(f"Consent/share-{made.id}")
    answer = client.flask.put(f"/fhir/Consent/{drawn['id']}", json=drawn, headers=client.headers)
    assert answer.status_code == 405
    assert client.flask.delete(f"/fhir/Consent/{drawn['id']}", headers=client.headers).status_code == 405
    client.put("Consent", "own", **{name: drawn[name] for name in
                                    ("status", "scope", "category", "policyRule", "patient")})  # fmt: skip
    assert {each["id"] for each in consents(client, f"patient={patient}")} == {drawn["id"], "own"}


def test_shares_that_were_there_before_are_indexed(rooms: Rooms) -> None:
    study, _, patient, _ = two_patients(rooms)
    share_studies(rooms.archive, rooms.access, MAIN, (study,), Terms())
    settle(rooms)
    with rooms.database.transaction() as session:  # as they were before the view
        for table in (IndexToken, IndexReference):
            session.execute(table.delete())
        session.query(Resource).filter(Resource.type == "Consent").delete()
    assert consents(Client(rooms), f"patient={patient}") == []
    index_shares(rooms.records)
    assert len(consents(Client(rooms), f"patient={patient}")) == 1
