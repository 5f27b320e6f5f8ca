"""STOW-RS in every form of body, and removing and bringing back."""

import gzip
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from archive.image_pixel import image_pixel_of
from archive.removal import purge_removed
from archive.sweep import sweep
from archive.transcode import EXPLICIT_LITTLE, JPEG_LS, decode_frame, encode_frame
from dicomweb.multipart import write_parts
from dicomweb.native_xml import from_xml, to_xml
from dicomweb.stow_metadata import part10_of
from kernel.clock import FixedClock
from kernel.errors import CloudfilmError
from tests.archive.pictures import Picture, image_dataset, noise
from tests.builders import ROOT, ct_slice, dataset, part10
from tests.dicomweb.conftest import Service, path_of

BOUNDARY = "parts"
PIXELS = noise("u2", 12, (32, 24))


def body(*parts: tuple[dict[str, str], bytes]) -> bytes:
    return b"".join(write_parts(BOUNDARY, ((headers, (content,)) for headers, content in parts)))


def content_type(kind: str) -> str:
    return f'multipart/related; type="{kind}"; boundary={BOUNDARY}'


def described(study: int, frames: int = 1) -> dict[str, Any]:
    """The DICOM JSON of an image whose pixels are elsewhere."""
    ds = image_dataset(PIXELS, 12, study=study, NumberOfFrames=frames)
    ds.Rows = 32 // frames
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.{study}", f"{ROOT}.{study}.1"
    ds.SOPInstanceUID = f"{ROOT}.{study}.1.1"
    document: dict[str, Any] = json.loads(ds.to_json())
    document["7FE00010"] = {"vr": "OW", "BulkDataURI": "bulk/1"}
    return document


def test_metadata_in_json_with_pixels_apart_becomes_an_object(service: Service) -> None:
    answer = service.post(
        "/studies",
        body(
            ({"Content-Type": "application/dicom+json"}, json.dumps([described(41)]).encode()),
            ({"Content-Type": "application/octet-stream", "Content-Location": "bulk/1"}, PIXELS.tobytes()),
        ),
        content_type("application/dicom+json"),
    )

    assert answer.status_code == 200, answer.data
    (stored,) = answer.get_json()["00081199"]["Value"]
    path = stored["00081190"]["Value"][0].partition("/dicomweb")[2]
    back = dcmread(io.BytesIO(service.get(path, "application/dicom").data))
    assert back.PixelData == PIXELS.tobytes()
    assert str(back.PatientName) == "Zhang^Wei=张^伟"


def test_metadata_in_xml_with_compressed_frames_becomes_an_object(service: Service) -> None:
    frame = decode_frame(PIXELS.tobytes(), image_pixel_of(Picture(
        part10(image_dataset(PIXELS, 12))).attributes), EXPLICIT_LITTLE)  # fmt: skip
    coded = encode_frame(frame, JPEG_LS)
    answer = service.post(
        "/studies",
        body(
            ({"Content-Type": "application/dicom+xml"}, to_xml(described(42))),
            (
                {"Content-Type": f"image/jls; transfer-syntax={JPEG_LS}", "Content-Location": "bulk/1"},
                coded.data,
            ),
        ),
        content_type("application/dicom+xml"),
        accept="application/dicom+xml",
    )

    assert answer.status_code == 200, answer.data
    assert answer.mimetype == "application/dicom+xml"
    path = f"/studies/{ROOT}.42/series/{ROOT}.42.1/instances/{ROOT}.42.1.1"
    assert service.get(f"{path}/frames/1", "application/octet-stream").data == PIXELS.tobytes()
    assert (
        service.get(f"{path}/frames/1", "*/*")
        .headers["Content-Type"]
        .startswith('multipart/related; type="image/jls"')
    )


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([({"Content-Type": "application/dicom+json"}, b"[")], "application/dicom+json"),
        ([({"Content-Type": "application/dicom+json"}, b"[1]")], "application/dicom+json"),
        ([({"Content-Type": "application/dicom+xml"}, b"<a/>")], "application/dicom+xml"),
        ([({"Content-Type": "application/octet-stream"}, b"x")], "application/dicom+json"),
        ([({"Content-Type": "application/dicom+json"}, json.dumps(described(43)).encode())],
         "application/dicom+json"),
    ],
)  # fmt: skip
def test_metadata_that_makes_no_object_is_refused(service: Service, parts: Any, kind: str) -> None:
    answer = service.post("/studies", body(*parts), content_type(kind))

    assert answer.status_code in (400, 409)
    assert service.get(f"/studies?StudyInstanceUID={ROOT}.43").status_code == 204


def test_each_object_is_told_of_with_its_reason(service: Service) -> None:
    answer = service.post(
        f"/studies/{ROOT}.44",
        body(
            ({"Content-Type": "application/dicom"}, ct_slice(44)),
            ({"Content-Type": "application/dicom"}, ct_slice(45)),
            ({"Content-Type": "application/dicom"}, b"nonsense"),
        ),
        content_type("application/dicom"),
    )

    assert answer.status_code == 202
    told = answer.get_json()
    assert [each["00081155"]["Value"] for each in told["00081199"]["Value"]] == [[f"{ROOT}.44.1.1"]]
    assert [each["00081197"]["Value"] for each in told["00081198"]["Value"]] == [[0xA900], [0xC000]]
    assert [each["00081155"].get("Value") for each in told["00081198"]["Value"]] == [[f"{ROOT}.45.1.1"], None]


@pytest.mark.parametrize(
    ("kind", "accept", "status"),
    [("text/plain", "*/*", 415), ('multipart/related; type="text/plain"; boundary=x', "*/*", 415),
     ("application/dicom", "image/jpeg", 406), ("multipart/related; type=application/dicom", "*/*", 400)],
)  # fmt: skip
def test_a_body_or_an_answer_that_is_not_had_stores_nothing(
    service: Service, kind: str, accept: str, status: int
) -> None:
    assert service.post("/studies", ct_slice(46), kind, accept).status_code == status
    assert service.get(f"/studies?StudyInstanceUID={ROOT}.46").status_code == 204


def test_a_body_in_a_content_coding_is_refused_as_such(service: Service) -> None:
    encoded = {"Content-Type": "application/dicom", "Content-Encoding": "gzip"}
    answer = service.client.post(
        "/dicomweb/studies",
        data=gzip.compress(ct_slice(47)),
        headers={"Authorization": f"Bearer {service.token}", **encoded},
    )

    assert answer.status_code == 415


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=6) | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["00100010", "00080018", "vr", "Value", "PN", "BulkDataURI", "7FE00010", "x"]),
            inner, max_size=4,
        ),
        max_leaves=12,
    )
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_metadata_makes_an_object_or_is_refused(document: Any) -> None:
    try:
        part10_of(document if isinstance(document, dict) else {"00100010": document}, {})
    except CloudfilmError:
        return


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_xml_is_read_or_refused(data: bytes) -> None:
    try:
        from_xml(b"<NativeDicomModel>" + data + b"</NativeDicomModel>")
    except CloudfilmError:
        return


def test_what_is_written_as_xml_is_read_back() -> None:
    document = described(47)
    document.pop("7FE00010")

    assert from_xml(to_xml(document)) == json.loads(dataset().from_json(document).to_json())


# -- removal ------------------------------------------------------------------------------------------------


def delete(service: Service, path: str) -> Any:
    return service.client.delete(f"/dicomweb{path}", headers={"Authorization": f"Bearer {service.token}"})


def test_what_is_removed_is_gone_from_every_view_and_comes_back_whole(service: Service) -> None:
    receipts = [service.store(ct_slice(51, 1, number)) for number in (1, 2)]
    service.store(ct_slice(51, 2, 1, Modality="MR"))
    sent = service.get(path_of(receipts[1]), "application/dicom").data

    gone = delete(service, f"{path_of(receipts[1])}?reason=113001^DCM&comment=blurred")

    assert gone.status_code == 204
    assert service.get(path_of(receipts[1])).status_code == 404
    assert service.get(path_of(receipts[0])).status_code == 200
    (study,) = service.get(f"/studies?StudyInstanceUID={ROOT}.51").get_json()
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([2], [2])
    assert delete(service, f"/studies/{ROOT}.51/series/{ROOT}.51.2?reason=113001").status_code == 204
    (study,) = service.get(f"/studies?StudyInstanceUID={ROOT}.51").get_json()
    assert study["00080061"]["Value"] == ["CT"]

    for removal in service.get("/removals").get_json()["removals"][:2]:
        restored = service.post(f"/removals/{removal['id']}/restore", b"", "application/json")
        assert restored.get_json()["end"] == "restored"
        assert service.post(f"/removals/{removal['id']}/restore", b"", "application/json").status_code == 410
    assert service.get(path_of(receipts[1]), "application/dicom").data == sent
    (study,) = service.get(f"/studies?StudyInstanceUID={ROOT}.51").get_json()
    assert study["00201208"]["Value"] == [3]


def test_a_removal_needs_a_reason_and_a_thing(service: Service) -> None:
    service.store(ct_slice(52))

    assert delete(service, f"/studies/{ROOT}.52").status_code == 400
    assert delete(service, f"/studies/{ROOT}.52?reason=because").status_code == 400
    assert delete(service, f"/studies/{ROOT}.53?reason=113001").status_code == 404
    assert service.post(f"/studies/{ROOT}.52/reject/113037^DCM", b"", "").status_code == 204
    assert service.get(f"/studies?StudyInstanceUID={ROOT}.52").status_code == 204
    assert service.get(f"/studies/{ROOT}.52/metadata").status_code == 404


def test_after_its_retention_the_bytes_are_gone_and_not_before(service: Service) -> None:
    service.store(ct_slice(54))
    archive, clock = service.rooms.archive, service.rooms.clock
    assert isinstance(clock, FixedClock)
    delete(service, f"/studies/{ROOT}.54?reason=113039")
    kept = {blob.key for blob in archive.blobs.store.list()}
    purge_removed(archive)
    sweep(archive)
    assert {blob.key for blob in archive.blobs.store.list()} == kept

    clock.advance(timedelta(days=archive.settings.removed_days, seconds=1))
    purge_removed(archive)
    left = {blob.key for blob in archive.blobs.store.list()}
    clock.advance(timedelta(days=-archive.settings.removed_days, seconds=-1))

    assert left < kept
    (removal,) = (
        each for each in service.get("/removals").get_json()["removals"]
        if each["study_instance_uid"] == f"{ROOT}.54"
    )  # fmt: skip
    assert removal["end"] == "purged"
    assert service.post(f"/removals/{removal['id']}/restore", b"", "application/json").status_code == 410
