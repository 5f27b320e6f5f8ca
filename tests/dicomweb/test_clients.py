"""The DICOMweb door as independent clients see it: dicomweb-client, dicomtrolley and curl."""

import hashlib
import io
import json
import subprocess
from collections.abc import Iterator

import pytest
import requests
from dicomtrolley.core import Query
from dicomtrolley.qido_rs import QidoRS
from dicomtrolley.trolley import Trolley
from dicomtrolley.wado_rs import WadoRS
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from requests.exceptions import HTTPError

from tests.builders import ROOT, ct_slice, dataset
from tests.live import LiveServer

OBJECTS = {
    f"{ROOT}.1.1.1": ct_slice(1, 1, 1),
    f"{ROOT}.1.1.2": ct_slice(1, 1, 2),
    f"{ROOT}.1.2.1": ct_slice(1, 2, 1, Modality="MR", NumberOfFrames=3, PixelData=bytes(range(128)) * 3),
    f"{ROOT}.2.1.1": ct_slice(2, 1, 1, PatientID="P2", PatientName="Li^Na=李^娜"),
}


@pytest.fixture(scope="module")
def session(live_server: LiveServer) -> Iterator[requests.Session]:
    with live_server.session() as client:
        yield client


@pytest.fixture(scope="module")
def client(live_server: LiveServer, session: requests.Session) -> DICOMwebClient:
    """dicomweb-client, having stored the objects."""
    client = DICOMwebClient(f"{live_server.url}/dicomweb", session=session)
    answer = client.store_instances([dcmread(io.BytesIO(data)) for data in OBJECTS.values()])
    assert len(answer.ReferencedSOPSequence) == len(OBJECTS)
    assert "FailedSOPSequence" not in answer
    return client


def test_studies_are_searched_with_names_descriptions_and_counts(client: DICOMwebClient) -> None:
    (study,) = client.search_for_studies(
        search_filters={"PatientName": "zhang*"}, fields=["StudyDescription"]
    )

    assert study["00081030"]["Value"] == ["胸部 CT"]
    assert study["00100010"]["Value"] == [{"Alphabetic": "Zhang^Wei", "Ideographic": "张^伟"}]
    assert study["00201208"]["Value"] == [3]
    assert sorted(study["00080061"]["Value"]) == ["CT", "MR"]
    assert len(client.search_for_series(f"{ROOT}.1")) == 2
    assert len(client.search_for_instances(f"{ROOT}.1")) == 3
    assert len(client.search_for_instances(search_filters={"Modality": "MR"})) == 1
    assert client.search_for_studies(search_filters={"PatientID": "NOBODY"}) == []


def test_objects_come_back_as_they_were_sent(client: DICOMwebClient) -> None:
    sent = dcmread(io.BytesIO(OBJECTS[f"{ROOT}.1.1.1"]))
    back = client.retrieve_instance(f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1")

    assert back == sent
    assert {ds.SOPInstanceUID for ds in client.retrieve_study(f"{ROOT}.1")} == {
        uid for uid in OBJECTS if uid.startswith(f"{ROOT}.1.")
    }


def test_metadata_and_frames_are_right(client: DICOMwebClient) -> None:
    metadata = client.retrieve_series_metadata(f"{ROOT}.1", f"{ROOT}.1.1")
    assert [item["00200013"]["Value"] for item in metadata] == [[1], [2]]
    assert "00020010" not in metadata[0]
    frames = client.retrieve_instance_frames(
        f"{ROOT}.1", f"{ROOT}.1.2", f"{ROOT}.1.2.1", [1, 3], media_types=("application/octet-stream",)
    )
    assert frames == [bytes(range(128)), bytes(range(128))]
    bulk = client.retrieve_bulkdata(metadata[0]["7FE00010"]["BulkDataURI"])
    assert bulk == [dataset(1, 1, 1).PixelData]


def test_what_is_not_there_is_not_found(client: DICOMwebClient) -> None:
    for ask in (
        lambda: client.retrieve_instance("1.2.3", "1.2.3.4", "1.2.3.4.5"),
        lambda: client.retrieve_instance_metadata(f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.2.1.1"),
        lambda: client.retrieve_instance_frames(f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1", [2]),
    ):
        with pytest.raises(HTTPError) as refusal:
            ask()
        assert refusal.value.response.status_code == 404


def test_dicomtrolley_finds_and_downloads(
    client: DICOMwebClient, live_server: LiveServer, session: requests.Session
) -> None:
    trolley = Trolley(
        searcher=QidoRS(session=session, url=f"{live_server.url}/dicomweb"),
        downloader=WadoRS(session=session, url=f"{live_server.url}/dicomweb"),
    )
    (study,) = trolley.find_studies(Query(PatientID="P2"))
    found = list(trolley.fetch_all_datasets(trolley.find_studies(Query(StudyInstanceUID=study.uid))))

    assert [ds.SOPInstanceUID for ds in found] == [f"{ROOT}.2.1.1"]


def authorization(session: requests.Session) -> str:
    return "Authorization: " + str(session.headers["Authorization"])


def curl(server: LiveServer, session: requests.Session, path: str, *options: str) -> tuple[int, bytes]:
    done = subprocess.run(
        ["curl", "-sS", "-H", authorization(session), "-w", "\n%{http_code}",
         *options, f"{server.url}/dicomweb{path}"],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def test_curl_stores_chunked_and_gets_the_bytes(
    client: DICOMwebClient, live_server: LiveServer, session: requests.Session
) -> None:
    data = ct_slice(3, 1, 1)
    done = subprocess.run(
        ["curl", "-sS", "-H", authorization(session),
         "-H", "Transfer-Encoding: chunked", "-H", "Content-Type: application/dicom",
         "--data-binary", "@-", f"{live_server.url}/dicomweb/studies"],
        input=data, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["00081199"]["Value"][0]["00081155"]["Value"] == [f"{ROOT}.3.1.1"]
    path = f"/studies/{ROOT}.3/series/{ROOT}.3.1/instances/{ROOT}.3.1.1"
    status, body = curl(live_server, session, path, "-H", "Accept: application/dicom")
    assert (status, hashlib.sha256(body).digest()) == (200, hashlib.sha256(data).digest())
    status, body = curl(
        live_server, session, path, "-H", "Accept: application/dicom", "-H", "Range: bytes=128-131"
    )
    assert (status, body) == (206, b"DICM")


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/studies?limit=x", "*/*", 400),
        ("/studies?FooBar=1", "*/*", 400),
        ("/studies?StudyDate=yesterday", "*/*", 400),
        ("/studies?StudyInstanceUID=../etc", "*/*", 400),
        ("/studies", "text/plain", 406),
        (f"/studies/{ROOT}.1/series/{ROOT}.1.1/instances/{ROOT}.1.1.1/frames/1", "video/mp4", 406),
        (f"/studies/{ROOT}.1/series/{ROOT}.1.1/instances/{ROOT}.1.1.1/frames/0", "*/*", 404),
        (f"/studies/{ROOT}.1/series/{ROOT}.1.1/instances/{ROOT}.1.1.1/frames/x", "*/*", 404),
        ("/studies?PatientID=NOBODY", "*/*", 204),
    ],
)
def test_bad_questions_get_the_standards_answers(
    client: DICOMwebClient,
    live_server: LiveServer,
    session: requests.Session,
    path: str,
    accept: str,
    status: int,
) -> None:
    assert curl(live_server, session, path, "-H", f"Accept: {accept}")[0] == status


def test_no_part_of_this_door_is_open(live_server: LiveServer, client: DICOMwebClient) -> None:
    for method, path in (
        ("GET", "/studies"), ("POST", "/studies"), ("GET", f"/studies/{ROOT}.1"),
        ("GET", f"/studies/{ROOT}.1/metadata"),
        ("GET", f"/studies/{ROOT}.1/series/{ROOT}.1.1/metadata"),
        ("GET", f"/studies/{ROOT}.1/series/{ROOT}.1.1/instances/{ROOT}.1.1.1/frames/1"),
    ):  # fmt: skip
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "cloudfilm_session=wrong"}):
            answer = requests.request(
                method, f"{live_server.url}/dicomweb{path}", headers=headers, timeout=10
            )
            assert answer.status_code in (401, 403), (method, path)
            assert ROOT not in answer.text


def test_no_name_of_a_patient_stands_in_the_log(
    client: DICOMwebClient, live_server: LiveServer, session: requests.Session
) -> None:
    curl(live_server, session, "/studies?PatientName=zhang*&PatientBirthDate=x")
    for trace in ("Zhang", "zhang", "张", "19700115"):
        assert trace not in live_server.output
