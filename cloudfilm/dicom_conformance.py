"""The DICOM conformance statement of this host: facts from the tables of the DIMSE door and the archive, and
the page `/conformance/dicom`."""

from collections.abc import Iterable

from flask import Blueprint, Response
from pydicom.uid import UID

from archive.character_sets import SINGLE
from archive.keys import SEARCH_KEYS, Level, Matching
from cloudfilm import __version__
from conformance.dicom_statement import (
    DicomFacts,
    KeyFacts,
    Section,
    ServiceFacts,
    SopClass,
    as_html,
    as_markdown,
    dicom_statement,
)
from dimse.associate import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dimse.command import Operation
from dimse.negotiation import REJECTIONS
from dimse.server import asked_services, services
from dimse.service import AskedService, Service
from dimse.statuses import BY_OPERATION, NORMALIZED
from kernel.errors import Kind
from kernel.http import room
from kernel.settings import Settings
from kernel.tls import CIPHERS

TITLE = "cloudfilm DICOM 一致性声明 Conformance Statement"

blp = Blueprint("dicom_conformance", __name__)


def dicom_facts(settings: Settings) -> DicomFacts:
    """What the tables say for these settings."""
    dimse = settings.dimse
    return DicomFacts(
        product="cloudfilm",
        version=__version__,
        ae_title=dimse.ae_title,
        port=dimse.port,
        tls_port=dimse.tls_port,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        max_pdu_bytes=dimse.max_pdu_bytes,
        max_associations=dimse.max_associations,
        processes=dimse.processes,
        idle_timeout_s=dimse.idle_timeout_s,
        services=(
            *(_provided(service) for service in services(dimse)),
            *(_asked(service) for service in asked_services(dimse)),
        ),
        keys=tuple(
            KeyFacts(key.keyword, key.tag, Level(key.level).name, key.vr, key.matching.value)
            for key in SEARCH_KEYS
            if key.matching is not Matching.NONE
        ),
        character_sets=tuple(term for term in SINGLE if term),
        ciphers=CIPHERS,
        rejections=tuple(
            (str(each.result), str(each.source), str(each.reason), each.why)
            for each in (make() for make in REJECTIONS)
        ),
    )


def _provided(service: Service) -> ServiceFacts:
    return ServiceFacts(
        service.name,
        service.standard,
        "SCP",
        _all_named(service.sop_classes),
        _all_named(service.transfer_syntaxes),
        _operations(service.handlers),
        service.roles_reversed,
        service.extended.hex(" "),
        _statuses(service),
    )


def _asked(service: AskedService) -> ServiceFacts:
    return ServiceFacts(
        service.name,
        service.standard,
        "SCP" if service.as_scp else "SCU",
        _all_named(service.sop_classes),
        _all_named(service.transfer_syntaxes),
        _operations(service.operations),
        is_initiated=True,
    )


def _operations(operations: Iterable[Operation]) -> tuple[str, ...]:
    return tuple(operation.name.replace("_", "-") for operation in operations)


def _all_named(uids: Iterable[str]) -> tuple[SopClass, ...]:
    return tuple(_named(uid) for uid in uids)


def _named(uid: str) -> SopClass:
    name = UID(uid).name
    return SopClass(uid, name if name != uid else "private")


def _statuses(service: Service) -> tuple[tuple[str, str], ...]:
    given: dict[int, list[str]] = {}
    for operation in service.handlers:
        table = BY_OPERATION.get(operation, NORMALIZED)
        for kind, status in table.items():
            given.setdefault(status, []).append(WORDS[kind])
    return tuple(
        (f"{status:04X}H", ", ".join(dict.fromkeys(words))) for status, words in sorted(given.items())
    )


WORDS = {  # when a refusal of each kind is given
    Kind.INVALID: "data that cannot be understood",
    Kind.UNAUTHENTICATED: "a caller that is not known",
    Kind.FORBIDDEN: "what the node may not do",
    Kind.NOT_FOUND: "what is not there",
    Kind.NOT_ALLOWED: "what this thing does not take",
    Kind.NOT_ACCEPTABLE: "no form that could be given",
    Kind.CONFLICT: "a contradiction to what is there",
    Kind.GONE: "what was deleted",
    Kind.PRECONDITION: "a state that has changed",
    Kind.TOO_LARGE: "more than a limit allows",
    Kind.UNSUPPORTED: "what cannot be done with it",
    Kind.UNPROCESSABLE: "a rule that is broken",
    Kind.TOO_MANY: "too much at once",
    Kind.UNAVAILABLE: "a part that does not answer",
    Kind.EXHAUSTED: "a full storage",
    Kind.FAULT: "a fault of ours",
}


def statement_of(settings: Settings) -> tuple[Section, ...]:
    """The statement for these settings."""
    return dicom_statement(dicom_facts(settings))


def conformance_document() -> str:
    """The statement as a document, for the default settings."""
    return as_markdown(TITLE, statement_of(Settings()))


@blp.route("/conformance/dicom")
def show_statement() -> Response:
    """The DICOM conformance statement (PS3.2) of this host."""
    return Response(as_html(TITLE, statement_of(room(Settings))), mimetype="text/html")
