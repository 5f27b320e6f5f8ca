"""Non-patient instances: stored, found and retrieved by category, under the policy that images are under."""

import gzip
import hashlib
import io
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from access.caller import Clause
from access.caller import operator as make_operator
from archive.ingest import ingest
from archive.keys import Level
from archive.non_patient import find_non_patient, purge_non_patient, search_non_patient
from archive.non_patient_keys import CATEGORIES, CATEGORY_BY_NAME
from archive.query import Query
from archive.retrieve import NotFound
from archive.sweep import sweep
from cloudfilm.rooms import Rooms
from tests.builders import ROOT, ct_slice, part10
from tests.dicomweb.conftest import Service, parts_of

MULTIPART = 'multipart/related; type="application/dicom"; boundary=x'
TABLE = bytes(range(256)) * 2


def item(**attributes: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def hanging_protocol(number: int, name: str = "胸部对比", **attributes: Any) -> bytes:
    definition = item(
        Modality="CT",
        ProcedureCodeSequence=[item(CodeValue="C42", CodingSchemeDesignator="99X", CodeMeaning="Chest")],
    )
    return part10(
        item(
            SOPClassUID="1.2.840.10008.5.1.4.38.1", SOPInstanceUID=f"{ROOT}.38.{number}",
            SpecificCharacterSet="ISO_IR 192", HangingProtocolName=name, HangingProtocolLevel="SITE",
            HangingProtocolDescription="now beside before", HangingProtocolCreator="Radiology",
            HangingProtocolCreationDateTime=f"2026030{number}120000", NumberOfPriorsReferenced=number,
            HangingProtocolDefinitionSequence=[definition], **attributes,
        )
    )  # fmt: skip


def color_palette(number: int = 1) -> bytes:
    return part10(
        item(
            SOPClassUID="1.2.840.10008.5.1.4.39.1", SOPInstanceUID=f"{ROOT}.39.{number}",
            ContentLabel="HOT_IRON", ContentCreatorName="Doe^Jane",
            PaletteColorLookupTableUID=f"{ROOT}.39.0.{number}",
            RedPaletteColorLookupTableDescriptor=[256, 0, 16], RedPaletteColorLookupTableData=TABLE * 4,
        )
    )  # fmt: skip


def multipart_of(*objects: bytes) -> bytes:
    parts = (b"--x\r\nContent-Type: application/dicom\r\n\r\n" + each + b"\r\n" for each in objects)
    return b"".join(parts) + b"--x--"


@pytest.fixture(scope="module", autouse=True)
def stored(service: Service) -> None:
    body = multipart_of(hanging_protocol(1), hanging_protocol(2, "Brain", NumberOfScreens=2))
    answer = service.post("/hanging-protocols", body, MULTIPART)
    assert answer.status_code == 200, answer.data
    url = answer.get_json(force=True)["00081199"]["Value"][0]["00081190"]["Value"][0]
    assert url.endswith(f"/dicomweb/hanging-protocols/{ROOT}.38.1")
    assert (
        service.post(f"/color-palettes/{ROOT}.39.1", color_palette(), "application/dicom").status_code == 200
    )


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [2, 1]),
        ("HangingProtocolName=brain", [2]),
        ("HangingProtocolName=胸部*", [1]),
        ("00720002=*rain", [2]),
        ("HangingProtocolDefinitionSequence.Modality=CT&HangingProtocolLevel=SITE", [2, 1]),
        ("HangingProtocolDefinitionSequence.ProcedureCodeSequence.CodeValue=C43", []),
        ("NumberOfPriorsReferenced=1", [1]),
        ("HangingProtocolCreationDateTime=20260302-", [2]),
        ("HangingProtocolCreationDateTime=20260301", [1]),
        ("HangingProtocolCreationDateTime=-20260301", [1]),
        ('NumberOfScreens=""&emptyvaluematching=true', [1]),
        ("HangingProtocolName=Brain,Knee&multiplevaluematching=true", [2]),
        (f"SOPInstanceUID={ROOT}.38.1,{ROOT}.38.2", [2, 1]),
        ("limit=1&offset=1", [1]),
    ],
)
def test_each_is_found_by_its_own_attributes(service: Service, query: str, numbers: list[int]) -> None:
    answer = service.get(f"/hanging-protocols?{query}")
    rows = answer.get_json() if answer.status_code == 200 else []

    assert answer.status_code == (200 if numbers else 204)
    assert [row["00080018"]["Value"] for row in rows] == [[f"{ROOT}.38.{number}"] for number in numbers]


def test_a_page_says_that_there_is_more_and_takes_further_attributes(service: Service) -> None:
    answer = service.get("/hanging-protocols?limit=1")
    more = service.get("/hanging-protocols?HangingProtocolName=brain&includefield=NumberOfScreens,00720008")

    assert answer.headers["Warning"].startswith("299")
    assert more.get_json()[0]["00720008"]["Value"] == ["Radiology"]
    assert service.get("/hanging-protocols?PatientName=x").status_code == 400
    assert service.get("/hanging-protocols?HangingProtocolCreationDateTime=today").status_code == 400
    assert (
        service.get("/hanging-protocols", "multipart/related; type=application/dicom+xml").status_code == 200
    )


def test_an_instance_comes_back_as_object_json_and_xml(service: Service) -> None:
    path, data = f"/color-palettes/{ROOT}.39.1", color_palette()
    whole = service.get(path, "application/dicom")
    (headers, content), *_ = parts_of(service.get(path, 'multipart/related; type="application/dicom"'))
    (metadata,) = service.get(path, "application/dicom+json").get_json()
    xml = service.get(path, "application/dicom+xml")

    assert whole.data == content == data
    assert "transfer-syntax=1.2.840.10008.1.2.1" in headers["content-type"]
    assert service.get(path, "application/dicom", Range="bytes=128-131").data == b"DICM"
    assert service.get(path, "application/dicom", If_None_Match=whole.headers["ETag"]).status_code == 304
    implicit = service.get(path, "application/dicom; transfer-syntax=1.2.840.10008.1.2")
    assert dcmread(io.BytesIO(implicit.data)).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    assert metadata["00700080"] == {"vr": "CS", "Value": ["HOT_IRON"]}
    bulk = service.get(
        metadata["00281201"]["BulkDataURI"].partition("/dicomweb")[2], "application/octet-stream"
    )
    assert hashlib.sha256(bulk.data).digest() == hashlib.sha256(TABLE * 4).digest()
    assert b"HOT_IRON" in (gzip.decompress(xml.data) if xml.headers.get("Content-Encoding") else xml.data)
    assert service.get(path, "image/jpeg").status_code == 406
    assert service.get(f"/hanging-protocols/{ROOT}.39.1").status_code == 404


def test_what_belongs_elsewhere_or_names_another_is_refused(service: Service) -> None:
    for path, data in (
        ("/color-palettes", hanging_protocol(3)),
        (f"/hanging-protocols/{ROOT}.38.4", hanging_protocol(3)),
        ("/hanging-protocols", ct_slice(77)),
        (f"/studies/{ROOT}.1", hanging_protocol(3)),
        ("/hanging-protocols", hanging_protocol(1, "other bytes")),
    ):
        answer = service.post(path, data, "application/dicom")
        assert answer.status_code == 409, path
        assert answer.get_json(force=True)["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]
    again = service.post("/studies", hanging_protocol(1), "application/dicom")
    assert again.status_code == 200
    assert service.get(f"/hanging-protocols/{ROOT}.38.3").status_code == 404


def test_what_is_removed_is_gone_and_comes_back_when_it_is_sent_again(service: Service) -> None:
    path = f"/color-palettes/{ROOT}.39.7"
    service.post("/color-palettes", color_palette(7), "application/dicom")
    headers = {"Authorization": f"Bearer {service.token}"}

    assert service.client.delete(f"/dicomweb{path}", headers=headers).status_code == 204
    assert service.get(path).status_code == 404
    assert service.client.delete(f"/dicomweb{path}", headers=headers).status_code == 404
    service.post("/color-palettes", color_palette(7), "application/dicom")
    assert service.get(path).status_code == 200


@pytest.mark.parametrize("category", CATEGORIES, ids=lambda category: str(category.name))
def test_every_sop_class_has_its_category(rooms: Rooms, category: Any) -> None:
    operator = make_operator("A")
    for number, sop_class in enumerate(sorted(category.sop_classes), 1):
        data = part10(item(SOPClassUID=sop_class, SOPInstanceUID=f"{ROOT}.9.{number}"))
        ingest(rooms.archive, operator, io.BytesIO(data))

    found = search_non_patient(rooms.archive, operator, category, Query(Level.INSTANCE))
    assert len(found.rows) == len(category.sop_classes)


def test_a_reach_of_the_institution_holds_them_and_one_of_patients_or_studies_does_not(rooms: Rooms) -> None:
    archive, category = rooms.archive, CATEGORY_BY_NAME["hanging-protocols"]
    ingest(archive, make_operator("A"), io.BytesIO(hanging_protocol(1)))
    of_a = make_operator("A").narrowed(Clause(institutions=frozenset({"A"})))
    strangers = (
        make_operator("B").narrowed(Clause(institutions=frozenset({"B"}))),
        make_operator("A").narrowed(Clause(patients=frozenset({"x"}))),
        make_operator("A").narrowed(Clause(studies=frozenset({f"{ROOT}.1"}))),
        make_operator("A").narrowed(Clause(resource_types=frozenset({"Patient"}))),
    )

    assert find_non_patient(archive, of_a, category, f"{ROOT}.38.1").stored.size_bytes
    for stranger in strangers:
        assert search_non_patient(archive, stranger, category, Query(Level.INSTANCE)).rows == ()
        with pytest.raises(NotFound):
            find_non_patient(archive, stranger, category, f"{ROOT}.38.1")


def test_the_bytes_stay_while_they_are_named_and_go_when_purged(rooms: Rooms, operator: Any) -> None:
    from datetime import timedelta

    from archive.non_patient import remove_non_patient

    archive, category = rooms.archive, CATEGORY_BY_NAME["hanging-protocols"]
    ingest(archive, operator, io.BytesIO(hanging_protocol(1)))
    sweep(archive, timedelta(days=-1))
    assert len(list(archive.blobs.store.list())) == 1
    remove_non_patient(archive, operator, category, f"{ROOT}.38.1")
    purge_non_patient(archive)
    assert len(list(archive.blobs.store.list())) == 1
    rooms.clock.advance(timedelta(days=archive.settings.removed_days + 1))  # type: ignore[attr-defined]
    purge_non_patient(archive)
    assert list(archive.blobs.store.list()) == []
