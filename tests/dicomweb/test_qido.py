"""QIDO-RS: what is matched, what is answered, and how (PS3.18 8.3.4 and 10.6)."""

import gzip
from typing import Any

import pytest
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from sqlalchemy import Engine, event

from tests.builders import ROOT, dataset, part10
from tests.dicomweb.conftest import Service, parts_of

REQUIRED = {  # PS3.18 tables 10.6.3-3, 10.6.3-4 and 10.6.3-5
    "/studies": (
        "00080005", "00080020", "00080030", "00080050", "00080056", "00080061", "00080090", "00081190",
        "00100010", "00100020", "00100030", "00100040", "0020000D", "00200010", "00201206", "00201208",
    ),
    f"/studies/{ROOT}.31/series": (
        "00080005", "00080060", "00081190", "0020000E", "00200011", "00201209", "00400275",
    ),
    f"/studies/{ROOT}.31/instances": (
        "00080005", "00080016", "00080018", "00080056", "00081190", "00200013", "00280010", "00280011",
        "00280100",
    ),
}  # fmt: skip


def item(**attributes: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


@pytest.fixture(scope="module", autouse=True)
def stored(service: Service) -> None:
    request = item(ScheduledProcedureStepID="SPS9", RequestedProcedureID="RP7", AccessionNumber="A0031")
    objects = [
        dataset(31, RequestAttributesSequence=[request], ProtocolName="胸部平扫", StudyDate="20260110",
                StudyTime="220000", PatientID="Q1", PatientName="Zhang^Wei=张^伟",
                TimezoneOffsetFromUTC="+0800",
                InstitutionName="First Hospital"),
        dataset(32, StudyDate="20260111", StudyTime="030000", PatientID="Q2", PatientName="Zhang^Wei=章^威",
                Modality="MR", AccessionNumber="", ReferringPhysicianName=""),
        dataset(33, StudyDate="20260111", StudyTime="120000", PatientID="Q3", PatientName="Li^Na=李^娜",
                StudyDescription="头颅 MRI", ProcedureCodeSequence=[
                    item(CodeValue="C42", CodingSchemeDesignator="99X", CodeMeaning="头颅")]),
    ]  # fmt: skip
    for ds in objects:
        service.store(part10(ds))


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ("StudyDate=20260110&TimezoneOffsetFromUTC=%2B0800", ["31"]),
        ("StudyDate=20260110&TimezoneOffsetFromUTC=+0800", ["31"]),  # as a browser sends it
        (
            "StudyDate=20260110&TimezoneOffsetFromUTC=%2B0000",
            ["31", "32"],
        ),  # 03:00 in China is the day before
        ("StudyDate=20260111&TimezoneOffsetFromUTC=%2B00:00", ["33"]),
        ("StudyDate=20260110&StudyTime=1400&00080201=%2B0000", ["31"]),
        ("StudyDate=20260110-20260111&StudyTime=1800-0500&00080201=%2B0000", ["32", "33"]),
        ("StudyDate=20260111&StudyTime=&TimezoneOffsetFromUTC=-0500", []),
        ("StudyDate=00010101-&TimezoneOffsetFromUTC=%2B1400", ["31", "32", "33"]),
    ],
)
def test_moments_are_asked_for_on_the_clock_of_the_asker(
    service: Service, query: str, studies: list[str]
) -> None:
    assert found(service, f"{query}&PatientID=Q*") == studies


def test_moments_are_answered_on_the_clock_of_the_asker(service: Service) -> None:
    def moment(query: str, path: str = "/studies") -> tuple[str, ...]:
        (row,) = service.get(f"{path}?{query}").get_json()
        return tuple(row.get(tag, {}).get("Value", [""])[0] for tag in ("00080020", "00080030", "00080201"))

    assert moment("PatientID=Q2") == ("20260111", "030000", "")
    assert moment("PatientID=Q2&TimezoneOffsetFromUTC=%2B0000") == ("20260110", "190000", "+0000")
    assert moment("PatientID=Q1&TimezoneOffsetFromUTC=-0130") == ("20260110", "123000", "-0130")
    assert moment("PatientID=Q1&TimezoneOffsetFromUTC=%2B0900", "/series") == ("20260110", "230000", "+0900")
    for wrong in ("8", "China", "+8000", "%2B0860"):
        assert service.get(f"/studies?TimezoneOffsetFromUTC={wrong}").status_code == 400


def found(service: Service, query: str, path: str = "/studies") -> list[str]:
    """The last component of the study UIDs that a search finds."""
    answer = service.get(f"{path}?{query}")
    assert answer.status_code in (200, 204), answer.data
    rows = answer.get_json() if answer.data else []
    return sorted(row["0020000D"]["Value"][0].rpartition(".")[2] for row in rows)


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ("PatientID=Q1", ["31"]),
        ("00100020=Q1", ["31"]),
        ("PatientID=Q?", ["31", "32", "33"]),
        ("PatientID=", ["31", "32", "33"]),
        ("PatientName=张*", ["31"]),
        ("PatientName=zhang%5Ewei", ["31", "32"]),
        ("PatientName=张伟&fuzzymatching=true", ["31", "32"]),
        ("PatientName=zhangwei&fuzzymatching=true", ["31", "32"]),
        ("PatientName=zw&fuzzymatching=true", ["31", "32"]),
        ("PatientName=wei&fuzzymatching=true", ["31", "32"]),
        ("PatientName=wei&fuzzymatching=false", []),
        (f"StudyInstanceUID={ROOT}.31,{ROOT}.33", ["31", "33"]),
        (f"StudyInstanceUID={ROOT}.31%5C{ROOT}.33", ["31", "33"]),
        ("StudyDate=20260111", ["32", "33"]),
        ("StudyDate=20260111-&StudyTime=0200-1300", ["32", "33"]),
        ("StudyDate=20260110-20260111&StudyTime=2100-0400", ["31", "32"]),
        ("StudyDate=-20260110", ["31"]),
        ("StudyTime=10-1400", ["33"]),
        ("ModalitiesInStudy=MR", ["32"]),
        ("ModalitiesInStudy=MR,CT&PatientID=Q*", ["31", "32", "33"]),
        ("StudyDescription=*mri", ["33"]),
        ('AccessionNumber=""&emptyvaluematching=true&PatientID=Q*', ["32"]),
        ('ReferringPhysicianName=""&emptyvaluematching=true', ["32"]),
        ("PatientID=Q1,Q3&multiplevaluematching=true", ["31", "33"]),
        ("PatientID=Q1%5CQ3&multiplevaluematching=true", ["31", "33"]),
        ("PatientID=Q1,Q3", []),
        ("RequestAttributesSequence.ScheduledProcedureStepID=SPS9", ["31"]),
        ("00400275.00401001=RP*", ["31"]),
        ("RequestAttributesSequence.ScheduledProcedureStepID=SPS8", []),
        ("ProcedureCodeSequence.CodeValue=C42", ["33"]),
        ("ProtocolName=胸部*", ["31"]),
        ("InstitutionName=first hospital", ["31"]),
        ("NumberOfStudyRelatedInstances=1&PatientID=Q*", ["31", "32", "33"]),
        ("PatientBirthDate=19700101-19701231&PatientID=Q2&TimezoneOffsetFromUTC=%2B0800", ["32"]),
    ],
)  # fmt: skip
def test_studies_are_matched_as_the_standard_says(service: Service, query: str, studies: list[str]) -> None:
    if (
        "ProtocolName" in query
        or "InstitutionName" in query
        or "RequestAttributes" in query
        or "00400275" in query
    ):
        assert found(service, query, "/series") == studies
    else:
        assert found(service, query) == studies


def test_matching_goes_through_all_six_paths(service: Service) -> None:
    for path in ("/studies", "/series", "/instances", f"/studies/{ROOT}.31/series",
                 f"/studies/{ROOT}.31/instances",
                 f"/studies/{ROOT}.31/series/{ROOT}.31.1/instances"):  # fmt: skip
        assert found(service, "PatientID=Q1", path) == ["31"], path
        assert found(service, "PatientID=NOBODY", path) == []


@pytest.mark.parametrize("path", REQUIRED)
def test_every_required_attribute_is_answered_by_default(service: Service, path: str) -> None:
    rows = service.get(f"{path}?PatientID=Q1").get_json()

    assert [tag for tag in REQUIRED[path] if tag not in rows[0]] == []
    assert rows[0]["00080201"]["Value"] == ["+0800"]
    assert list(rows[0]) == sorted(rows[0])


@pytest.mark.parametrize(
    "fields",
    ["includefield=PatientComments&includefield=ImageType", "includefield=PatientComments%2CImageType",
     "includefield=00104000,00080008", "includefield=all"],
)  # fmt: skip
def test_further_attributes_come_when_they_are_asked_for(service: Service, fields: str) -> None:
    service.store(
        part10(dataset(34, PatientID="Q4", PatientComments="note", ImageType=["ORIGINAL", "PRIMARY"]))
    )
    rows = service.get(f"/studies/{ROOT}.34/instances?{fields}").get_json()

    assert rows[0]["00104000"]["Value"] == ["note"]
    assert rows[0]["00080008"]["Value"] == ["ORIGINAL", "PRIMARY"]


def test_a_sequence_comes_whole_also_by_the_path_into_it(service: Service) -> None:
    (row,) = service.get(
        f"/studies/{ROOT}.31/series?includefield=RequestAttributesSequence.RequestedProcedureID"
    ).get_json()

    assert row["00400275"]["Value"][0]["00401001"]["Value"] == ["RP7"]


def test_a_page_that_is_not_the_last_says_so(service: Service) -> None:
    first = service.get("/studies?PatientID=Q*&limit=2")
    rest = service.get("/studies?PatientID=Q*&limit=2&offset=2")

    assert len(first.get_json()) == 2
    assert first.headers["Warning"].startswith("299 ")
    assert "offset=2" in first.headers["Warning"]
    assert "Warning" not in rest.headers
    assert {row["0020000D"]["Value"][0] for row in first.get_json()}.isdisjoint(
        row["0020000D"]["Value"][0] for row in rest.get_json()
    )


@pytest.mark.parametrize(
    "query",
    ["FooBar=1", "StudyDate=x", "StudyTime=99", "limit=-1", "limit=x", "offset=x", "fuzzymatching=maybe",
     "StudyInstanceUID=a", "NumberOfStudyRelatedSeries=x", "RequestAttributesSequence.FooBar=1",
     "SOPInstanceUID=1.2",
     "emptyvaluematching=1", "StudyDate=20260101-20260102&StudyTime=9-x", "PixelData=1",
     "includefield=FooBar"],
)  # fmt: skip
def test_a_query_that_cannot_be_answered_is_400(service: Service, query: str) -> None:
    assert service.get(f"/studies?{query}").status_code == 400


def test_nothing_found_is_204_and_answers_come_as_xml_and_compressed(service: Service) -> None:
    assert service.get("/studies?PatientID=NOBODY").status_code == 204
    xml = parts_of(service.get("/studies?PatientID=Q*", 'multipart/related; type="application/dicom+xml"'))
    assert len(xml) >= 3
    assert b"NativeDicomModel" in xml[0][1]
    packed = service.get("/studies?PatientID=Q*", Accept_Encoding="gzip")
    assert b"0020000D" in gzip.decompress(packed.data)
    assert service.get("/studies", "text/plain").status_code == 406


# -- all attributes of a level (8.3.4.3) --------------------------------------------------------------------


@pytest.fixture(scope="module")
def described(service: Service) -> None:
    of_image = {"ImageType": ["ORIGINAL", "PRIMARY"], "KVP": "120", "ConvolutionKernel": "B30"}
    of_series = {"OperatorsName": "Sun^Li", "DeviceSerialNumber": "77", "PatientPosition": "HFS"}
    of_study = {"PatientComments": "note", "PhysiciansOfRecord": "Qian^Yi", "AdmissionID": "ADM1",
                "RequestedProcedureDescription": "Chest"}  # fmt: skip
    for series in (1, 2):
        for instance in (1, 2):
            ds = dataset(
                37, series, instance, PatientID="Q7", SeriesDescription=f"s{series}", **of_study, **of_series,
                **of_image,
            )  # fmt: skip
            ds.private_block(0x0029, "SITE", create=True).add_new(1, "LO", "own")
            service.store(part10(ds))


STUDY_ALL = {"PatientComments", "PhysiciansOfRecord", "AdmissionID", "RequestedProcedureDescription",
             "StudyDescription", "PatientName", "NumberOfStudyRelatedInstances"}  # fmt: skip
SERIES_ALL = {"OperatorsName", "DeviceSerialNumber", "PatientPosition", "Modality", "SeriesDescription",
              "FrameOfReferenceUID", "NumberOfSeriesRelatedInstances"}  # fmt: skip
INSTANCE_ALL = {"SOPInstanceUID", "ImageType", "KVP", "ConvolutionKernel", "Rows", "PixelSpacing",
                "ImagePositionPatient", "PixelData", "InstanceNumber", "ContentDate"}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "there", "not_there"),
    [
        ("/studies?PatientID=Q7", STUDY_ALL, SERIES_ALL | INSTANCE_ALL),
        ("/series?PatientID=Q7", STUDY_ALL | SERIES_ALL, INSTANCE_ALL),
        (f"/studies/{ROOT}.37/series?SeriesNumber=1", STUDY_ALL - {"NumberOfStudyRelatedInstances"}
         | SERIES_ALL, INSTANCE_ALL),
        ("/instances?PatientID=Q7", STUDY_ALL | SERIES_ALL | INSTANCE_ALL, set()),
    ],
)  # fmt: skip
def test_all_are_those_of_the_level_and_above(
    service: Service, described: None, path: str, there: set[str], not_there: set[str]
) -> None:
    for row in service.get(f"{path}&includefield=all").get_json():
        answered = {keyword_for_tag(int(tag, 16)) for tag in row}

        assert there - answered == set()
        assert answered & not_there == set()
        assert ("00291001" in row) == ("instances" in path)
        assert list(row) == sorted(row)


@pytest.mark.parametrize("path", ["/studies", "/series", "/instances"])
def test_what_is_above_is_answered_with_further_attributes_as_without(
    service: Service, described: None, path: str
) -> None:
    plain = service.get(f"{path}?PatientID=Q7").get_json()
    more = service.get(f"{path}?PatientID=Q7&includefield=PatientComments").get_json()

    assert [row | {"00104000": {"vr": "LT", "Value": ["note"]}} for row in plain] == more


@pytest.mark.parametrize(
    ("path", "below"), [("/studies", "KVP,Modality,00081070"), ("/series", "KVP,00080018,ImageType")]
)
def test_attributes_of_levels_below_are_not_answered(
    service: Service, described: None, path: str, below: str
) -> None:
    """PS3.18 10.6.3.3: of a study nothing of a series or an instance, of a series nothing of an instance."""
    plain = service.get(f"{path}?PatientID=Q7").get_json()

    assert service.get(f"{path}?PatientID=Q7&includefield={below}").get_json() == plain
    private = service.get(f"{path}?PatientID=Q7&includefield=00291001").get_json()
    assert private[0]["00291001"]["Value"] == ["own"]


@pytest.mark.parametrize("path", ["/studies", "/series", "/instances"])
def test_further_attributes_of_many_rows_take_no_statement_for_each(
    service: Service, described: None, path: str
) -> None:
    def statements(query: str) -> tuple[int, int]:
        seen: list[str] = []

        def note(*executed: Any) -> None:
            seen.append(executed[2])

        event.listen(Engine, "before_cursor_execute", note)
        try:
            rows = service.get(f"{path}?{query}&includefield=all").get_json()
        finally:
            event.remove(Engine, "before_cursor_execute", note)
        return len(rows), len(seen)

    statements("PatientID=Q7")  # what the first request of its kind notes for the audit trail
    many, few = statements("PatientID=Q*"), statements("PatientID=Q7&limit=1")

    assert many[0] > few[0] == 1
    assert many[1] == few[1]
