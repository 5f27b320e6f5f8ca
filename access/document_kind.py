"""What a site document is: a name, who reads it, and what it may say.

A kind stands beside the code that goes by the document (the rules of access beside `parse_rules`), and
`cloudfilm.documents` lists all of them, so access knows a room's documents without importing the room.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from access.model import SiteDocument


@dataclass(frozen=True, slots=True)
class DocumentKind:
    """One named document of a site, in JSON."""

    name: str  # short and lasting: rules, share-policy
    about: str  # one sentence for who edits it
    check: Callable[[str], object]  # raises a CloudfilmError of Kind.UNPROCESSABLE that says what is wrong
    default: str = "{}"  # what holds until the site writes its own
    resource: str = "Setting"  # whose r and u it takes: Setting (system) or Policy (security administrators)


_NEWEST = (  # built once: what comes in by FHIR asks for one with every document
    select(SiteDocument.document)
    .where(SiteDocument.name == bindparam("of_name"))
    .order_by(SiteDocument.version.desc())
    .limit(1)
)


def current_document(session: Session, kind: DocumentKind) -> str:
    """The document in force, within the caller's transaction; the kind's default until there is one."""
    text = session.connection().scalar(_NEWEST, {"of_name": kind.name})
    return kind.default if text is None else text


def document_version(session: Session, kind: DocumentKind) -> int:
    """The number of the version in force, 0 for the default: tells cheaply whether anything changed."""
    newest = select(func.max(SiteDocument.version)).where(SiteDocument.name == kind.name)
    return session.scalar(newest) or 0
