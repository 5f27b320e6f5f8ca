"""Non-Patient Instance Service (PS3.18 12): search, retrieve and store what no study has.

GET  /{category}?...       POST /{category}          GET, POST, DELETE /{category}/{uid}
GET  /{category}/{uid}/bulkdata/{path}, which the JSON and XML forms refer to

The categories are those of PS3.18 12.1.1; DELETE is beyond it.
"""

from collections.abc import Callable

from flask import Blueprint, Response, request

from access.bearer import current_caller
from access.caller import Door
from archive.documents import at_base, parse_marked
from archive.ingest import Place
from archive.keys import Level
from archive.non_patient import (
    NonPatient,
    find_non_patient,
    non_patient_bulk,
    non_patient_document,
    remove_non_patient,
    search_non_patient,
)
from archive.non_patient_keys import CATEGORIES, Category
from archive.recode import can_recode, recoded_bytes
from archive.retrieve import value_bytes
from archive.room import Archive
from archive.transcode import EXPLICIT_LITTLE
from dicomweb.answers import conditional, multipart, ranged, text_answer, wanted
from dicomweb.media_types import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    JSON,
    OCTETS,
    NotAcceptable,
    Representation,
    best,
    negotiate,
)
from dicomweb.native_xml import to_xml
from dicomweb.qido import parse_query, search_answer, search_media_type
from dicomweb.service import service_base
from dicomweb.stow import store_at
from dicomweb.wado import whole
from kernel.http import room

blp = Blueprint("non_patient", __name__)

DESCRIBED = (
    Representation(False, DICOM_JSON), Representation(False, JSON), Representation(False, DICOM_XML),
    Representation(True, DICOM_XML),
)  # fmt: skip


def _search(category: Category) -> Response:
    """Search for instances of a category (PS3.18 12.6)."""
    media_type = search_media_type()
    archive, caller = room(Archive), current_caller(Door.DICOMWEB)
    arguments = list(request.args.items(multi=True))
    asked = parse_query(
        Level.INSTANCE, arguments, strict=archive.settings.strict_search, keys=category.by_tag
    )
    return search_answer(search_non_patient(archive, caller, category, asked.query), asked, media_type)


def _store(category: Category, uid: str = "") -> Response:
    """Store instances of a category, or the one that the path names (PS3.18 12.5)."""
    return store_at(Place(category=category.name, sop_instance_uid=uid))


def _retrieve(category: Category, uid: str) -> Response:
    """Retrieve an instance as an object, or its attributes as JSON or XML (PS3.18 12.4)."""
    archive = room(Archive)
    found = find_non_patient(archive, current_caller(Door.DICOMWEB), category, uid)
    for form in wanted():
        if (answer := _in_form(archive, found, form)) is not None:
            return answer
    raise NotAcceptable((DICOM, f'multipart/related; type="{DICOM}"', *map(str, DESCRIBED)))


def _in_form(archive: Archive, found: NonPatient, form: Representation) -> Response | None:
    """The instance in one of the forms that the request takes; None when it cannot be had so."""
    stored, digest = found.stored, found.stored.sha256.hex()
    own = stored.transfer_syntax_uid
    asked = form.transfer_syntax or (EXPLICIT_LITTLE if form.media_type == DICOM else "*")
    target = own if asked == "*" else asked
    ways = [way for way in form.ways if form.takes(way, DICOM, target)]
    if ways and can_recode(archive, stored, target):
        tag = digest if target == own else f"{digest}.{target}"
        if not ways[0]:
            return whole(archive, stored, target, tag)
        part = {"Content-Type": f"{DICOM}; transfer-syntax={target}"}, recoded_bytes(archive, stored, target)
        return conditional(multipart(DICOM, [part]), tag, weak=True)
    try:
        given = best((form,), DESCRIBED)
    except NotAcceptable:
        return None
    document = at_base(non_patient_document(archive, found), service_base())
    if given.media_type != DICOM_XML:
        return text_answer(b"[" + document + b"]", given.media_type, f"{digest}.json")
    xml, tag = to_xml(parse_marked(document)), f"{digest}.xml"
    if given.multipart:
        return conditional(multipart(DICOM_XML, [({"Content-Type": DICOM_XML}, (xml,))]), tag, weak=True)
    return text_answer(xml, DICOM_XML, tag)


def _remove(category: Category, uid: str) -> Response:
    """Take an instance out; storing it again brings it back until its retention is over."""
    remove_non_patient(room(Archive), current_caller(Door.DICOMWEB), category, uid)
    return Response(status=204)


def _bulk(category: Category, uid: str, path: str) -> Response:
    """The value that a BulkDataURI names."""
    archive = room(Archive)
    found = find_non_patient(archive, current_caller(Door.DICOMWEB), category, uid)
    bulk = non_patient_bulk(found, path)
    negotiate(wanted(), (OCTETS,))
    return ranged(
        lambda offset, size: value_bytes(archive, found.stored, bulk.offset + offset, size),
        bulk.length,
        OCTETS,
        f"{found.stored.sha256.hex()}.{path}",
    )


ROUTES: tuple[tuple[str, str, Callable[..., Response]], ...] = (
    ("GET", "", _search),
    ("POST", "", _store),
    ("GET", "/<uid>", _retrieve),
    ("POST", "/<uid>", _store),
    ("DELETE", "/<uid>", _remove),
    ("GET", "/<uid>/bulkdata/<path>", _bulk),
)


def _view(handler: Callable[..., Response], category: Category) -> Callable[..., Response]:
    def view(**named: str) -> Response:
        return handler(category, **named)

    view.__doc__ = handler.__doc__
    return view


for category in CATEGORIES:
    for method, rest, handler in ROUTES:
        blp.add_url_rule(
            f"/{category.name}{rest}",
            endpoint=f"{category.name} {method} {rest}".replace(".", ""),
            view_func=_view(handler, category),
            methods=[method],
        )
