"""WADO-RS: every resource, in every form that the standard names, and what is refused."""

import gzip
import hashlib
import io
import json
import zipfile
from typing import Any
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

from archive.image_pixel import image_pixel_of
from archive.placing import Ingested
from archive.renditions import make_renditions
from archive.transcode import (
    EXPLICIT_LITTLE,
    HTJ2K_LOSSLESS,
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    RLE,
    decode_frame,
)
from tests.archive.pictures import Picture, image_dataset, noise
from tests.builders import ROOT, ct_slice, dataset, part10
from tests.dicomweb.conftest import Service, parts_of, path_of

PIXELS = noise("u2", 12, (32, 24))
PDF_BYTES = b"%PDF-1.4 made for a tests"


def multi_frame() -> Dataset:
    ds = image_dataset(PIXELS, 12, study=21, NumberOfFrames=2, WindowCenter=2000, WindowWidth=4000)
    ds.Rows = 16
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = (
        f"{ROOT}.21.1.1", f"{ROOT}.21", f"{ROOT}.21.1",
    )  # fmt: skip
    return ds


def pdf(study: int = 22, repeats: int = 61) -> bytes:
    ds = dataset(
        study, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC", PixelData=None, Rows=None
    )
    for keyword in (
        "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
        "PhotometricInterpretation",
    ):  # fmt: skip
        delattr(ds, keyword)
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocument = PDF_BYTES * repeats
    ds.EncapsulatedDocumentLength = len(PDF_BYTES) * repeats
    return part10(ds)


@pytest.fixture(scope="module")
def image(service: Service) -> Ingested:
    return service.store(part10(multi_frame()))


@pytest.fixture(scope="module")
def series(service: Service) -> Ingested:
    for number in (1, 2, 3):
        receipt = service.store(ct_slice(23, 1, number))
    service.store(ct_slice(23, 2, 1, Modality="MR"))
    return receipt


# -- objects ------------------------------------------------------------------------------------------------


def test_an_object_comes_alone_as_a_part_or_in_a_range(service: Service, series: Ingested) -> None:
    sent = ct_slice(23, 1, 3)
    alone = service.get(path_of(series), "application/dicom")
    part = service.get(path_of(series), 'multipart/related; type="application/dicom"')
    ranged = service.get(path_of(series), "application/dicom", Range="bytes=128-131")

    assert alone.data == sent
    assert [content for _, content in parts_of(part)] == [sent]
    assert (ranged.status_code, ranged.data) == (206, b"DICM")
    assert ranged.headers["Content-Range"] == f"bytes 128-131/{len(sent)}"
    assert service.get(path_of(series), "application/dicom", Range="bytes=9999999-").status_code == 416


@pytest.mark.parametrize(
    "syntax", [EXPLICIT_LITTLE, "1.2.840.10008.1.2", JPEG_LOSSLESS_SV1, JPEG_LS, JPEG_2000_LOSSLESS,
               HTJ2K_LOSSLESS, RLE, "1.2.840.10008.1.2.1.99"],
)  # fmt: skip
def test_an_object_comes_in_the_transfer_syntax_that_is_asked_for(
    service: Service, image: Ingested, syntax: str
) -> None:
    answer = service.get(path_of(image), f"application/dicom; transfer-syntax={syntax}")

    assert answer.headers["Content-Type"] == f"application/dicom; transfer-syntax={syntax}"
    picture = Picture(answer.data)
    samples = decode_frame(picture.frame(2), image_pixel_of(picture.attributes), syntax).samples
    assert np.array_equal(samples, PIXELS[16:])


def test_a_study_comes_as_parts_and_says_when_it_has_not_changed(service: Service, series: Ingested) -> None:
    path = f"/studies/{ROOT}.23"
    answer = service.get(path, 'multipart/related; type="application/dicom"; transfer-syntax=*')

    assert len(parts_of(answer)) == 4
    assert all(head["content-type"].endswith(EXPLICIT_LITTLE) for head, _ in parts_of(answer))
    again = service.get(path, "multipart/related; type=application/dicom; transfer-syntax=*",
                        If_None_Match=answer.headers["ETag"])  # fmt: skip
    assert (again.status_code, again.data) == (304, b"")
    assert len(parts_of(service.get(f"{path}/series/{ROOT}.23.1"))) == 3


def test_a_zip_file_has_every_object_and_a_dicomdir_when_asked(
    service: Service, series: Ingested, tmp_path: Any
) -> None:
    plain = zipfile.ZipFile(io.BytesIO(service.get(f"/studies/{ROOT}.23", "application/zip").data))
    media = zipfile.ZipFile(
        io.BytesIO(service.get(f"/studies/{ROOT}.23?dicomdir=true", "application/zip").data)
    )

    assert plain.testzip() is None
    assert plain.read(f"{ROOT}.23/{ROOT}.23.1/{ROOT}.23.1.3.dcm") == ct_slice(23, 1, 3)
    media.extractall(tmp_path)
    files = FileSet(tmp_path / "DICOMDIR")
    assert {instance.SOPInstanceUID for instance in files} == {
        f"{ROOT}.23.1.1", f"{ROOT}.23.1.2", f"{ROOT}.23.1.3", f"{ROOT}.23.2.1",
    }  # fmt: skip
    assert files.find_values("PatientName") == [dataset().PatientName]
    assert next(iter(files)).load().file_meta.TransferSyntaxUID == EXPLICIT_LITTLE


@pytest.mark.parametrize(
    "accept",
    ["text/plain", "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50", "image/jpeg",
     "application/dicom; transfer-syntax=1.2.3", 'multipart/related; type="text/plain"'],
)  # fmt: skip
def test_what_cannot_be_given_is_406_with_what_can(service: Service, image: Ingested, accept: str) -> None:
    for path in (path_of(image), f"/studies/{ROOT}.21"):
        answer = service.get(path, accept)
        assert answer.status_code == 406
        assert "application/dicom" in answer.get_json()["detail"]


# -- metadata -----------------------------------------------------------------------------------------------


def test_metadata_comes_as_json_and_as_xml(service: Service, series: Ingested) -> None:
    for path, count in ((f"/studies/{ROOT}.23", 4), (f"/studies/{ROOT}.23/series/{ROOT}.23.1", 3),
                        (path_of(series), 1)):  # fmt: skip
        in_json = service.get(f"{path}/metadata", "application/dicom+json")
        in_xml = parts_of(service.get(f"{path}/metadata", 'multipart/related; type="application/dicom+xml"'))
        assert len(in_json.get_json()) == len(in_xml) == count
        assert in_xml[0][0]["content-type"] == "application/dicom+xml"
        assert "<Ideographic><FamilyName>张</FamilyName>" in in_xml[0][1].decode()
    assert service.get(f"{path}/metadata?accept=application/json", "text/html").mimetype == "application/json"
    assert service.get(f"{path}/metadata", "image/jpeg").status_code == 406


def test_metadata_is_compressed_and_conditional(service: Service, series: Ingested) -> None:
    for path in (f"/studies/{ROOT}.23", f"/studies/{ROOT}.23/series/{ROOT}.23.1", path_of(series)):
        packed = service.get(f"{path}/metadata", Accept_Encoding="gzip")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert json.loads(gzip.decompress(packed.data)) == service.get(f"{path}/metadata").get_json()
        again = service.get(f"{path}/metadata", Accept_Encoding="gzip", If_None_Match=packed.headers["ETag"])
        assert (again.status_code, again.data) == (304, b"")


# -- frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "syntax"),
    [("application/octet-stream", EXPLICIT_LITTLE), ("image/jpeg", JPEG_LOSSLESS_SV1), ("image/jls", JPEG_LS),
     ("image/jp2", JPEG_2000_LOSSLESS), ("image/jphc", HTJ2K_LOSSLESS), ("image/dicom-rle", RLE)],
)  # fmt: skip
@pytest.mark.parametrize("quoted", [True, False])
def test_a_frame_comes_in_every_media_type(
    service: Service, image: Ingested, media_type: str, syntax: str, quoted: bool
) -> None:
    mark = '"' if quoted else ""
    alone = service.get(f"{path_of(image)}/frames/2", media_type)
    parts = service.get(f"{path_of(image)}/frames/1,2", f"multipart/related; type={mark}{media_type}{mark}")

    pixel = image_pixel_of(Picture(part10(multi_frame())).attributes)
    assert alone.headers["Content-Type"] == f"{media_type}; transfer-syntax={syntax}"
    assert np.array_equal(decode_frame(alone.data, pixel, syntax).samples, PIXELS[16:])
    frames = [decode_frame(content, pixel, syntax).samples for _, content in parts_of(parts)]
    assert np.array_equal(np.concatenate(frames), PIXELS)
    assert {head["content-type"] for head, _ in parts_of(parts)} == {
        f"{media_type}; transfer-syntax={syntax}"
    }


def test_a_frame_comes_untouched_in_a_range_compressed_and_not_again(
    service: Service, image: Ingested
) -> None:
    path = f"{path_of(image)}/frames/1"
    raw = PIXELS[:16].tobytes()
    stored = service.get(path, "multipart/related; type=application/octet-stream; transfer-syntax=*")
    ranged = service.get(path, "application/octet-stream", Range="bytes=4-7")
    packed = service.get(path, "application/octet-stream", Accept_Encoding="gzip")
    again = service.get(path, "application/octet-stream", Accept_Encoding="gzip",
                        If_None_Match=packed.headers["ETag"])  # fmt: skip

    assert parts_of(stored)[0][1] == raw
    assert (ranged.status_code, ranged.data) == (206, raw[4:8])
    assert gzip.decompress(packed.data) == raw
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize(
    ("numbers", "accept", "status"),
    [("0", "*/*", 404), ("3", "*/*", 404), ("1,3", "*/*", 404), ("x", "*/*", 404), ("1", "video/mp4", 406),
     ("1", "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50", 406), ("1", "text/html", 406),
     ("1", "image/jls; transfer-syntax=1.2.840.10008.1.2.4.90", 406)],
)  # fmt: skip
def test_frames_that_are_not_there_and_forms_that_are_not_had(
    service: Service, image: Ingested, numbers: str, accept: str, status: int
) -> None:
    assert service.get(f"{path_of(image)}/frames/{numbers}", accept).status_code == status


def test_pixel_data_of_a_study_are_all_its_frames(
    service: Service, image: Ingested, series: Ingested
) -> None:
    for path, count in ((f"/studies/{ROOT}.23", 4), (f"/studies/{ROOT}.23/series/{ROOT}.23.2", 1),
                        (path_of(image), 2)):  # fmt: skip
        parts = parts_of(
            service.get(f"{path}/pixeldata", 'multipart/related; type="application/octet-stream"')
        )
        assert len(parts) == count
        assert parts[-1][0]["content-location"].rpartition("/")[2] == str(2 if count == 2 else 1)


# -- bulk data ----------------------------------------------------------------------------------------------


def test_bulk_data_come_by_their_uri_and_in_ranges(service: Service, image: Ingested) -> None:
    (metadata,) = service.get(f"{path_of(image)}/metadata").get_json()
    uri = metadata["7FE00010"]["BulkDataURI"].partition("/dicomweb")[2]

    assert service.get(uri).data == PIXELS.tobytes()
    assert service.get(uri, "application/octet-stream", Range="bytes=-4").data == PIXELS.tobytes()[-4:]
    assert (
        parts_of(service.get(uri, "multipart/related; type=application/octet-stream"))[0][1]
        == PIXELS.tobytes()
    )
    everything = parts_of(service.get(f"{path_of(image)}/bulkdata"))
    assert [head["content-location"].rpartition("/")[2] for head, _ in everything] == ["7FE00010"]
    assert service.get(f"{path_of(image)}/bulkdata/00280010").status_code == 404


@pytest.mark.parametrize(
    ("resource", "accept"),
    [("", "application/dicom"), ("/frames/1", "application/octet-stream"), ("/bulkdata/7FE00010", "*/*")],
)
def test_several_ranges_come_as_parts(service: Service, image: Ingested, resource: str, accept: str) -> None:
    path = path_of(image) + resource
    whole = service.get(path, accept)
    answer = service.get(path, accept, Range="bytes=0-9, 20-29,-4")
    unchanged = {"Range": "bytes=0-9,20-29", "If_Range": whole.headers["ETag"]}
    changed = {"Range": "bytes=0-9,20-29", "If_Range": '"other"'}

    size = len(whole.data)
    assert answer.status_code == 206
    assert answer.mimetype == "multipart/byteranges"
    assert answer.headers["ETag"] == whole.headers["ETag"]
    assert answer.content_length == len(answer.data)
    assert [(headers["content-range"], content) for headers, content in parts_of(answer)] == [
        (f"bytes 0-9/{size}", whole.data[:10]), (f"bytes 20-29/{size}", whole.data[20:30]),
        (f"bytes {size - 4}-{size - 1}/{size}", whole.data[-4:]),
    ]  # fmt: skip
    assert {headers["content-type"] for headers, _ in parts_of(answer)} == {whole.headers["Content-Type"]}
    assert service.get(path, accept, **unchanged).status_code == 206
    assert service.get(path, accept, **changed).data == whole.data


def test_a_document_is_had_as_itself_as_bulk_data_and_rendered(service: Service) -> None:
    receipt = service.store(pdf())
    document = PDF_BYTES * 61
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
    rendered = service.get(f"{path_of(receipt)}/rendered", browser)

    assert (rendered.mimetype, rendered.data) == ("application/pdf", document)
    assert service.get(f"{path_of(receipt)}/rendered", Range="bytes=0-3").data == b"%PDF"
    assert service.get(f"{path_of(receipt)}/bulkdata/00420011", "application/pdf").data == document
    as_octets = service.get(f"{path_of(receipt)}/bulkdata/00420011", "application/octet-stream")
    assert (as_octets.mimetype, as_octets.data) == ("application/octet-stream", document)
    assert service.get(f"{path_of(receipt)}/rendered", "image/jpeg").status_code == 406
    assert service.get(f"{path_of(receipt)}/thumbnail").mimetype == "image/jpeg"


def test_a_document_of_a_few_bytes_is_had_like_a_long_one(service: Service) -> None:
    receipt = service.store(pdf(study=2200, repeats=2))

    assert service.get(f"{path_of(receipt)}/rendered").data == PDF_BYTES * 2
    assert service.get(f"{path_of(receipt)}/bulkdata/00420011", "application/pdf").data == PDF_BYTES * 2


# -- rendered -----------------------------------------------------------------------------------------------


def picture_of(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("accept", "form"), [("*/*", "JPEG"), ("image/png", "PNG"), ("image/*", "JPEG"), ("image/gif", "GIF")]
)
def test_an_instance_is_rendered_as_a_picture(
    service: Service, series: Ingested, accept: str, form: str
) -> None:
    answer = service.get(f"{path_of(series)}/rendered", accept)

    assert picture_of(answer.data).format == form
    assert service.get(f"{path_of(series)}/rendered", accept, If_None_Match=answer.headers["ETag"]
                       ).status_code == 304  # fmt: skip


def test_a_picture_is_kept_when_it_was_sent(service: Service, image: Ingested) -> None:
    first_time = service.get(f"{path_of(image)}/rendered?viewport=30,30", "image/png")
    tag = first_time.get_etag()[0]
    assert tag is not None

    first_time.close()

    assert service.rooms.archive.cache.get(tag) == first_time.data
    assert service.get(f"{path_of(image)}/rendered?viewport=30,30", "image/png").data == first_time.data


def test_rendering_parameters_are_taken_also_percent_encoded(service: Service, image: Ingested) -> None:
    path = f"{path_of(image)}/frames/1/rendered"
    white = service.get(f"{path}?window=-100%2C10%2Clinear", "image/png")
    small = service.get(f"{path}?viewport=8,8&quality=30&annotation=patient&iccprofile=srgb", "image/jpeg")
    cut = service.get(f"{path}?viewport=10%2C10%2C0%2C0%2C12%2C8", "image/png")

    assert np.asarray(picture_of(white.data)).min() == 255
    assert max(picture_of(small.data).size) == 8
    assert picture_of(small.data).info["icc_profile"]
    assert picture_of(cut.data).size == (10, 7)


@pytest.mark.parametrize(
    "query",
    ["window=1", "window=a,b", "window=40,0", "window=40,400,cubic", "viewport=0,0", "viewport=9,9,1",
     "viewport=99999,9", "viewport=8,8,900,900,4,4", "quality=0", "quality=101", "quality=x",
     "iccprofile=cmyk", "window=nan,1", "viewport=1e400,2"],
)  # fmt: skip
def test_a_parameter_that_makes_no_sense_is_400(service: Service, image: Ingested, query: str) -> None:
    answer = service.get(f"{path_of(image)}/rendered?{query}")

    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.get_json()["detail"]


def test_many_frames_and_many_instances_come_as_parts(
    service: Service, image: Ingested, series: Ingested
) -> None:
    frames = parts_of(service.get(f"{path_of(image)}/frames/1,2/rendered", "image/jpeg"))
    study = parts_of(service.get(f"/studies/{ROOT}.23/rendered", "multipart/related; type=image/png"))
    animated = picture_of(service.get(f"{path_of(image)}/rendered", "image/gif").data)

    assert len(frames) == 2
    assert [picture_of(content).format for _, content in study] == ["PNG"] * 4
    assert getattr(animated, "n_frames", 1) == 2
    assert service.get(f"/studies/{ROOT}.23/rendered", "image/jpeg").status_code == 406


ECG = "1.2.840.10008.5.1.4.1.1.9.1.1"


def waveform(study: int, sop_class_uid: str) -> bytes:
    """One lead of two seconds, with a beat in the middle."""
    ds, lead, units, group, channel = without_pixels(study), Dataset(), Dataset(), Dataset(), Dataset()
    ds.SOPClassUID, ds.Modality = sop_class_uid, "ECG"
    lead.CodeValue, lead.CodingSchemeDesignator, lead.CodeMeaning = "2:1", "MDC", "Lead I"
    units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = "mV", "UCUM", "mV"
    channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence = [lead], [units]
    channel.ChannelSensitivity, channel.WaveformBitsStored = "0.001", 16
    group.WaveformOriginality, group.NumberOfWaveformChannels = "ORIGINAL", 1
    group.NumberOfWaveformSamples, group.SamplingFrequency = 4000, "2000"
    group.ChannelDefinitionSequence, group.WaveformBitsAllocated = [channel], 16
    group.WaveformSampleInterpretation = "SS"
    samples = np.zeros(4000, "<i2")
    samples[2000:2100] = 1000
    group.add_new("WaveformData", "OW", samples.tobytes())
    ds.WaveformSequence = [group]
    return part10(ds)


def without_pixels(study: int) -> Dataset:
    ds = dataset(study)
    for keyword in ("PixelData", "SamplesPerPixel", "PhotometricInterpretation"):
        delattr(ds, keyword)
    return ds


def test_a_waveform_is_drawn_wherever_an_image_is(service: Service) -> None:
    path = path_of(service.store(waveform(28, ECG)))
    page = picture_of(service.get(f"{path}/rendered", "image/png").data)
    smaller = picture_of(service.get(f"{path}/rendered?viewport=100,100").data)
    thumbnail = service.get(f"{path}/thumbnail").data
    study = parts_of(service.get(f"/studies/{ROOT}.28/rendered", "multipart/related; type=image/jpeg"))

    assert page.width == (20 + 50 + 5) * 6
    assert np.asarray(page.convert("L")).min() < 60  # ink
    assert max(smaller.size) == 100
    assert np.asarray(picture_of(thumbnail).convert("L")).mean() > 150  # paper, and no sign for what is none
    assert len(study) == 1
    assert service.get(f"{path}/rendered", "text/html").status_code == 406


def test_what_has_neither_pixels_nor_traces_is_406_and_has_a_sign(service: Service) -> None:
    audio = service.store(waveform(29, "1.2.840.10008.5.1.4.1.1.9.4.1"))
    header_only = service.store(part10(without_pixels(30)))

    for receipt in (audio, header_only):
        assert service.get(f"{path_of(receipt)}/rendered").status_code == 406
        assert service.get(f"{path_of(receipt)}/thumbnail").status_code == 200


def test_video_is_made_by_the_hosts_ffmpeg_or_refused(service: Service, image: Ingested) -> None:
    answer = service.get(f"{path_of(image)}/rendered", "video/mp4")

    if answer.status_code == 200:
        assert answer.data[4:8] == b"ftyp"
        assert service.get(f"{path_of(image)}/rendered", "video/mp4", Range="bytes=4-7").data == b"ftyp"
    else:
        assert answer.status_code == 406


def test_a_structured_report_is_rendered_as_a_page(service: Service) -> None:
    item, name, report = Dataset(), Dataset(), dataset(24, PixelData=None, Modality="SR")
    for keyword in (
        "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
        "PhotometricInterpretation",
    ):  # fmt: skip
        delattr(report, keyword)
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "121071", "DCM", "所见 <script>"
    item.ValueType, item.RelationshipType, item.TextValue = "TEXT", "CONTAINS", "双肺纹理清晰 <b>"
    item.ConceptNameCodeSequence = [name]
    report.ContentSequence = [item]
    receipt = service.store(part10(report))

    answer = service.get(f"{path_of(receipt)}/rendered", "text/html,*/*;q=0.8")

    assert answer.mimetype == "text/html"
    assert "双肺纹理清晰 &lt;b&gt;" in answer.text
    assert "<script>" not in answer.text
    assert "sandbox" in answer.headers["Content-Security-Policy"]

    for accept in ("text/plain", "text/*;q=0.5, text/plain"):
        text = service.get(f"{path_of(receipt)}/rendered", accept)
        assert text.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert "所见 <script>: 双肺纹理清晰 <b>" in text.text.splitlines()
    xml = service.get(f"{path_of(receipt)}/rendered", "text/xml")
    assert ElementTree.fromstring(xml.data).tag.endswith("NativeDicomModel")
    by_uri = service.get(
        f"/wado?requestType=WADO&studyUID={receipt.study_instance_uid}&seriesUID="
        f"{receipt.series_instance_uid}&objectUID={receipt.sop_instance_uid}&contentType=text/plain"
    )
    assert by_uri.data == text.data
    assert service.get(f"{path_of(receipt)}/rendered", "image/png").status_code == 406


def test_a_presentation_state_is_rendered_as_its_image(service: Service, image: Ingested) -> None:
    from tests.archive.test_render import presentation_state, voi

    state = service.store(presentation_state(multi_frame(), SoftcopyVOILUTSequence=[voi(5000, 10)]))

    black = service.get(f"{path_of(state)}/rendered", "image/png")

    assert np.asarray(picture_of(black.data)).max() == 0


@pytest.mark.parametrize("level", ["study", "series", "instance", "frame"])
def test_thumbnails_are_small_at_every_level(service: Service, series: Ingested, level: str) -> None:
    paths = {
        "study": f"/studies/{ROOT}.23", "series": f"/studies/{ROOT}.23/series/{ROOT}.23.1",
        "instance": path_of(series), "frame": f"{path_of(series)}/frames/1",
    }  # fmt: skip
    answer = service.get(f"{paths[level]}/thumbnail")
    smaller = service.get(f"{paths[level]}/thumbnail?viewport=4,4", "image/png")

    assert max(picture_of(answer.data).size) <= 256
    assert picture_of(smaller.data).size == (4, 4)


# -- renditions ---------------------------------------------------------------------------------------------


def test_a_rendition_made_at_rest_is_what_a_frame_is_served_from(service: Service) -> None:
    receipt = service.store(ct_slice(25, 1, 1))
    make_renditions(service.rooms.archive, receipt.study_instance_uid)
    make_renditions(service.rooms.archive, receipt.study_instance_uid)

    answer = service.get(f"{path_of(receipt)}/frames/1", "image/jphc")
    raw = service.get(f"{path_of(receipt)}/frames/1", "application/octet-stream").data
    preview = service.get(f"{path_of(receipt)}/rendered?viewport=512,512&quality=80", "image/jpeg")

    pixel = image_pixel_of(Picture(ct_slice(25, 1, 1)).attributes)
    decoded = decode_frame(answer.data, pixel, HTJ2K_LOSSLESS).samples
    assert decoded.tobytes() == raw
    assert picture_of(preview.data).size == (8, 8)
    assert (
        hashlib.sha256(service.get(path_of(receipt), "application/dicom").data).digest()
        == hashlib.sha256(ct_slice(25, 1, 1)).digest()
    )


# -- the rest -----------------------------------------------------------------------------------------------


def test_what_is_not_there_is_404_everywhere(service: Service, image: Ingested) -> None:
    nowhere = f"/studies/{ROOT}.99/series/{ROOT}.99.1/instances/{ROOT}.99.1.1"
    study, series = f"/studies/{ROOT}.99", f"/studies/{ROOT}.99/series/{ROOT}.99.1"
    for path in (nowhere, study, series):
        for resource in ("", "/metadata", "/rendered", "/thumbnail", "/bulkdata", "/pixeldata"):
            assert service.get(path + resource).status_code == 404, path + resource
    for resource in ("/frames/1", "/frames/1/rendered", "/frames/1/thumbnail", "/bulkdata/7FE00010"):
        assert service.get(nowhere + resource).status_code == 404


@pytest.mark.parametrize("colors", [1, 3])
def test_a_frame_of_eight_bits_comes_as_jpeg_baseline_when_that_is_asked_for(
    service: Service, colors: int
) -> None:
    ramp = np.linspace(20, 220, 64 * 64).astype(np.uint8).reshape(64, 64)
    samples = ramp if colors == 1 else np.stack((ramp, ramp[::-1], ramp.T), axis=2)
    stored = service.store(
        ct_slice(
            70 + colors, Rows=64, Columns=64, SamplesPerPixel=colors, PlanarConfiguration=0,
            PhotometricInterpretation="MONOCHROME2" if colors == 1 else "RGB", PixelData=samples.tobytes(),
            BitsAllocated=8, BitsStored=8, HighBit=7,
        )
    )  # fmt: skip
    accept = "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"
    answer = service.get(f"{path_of(stored)}/frames/1", accept)

    assert answer.headers["Content-Type"] == accept
    drawn = np.asarray(picture_of(answer.data).convert("RGB" if colors == 3 else "L"), dtype=int)
    assert np.abs(drawn - samples).mean() < 3
    whole = service.get(path_of(stored), f"application/dicom; {accept.partition('; ')[2]}")
    assert whole.status_code == 406  # an object would need another UID


@pytest.mark.parametrize(
    "syntax",
    [
        "image/jp2; transfer-syntax=1.2.840.10008.1.2.4.91",
        "image/jphc; transfer-syntax=1.2.840.10008.1.2.4.203",
    ],
)
def test_a_syntax_that_may_lose_something_is_given_without_loss(service: Service, syntax: str) -> None:
    samples = np.arange(64 * 64, dtype="<u2").reshape(64, 64)
    stored = service.store(ct_slice(75, Rows=64, Columns=64, PixelData=samples.tobytes()))

    frame = service.get(f"{path_of(stored)}/frames/1", syntax)
    whole = service.get(path_of(stored), f"application/dicom; {syntax.partition('; ')[2]}")

    assert frame.headers["Content-Type"] == syntax
    assert np.array_equal(imagecodecs.jpeg2k_decode(frame.data), samples)
    assert dcmread(io.BytesIO(whole.data)).file_meta.TransferSyntaxUID == syntax.rpartition("=")[2]


def test_the_service_says_what_it_can(service: Service) -> None:
    answer = service.client.open("/dicomweb/", method="OPTIONS", headers={"Accept": "application/json"})
    in_xml = service.client.open("/dicomweb/", method="OPTIONS")

    paths = {each["@path"] for each in answer.get_json()["application"]["resources"]["resource"]}
    assert {"studies", "studies/{study}/series/{series}/instances/{instance}/frames/{numbers}"} <= paths
    assert in_xml.mimetype == "application/vnd.sun.wadl+xml"
    assert b'<resource path="studies">' in in_xml.data


@pytest.mark.parametrize(
    ("path", "template", "allow", "types"),
    [
        ("/studies", "studies", {"GET", "HEAD", "OPTIONS", "POST"}, {"application/dicom+json"}),
        ("/studies/1.2.3", "studies/{study}", {"DELETE", "GET", "HEAD", "OPTIONS", "POST"},
         {"application/zip"}),
        ("/studies/1.2.3/series/4/instances/5/frames/1", "studies/{study}/series/{series}/instances/"
         "{instance}/frames/{numbers}", {"GET", "HEAD", "OPTIONS"}, {"image/jphc"}),
        ("/studies/1.2.3/rendered", "studies/{study}/rendered", {"GET", "HEAD", "OPTIONS"}, {"image/png"}),
        ("/workitems", "workitems", {"GET", "HEAD", "OPTIONS", "POST"}, {"application/dicom+json"}),
        ("/workitems/1.2/state", "workitems/{uid}/state", {"OPTIONS", "PUT"}, {"application/dicom+xml"}),
        ("/hanging-protocols", "hanging-protocols", {"GET", "HEAD", "OPTIONS", "POST"},
         {"application/dicom+json"}),
    ],
)  # fmt: skip
def test_each_resource_says_what_it_can_itself(
    service: Service, path: str, template: str, allow: set[str], types: set[str]
) -> None:
    url = f"/dicomweb{path}"
    answer = service.client.options(url, headers={"Accept": "application/json"})
    in_xml = service.client.options(url)
    refused = service.client.options(url, headers={"Accept": "image/png"})

    resources = answer.get_json()["application"]["resources"]["resource"]
    methods = [method for each in resources for method in each["method"]]
    represented = {
        found["@mediaType"] for method in methods for way in ("request", "response")
        for found in method.get(way, {}).get("representation", [])
    }  # fmt: skip
    assert template in [each["@path"] for each in resources]
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == allow
    assert {method["@name"] for method in methods} == allow - {"HEAD", "OPTIONS"}
    assert types <= represented
    assert in_xml.mimetype == "application/vnd.sun.wadl+xml"
    assert refused.status_code == 406


def test_what_is_sent_to_a_worklist_is_no_object(service: Service) -> None:
    answer = service.client.options("/dicomweb/workitems/1.2", headers={"Accept": "application/json"})

    assert '"application/dicom"' not in answer.text


def test_pages_of_other_sites_get_cors_on_answers_and_on_errors(service: Service, image: Ingested) -> None:
    preflight = service.client.open(
        "/dicomweb/studies", method="OPTIONS",
        headers={"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET"},
    )  # fmt: skip
    assert preflight.status_code == 204
    assert {"Range", "Authorization", "If-None-Match"} <= {
        name.strip() for name in preflight.headers["Access-Control-Allow-Headers"].split(",")
    }
    frame, origin = f"{path_of(image)}/frames/1", {"Origin": "https://viewer.example"}
    for status, path, accept, more in (
        (200, frame, "application/octet-stream", {}),
        (206, frame, "application/octet-stream", {"Range": "bytes=0-3"}),
        (416, frame, "application/octet-stream", {"Range": "bytes=999999-"}),
        (400, "/studies?FooBar=1", "*/*", {}),
        (401, frame, "*/*", {"Authorization": "Bearer wrong"}),
        (404, f"{path_of(image)}/frames/99", "*/*", {}),
        (404, "/nothing-here", "*/*", {}),
        (405, f"{path_of(image)}/metadata", "*/*", {}),
        (406, frame, "text/x-nothing", {}),
    ):
        headers = {"Authorization": f"Bearer {service.token}", "Accept": accept, **origin, **more}
        method = "PUT" if status == 405 else "GET"
        answer = service.client.open(f"/dicomweb{path}", method=method, headers=headers)
        assert answer.status_code == status, path
        assert answer.headers["Access-Control-Allow-Origin"] == "https://viewer.example", status
        exposed = answer.headers["Access-Control-Expose-Headers"]
        assert all(name in exposed for name in ("ETag", "Content-Range", "Warning", "Content-Location"))
        assert "Origin" in answer.headers.getlist("Vary")
    stranger = service.get("/studies", Origin="https://elsewhere.example")
    assert "Access-Control-Allow-Origin" not in stranger.headers


# -- by parameters ------------------------------------------------------------------------------------------


def uri(receipt: Ingested, **more: str) -> str:
    named = {
        "requestType": "WADO", "studyUID": receipt.study_instance_uid,
        "seriesUID": receipt.series_instance_uid, "objectUID": receipt.sop_instance_uid, **more,
    }  # fmt: skip
    return "/wado?" + "&".join(f"{name}={value}" for name, value in named.items())


def test_wado_uri_gives_objects_and_pictures(service: Service, image: Ingested) -> None:
    whole = service.get(uri(image, contentType="application/dicom"))
    coded = service.get(uri(image, contentType="application/dicom", transferSyntax=JPEG_LS))
    drawn = service.get(uri(image, frameNumber="2", rows="8", windowCenter="100", windowWidth="50",
                            imageQuality="50", annotation="patient"))  # fmt: skip
    region = service.get(uri(image, contentType="image/png", region="0,0,0.5,0.5"))

    assert dcmread(io.BytesIO(whole.data)).SOPInstanceUID == image.sop_instance_uid
    assert dcmread(io.BytesIO(coded.data)).file_meta.TransferSyntaxUID == JPEG_LS
    assert picture_of(drawn.data).format == "JPEG"
    assert picture_of(drawn.data).size == (12, 8)
    assert picture_of(region.data).size == (12, 8)


def test_wado_uri_takes_out_what_identifies(service: Service, image: Ingested) -> None:
    first = dcmread(
        io.BytesIO(service.get(uri(image, contentType="application/dicom", anonymize="yes")).data)
    )
    again = dcmread(
        io.BytesIO(service.get(uri(image, contentType="application/dicom", anonymize="yes")).data)
    )

    assert (first.PatientName, first.PatientID, first.AccessionNumber) == ("", "", "")
    assert first.PatientIdentityRemoved == "YES"
    assert "StudyDescription" not in first
    assert first.StudyInstanceUID == again.StudyInstanceUID != image.study_instance_uid
    assert first.SOPClassUID == multi_frame().SOPClassUID
    assert first.PixelData == PIXELS.tobytes()
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert not any(trace in service.get(uri(image, contentType="application/dicom", anonymize="yes")).data
                   for trace in (b"Zhang", b"19700115", image.study_instance_uid.encode()))  # fmt: skip


@pytest.mark.parametrize(
    ("more", "status"),
    [({"requestType": "X"}, 400), ({"studyUID": ""}, 400), ({"frameNumber": "9"}, 404),
     ({"frameNumber": "x"}, 400), ({"rows": "0"}, 400), ({"region": "0,0,2,2"}, 400),
     ({"windowCenter": "1"}, 400), ({"contentType": "audio/basic"}, 406), ({"imageQuality": "0"}, 400),
     ({"contentType": "application/dicom", "rows": "5"}, 400), ({"objectUID": "1.2"}, 404),
     ({"presentationUID": "1.2"}, 400), ({"contentType": "application/dicom", "anonymize": "no"}, 400),
     ({"contentType": "application/dicom", "transferSyntax": "1.2.3"}, 406)],
)  # fmt: skip
def test_wado_uri_refuses_what_makes_no_sense(
    service: Service, image: Ingested, more: dict[str, str], status: int
) -> None:
    assert service.get(uri(image, **more)).status_code == status
