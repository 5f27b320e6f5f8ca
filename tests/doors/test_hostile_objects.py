"""Objects made to harm who reads them: bombs, paths for names, files that are two things at once.

The threats 2, 3, 5 and 23 of docs/security.md.
"""

import gzip
import io
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, EncapsulatedPDFStorage, RLELossless

from archive.header import data_set_offset
from cloudfilm.rooms import Rooms
from tests.builders import ROOT, ct_slice, dataset, part10
from tests.dicomweb.conftest import Service, path_of

MIB = 2**20
REFUSED = (400, 406, 409, 413, 415, 422)
FHIR_JSON = "application/fhir+json"


@pytest.fixture
def service(rooms: Rooms) -> Service:
    return Service(rooms)


@contextmanager
def within(most: int) -> Iterator[None]:
    """What is done inside takes no more than this of memory at once."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / MIB:.0f} MiB"


def fhir(service: Service, body: bytes, content_type: str = FHIR_JSON, **headers: str) -> int:
    answer = service.client.post(
        "/fhir/Patient", data=body, content_type=content_type,
        headers={"Authorization": f"Bearer {service.token}", **headers},
    )  # fmt: skip
    return answer.status_code


def stow(service: Service, data: bytes, content_type: str = "application/dicom") -> int:
    return service.post("/studies", data, content_type).status_code


def test_a_gzip_bomb_is_refused_without_being_unpacked(service: Service) -> None:
    packing = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packing.compress(bytes(MIB)) for _ in range(512)) + packing.flush()
    assert len(bomb) < MIB

    with within(200 * MIB):
        assert fhir(service, bomb, **{"Content-Encoding": "gzip"}) in REFUSED
        assert fhir(service, gzip.compress(bomb), **{"Content-Encoding": "gzip, gzip"}) in REFUSED
        assert service.client.post(
            "/dicomweb/studies", data=bomb, content_type="application/dicom",
            headers={"Authorization": f"Bearer {service.token}", "Content-Encoding": "gzip"},
        ).status_code in REFUSED  # fmt: skip


def test_no_archive_is_unpacked(service: Service) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("../../etc/cron.d/x", ct_slice())

    assert stow(service, packed.getvalue(), "application/zip") in REFUSED
    assert stow(service, packed.getvalue()) in REFUSED


def test_a_deflated_object_is_inflated_up_to_its_bound_only(service: Service) -> None:
    small = part10(dataset(), DeflatedExplicitVRLittleEndian)
    plain = part10(dataset(PixelData=None))
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = plain[data_set_offset(plain) :] + b"\xe0\x7f\x10\x00OB\0\0" + (1 << 30).to_bytes(4, "little")
    pieces = [deflater.compress(head), *(deflater.compress(bytes(MIB)) for _ in range(1024))]
    bomb = small[: data_set_offset(small)] + b"".join(pieces) + deflater.flush()
    assert len(bomb) < 2 * MIB

    with within(700 * MIB):
        assert stow(service, bomb) == 409


@pytest.mark.parametrize("frames", [1, 2**31 - 1])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLELossless])
@pytest.mark.parametrize(("rows", "columns"), [(65535, 65535), (16000, 16000), (65535, 1)])
def test_an_image_that_says_it_is_huge_is_not_drawn(
    service: Service, rows: int, columns: int, syntax: str, frames: int
) -> None:
    claimed = dataset(Rows=rows, Columns=columns, NumberOfFrames=frames)
    if syntax == RLELossless:
        claimed.PixelData = encapsulate([bytes(64)])
        claimed["PixelData"].is_undefined_length = True
    with within(64 * MIB):
        if stow(service, part10(claimed, syntax)) == 409:
            return
        place = f"/studies/{ROOT}.1/series/{ROOT}.1.1/instances/{ROOT}.1.1.1"
        for path in ("/rendered", "/frames/1/rendered"):
            assert 400 <= service.get(place + path).status_code < 500, path
        for path in ("/thumbnail", "/frames/1"):  # a sign in its place, and the frame as it was sent
            assert len(service.get(place + path).data) < MIB, path


@pytest.mark.parametrize("depth", [33, 5000])
def test_sequences_nested_without_end_are_refused(service: Service, depth: int) -> None:
    nested = b"\x40\x00\x75\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * depth

    with within(64 * MIB):
        assert stow(service, ct_slice() + nested) == 409


@pytest.mark.parametrize("depth", [65, 100_000])
@pytest.mark.parametrize(
    ("opening", "closing"), [(b'{"extension":[', b"]}"), (b"[", b"]"), (b'{"contained":{"a":', b"1}}")]
)
def test_documents_nested_without_end_are_refused(
    service: Service, opening: bytes, closing: bytes, depth: int
) -> None:
    body = b'{"resourceType":"Patient","x":' + opening * depth + closing * depth + b"}"

    assert fhir(service, body) in REFUSED


def test_an_xml_document_nested_without_end_is_refused(service: Service) -> None:
    opened = b"<extension>" * 20_000
    body = b'<Patient xmlns="http://hl7.org/fhir">' + opened + b"</extension>" * 20_000 + b"</Patient>"

    assert fhir(service, body, "application/fhir+xml") in REFUSED


PATHS = [
    "../../../../etc/passwd", "..", ".", "/etc/passwd", "1.2/../../3", "..\\..\\3", "1.2.%2e%2e", "1.2\0.3",
    "1.2\n.3", "1.2;rm -rf", "$(id)", "1.2.3/", "con", "1..2", "１.２.３", "1.2.3.", "9" * 65, "-1.2", "a.b",
]  # fmt: skip


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("name", PATHS)
def test_a_path_for_a_uid_is_refused_and_writes_nothing(
    service: Service, tmp_path: Path, keyword: str, name: str
) -> None:
    kept = {each for each in tmp_path.rglob("*") if each.is_file() and "cloudfilm.db" not in each.name}
    hostile = dataset()
    del hostile[keyword]
    tag = {"StudyInstanceUID": 0x0020000D, "SeriesInstanceUID": 0x0020000E, "SOPInstanceUID": 0x00080018}
    data = part10(hostile)
    value = name.encode("utf-8")
    value += b" " * (len(value) % 2)
    number = tag[keyword]
    element = (number >> 16).to_bytes(2, "little") + (number & 0xFFFF).to_bytes(2, "little") + b"UI"
    data += element + len(value).to_bytes(2, "little") + value

    assert stow(service, data) == 409
    assert service.get("/studies").status_code == 204
    strays = {each for each in tmp_path.rglob("*") if each.is_file() and "cloudfilm.db" not in each.name}
    assert all((tmp_path / "blobs") in each.parents for each in strays - kept)


@pytest.mark.parametrize("name", ["../../secret", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..", "1.2.3%00"])
def test_a_path_in_an_address_finds_nothing(service: Service, name: str) -> None:
    service.store(ct_slice())

    for path in (f"/studies/{name}", f"/studies/{ROOT}.1/series/{name}", f"/studies/{name}/metadata"):
        assert service.get(path).status_code in (400, 404), path
    assert service.client.get(f"/ohif/{name}").status_code in (302, 401, 404)


SEARCHES = (
    "/dicomweb/studies?PatientName={}*", "/dicomweb/studies?PatientID={}", "/dicomweb/studies?00081030={}",
    "/dicomweb/studies?fuzzymatching=true&PatientName={}", "/dicomweb/studies?StudyInstanceUID={}",
    "/dicomweb/series?Modality={}", "/dicomweb/instances?SOPClassUID={}",
    "/fhir/Patient?name={}", "/fhir/Patient?identifier={}", "/fhir/Patient?_id={}", "/fhir/Patient/{}",
    "/fhir/Patient?_content={}", "/fhir/Patient?birthdate={}", "/fhir/ImagingStudy?subject={}",
    "/fhir/Observation?code-value-quantity={}", "/fhir/Patient?_lastUpdated={}", "/fhir/Patient?_tag={}",
)  # fmt: skip


def test_a_text_that_is_none_finds_nothing(service: Service) -> None:
    headers = {"Authorization": f"Bearer {service.token}"}
    for search in SEARCHES:
        for text in ("a%00b", "%ed%a0%80", "%ff"):
            answer = service.client.get(search.format(text), headers=headers)
            assert answer.status_code in (200, 204, 400, 404), (search, text)
            if answer.status_code == 200:
                assert answer.json == [] or "entry" not in answer.get_json(), (search, text)


def test_objects_lie_under_names_of_our_own(service: Service, tmp_path: Path) -> None:
    """No text of an object is part of where it lies."""
    service.store(ct_slice(PatientID="../../x", AccessionNumber="../../y", StudyID="../z"))

    names = [each.relative_to(tmp_path / "blobs").as_posix() for each in (tmp_path / "blobs").rglob("*")]
    assert names
    for name in names:
        assert all(part not in name for part in ("..", "P1", ROOT)), name


POLYGLOTS = {
    "Windows program": b"MZ\x90\0" + bytes(56) + b"\x80\0\0\0",
    "Linux program": b"\x7fELF\x02\x01\x01",
    "page": b"<html><script>alert(1)</script></html><!--",
    "TIFF": b"II*\0\x08\0\0\0",
    "shell": b"#!/bin/sh\nid\nexit\n",
}


@pytest.mark.parametrize("kind", POLYGLOTS)
def test_a_file_that_is_two_things_is_only_ever_served_as_a_dicom_file_to_keep(
    service: Service, kind: str
) -> None:
    plain = ct_slice()
    polyglot = POLYGLOTS[kind].ljust(128, b"\0") + plain[128:]
    receipt = service.store(polyglot)

    for accept in ("application/dicom", "*/*", "text/html,*/*;q=0.8"):
        answer = service.get(path_of(receipt), accept)
        if answer.status_code == 406:
            continue
        assert polyglot in answer.data  # an archive gives back what it was given
        assert answer.mimetype in ("application/dicom", "multipart/related")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    alone = service.get(path_of(receipt), "application/dicom")
    assert alone.headers["Content-Disposition"].startswith("attachment;")
    by_uri = service.client.get(
        f"/wado?requestType=WADO&studyUID={receipt.study_instance_uid}&seriesUID={receipt.series_instance_uid}"
        f"&objectUID={receipt.sop_instance_uid}&contentType=application/dicom",
        headers={"Authorization": f"Bearer {service.token}"},
    )
    if by_uri.status_code == 200:
        assert by_uri.mimetype == "application/dicom"
        assert by_uri.headers["Content-Disposition"].startswith("attachment;")


def document(media_type: str, data: bytes) -> bytes:
    held = dataset(PixelData=None)
    for keyword in (
        "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
        "PhotometricInterpretation",
    ):  # fmt: skip
        delattr(held, keyword)
    held.SOPClassUID, held.Modality = EncapsulatedPDFStorage, "DOC"
    held.MIMETypeOfEncapsulatedDocument, held.EncapsulatedDocument = media_type, data
    held.EncapsulatedDocumentLength = len(data)
    return part10(held)


EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H* " + bytes(20_000)


@pytest.mark.parametrize(
    "media_type",
    ["application/pdf", "image/svg+xml", "application/xhtml+xml", "text/xml", "text/javascript",
     "text/html;x=y", "application/octet-stream"],
)  # fmt: skip
def test_an_uploaded_document_runs_nothing_of_ours(service: Service, media_type: str) -> None:
    """It is not scanned, and comes back as it was; what a browser may do with it is bounded."""
    receipt = service.store(document(media_type, EICAR))

    answer = service.get(f"{path_of(receipt)}/rendered")

    assert answer.status_code == 200
    assert answer.data == EICAR
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if media_type == "application/pdf":  # shown by the browser's own viewer, which shows nothing in a sandbox
        assert answer.mimetype == media_type
    else:
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert "allow-scripts" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("media_type", ["a/b\r\nX-Bad: 1", "a/b\nX-Bad: 1", "a/\u2028", "x/" + "y" * 5000])
def test_a_media_type_that_is_none_makes_no_header(service: Service, media_type: str) -> None:
    placed = b"a/" + b"b" * (len(media_type.encode()) - 2)
    data = document(placed.decode(), EICAR).replace(placed, media_type.encode())
    receipt = service.store(data)

    answer = service.get(f"{path_of(receipt)}/rendered")

    assert answer.status_code < 500
    assert "X-Bad" not in answer.headers
