"""The rows of the Studies service (PS3.18 10) and of what all services share (8): one requirement each, with
its section, in the order of the standard's transactions."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from conformance.dicomweb.target import (
    PIXELS,
    Target,
    body_of,
    expect,
    new_uid,
    objects,
    parts_of,
    report,
    waveform,
)

Check = Callable[[Target], None]

JSON = "application/dicom+json"
XML = "application/dicom+xml"
DICOM = "application/dicom"
OCTETS = "application/octet-stream"
MULTIPART = 'multipart/related; type="{}"'


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement."""

    section: str  # of PS3.18
    title: str
    check: Check


ROWS: list[Row] = []


def row(section: str, title: str) -> Callable[[Check], Check]:
    """Declare a function as the check of a requirement."""

    def declare(check: Check) -> Check:
        ROWS.append(Row(section, title, check))
        return check

    return declare


def status_is(answer: object, *wanted: int) -> None:
    """Raise Unmet unless the answer has one of these status codes."""
    code = answer.status_code  # type: ignore[attr-defined]
    expect(code in wanted, f"status {code} where {' or '.join(map(str, wanted))} is due")


# -- store (10.5) -------------------------------------------------------------------------------------------


@row("10.5.1", "Store: multipart application/dicom is stored, and each instance is told of")
def store(target: Target) -> None:
    body, content_type = body_of(objects(target))
    answer = target.ask("POST", "/studies", JSON, data=body, headers={"Content-Type": content_type})
    status_is(answer, 200)
    told = answer.json()
    expect(len(told.get("00081199", {}).get("Value", [])) == 4, told)


@row("10.5.1", "Store: to a study, chunked, one instance alone as application/dicom")
def store_chunked(target: Target) -> None:
    data = objects(target)[0]
    pieces = (data[at : at + 100] for at in range(0, len(data), 100))
    answer = target.ask(
        "POST", f"/studies/{target.study}", JSON, data=pieces, headers={"Content-Type": DICOM}
    )
    status_is(answer, 200)


@row("10.5.1.1", "Store: an instance of another study is refused with a failure reason")
def store_elsewhere(target: Target) -> None:
    body, content_type = body_of(objects(target)[:1])
    answer = target.ask(
        "POST", f"/studies/{new_uid()}", JSON, data=body, headers={"Content-Type": content_type}
    )
    status_is(answer, 202, 409)
    expect("00081197" in json.dumps(answer.json()), answer.text)


@row("10.5.1.2", "Store: metadata as JSON with bulk data in parts of their own")
def store_json(target: Target) -> None:
    _store_metadata(target, JSON)


@row("10.5.1.2", "Store: metadata as XML with bulk data in parts of their own")
def store_xml(target: Target) -> None:
    _store_metadata(target, XML)


def _store_metadata(target: Target, media_type: str) -> None:
    uid, series = new_uid(), new_uid()
    texts = {
        "00080016": ("UI", "1.2.840.10008.5.1.4.1.1.7"), "00080018": ("UI", uid),
        "0020000D": ("UI", target.study),
        "0020000E": ("UI", series), "00100020": ("LO", target.patient_id), "00080060": ("CS", "OT"),
        "00280004": ("CS", "MONOCHROME2"),
    }  # fmt: skip
    numbers = {"00280002": 1, "00280010": 16, "00280011": 16, "00280100": 16, "00280101": 12, "00280102": 11,
               "00280103": 0}  # fmt: skip
    if media_type == JSON:
        document: dict[str, object] = {
            tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in texts.items()
        }
        document |= {tag: {"vr": "US", "Value": [value]} for tag, value in numbers.items()}
        document["7FE00010"] = {"vr": "OW", "BulkDataURI": "pixels"}
        metadata = json.dumps([dict(sorted(document.items()))]).encode()
    else:
        named = {**texts, **{tag: ("US", str(value)) for tag, value in numbers.items()}}
        elements = "".join(
            f'<DicomAttribute tag="{tag}" vr="{vr}"><Value number="1">{value}</Value></DicomAttribute>'
            for tag, (vr, value) in sorted(named.items())
        )
        pixels = '<DicomAttribute tag="7FE00010" vr="OW"><BulkData uri="pixels"/></DicomAttribute>'
        space = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
        metadata = f'<NativeDicomModel xmlns="{space}">{elements}{pixels}</NativeDicomModel>'.encode()
    body, content_type = body_of([metadata], media_type)
    boundary = content_type.rpartition("boundary=")[2]
    end = f"--{boundary}--\r\n".encode()
    part = f"--{boundary}\r\nContent-Type: {OCTETS}\r\nContent-Location: pixels\r\n\r\n".encode()
    body = body.removesuffix(end) + part + PIXELS + b"\r\n" + end
    answer = target.ask("POST", "/studies", JSON, data=body, headers={"Content-Type": content_type})
    status_is(answer, 200)
    path = f"/studies/{target.study}/series/{series}/instances/{uid}"
    expect(target.get(f"{path}/frames/1", OCTETS).content == PIXELS, "other pixels than were sent")


@row("10.5.3", "Store: a body that is no DICOM is 409 or 400, of another media type 415")
def store_nonsense(target: Target) -> None:
    body, content_type = body_of([b"nonsense"])
    status_is(
        target.ask("POST", "/studies", JSON, data=body, headers={"Content-Type": content_type}), 400, 409
    )
    plain = target.ask("POST", "/studies", JSON, data=b"x", headers={"Content-Type": "text/plain"})
    status_is(plain, 415)


# -- search (10.6) ------------------------------------------------------------------------------------------


def rows_of(target: Target, path: str, **headers: str) -> list[dict[str, dict[str, object]]]:
    """What a search finds. Raises Unmet."""
    answer = target.get(path, JSON, **headers)
    status_is(answer, 200, 204)
    found: list[dict[str, dict[str, object]]] = answer.json() if answer.content else []
    return found


def _finds(target: Target, query: str, count: int = 1) -> None:
    found = rows_of(target, f"/studies?StudyInstanceUID={target.study}&{query}")
    expect(len(found) == count, f"{len(found)} studies where {count} is due")


for _path, _count in (
    ("/studies?PatientID={p}", 1), ("/series?PatientID={p}", 3), ("/instances?PatientID={p}", 4),
    ("/studies/{s}/series?", 3), ("/studies/{s}/instances?", 4),
    ("/studies/{s}/series/{e}/instances?", 2),
):  # fmt: skip

    def _check_path(target: Target, path: str = _path, count: int = _count) -> None:
        filled = path.format(p=target.patient_id, s=target.study, e=target.series)
        found = rows_of(target, filled)
        expect(len(found) >= count, f"{len(found)} results where {count} are due")

    row("10.6.1", f"Search: {_path.partition('?')[0].format(s='{study}', e='{series}')}")(_check_path)

for _title, _query in (
    ("attribute by keyword", "PatientID={p}"),
    ("attribute by tag", "00100020={p}"),
    ("wildcards", "PatientID=CHECK-*&PatientName=Ch?ck*"),
    ("date range", "StudyDate=20240228-20240301"),
    ("time range", "StudyTime=100000-110000"),
    ("combined date and time", "StudyDate=20240228-20240229&StudyTime=230000-120000"),
    ("ModalitiesInStudy", "ModalitiesInStudy=CT"),
    ("ideographic name", "PatientName=查*"),
    ("an empty value matches all", "AccessionNumber="),
    ("fuzzymatching", "PatientName=web&fuzzymatching=true"),
    ("multiplevaluematching", "PatientID={p},NOBODY&multiplevaluematching=true"),
):

    def _check_match(target: Target, query: str = _query) -> None:
        _finds(target, query.format(p=target.patient_id))

    row("8.3.4.1", f"Search: {_title}")(_check_match)


@row("8.3.4.1", "Search: emptyvaluematching finds what has no value, and not what has one")
def search_empty(target: Target) -> None:
    _finds(target, 'AccessionNumber=""&emptyvaluematching=true', 0)


@row("8.3.4.1", "Search: a list of UIDs")
def search_uid_list(target: Target) -> None:
    found = rows_of(target, f"/instances?SOPInstanceUID={','.join(target.instances)}")
    expect(len(found) == 2, f"{len(found)} instances where 2 are due")


@row("8.3.4.1", "Search: within a sequence")
def search_sequence(target: Target) -> None:
    query = "RequestAttributesSequence.ScheduledProcedureStepID=NONE"
    expect(rows_of(target, f"/studies/{target.study}/series?{query}") == [], "what does not match was found")


@row("8.3.4.3", "Search: includefield by keyword, tag, list, repeated and percent-encoded comma")
def search_include(target: Target) -> None:
    for fields in ("includefield=BitsStored&includefield=HighBit", "includefield=BitsStored,HighBit",
                   "includefield=BitsStored%2CHighBit", "includefield=00280101%2C00280102"):  # fmt: skip
        found = rows_of(target, f"/studies/{target.study}/series/{target.series}/instances?{fields}")
        expect(all("00280101" in each and "00280102" in each for each in found), fields)


@row("8.3.4.3", "Search: includefield=all")
def search_include_all(target: Target) -> None:
    found = rows_of(target, f"/studies/{target.study}/series/{target.series}/instances?includefield=all")
    expect(all("00281050" in each for each in found), "a stored attribute is missing")


@row("10.6.3.3", "Search: includefield gives a study and a series what belongs to them, and no instance's")
def search_include_level(target: Target) -> None:
    own = {f"/studies?StudyInstanceUID={target.study}&": "00104000",
           f"/studies/{target.study}/series?SeriesInstanceUID={target.series}&": "00081070"}  # fmt: skip
    for path, tag in own.items():
        (found,) = rows_of(target, f"{path}includefield=all")
        expect(tag in found, f"{tag} is missing at {path}")
        below = [
            each for each in ("00080018", "00200013", "00280010", "00281050", "7FE00010") if each in found
        ]
        expect(not below, f"{', '.join(below)} of an instance at {path}")
        (found,) = rows_of(target, f"{path}includefield=00281050,{tag}")
        expect(tag in found and "00281050" not in found, f"includefield=00281050,{tag} at {path}")


@row("8.3.4.4", "Search: limit and offset page through all, each once")
def search_paging(target: Target) -> None:
    pages = [rows_of(target, f"/studies/{target.study}/instances?limit=1&offset={at}") for at in range(3)]
    uids = [str(page[0]["00080018"]["Value"]) for page in pages if len(page) == 1]
    expect(len(set(uids)) == 3, uids)


@row("8.3.4.4", "Search: a page that is not the last carries Warning 299")
def search_warning(target: Target) -> None:
    warning = target.get(f"/studies/{target.study}/instances?limit=1", JSON).headers.get("Warning", "")
    expect(warning.startswith("299"), f"Warning: {warning or 'none'}")


@row("8.3.4", "Search: an attribute that there is none of is 400")
def search_unknown(target: Target) -> None:
    status_is(target.get("/studies?FooBar=1", JSON), 400)


@row("8.3.4", "Search: a date that is none is 400")
def search_bad_value(target: Target) -> None:
    status_is(target.get("/studies?StudyDate=yesterday", JSON), 400)


@row("10.6.3", "Search: nothing found is 204, or an empty array")
def search_nothing(target: Target) -> None:
    answer = target.get("/studies?PatientID=NOBODY-AT-ALL", JSON)
    expect(answer.status_code == 204 or answer.json() == [], answer.status_code)


REQUIRED = (
    ("10.6.3.3.1", "studies", "/studies?PatientID={p}", (
        "00080005", "00080020", "00080030", "00080050", "00080061", "00080090", "00081190", "00100010",
        "00100020", "00100030", "00100040", "0020000D", "00200010", "00201206", "00201208")),
    ("10.6.3.3.2", "series", "/studies/{s}/series", (
        "00080005", "00080060", "00081190", "0020000E", "00200011", "00201209")),
    ("10.6.3.3.3", "instances", "/studies/{s}/series/{e}/instances", (
        "00080005", "00080016", "00080018", "00081190", "00200013", "00280010", "00280011", "00280100")),
)  # fmt: skip

for _section, _level, _path, _tags in REQUIRED:

    def _check_required(target: Target, path: str = _path, tags: tuple[str, ...] = _tags) -> None:
        filled = path.format(p=target.patient_id, s=target.study, e=target.series)
        (first, *_) = rows_of(target, filled)
        missing = [tag for tag in tags if tag not in first]
        expect(not missing, f"missing: {', '.join(missing)}")

    row(_section, f"Search: every required attribute of {_level} by default")(_check_required)


@row("8.3.3.1", "Search: accept as a query parameter")
def search_accept_parameter(target: Target) -> None:
    answer = target.get(
        f"/studies?PatientID={target.patient_id}&accept=application/dicom%2Bjson", "text/html"
    )
    status_is(answer, 200)
    expect("json" in answer.headers.get("Content-Type", ""), answer.headers.get("Content-Type"))


@row("10.6.4", "Search: results as XML")
def search_xml(target: Target) -> None:
    answer = target.get(f"/studies?PatientID={target.patient_id}", MULTIPART.format(XML))
    expect(b"NativeDicomModel" in parts_of(answer)[0][1], "no Native DICOM Model")


# -- retrieve (10.4) ----------------------------------------------------------------------------------------

for _level, _path, _count in (("study", "/studies/{s}", 4), ("series", "/studies/{s}/series/{e}", 2)):

    def _check_retrieve(target: Target, path: str = _path, count: int = _count) -> None:
        parts = parts_of(target.get(path.format(s=target.study, e=target.series), MULTIPART.format(DICOM)))
        expect(len(parts) >= count, f"{len(parts)} parts where {count} are due")
        expect(all(content[128:132] == b"DICM" for _, content in parts), "a part is no Part 10 object")

    row("10.4.1.1.1", f"Retrieve: {_level} as multipart application/dicom")(_check_retrieve)


@row("10.4.1.1.1", "Retrieve: instance as multipart application/dicom")
def retrieve_instance(target: Target) -> None:
    parts = parts_of(target.get(target.slice_path, MULTIPART.format(DICOM)))
    expect(len(parts) == 1 and parts[0][1] == objects(target)[0], "other bytes than were stored")


@row("8.7.3.3", "Retrieve: instance alone as application/dicom")
def retrieve_single(target: Target) -> None:
    answer = target.get(target.slice_path, DICOM)
    status_is(answer, 200)
    expect(answer.content[128:132] == b"DICM", "no Part 10 object")


@row("8.7.3.3", "Retrieve: type and transfer-syntax may be unquoted; * is the stored one")
def retrieve_unquoted(target: Target) -> None:
    parts = parts_of(target.get(target.slice_path, f"multipart/related; type={DICOM}; transfer-syntax=*"))
    expect(parts[0][1] == objects(target)[0], "other bytes than were stored")


for _name, _syntax in (
    ("JPEG Lossless SV1", "1.2.840.10008.1.2.4.70"),
    ("JPEG-LS lossless", "1.2.840.10008.1.2.4.80"), ("JPEG 2000 lossless", "1.2.840.10008.1.2.4.90"),
    ("HTJ2K lossless", "1.2.840.10008.1.2.4.201"), ("HTJ2K lossless RPCL", "1.2.840.10008.1.2.4.202"),
    ("RLE", "1.2.840.10008.1.2.5"),
):  # fmt: skip

    def _check_syntax(target: Target, syntax: str = _syntax) -> None:
        answer = target.get(target.slice_path, f'{MULTIPART.format(DICOM)}; transfer-syntax="{syntax}"')
        status_is(answer, 200)
        (_, content), *_ = parts_of(answer)
        expect(syntax.encode() in content[:1024], "the file meta information names another transfer syntax")

    row("8.7.3.5", f"Retrieve: transcoded to {_name}")(_check_syntax)


@row("10.4.1.1.1", "Retrieve: study as application/zip")
def retrieve_zip(target: Target) -> None:
    answer = target.get(f"/studies/{target.study}", "application/zip")
    status_is(answer, 200)
    expect(answer.content[:2] == b"PK", "no ZIP file")


@row("8.7.4", "Retrieve: a media type that cannot be had is 406")
def retrieve_unacceptable(target: Target) -> None:
    for path in (target.slice_path, f"{target.slice_path}/metadata", f"{target.slice_path}/frames/1"):
        status_is(target.get(path, "text/x-nothing"), 406)


@row("8.5", "Retrieve: what is not there is 404")
def retrieve_missing(target: Target) -> None:
    for path in (
        f"/studies/{new_uid()}",
        f"/studies/{target.study}/series/{new_uid()}",
        target.of(new_uid()),
    ):
        status_is(target.get(path), 404)


for _level, _path in (
    ("study", "/studies/{s}"), ("series", "/studies/{s}/series/{e}"),
    ("instance", "/studies/{s}/series/{e}/instances/{i}"),
):  # fmt: skip

    def _check_json(target: Target, path: str = _path) -> None:
        filled = path.format(s=target.study, e=target.series, i=target.instances[0])
        answer = target.get(f"{filled}/metadata", JSON)
        status_is(answer, 200)
        found = answer.json()
        expect(found and "00020010" not in found[0] and "00280010" in str(found), "not the metadata")
        expect(any("Ideographic" in str(each.get("00100010")) for each in found), "no ideographic name")

    def _check_xml(target: Target, path: str = _path) -> None:
        filled = path.format(s=target.study, e=target.series, i=target.instances[0])
        parts = parts_of(target.get(f"{filled}/metadata", MULTIPART.format(XML)))
        expect(all(b"NativeDicomModel" in content for _, content in parts), "no Native DICOM Model")

    row("10.4.1.1.2", f"Metadata: {_level} as JSON")(_check_json)
    row("10.4.1.1.2", f"Metadata: {_level} as XML")(_check_xml)


@row("8.4", "Metadata: an entity tag, and 304 for who has it")
def metadata_conditional(target: Target) -> None:
    path = f"{target.slice_path}/metadata"
    tag = target.get(path, JSON).headers.get("ETag", "")
    expect(bool(tag), "no ETag")
    status_is(target.get(path, JSON, If_None_Match=tag), 304)


@row("8.6", "Metadata: compressed for who takes it")
def metadata_gzip(target: Target) -> None:
    answer = target.get(f"/studies/{target.study}/metadata", JSON, Accept_Encoding="gzip")
    expect(answer.headers.get("Content-Encoding") == "gzip", answer.headers.get("Content-Encoding"))


@row("10.4.1.1.6", "Frames: one frame, uncompressed")
def frame(target: Target) -> None:
    parts = parts_of(target.get(f"{target.frames_path}/frames/2", MULTIPART.format(OCTETS)))
    expect([content for _, content in parts] == [PIXELS[::-1]], "other bytes than the frame's")


@row("10.4.1.1.6", "Frames: a list, in its order")
def frame_list(target: Target) -> None:
    parts = parts_of(target.get(f"{target.frames_path}/frames/2,1,3", MULTIPART.format(OCTETS)))
    expect([content for _, content in parts] == [PIXELS[::-1], PIXELS, PIXELS], f"{len(parts)} parts")


@row("8.7.3.3", "Frames: one alone as application/octet-stream, and a range of it")
def frame_alone(target: Target) -> None:
    answer = target.get(f"{target.frames_path}/frames/1", OCTETS)
    expect(answer.content == PIXELS, f"status {answer.status_code}, {len(answer.content)} bytes")
    ranged = target.get(f"{target.frames_path}/frames/1", OCTETS, Range="bytes=4-7")
    expect((ranged.status_code, ranged.content) == (206, PIXELS[4:8]), f"status {ranged.status_code}")


@row("10.4.1.1.6", "Frames: as stored for any media type, and for transfer-syntax=*")
def frame_any(target: Target) -> None:
    for accept in ("*/*", f"multipart/related; type={OCTETS}; transfer-syntax=*"):
        expect(parts_of(target.get(f"{target.frames_path}/frames/1", accept))[0][1] == PIXELS, accept)


for _media_type in ("image/jpeg", "image/jls", "image/jp2", "image/jphc", "image/dicom-rle"):

    def _check_frame_type(target: Target, media_type: str = _media_type) -> None:
        parts = parts_of(target.get(f"{target.frames_path}/frames/1", MULTIPART.format(media_type)))
        expect(parts[0][0].get("content-type", "").startswith(media_type), parts[0][0])
        expect("transfer-syntax" in parts[0][0]["content-type"], "the part does not say its transfer syntax")

    row("8.7.3.3.2", f"Frames: as {_media_type}")(_check_frame_type)


@row("10.4.1.1.6", "Frames: a frame that there is not is 404")
def frame_missing(target: Target) -> None:
    for number in ("0", "4"):
        status_is(target.get(f"{target.frames_path}/frames/{number}", OCTETS), 404)


@row("10.4.1.1.5", "Bulk data: by the BulkDataURI of the metadata")
def bulk(target: Target) -> None:
    (metadata,) = target.get(f"{target.slice_path}/metadata", JSON).json()
    uri = metadata.get("7FE00010", {}).get("BulkDataURI", "")
    expect(bool(uri), "the pixel data have no BulkDataURI")
    url = uri if uri.startswith("http") else f"{target.url}/{uri.lstrip('/')}"
    answer = target.get(url, OCTETS)
    expect(answer.content == PIXELS[1:] + PIXELS[:1], f"status {answer.status_code}")


@row("10.4.1.1.5", "Bulk data: a range")
def bulk_range(target: Target) -> None:
    answer = target.get(f"{target.slice_path}/bulkdata/7FE00010", OCTETS, Range="bytes=0-3")
    expect((answer.status_code, len(answer.content)) == (206, 4), f"status {answer.status_code}")


@row("8.4", "Bulk data: several ranges, as parts of multipart/byteranges")
def bulk_ranges(target: Target) -> None:
    answer = target.get(f"{target.slice_path}/bulkdata/7FE00010", OCTETS, Range="bytes=0-3,8-11")
    content_type = answer.headers.get("Content-Type", "")
    expect(content_type.startswith("multipart/byteranges"), f"status {answer.status_code}, {content_type}")
    expect("bytes 8-11/512" in answer.content.decode("latin-1"), "no Content-Range of the second range")


for _level, _path in (("study", "/studies/{s}"), ("series", "/studies/{s}/series/{e}")):

    def _check_bulk(target: Target, path: str = _path) -> None:
        answer = target.get(
            path.format(s=target.study, e=target.series) + "/bulkdata", MULTIPART.format(OCTETS)
        )
        status_is(answer, 200)
        expect(len(parts_of(answer)) >= 2, "too few parts")

    def _check_pixels(target: Target, path: str = _path) -> None:
        answer = target.get(
            path.format(s=target.study, e=target.series) + "/pixeldata", MULTIPART.format(OCTETS)
        )
        status_is(answer, 200)
        expect(len(parts_of(answer)) >= 2, "too few parts")

    row("10.4.1.1.5", f"Bulk data: of a {_level}")(_check_bulk)
    row("10.4.1.1.7", f"Pixel data: of a {_level}")(_check_pixels)


# -- rendered and thumbnails --------------------------------------------------------------------------------

for _media_type, _begin in (("image/jpeg", b"\xff\xd8"), ("image/png", b"\x89PNG"), ("image/gif", b"GIF8")):

    def _check_rendered(target: Target, media_type: str = _media_type, begin: bytes = _begin) -> None:
        answer = target.get(f"{target.slice_path}/rendered", media_type)
        status_is(answer, 200)
        expect(answer.content.startswith(begin), answer.headers.get("Content-Type"))

    row("10.4.1.1.3", f"Rendered: instance as {_media_type}")(_check_rendered)


@row("10.4.1.1.3", "Rendered: one frame")
def rendered_frame(target: Target) -> None:
    status_is(target.get(f"{target.frames_path}/frames/2/rendered", "image/jpeg"), 200)


@row("10.4.1.1.3", "Rendered: study and series as parts")
def rendered_many(target: Target) -> None:
    for path in (f"/studies/{target.study}", f"/studies/{target.study}/series/{target.series}"):
        answer = target.get(f"{path}/rendered", MULTIPART.format("image/jpeg"))
        status_is(answer, 200)
        expect(len(parts_of(answer)) >= 2, "too few parts")


for _query in ("window=2000,100,linear", "window=2000%2C100%2Csigmoid", "window=2000,100,linear-exact",
               "viewport=8,8", "viewport=8,8,0,0,4,4", "quality=50", "annotation=patient",
               "iccprofile=srgb"):  # fmt: skip

    def _check_parameter(target: Target, query: str = _query) -> None:
        status_is(target.get(f"{target.slice_path}/rendered?{query}", "image/jpeg"), 200)

    row("8.3.5.1", f"Rendered: {_query}")(_check_parameter)


@row("8.3.5.1", "Rendered: a parameter that makes no sense is 400")
def rendered_bad(target: Target) -> None:
    for query in ("window=a,b", "viewport=0,0", "quality=0"):
        status_is(target.get(f"{target.slice_path}/rendered?{query}", "image/jpeg"), 400)


@row("8.7.4", "Rendered: an encapsulated PDF as application/pdf, for a browser's Accept too")
def rendered_pdf(target: Target) -> None:
    path = f"{target.of(target.document_instance)}/rendered"
    for accept in ("application/pdf", "text/html,application/xhtml+xml,*/*;q=0.8"):
        answer = target.get(path, accept)
        status_is(answer, 200)
        expect(answer.content.startswith(b"%PDF"), answer.headers.get("Content-Type"))


@row("8.7.4", "Rendered: a structured report as text/html, text/plain and text/xml")
def rendered_report(target: Target) -> None:
    body, content_type = body_of([report(target)])
    status_is(target.ask("POST", "/studies", JSON, data=body, headers={"Content-Type": content_type}), 200)
    path = f"/studies/{target.study}/series/{target.report_series}/instances/{target.report_instance}"
    for media_type in ("text/html", "text/plain", "text/xml"):
        answer = target.get(f"{path}/rendered", media_type)
        status_is(answer, 200)
        sent = answer.headers.get("Content-Type", "")
        expect(sent.startswith(media_type) and "No check finding" in answer.text, f"{sent} for {media_type}")


@row("8.7.4", "Rendered: an ECG as a picture")
def rendered_ecg(target: Target) -> None:
    body, content_type = body_of([waveform(target)])
    status_is(target.ask("POST", "/studies", JSON, data=body, headers={"Content-Type": content_type}), 200)
    path = f"/studies/{target.study}/series/{target.waveform_series}/instances/{target.waveform_instance}"
    answer = target.get(f"{path}/rendered", "image/png")
    status_is(answer, 200)
    expect(answer.content.startswith(b"\x89PNG"), answer.headers.get("Content-Type"))


for _level, _path in (
    ("study", "/studies/{s}"), ("series", "/studies/{s}/series/{e}"),
    ("instance", "/studies/{s}/series/{e}/instances/{i}"),
    ("frame", "/studies/{s}/series/{e}/instances/{i}/frames/1"),
):  # fmt: skip

    def _check_thumbnail(target: Target, path: str = _path) -> None:
        filled = path.format(s=target.study, e=target.series, i=target.instances[0])
        answer = target.get(f"{filled}/thumbnail", "image/jpeg")
        status_is(answer, 200)
        expect(answer.content.startswith(b"\xff\xd8"), answer.headers.get("Content-Type"))

    row("10.4.1.1.4", f"Thumbnail: {_level}")(_check_thumbnail)


# -- negotiation (8.7.5 to 8.7.8) ---------------------------------------------------------------------------


@row("8.7.8", "Negotiation: what is refused by q=0 is not sent")
def refused_types(target: Target) -> None:
    for path, accept, refused in (
        (f"/studies?StudyInstanceUID={target.study}", "*/*, application/dicom+json;q=0", JSON),
        (f"/studies/{target.study}/metadata", "*/*, application/dicom+json;q=0", JSON),
        (f"{target.frames_path}/frames/1", "*/*, multipart/related;q=0", "multipart/related"),
        (f"{target.slice_path}/rendered", "*/*, image/jpeg;q=0", "image/jpeg"),
    ):
        answer = target.get(path, accept)
        status_is(answer, 200, 406)
        sent = answer.headers.get("Content-Type", "")
        expect(answer.status_code == 406 or not sent.startswith(refused), f"{sent} at {path}")
        status_is(target.get(path, "application/*;q=0, image/*;q=0, multipart/*;q=0, */*;q=0"), 406)


@row("8.7.8", "Negotiation: the most specific range of Accept says how a media type is liked")
def specific_types(target: Target) -> None:
    for accept, liked in (("image/*, image/jpeg;q=0.1", "image/"), ("image/*;q=0.1, image/png", "image/png")):
        answer = target.get(f"{target.slice_path}/rendered", accept)
        status_is(answer, 200)
        sent = answer.headers.get("Content-Type", "")
        expect(sent.startswith(liked) and sent != "image/jpeg", f"{sent} for {accept}")


# -- the rest -----------------------------------------------------------------------------------------------


@row("8.9", "Capabilities: OPTIONS answers WADL")
def capabilities(target: Target) -> None:
    for accept in ("application/vnd.sun.wadl+xml", "application/json"):
        answer = target.ask("OPTIONS", "/", accept)
        status_is(answer, 200)
        expect("studies" in answer.text, "no resources described")


@row("8.4", "CORS: a preflight is answered without credentials")
def cors(target: Target) -> None:
    from requests import options

    answer = options(
        f"{target.url}/studies", timeout=60,
        headers={"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET"},
    )  # fmt: skip
    status_is(answer, 200, 204)
    expect("Access-Control-Allow-Methods" in answer.headers, "no Access-Control-Allow-Methods")
