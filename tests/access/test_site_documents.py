"""Site documents: checked, numbered, brought back, and written into the trail."""

import hashlib

import pytest
from sqlalchemy import select

from access.caller import Caller
from access.model import AuditEntry
from access.rules import RULES, InvalidPolicy
from access.site_documents import (
    DocumentChanged,
    DocumentKind,
    NoSuchDocument,
    NotADocument,
    current_document,
    document_history,
    document_kind,
    document_version,
    export_documents,
    import_documents,
    put_document,
    roll_back_document,
)
from access.tokens import Access
from cloudfilm.documents import DOCUMENTS

EMPTY = '{"rules": []}'
NIGHT = '{"rules": [{"id": "night", "reason": "No.", "deny": ["*.d"]}]}'


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.name)
def test_the_default_of_every_kind_is_what_its_check_accepts(kind: DocumentKind) -> None:
    kind.check(kind.default)
    assert kind.resource in ("Setting", "Policy")


def test_names_of_documents_are_unique() -> None:
    assert len({kind.name for kind in DOCUMENTS}) == len(DOCUMENTS)


def test_the_default_holds_until_a_version_is_written(access: Access, operator: Caller) -> None:
    with access.database.snapshot() as session:
        assert (current_document(session, RULES), document_version(session, RULES)) == (EMPTY, 0)

    assert put_document(access, operator, RULES, NIGHT, "quiet") == 1

    with access.database.snapshot() as session:
        assert (current_document(session, RULES), document_version(session, RULES)) == (NIGHT, 1)


def test_a_version_is_written_into_the_trail_with_its_digest(access: Access, operator: Caller) -> None:
    put_document(access, operator, RULES, NIGHT, "quiet")

    with access.database.snapshot() as session:
        entry = session.scalars(select(AuditEntry).order_by(AuditEntry.seq.desc())).first()
    assert entry is not None
    assert (entry.action, entry.subject) == ("update Policy", "Policy/rules/1")
    assert hashlib.sha256(NIGHT.encode()).hexdigest() in entry.detail


def test_an_older_version_comes_back_as_a_new_one(access: Access, operator: Caller) -> None:
    put_document(access, operator, RULES, NIGHT)
    put_document(access, operator, RULES, EMPTY)

    assert roll_back_document(access, operator, RULES, 1) == 3
    assert [each.document for each in document_history(access, operator, RULES)] == [NIGHT, EMPTY, NIGHT]
    with pytest.raises(NoSuchDocument):
        roll_back_document(access, operator, RULES, 9)


def test_who_saw_an_older_version_does_not_overwrite_a_newer_one(access: Access, operator: Caller) -> None:
    put_document(access, operator, RULES, NIGHT, instead_of=0)

    with pytest.raises(DocumentChanged):
        put_document(access, operator, RULES, EMPTY, instead_of=0)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, " " * 1_000_001])
def test_what_is_no_json_object_is_refused(access: Access, operator: Caller, text: str) -> None:
    with pytest.raises(NotADocument):
        put_document(access, operator, RULES, text)


def test_documents_are_imported_together_or_not_at_all(access: Access, operator: Caller) -> None:
    assert import_documents(access, operator, {"rules": {"rules": []}}) == ()
    with pytest.raises(NoSuchDocument):
        import_documents(access, operator, {"rules": {"rules": []}, "nonsense": {}})
    with pytest.raises(InvalidPolicy):
        import_documents(access, operator, {"rules": {"rules": [1]}})
    assert export_documents(access, operator)["rules"] == {"rules": []}
    with pytest.raises(NoSuchDocument):
        document_kind(access, "nonsense")
