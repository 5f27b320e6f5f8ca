"""Which form an answer has where an Accept header leaves some out or likes some less (RFC 9110 12.5.1)."""

import pytest
from pydicom.encaps import encapsulate

from archive.placing import Ingested
from archive.transcode import EXPLICIT_LITTLE, JPEG_LOSSLESS_SV1
from tests.archive.pictures import image_dataset, noise
from tests.builders import part10
from tests.dicomweb.conftest import Service, path_of
from tests.dicomweb.test_retrieve import pdf

STUDY = "/studies/{study}"
INSTANCE = STUDY + "/series/{series}/instances/{instance}"
PARTS = "multipart/related"


@pytest.fixture(scope="module")
def image(service: Service) -> Ingested:
    return service.store(part10(image_dataset(noise("u2", 12, (16, 16)), 12, study=71)))


@pytest.fixture(scope="module")
def document(service: Service) -> Ingested:
    return service.store(pdf(72))


def form_of(service: Service, stored: Ingested, path: str, accept: str) -> str:
    """The type of an answer, with that of its parts; its status where there is none to be had."""
    filled = path.format(
        study=stored.study_instance_uid, series=stored.series_instance_uid, instance=stored.sop_instance_uid
    )
    answer = service.get(filled, accept)
    if answer.status_code != 200:
        return str(answer.status_code)
    inner = answer.mimetype_params.get("type", "")
    return f"{answer.mimetype} of {inner}" if inner else str(answer.mimetype)


@pytest.mark.parametrize(
    ("path", "accept", "form"),
    [
        ("/studies?StudyInstanceUID={study}", "*/*, application/dicom+json;q=0", "application/json"),
        ("/studies?StudyInstanceUID={study}", "multipart/*", f"{PARTS} of application/dicom+xml"),
        ("/studies?StudyInstanceUID={study}", "*/*, application/*;q=0", f"{PARTS} of application/dicom+xml"),
        ("/studies?StudyInstanceUID={study}", "application/*;q=0", "406"),
        (f"{STUDY}/metadata", "*/*, application/dicom+json;q=0", "application/json"),
        (f"{STUDY}/metadata", "application/*, application/dicom+json;q=0.1", "application/json"),
        (f"{STUDY}/metadata", "*/*;q=0.1, multipart/*", f"{PARTS} of application/dicom+xml"),
        (f"{STUDY}/metadata", "*/*, multipart/*;q=0, application/*;q=0", "406"),
        (STUDY, "*/*, multipart/*;q=0", "application/zip"),
        (STUDY, "application/*", "application/zip"),
        (STUDY, "*/*, application/zip;q=0", f"{PARTS} of application/dicom"),
        (INSTANCE, "*/*, application/dicom;q=0", f"{PARTS} of application/dicom"),
        (INSTANCE, "multipart/*", f"{PARTS} of application/dicom"),
        (f"{INSTANCE}/frames/1", "*/*", f"{PARTS} of application/octet-stream"),
        (f"{INSTANCE}/frames/1", "*/*, multipart/*;q=0", "application/octet-stream"),
        (f"{INSTANCE}/frames/1", "*/*, application/octet-stream;q=0", f"{PARTS} of application/octet-stream"),
        (f"{INSTANCE}/frames/1", "image/*", "image/jpeg"),
        (f"{INSTANCE}/frames/1", "image/*, image/jpeg;q=0", "image/jls"),
        (f"{INSTANCE}/frames/1", "image/*;transfer-syntax=1.2.840.10008.1.2.4.90", "image/jp2"),
        (f"{INSTANCE}/frames/1", "video/*", "406"),
        (f"{INSTANCE}/rendered", "*/*, image/jpeg;q=0", "image/png"),
        (f"{INSTANCE}/rendered", "image/*;q=0.5, image/gif", "image/gif"),
        (f"{INSTANCE}/rendered", f"{PARTS}; type=image/png", f"{PARTS} of image/png"),
        (f"{INSTANCE}/rendered", "image/*;q=0, text/html", "406"),
        (f"{INSTANCE}/thumbnail", "image/*, image/jpeg;q=0", "image/png"),
        (f"{STUDY}/rendered", "*/*, multipart/related;type=image/jpeg;q=0", f"{PARTS} of image/png"),
        (f"{STUDY}/rendered", "multipart/related;type=image/*, image/png", f"{PARTS} of image/jpeg"),
        (f"{INSTANCE}/bulkdata/7FE00010", "*/*, application/octet-stream;q=0",
         f"{PARTS} of application/octet-stream"),
        (f"{INSTANCE}/bulkdata", "*/*, multipart/*;q=0", "406"),
    ],
)  # fmt: skip
def test_of_an_image(service: Service, image: Ingested, path: str, accept: str, form: str) -> None:
    assert form_of(service, image, path, accept) == form


@pytest.mark.parametrize(
    ("path", "accept", "form"),
    [
        ("/bulkdata/00420011", "application/*", "application/pdf"),
        ("/bulkdata/00420011", "*/*, application/pdf;q=0", "application/octet-stream"),
        ("/bulkdata/00420011", "multipart/*", f"{PARTS} of application/pdf"),
        ("/rendered", "text/html, application/*;q=0.5", "application/pdf"),
        ("/rendered", "*/*, application/pdf;q=0", f"{PARTS} of application/pdf"),
        ("/rendered", "*/*, application/pdf;q=0, multipart/*;q=0", "406"),
    ],
)
def test_of_a_document(service: Service, document: Ingested, path: str, accept: str, form: str) -> None:
    assert form_of(service, document, INSTANCE + path, accept) == form


def test_a_compressed_frame_is_decoded_for_who_takes_no_images(service: Service, image: Ingested) -> None:
    stored = service.get(path_of(image), f"application/dicom; transfer-syntax={JPEG_LOSSLESS_SV1}").data
    data = stored.replace(image.sop_instance_uid.encode(), image.sop_instance_uid[:-1].encode() + b"9")
    path = f"{path_of(service.store(data))}/frames/1"

    assert service.get(path, "*/*, multipart/*;q=0").mimetype == "image/jpeg"
    for accept in ("application/*", "*/*, image/*;q=0, multipart/*;q=0"):
        answer = service.get(path, accept)
        assert (
            answer.headers["Content-Type"] == f"application/octet-stream; transfer-syntax={EXPLICIT_LITTLE}"
        )


def test_a_video_type_is_the_same_in_any_case(service: Service) -> None:
    ds = image_dataset(noise("u1", 8, (16, 16)), 8, study=73)
    ds.PixelData = encapsulate([b"\0\0\0\1hevc" + b"\0" * 16])
    ds["PixelData"].is_undefined_length = True
    video = service.store(part10(ds, "1.2.840.10008.1.2.4.107"))

    assert service.get(f"{path_of(video)}/frames/1", "video/H265").mimetype == "video/H265"
