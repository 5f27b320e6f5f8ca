"""Bulk data (PS3.18 10.4.1.1.5): values that metadata refers to, one by its URI or all of a resource."""

from collections.abc import Iterator

from flask import Blueprint, Response, request

from access.bearer import current_caller
from access.caller import Door
from archive.documents import parse_marked
from archive.image_pixel import first
from archive.retrieve import (
    BulkValue,
    NotFound,
    StoredInstance,
    find_bulk,
    find_instance,
    find_instances,
    instance_document,
    list_bulk,
    value_bytes,
)
from archive.room import Archive
from dicomweb.answers import Part, multipart, ranged, wanted
from dicomweb.frames import pixel_data
from dicomweb.media_types import OCTETS, Representation, best
from dicomweb.service import INSTANCE, SERIES, STUDY, service_base
from kernel.http import room

blp = Blueprint("bulk", __name__)

ENCAPSULATED_DOCUMENT, DOCUMENT_TYPE, DOCUMENT_LENGTH = "00420011", "00420012", "00420015"
PIXEL_DATA = "7FE00010"


@blp.get(INSTANCE + "/bulkdata/<path>")
def bulk_data(study: str, series: str, instance: str, path: str) -> Response:
    """The value that a BulkDataURI names."""
    archive = room(Archive)
    stored = find_instance(archive, current_caller(Door.DICOMWEB), study, series, instance)
    bulk = find_bulk(archive, stored, path)
    if path.upper() == PIXEL_DATA and is_encapsulated(bulk):
        return pixel_data(study, series, instance)
    media_type = _media_type(archive, stored, path)
    length = document_length(archive, stored, path, bulk)
    types = dict.fromkeys((media_type, OCTETS))
    given = best(wanted(), tuple(Representation(way, each) for way in (False, True) for each in types))
    if given.multipart:
        content = value_bytes(archive, stored, bulk.offset, length)
        headers = {"Content-Type": given.media_type, "Content-Location": request.base_url}
        return multipart(given.media_type, [(headers, content)])
    return ranged(
        lambda offset, size: value_bytes(archive, stored, bulk.offset + offset, size),
        length,
        given.media_type,
        f"{stored.sha256.hex()}.{path}",
    )


def is_encapsulated(bulk: BulkValue) -> bool:
    """Whether pixel data are in fragments, which are no value of their own."""
    return bulk.stored.frames[0] not in (0, 1)


def _media_type(archive: Archive, stored: StoredInstance, path: str) -> str:
    """What a value is: of an encapsulated document, what the object says."""
    if path.upper() != ENCAPSULATED_DOCUMENT:
        return OCTETS
    named = first(parse_marked(instance_document(archive, stored)), DOCUMENT_TYPE)
    return named if isinstance(named, str) and "/" in named else "application/pdf"


def document_length(archive: Archive, stored: StoredInstance, path: str, bulk: BulkValue) -> int:
    """The length of a value; of a document, without the padding to an even one (0042,0015)."""
    if path.upper() == ENCAPSULATED_DOCUMENT:
        named = first(parse_marked(instance_document(archive, stored)), DOCUMENT_LENGTH)
        if isinstance(named, int) and bulk.length - 1 <= named <= bulk.length:
            return named
    return bulk.length


@blp.get(STUDY + "/bulkdata")
@blp.get(SERIES + "/bulkdata")
@blp.get(INSTANCE + "/bulkdata")
def all_bulk_data(study: str, series: str = "", instance: str = "") -> Response:
    """Every bulk value of a study, series or instance, each as a part with its URI."""
    archive, caller = room(Archive), current_caller(Door.DICOMWEB)
    best(wanted(), (Representation(True, OCTETS),))
    parts = _all_parts(archive, find_instances(archive, caller, study, series, instance), service_base())
    first_part = next(parts, None)
    if first_part is None:
        raise NotFound("Bulk data")

    def chained() -> Iterator[Part]:
        yield first_part
        yield from parts

    return multipart(OCTETS, chained())


def _all_parts(archive: Archive, instances: Iterator[StoredInstance], base: str) -> Iterator[Part]:
    for stored in instances:
        url = (
            f"{base}/studies/{stored.study_instance_uid}/series/{stored.series_instance_uid}"
            f"/instances/{stored.sop_instance_uid}/bulkdata/"
        )
        for path, bulk in list_bulk(archive, stored).items():
            if path == PIXEL_DATA and is_encapsulated(bulk):
                continue  # its frames are given by the pixel data resource
            headers = {"Content-Type": OCTETS, "Content-Location": url + path}
            yield headers, value_bytes(archive, stored, bulk.offset, bulk.length)
