"""Metadata resources (PS3.18 10.4.1.1.2): attributes of instances without bulk data, in JSON or XML."""

from collections.abc import Iterable, Iterator

from flask import Blueprint, Response

from access.bearer import current_caller
from access.caller import Door
from archive.bundles import EncodedBundles
from archive.documents import at_base, parse_marked
from archive.retrieve import (
    find_extent,
    find_instance,
    find_instances,
    find_series_metadata,
    instance_document,
    series_documents,
)
from archive.room import Archive
from dicomweb.answers import (
    accepts_gzip,
    conditional,
    is_known,
    multipart,
    not_modified,
    text_answer,
    text_stream,
    wanted,
)
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, Representation, best
from dicomweb.native_xml import to_xml
from dicomweb.service import INSTANCE, SERIES, STUDY, service_base
from kernel.http import room

blp = Blueprint("metadata", __name__)


OFFERED = (
    Representation(False, DICOM_JSON), Representation(False, JSON), Representation(True, DICOM_XML),
    # as some clients ask; each gets what it means
    Representation(False, DICOM_XML), Representation(True, DICOM_JSON), Representation(True, JSON),
)  # fmt: skip


def _json_type() -> str:
    """The JSON media type to answer with, or empty for XML. Raises NotAcceptable."""
    media_type = best(wanted(), OFFERED).media_type
    return "" if media_type == DICOM_XML else media_type


@blp.get(STUDY + "/metadata")
def study_metadata(study: str) -> Response:
    """The metadata of every instance of a study."""
    media_type = _json_type()
    archive, caller, base = room(Archive), current_caller(Door.DICOMWEB), service_base()
    extent = find_extent(archive, caller, study)
    documents = (
        at_base(instance_document(archive, each), base) for each in find_instances(archive, caller, study)
    )
    return _answer(documents, media_type, extent.tag)


@blp.get(SERIES + "/metadata")
def series_metadata(study: str, series: str) -> Response:
    """The metadata of every instance of a series, ready-made when the study is at rest."""
    media_type = _json_type()
    archive, base = room(Archive), service_base()
    caller = current_caller(Door.DICOMWEB)
    found = find_series_metadata(archive, caller, room(EncodedBundles), study, series, base)
    tag = f"{found.series_id}.{found.revision}"
    if media_type and found.encoded is not None and accepts_gzip():
        answer = Response(found.encoded, mimetype=media_type, headers={"Content-Encoding": "gzip"})
        answer.headers["Vary"] = "Accept, Accept-Encoding"
        return conditional(answer, f"{tag}.gzip")
    documents = (at_base(document, base) for document in series_documents(archive, found.series_id))
    return _answer(documents, media_type, tag)


@blp.get(INSTANCE + "/metadata")
def instance_metadata(study: str, series: str, instance: str) -> Response:
    """The metadata of one instance."""
    media_type = _json_type()
    archive = room(Archive)
    stored = find_instance(archive, current_caller(Door.DICOMWEB), study, series, instance)
    document = at_base(instance_document(archive, stored), service_base())
    if media_type:
        return text_answer(b"[" + document + b"]", media_type, stored.sha256.hex())
    return _answer(iter((document,)), media_type, stored.sha256.hex())


def _answer(documents: Iterator[bytes], media_type: str, tag: str) -> Response:
    """Documents as a JSON array, or as parts of XML."""
    if media_type:
        return text_stream(_array(documents), media_type, f"{tag}.json")
    tag = f"{tag}.xml"
    if is_known(tag):
        return not_modified(tag, weak=True)
    parts = (({"Content-Type": DICOM_XML}, (to_xml(parse_marked(document)),)) for document in documents)
    return conditional(multipart(DICOM_XML, parts), tag, weak=True)


def _array(documents: Iterable[bytes]) -> Iterator[bytes]:
    separator = b"["
    for document in documents:
        yield separator + document
        separator = b","
    yield b"]" if separator == b"," else b"[]"
