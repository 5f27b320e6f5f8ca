"""Site documents: what a site decides while running, as named JSON documents with history.

Rules, share policies, retention, forwarding: each is one document of a `DocumentKind`. A version is never
changed; a new one takes effect at the next request, and an older one comes back as a new version. What may
be written is what the kind's own check accepts, and the audit entry carries the version's digest, so that a
row changed behind the program's back shows.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import Action, Caller
from access.document_kind import DocumentKind, current_document, document_version
from access.model import SiteDocument
from access.tokens import Access
from kernel.errors import CloudfilmError, Kind

__all__ = [
    "DocumentKind", "DocumentVersion", "current_document", "document_history", "document_kind",
    "document_version", "export_documents", "import_documents", "put_document", "readable_kinds",
    "roll_back_document",
]  # fmt: skip

MOST_DOCUMENT = 1_000_000  # characters


class NoSuchDocument(CloudfilmError):
    """A name that no kind of site document has, or a version that it never had."""

    kind = Kind.NOT_FOUND

    def __init__(self, name: str, version: int = 0) -> None:
        shown = name[:64] if name.isprintable() else "?"
        super().__init__(
            f"Document {shown} has no version {version}."
            if version
            else f"There is no site document {shown}; see: cloudfilm site list."
        )


class DocumentChanged(CloudfilmError):
    """Somebody else wrote a version in the meantime."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("The document was changed in the meantime; look at the present version first.")


class NotADocument(CloudfilmError):
    """A text that is no JSON object, or too large, or a set of documents that cannot be read."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """One version of a document, for pages and commands."""

    number: int
    at: datetime
    by: str
    comment: str
    document: str


def document_kind(access: Access, name: str) -> DocumentKind:
    """The kind of this name. Raises NoSuchDocument."""
    for kind in access.documents:
        if kind.name == name:
            return kind
    raise NoSuchDocument(name)


def readable_kinds(access: Access, caller: Caller) -> tuple[DocumentKind, ...]:
    """The kinds whose documents the caller may read."""
    return tuple(kind for kind in access.documents if caller.may(Action(kind.resource, "r")))


def put_document(
    access: Access,
    caller: Caller,
    kind: DocumentKind,
    text: str,
    comment: str = "",
    *,
    instead_of: int | None = None,
) -> int:
    """Put a new version in force at the next request; returns its number.

    instead_of: the version that the writer saw; None: whatever is in force.
    Raises Forbidden, NotADocument, DocumentChanged, or what the kind's check raises.
    """
    caller.require(Action(kind.resource, "u"))
    _check(kind, text)
    with access.database.transaction() as session:
        return _write(access, session, caller, kind, text, comment, instead_of)


def _check(kind: DocumentKind, text: str) -> None:
    if len(text) > MOST_DOCUMENT:
        raise NotADocument(f"A site document has at most {MOST_DOCUMENT} characters.")
    try:
        is_object = isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise NotADocument(f"The document {kind.name} is not a JSON object.")
    kind.check(text)


def _write(
    access: Access,
    session: Session,
    caller: Caller,
    kind: DocumentKind,
    text: str,
    comment: str,
    instead_of: int | None,
) -> int:
    present = document_version(session, kind)
    if instead_of is not None and instead_of != present:
        raise DocumentChanged
    values: dict[str, Any] = {
        "name": kind.name, "version": present + 1, "at": access.clock.now(),
        "by": caller.principal.id, "comment": comment[:200], "document": text,
    }  # fmt: skip
    try:
        session.execute(insert(SiteDocument).values(**values))
    except IntegrityError:  # two writers at once; the version is the key
        raise DocumentChanged from None
    digest = hashlib.sha256(text.encode()).hexdigest()
    subject = f"{kind.resource}/{kind.name}/{present + 1}"
    note(
        session, access.clock, caller, f"update {kind.resource}", subject,
        detail=f"sha256 {digest} {comment[:200]}".strip(),
    )  # fmt: skip
    return present + 1


def document_history(access: Access, caller: Caller, kind: DocumentKind) -> tuple[DocumentVersion, ...]:
    """Every version, the newest first. Raises Forbidden."""
    caller.require(Action(kind.resource, "r"))
    with access.database.snapshot() as session:
        rows = session.scalars(
            select(SiteDocument).where(SiteDocument.name == kind.name).order_by(SiteDocument.version.desc())
        ).all()
    return tuple(DocumentVersion(row.version, row.at, row.by, row.comment, row.document) for row in rows)


def roll_back_document(access: Access, caller: Caller, kind: DocumentKind, number: int) -> int:
    """Put an older version in force again, as a new version; returns its number. Raises NoSuchDocument."""
    for version in document_history(access, caller, kind):
        if version.number == number:
            return put_document(access, caller, kind, version.document, f"as version {number}")
    raise NoSuchDocument(kind.name, number)


def export_documents(access: Access, caller: Caller) -> dict[str, Any]:
    """Every document in force that the caller may read, by name, to be imported elsewhere."""
    with access.database.snapshot() as session:
        return {
            kind.name: json.loads(current_document(session, kind)) for kind in readable_kinds(access, caller)
        }


def import_documents(
    access: Access, caller: Caller, documents: Mapping[str, Any], comment: str = ""
) -> tuple[str, ...]:
    """Put documents in force together; returns the names of those that differ from what was there.

    Nothing is kept when one of them is wrong. Raises Forbidden, NoSuchDocument, NotADocument, or what a
    kind's check raises.
    """
    texts: list[tuple[DocumentKind, str]] = []
    for name, document in documents.items():
        kind = document_kind(access, name)
        caller.require(Action(kind.resource, "u"))
        texts.append((kind, json.dumps(document, ensure_ascii=False, indent=2)))
        _check(*texts[-1])
    changed = []
    with access.database.transaction() as session:
        for kind, text in texts:
            if json.loads(current_document(session, kind)) != json.loads(text):
                _write(access, session, caller, kind, text, comment, None)
                changed.append(kind.name)
    return tuple(changed)
