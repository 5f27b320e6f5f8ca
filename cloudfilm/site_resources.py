"""Site data as FHIR: institutions as Organizations, nodes as Devices and Endpoints, our doors as Endpoints.

What a site keeps about itself has its home in `access`; these documents are made from it, under fixed ids,
and made again when it differs. They are stored like any other, so that they are found, referred to and have
their history; a change made to one of them by hand is undone. R4 Organization, Endpoint, Device, Location.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.caller import system
from access.model import Institution, Node
from archive.imaging_study import WADO_ENDPOINT
from cloudfilm.rooms import Rooms
from kernel.jobs import job
from kernel.settings import Settings
from records.identifiers import present_document
from records.query import parse_search
from records.repository import remove, write
from records.search import find_ids

CONNECTION = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
PAYLOAD = [{"text": "DICOM"}]
CODE, AE_TITLE = "urn:cloudfilm:institution", "urn:cloudfilm:ae-title"
TAG = {"system": "urn:cloudfilm:origin", "code": "site-data"}
TAKES_TOKEN = {  # SMART Imaging Access: the token of the search is the one of the retrieval
    "url": "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token",
    "valueBoolean": True,
}
PUBLISHER = system("site data")
OWN_TYPES = ("Organization", "Endpoint", "Device", "Location")

Document = dict[str, Any]


def site_resources(session: Session, settings: Settings) -> Iterator[Document]:
    """The documents of the site as it is now."""
    institutions = {row.code: row for row in session.scalars(select(Institution).order_by(Institution.code))}
    main = settings.access.institution
    codes = {main, *institutions}
    nodes = session.scalars(select(Node).order_by(Node.ae_title)).all()
    codes |= {node.institution for node in nodes if node.institution}
    for code in sorted(codes):
        yield _organization(code, institutions[code].name if code in institutions else "")
    base = settings.web.public_url or f"http://{settings.web.host}:{settings.web.port}"
    for id_, kind, name, path in (
        (WADO_ENDPOINT, "dicom-wado-rs", "WADO-RS", "/dicomweb"),
        ("qido-rs", "dicom-qido-rs", "QIDO-RS", "/dicomweb"),
        ("stow-rs", "dicom-stow-rs", "STOW-RS", "/dicomweb"),
        ("fhir-rest", "hl7-fhir-rest", "FHIR R4", "/fhir"),
    ):
        connection = {"system": CONNECTION, "code": kind}
        endpoint = _endpoint(id_, connection, name, f"{base.rstrip('/')}{path}", main)
        yield endpoint | ({"extension": [TAKES_TOKEN]} if id_ == WADO_ENDPOINT else {})
    for node in nodes:
        yield from _of_node(node, main)


def _id(prefix: str, text: str) -> str:
    """A logical id from a site's own code; what an id may not hold is written as its number."""
    return (
        prefix
        + "".join(
            each if each.isascii() and (each.isalnum() or each in "-.") else f".{ord(each):x}."
            for each in text
        )[: 64 - len(prefix)]
    )


def _document(resource_type: str, logical_id: str, **elements: Any) -> Document:
    kept = {key: value for key, value in elements.items() if value}
    return {"resourceType": resource_type, "id": logical_id, "meta": {"tag": [TAG]}, **kept}


def _organization(code: str, name: str) -> Document:
    return _document(
        "Organization", _id("site-", code),
        identifier=[{"system": CODE, "value": code}], active=True, name=name or code,
    )  # fmt: skip


def _owner(code: str, main: str) -> dict[str, str]:
    return {"reference": f"Organization/{_id('site-', code or main)}"}


def _endpoint(id_: str, connection: dict[str, str], name: str, address: str, owner: str) -> Document:
    return _document(
        "Endpoint", id_,
        status="active", connectionType=connection, name=name, managingOrganization=_owner(owner, owner),
        payloadType=PAYLOAD, address=address,
    )  # fmt: skip


def _of_node(node: Node, main: str) -> Iterator[Document]:
    """The device behind an AE title, where it stands, and how it is reached by DIMSE."""
    title = {"system": AE_TITLE, "value": node.ae_title}
    location = None
    if node.department:
        place = _id("site-", f"{node.institution or main}.{node.department}")
        location = {"reference": f"Location/{place}"}
        yield _document(
            "Location", place,
            status="active", mode="instance", name=node.department,
            managingOrganization=_owner(node.institution, main),
        )  # fmt: skip
    yield _document(
        "Device", _id("ae-", node.ae_title),
        identifier=[title], status="active",
        deviceName=[{"name": node.ae_title, "type": "user-friendly-name"}],
        owner=_owner(node.institution, main), location=location,
    )  # fmt: skip
    if node.host and node.port:
        scheme = "dicoms" if node.tls else "dicom"
        connection = {"system": "urn:cloudfilm:connection-type", "code": "dimse", "display": "DICOM DIMSE"}
        yield _endpoint(
            _id("ae-", node.ae_title), connection, node.ae_title,
            f"{scheme}://{node.host}:{node.port}/{node.ae_title}", node.institution or main,
        )  # fmt: skip


@job(queue="records", retries=1, every=timedelta(minutes=1))
def publish_site(rooms: Rooms) -> None:
    """Make the documents of the site as it is now; what is right already is left alone."""
    with rooms.database.snapshot() as session:
        wanted = {}
        for document in site_resources(session, rooms.settings):
            wanted[document["resourceType"], document["id"]] = document
        stale = [
            document
            for (type_, id_), document in wanted.items()
            if _bare(present_document(session, type_, id_)) != _bare(document)
        ]
        gone = _published(rooms, session) - wanted.keys()
    if stale or gone:
        with rooms.database.transaction() as session:
            for document in stale:
                write(rooms.records, session, PUBLISHER, document, logical_id=document["id"])
            for type_, id_ in sorted(gone):
                remove(rooms.records, session, PUBLISHER, type_, id_)


def _bare(document: Document | None) -> Document:
    return {key: value for key, value in (document or {}).items() if key != "meta"}


def _published(rooms: Rooms, session: Session) -> set[tuple[str, str]]:
    """What was made from site data before."""
    found = set()
    for type_ in OWN_TYPES:
        wanted = parse_search(type_, [("_tag", f"{TAG['system']}|{TAG['code']}")])
        found |= {(type_, id_) for _, id_ in find_ids(rooms.records, session, PUBLISHER, wanted, 1000)}
    return found
