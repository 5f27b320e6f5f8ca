"""UPS-RS as its clients use it, on a live server, with the event reports of its WebSocket."""

import json
from typing import Any

import pytest
import requests
from websockets.sync.client import connect

from archive.attributes import document
from dicomweb.native_xml import from_xml, to_xml
from tests.archive.test_workitems import performed, scheduled
from tests.live import LiveServer

JSON = {"Content-Type": "application/dicom+json"}
XML = {"Content-Type": "application/dicom+xml"}
GLOBAL, FILTERED = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"


class Client:
    """A worklist client."""

    def __init__(self, server: LiveServer) -> None:
        self.http = server.session("system/Workitem.crus")
        self.base = f"{server.url}/dicomweb"

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        data = None if body is None else json.dumps([body])
        return self.http.post(self.base + path, data=data, headers=JSON, timeout=60, **options)

    def state(self, uid: str, state: str, transaction: str = "1.2.3.4") -> requests.Response:
        body = document(ProcedureStepState=state, TransactionUID=transaction)
        return self.http.put(
            f"{self.base}/workitems/{uid}/state", data=json.dumps([body]), headers=JSON, timeout=60
        )

    def get(self, path: str, accept: str = "application/dicom+json") -> requests.Response:
        return self.http.get(self.base + path, headers={"Accept": accept}, timeout=60)

    def create(self, **attributes: Any) -> str:
        answer = self.post("/workitems", scheduled(**attributes))
        assert answer.status_code == 201
        return answer.headers["Location"].rpartition("/")[2]


@pytest.fixture(scope="module")
def client(live_server: LiveServer) -> Client:
    return Client(live_server)


def test_a_workitem_goes_through_its_life(client: Client) -> None:
    uid = client.create()
    path = f"/workitems/{uid}"
    assert client.get(path).json()[0]["00741000"]["Value"] == ["SCHEDULED"]
    assert client.post(path, document(WorklistLabel="Other")).status_code == 200
    assert client.state(uid, "IN PROGRESS").status_code == 200
    assert client.post(f"{path}?transaction-uid=1.2.3.4", performed()).status_code == 200
    assert client.state(uid, "COMPLETED").status_code == 200
    again = client.state(uid, "COMPLETED")
    assert (again.status_code, again.headers["Warning"].partition(": ")[2]) == (
        200, "The UPS is already in the requested state of COMPLETED.",
    )  # fmt: skip

    found = client.get(path).json()[0]
    assert found["00741202"]["Value"] == ["Other"]
    assert found["00741000"]["Value"] == ["COMPLETED"]
    assert "00081195" not in found


def test_what_a_state_does_not_allow_is_refused_with_its_warning(client: Client) -> None:
    uid = client.create()
    path = f"/workitems/{uid}"
    inconsistent = "The submitted request is inconsistent with the current state of the UPS Instance."

    def refused(answer: requests.Response) -> tuple[int, str]:
        return answer.status_code, answer.headers.get("Warning", "").partition(": ")[2]

    assert refused(client.state(uid, "COMPLETED")) == (409, inconsistent)
    assert refused(client.state(uid, "IN PROGRESS", "")) == (400, "The Transaction UID is missing.")
    assert refused(client.state(uid, "SCHEDULED")) == (400, "")
    client.state(uid, "IN PROGRESS")
    assert refused(client.state(uid, "IN PROGRESS", "1.2.9")) == (409, inconsistent)
    assert refused(client.post(path, performed())) == (400, "The Transaction UID is missing.")
    assert refused(client.post(f"{path}?1.2.9", performed())) == (400, "The Transaction UID is incorrect.")
    assert refused(client.state(uid, "COMPLETED")) == (409, inconsistent)
    assert refused(client.post(f"{path}/cancelrequest")) == (409, "The performer cannot be contacted.")
    assert refused(client.post("/workitems", scheduled(), params={"workitem": uid})) == (409, "")
    assert refused(client.state("1.2.3.4.5", "IN PROGRESS")) == (404, "")
    assert client.get("/workitems/1.2.3.4.5").status_code == 404


def test_cancellation_of_what_nobody_performs(client: Client) -> None:
    uid = client.create()
    reason = document(ReasonForCancellation="Patient went home")
    assert client.post(f"/workitems/{uid}/cancelrequest", reason).status_code == 202
    again = client.post(f"/workitems/{uid}/cancelrequest")
    assert again.status_code == 202
    assert again.headers["Warning"].endswith("The UPS is already in the requested state of CANCELED.")


def test_xml_and_json_say_the_same(client: Client) -> None:
    answer = client.http.post(f"{client.base}/workitems", data=to_xml(scheduled()), headers=XML, timeout=60)
    assert answer.status_code == 201
    path = "/workitems/" + answer.headers["Location"].rpartition("/")[2]

    as_xml = client.get(path, "application/dicom+xml")
    assert as_xml.headers["Content-Type"].startswith("application/dicom+xml")
    said, xml = client.get(path).json()[0], from_xml(as_xml.content)
    assert {tag: value.get("Value") for tag, value in xml.items() if value.get("Value")} == {
        tag: value["Value"] for tag, value in said.items() if value.get("Value")
    }
    found = client.get("/workitems?limit=1", 'multipart/related; type="application/dicom+xml"')
    assert found.content.count(b"<NativeDicomModel") == 1
    assert client.get(path, "text/html").status_code == 406


def test_search_pages_and_matches_by_keyword_tag_and_path(client: Client) -> None:
    code = document(CodeValue="110005", CodingSchemeDesignator="DCM", CodeMeaning="Interpretation")
    for at in range(3):
        client.create(PatientID=f"SEARCH{at}", ScheduledWorkitemCodeSequence=[code])
    query = "/workitems?PatientID=SEARCH*&ScheduledWorkitemCodeSequence.CodeValue=110005"
    first = client.get(f"{query}&limit=2&includefield=all")

    assert len(first.json()) == 2
    assert first.headers["Warning"].endswith("There are more results; ask again with offset=2.")
    assert len(client.get(f"{query}&limit=2&offset=2").json()) == 1
    assert len(client.get("/workitems?00100020=SEARCH1").json()) == 1
    assert len(client.get("/workitems?PatientName=zhang&fuzzymatching=true&PatientID=SEARCH0").json()) == 1
    assert client.get("/workitems?PatientID=NOBODY").status_code == 204


@pytest.mark.parametrize(
    "query",
    ["Nothing=1", "PatientID.CodeValue=1", "limit=x", "fuzzymatching=yes", "includefield=Nothing",
     "ScheduledProcedureStepStartDateTime=tomorrow"],
)  # fmt: skip
def test_a_query_that_means_nothing_is_refused(client: Client, query: str) -> None:
    assert client.get(f"/workitems?{query}").status_code == 400


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/dicom+json", 400),
        (b"[]", "application/dicom+json", 400),
        (b"[1]", "application/dicom+json", 400),
        (b'[{"PatientID": "1"}]', "application/dicom+json", 400),
        (b'[{"00100020": {"vr": "LO", "Value": "1"}}]', "application/dicom+json", 400),
        (b'[{"00100010": {"vr": "PN", "Value": ["1"]}}]', "application/dicom+json", 400),
        (b"[" * 100000, "application/dicom+json", 400),
        (b"<a>", "application/dicom+xml", 400),
        (b"[{}]", "text/plain", 415),
        (b" " * (2 << 20), "application/dicom+json", 413),
        (b"[{}]", "application/dicom+json", 400),
    ],
)
def test_a_body_that_is_no_workitem_is_refused(
    client: Client, body: bytes, content_type: str, status: int
) -> None:
    headers = {"Content-Type": content_type, "Connection": "close"}  # a large body is not read to its end
    for path in ("/workitems", "/workitems/1.2.3"):
        if status != 400 or path == "/workitems":
            answer = client.http.post(client.base + path, data=body, headers=headers, timeout=60)
            assert answer.status_code == status


def test_subscribers_hear_of_one_of_some_and_of_all(client: Client, live_server: LiveServer) -> None:
    answer = client.post(f"/workitems/{FILTERED}/subscribers/SOME?filter=WorklistLabel=Heard")
    assert answer.status_code == 201
    where = answer.headers["Content-Location"]
    assert where == f"ws://127.0.0.1:{live_server.push_port}/ws/dicomweb/subscribers/SOME"
    shown = {"Authorization": str(client.http.headers["Authorization"])}
    with connect(where, additional_headers=shown, proxy=None) as socket:
        client.create()
        uid = client.create(WorklistLabel="Heard")
        client.state(uid, "IN PROGRESS")
        reports = [json.loads(socket.recv(timeout=30)) for _ in range(2)]
        assert [report["00001000"]["Value"][0] for report in reports] == [uid, uid]
        assert [report["00741000"]["Value"][0] for report in reports] == ["SCHEDULED", "IN PROGRESS"]
        assert client.post(f"/workitems/{uid}/cancelrequest/RIS").status_code == 202
        asked = json.loads(socket.recv(timeout=30))
        assert (asked["00001002"]["Value"], asked["00741236"]["Value"]) == ([2], ["RIS"])
    for path in (f"/workitems/{GLOBAL}/subscribers/ALL", f"/workitems/{GLOBAL}/subscribers/ALL/suspend"):
        assert client.post(path).ok
    assert client.http.delete(f"{client.base}/workitems/{uid}/subscribers/SOME", timeout=60).ok
    assert client.post("/workitems/1.2.3.4.5/subscribers/SOME").status_code == 404
    assert client.post(f"/workitems/{uid}/subscribers/A_TITLE_OF_MORE_THAN_16").status_code == 400
    assert client.post(f"/workitems/{uid}/subscribers/SOME/suspend").status_code == 400
    assert client.get("/subscribers/SOME").status_code == 426


def test_who_may_only_read_changes_nothing(live_server: LiveServer, client: Client) -> None:
    reader = live_server.session("system/Workitem.rs")
    assert reader.get(f"{client.base}/workitems", timeout=60).ok
    assert reader.post(f"{client.base}/workitems", data=b"x", headers=JSON, timeout=60).status_code == 403
