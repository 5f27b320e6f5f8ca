"""Migrations make the schema that the models describe, and go back, on every database."""

import io
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from pydicom.uid import ColorPaletteStorage
from sqlalchemy import create_engine, insert, inspect, make_url, select, text

import cloudfilm.models
from access.audit import note, verify
from access.caller import operator
from access.grant_model import AuthorizedPerson, ShareGrant, ShareVisit
from access.model import Account
from archive.ingest import ingest
from archive.model import Series, Study
from archive.removal import remove, restore
from archive.retrieve import find_instances
from archive.workitem_model import PerformedStep, Workitem
from cloudfilm.migrate import downgrade, expected_revision, migrate
from cloudfilm.rooms import build_rooms
from kernel.clock import FixedClock
from kernel.crypto import DamagedBlob, KeyRing
from kernel.database import Base, Database
from kernel.errors import CloudfilmError
from kernel.name_veil import NameVeil
from kernel.resealing import reseal_table, sealed_tables
from kernel.settings import BlobsSettings, DatabaseSettings, Settings
from mpi.model import PatientRecord
from records.bulk_model import BulkJob
from records.model import Resource, ResourceVersion
from records.subscription_model import SubscriptionState
from tests.builders import ROOT, ct_slice
from tests.conftest import BACKENDS, POSTGRESQL


@pytest.fixture(params=BACKENDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    """A database without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    name = f"cloudfilm_test_{uuid.uuid4().hex}"
    admin = create_engine(
        make_url(POSTGRESQL).set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
    yield make_url(POSTGRESQL).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def tables(url: str) -> set[str]:
    database = Database(url)
    found = set(inspect(database.engine).get_table_names())
    database.close()
    return found


def is_of_this_database(database: Database) -> Callable[..., bool]:
    """Leaves out what Alembic cannot compare: what the models make on the other database only, and an index
    that goes backwards on SQLite."""
    others = {"ix_study_newest", "ix_index_date_latest"} if database.is_sqlite else {"ix_study_recent"}
    return lambda _object, name, *_: name not in others


def test_the_migrated_schema_is_the_one_that_the_models_describe(empty_url: str) -> None:
    assert migrate(empty_url) == ("nothing", expected_revision())
    assert cloudfilm.models.MODULES
    database = Database(empty_url)
    with database.engine.connect() as connection:
        opts = {"compare_type": True, "include_object": is_of_this_database(database)}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def test_a_second_migration_changes_nothing(empty_url: str) -> None:
    migrate(empty_url)

    assert migrate(empty_url) == (expected_revision(), expected_revision())


def test_a_schema_goes_back_to_nothing_and_up_again(empty_url: str) -> None:
    migrate(empty_url)
    full = tables(empty_url)
    downgrade(empty_url, "base")
    assert tables(empty_url) == {"alembic_version"}
    migrate(empty_url)
    assert tables(empty_url) == full


def test_documents_are_opened_on_the_way_back_and_without_the_ring_nothing_happens(empty_url: str) -> None:
    keys, told = KeyRing({"k1": bytes(32)}, "k1"), '{"resourceType":"Patient","id":"p1"}'
    migrate(empty_url)
    at = datetime(2026, 3, 1, tzinfo=UTC)
    row = {
        "type": "Patient",
        "logical_id": "p1",
        "self_hash": 1,
        "version": 1,
        "updated_at": at,
        "body": told,
    }
    version = {"resource_id": 1, "type": "Patient", "version": 1, "method": "POST", "updated_at": at}
    database = Database(empty_url, keys=keys)
    with database.transaction() as session:
        session.execute(insert(Resource).values(**row))
        session.execute(insert(ResourceVersion).values(**version, body=told))

    def kept() -> set[str]:
        with database.snapshot() as session:
            return {
                str(session.scalar(text(f"SELECT body FROM {name}")))
                for name in ("resource", "resource_version")
            }

    sealed = kept()
    assert {each[:3] for each in sealed} == {"k1."}
    with pytest.raises(DamagedBlob):
        downgrade(empty_url, "0023_sorted_dates")
    assert kept() == sealed
    downgrade(empty_url, "0023_sorted_dates", keys)
    assert kept() == {told}
    migrate(empty_url)
    assert kept() == {told}  # a job seals it
    database.close()


def test_requests_and_masked_numbers_are_opened_on_the_way_back_and_sealed_again(empty_url: str) -> None:
    keys, at = KeyRing({"k1": bytes(32)}, "k1"), datetime(2026, 3, 1, tzinfo=UTC)
    migrate(empty_url)
    database = Database(empty_url, keys=keys)
    ends = {"created_at": at, "used_at": at, "expires_at": at}
    maker = {"kind": "link", "binding": "bearer", "made_by_kind": "account", "made_by": "a1"}
    asked = {"resource_type": "Patient", "channel": "websocket", "criteria": "name=张", "owner": "李"}
    with database.transaction() as session:
        share = ShareGrant(id="g1", digest=b"1", created_at=at, expires_at=at, **maker)
        visit = ShareVisit(id="v1", digest=b"2", grant_id="g1", visitor="139****1", visitor_index="139****1")
        person = AuthorizedPerson(id="p1", patient="1", phone=b"3", phone_index="", masked="139****1")
        for name, value in ends.items():
            setattr(visit, name, value)
        person.name, person.added_by, person.added_at = "王", "a1", at
        job = BulkJob(id="b1", kind="export", owner="李", principal="a", request="/x", asked="{}", made_at=at)
        session.add(share)
        session.flush()
        session.add_all([visit, person, SubscriptionState(logical_id="s1", **asked), job])

    def kept() -> list[str]:
        with database.snapshot() as session:
            rows = [
                session.execute(text(f"SELECT {columns} FROM {table}")).one()
                for columns, table in (
                    ("visitor", "share_visit"), ("masked, name", "authorized_person"),
                    ("criteria, owner", "subscription_state"), ("owner, request, asked", "bulk_job"),
                )
            ]  # fmt: skip
        return [value for row in rows for value in row]

    def reseal() -> None:
        for table in sealed_tables():
            reseal_table(database, keys, table)

    reseal()
    sealed, told = kept(), ["139****1", "139****1", "王", "name=张", "李", "李", "/x", "{}"]
    assert {each[:4] for each in sealed} == {"\x7fk1."}
    with pytest.raises(DamagedBlob):
        downgrade(empty_url, "0029_token_certificate")
    assert kept() == sealed
    downgrade(empty_url, "0029_token_certificate", keys)
    assert kept() == [*told[:2], sealed[2], *told[3:]]
    migrate(empty_url)
    reseal()
    assert {each[:4] for each in kept()} == {"\x7fk1."}
    with database.snapshot() as session:
        found = select(ShareVisit.id).where(ShareVisit.visitor_index == "139****1")
        assert session.scalars(found).all() == ["v1"]
    database.close()


def test_names_are_opened_on_the_way_back_and_without_the_ring_nothing_happens(empty_url: str) -> None:
    keys, at = KeyRing({"k1": bytes(32)}, "k1"), datetime(2026, 3, 1, tzinfo=UTC)
    migrate(empty_url)
    database = Database(empty_url, keys=keys)
    caller = operator()
    with database.transaction() as session:
        account = {"id": "a1", "login": "zhang", "role": "physician", "created_at": at}
        session.execute(insert(Account).values(name="张伟", federated="https://x e1", **account))
        note(session, FixedClock(at), caller, "read Patient", detail="为会诊")

    def kept() -> list[str]:
        with database.snapshot() as session:
            account = session.execute(text("SELECT name, federated FROM account")).one()
            entry = session.execute(text("SELECT principal_name, detail FROM audit_entry")).one()
            return [*account, *entry]

    sealed = kept()
    assert {each[:4] for each in sealed} == {"\x7fk1."}
    with pytest.raises(DamagedBlob):
        downgrade(empty_url, "0025_hidden_index")
    assert kept() == sealed
    downgrade(empty_url, "0025_hidden_index", keys)
    assert kept() == ["张伟", "https://x e1", caller.principal.name, "为会诊"]
    migrate(empty_url)
    with database.snapshot() as session:
        assert verify(session).fault == ""
    database.close()


def test_answers_are_opened_on_the_way_back_and_without_the_ring_nothing_happens(empty_url: str) -> None:
    keys, at, told = KeyRing({"k1": bytes(32)}, "k1"), datetime(2026, 3, 1, tzinfo=UTC), b'{"00100010":{}}'
    migrate(empty_url)
    database = Database(empty_url, keys=keys)
    moments = {"created_at": at, "changed_at": at}
    record = {"issuer": "", "identifier": "P1", "institution": "", "patient_id": "p1", "sealed": b""}
    study = {"study_instance_uid": "1.2", "logical_id": "s1", "patient_logical_id": "p1", "patient_id": "P1"}
    with database.transaction() as session:
        session.execute(insert(PatientRecord).values(id=1, **record, **moments))
        session.execute(insert(Study).values(id=1, patient_record_id=1, attributes=told, **study, **moments))
        session.execute(insert(Series).values(study_id=1, series_instance_uid="1.2.1", attributes=told))
        for model in (Workitem, PerformedStep):
            values = {"sop_instance_uid": "1.2.9", "state": "COMPLETED", "attributes": told}
            session.execute(insert(model).values(**values, **moments))

    def kept() -> set[bytes]:
        with database.snapshot() as session:
            return {
                bytes(session.scalar(text(f"SELECT attributes FROM {name}")) or b"")
                for name in ("study", "series", "workitem", "performed_step")
            }

    sealed = kept()
    assert {each[:4] for each in sealed} == {b"\x7fk1."}
    with pytest.raises(DamagedBlob):
        downgrade(empty_url, "0027_hidden_words")
    assert kept() == sealed
    downgrade(empty_url, "0027_hidden_words", keys)
    assert kept() == {told}
    database.close()


def test_the_rules_keep_their_history_on_the_way_to_site_documents_and_back(empty_url: str) -> None:
    migrate(empty_url, "0001")
    told = "SELECT {}, by, comment, document FROM {} ORDER BY 1"
    kept = [(1, "a", "first", "{}"), (2, "b", "second", '{"rules": []}')]

    def rows(statement: str, values: dict[str, object] | None = None) -> list[tuple[object, ...]]:
        database = Database(empty_url)
        try:
            with database.transaction() as session:
                found = session.execute(text(statement), values or {})
                return [] if values else [tuple(row) for row in found]
        finally:
            database.close()

    for number, by, comment, document in kept:
        rows(
            "INSERT INTO policy_version (id, at, by, comment, document) "
            "VALUES (:id, '2026-03-01 08:30:00', :by, :comment, :document)",
            {"id": number, "by": by, "comment": comment, "document": document},
        )
    migrate(empty_url, "0002_site_documents")
    assert rows(told.format("version", "site_document")) == kept
    downgrade(empty_url, "0001")
    assert rows(told.format("id", "policy_version")) == kept


def test_objects_arrive_without_an_md5_and_have_an_empty_one_for_older_code(
    empty_url: str, tmp_path: Path
) -> None:
    migrate(empty_url)
    blobs = BlobsSettings(url=f"file://{tmp_path}/blobs", durable=False)
    rooms = build_rooms(Settings(data_dir=tmp_path, database=DatabaseSettings(url=empty_url), blobs=blobs))
    palette = ct_slice(3, SOPClassUID=ColorPaletteStorage, StudyInstanceUID=None, SeriesInstanceUID=None)
    for data in (ct_slice(instance=1), ct_slice(instance=2), palette):
        ingest(rooms.archive, operator(), io.BytesIO(data))
    first = f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1"
    removal = remove(rooms.archive, operator(), "113001", *first)

    def kept() -> list[bytes | None]:
        with rooms.database.snapshot() as session:
            names = ("instance", "removed_instance", "non_patient_instance")
            found = [session.scalar(text(f"SELECT md5 FROM {name}")) for name in names]
            return [None if md5 is None else bytes(md5) for md5 in found]

    assert kept() == [None, None, None]
    downgrade(empty_url, "0032_row_codes")
    assert kept() == [b"", b"", b""]
    migrate(empty_url)
    restore(rooms.archive, operator(), removal.id)
    assert len(list(find_instances(rooms.archive, operator(), f"{ROOT}.1"))) == 2
    rooms.close()


def test_there_is_no_way_back_while_names_are_veiled(empty_url: str) -> None:
    migrate(empty_url)
    database = Database(empty_url, keys=KeyRing({"k1": bytes(32)}, "k1"))
    with database.transaction() as session:
        session.add(NameVeil(id=1, is_veiled=True, is_under_way=False, rows_of="", done_to=0))
    with pytest.raises(CloudfilmError, match="cloudfilm names unveil"):
        downgrade(empty_url, "0030_sealed_requests")
    with database.transaction() as session:
        session.get_one(NameVeil, 1).is_veiled = False
    downgrade(empty_url, "0030_sealed_requests")
    assert "name_veil" not in tables(empty_url)
    database.close()
