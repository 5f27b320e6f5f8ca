"""What every package's tests share: databases with the schema in them, settings, callers, a running server.

A test that takes `database_url`, or anything made from it, runs on SQLite, and again on PostgreSQL when
CLOUDFILM_TEST_POSTGRESQL names a server on which databases may be created
(`postgresql://user@host:port/postgres`).
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, make_url, text

import cloudfilm.models  # noqa: F401 - all tables
from access.caller import Caller
from access.caller import operator as make_operator
from kernel.clock import Clock, FixedClock
from kernel.crypto import KeyRing
from kernel.database import Base, Database
from kernel.settings import BlobsSettings, DatabaseSettings, Settings
from tests.live import LiveServer, live_server_in

if TYPE_CHECKING:
    from cloudfilm.rooms import Rooms

Host = Callable[..., AbstractContextManager["Rooms"]]
POSTGRESQL = os.environ.get("CLOUDFILM_TEST_POSTGRESQL", "")
MORNING = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
BACKENDS = ("sqlite", "postgresql") if POSTGRESQL else ("sqlite",)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real objects and messages: CLOUDFILM_SHARED, else beside the checkout."""
    named = os.environ.get("CLOUDFILM_SHARED")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def own_data() -> Path:
    """The folder of the project's own small samples."""
    return Path(__file__).parent / "data"


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands until it is advanced."""
    return FixedClock(MORNING)


@pytest.fixture
def operator() -> Caller:
    """A caller who may do everything everywhere."""
    return make_operator()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the whole schema, copied for each test."""
    path = tmp_path_factory.mktemp("template") / "cloudfilm.db"
    _create_schema(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_database() -> Iterator[str]:
    """The URL of a PostgreSQL database with the whole schema, emptied before each test: to copy one for each
    would take longer than most tests."""
    with schema_on_postgresql() as url:
        yield url


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own, with the schema and no rows."""
    if request.param == "sqlite":
        path = tmp_path / "cloudfilm.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
    else:
        url = request.getfixturevalue("postgresql_database")
        _empty_postgresql(url)
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The database, open."""
    opened = Database(database_url, keys=KeyRing({"k1": bytes(32)}, "k1"))
    yield opened
    opened.close()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Settings of a host that keeps everything in the test's own folder and does not wait for the disk."""
    return Settings(
        data_dir=tmp_path,
        database=DatabaseSettings(url=database_url),
        blobs=BlobsSettings(url=f"file://{tmp_path}/blobs", durable=False),
    )


@pytest.fixture
def rooms(settings: Settings, clock: FixedClock) -> "Iterator[Rooms]":
    """Every room of that host, with the standing clock."""
    from cloudfilm.rooms import build_rooms

    built = build_rooms(settings, clock)
    yield built
    built.close()


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Host:
    """`host(name, section=...)`: rooms on SQLite in a folder of their own, for as long as a `with` lasts."""
    from cloudfilm.rooms import build_rooms

    @contextmanager
    def rooms_of(name: str, clock: Clock | None = None, **sections: Any) -> "Iterator[Rooms]":
        folder = tmp_path_factory.mktemp(name)
        shutil.copyfile(sqlite_template, folder / "cloudfilm.db")
        built = build_rooms(
            Settings(
                data_dir=folder,
                database=DatabaseSettings(url=f"sqlite:///{folder}/cloudfilm.db"),
                blobs=BlobsSettings(url=f"file://{folder}/blobs", durable=False),
                **sections,
            ),
            clock or FixedClock(MORNING),
        )
        yield built
        built.close()

    return rooms_of


@pytest.fixture(scope="module", params=BACKENDS)
def live_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A real server in processes of its own, shared by the tests of one module."""
    yield from live_server_on(request.param, tmp_path_factory)


@pytest.fixture(scope="session", params=BACKENDS)
def common_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A real server shared by the tests of several modules, which leave each other's data alone."""
    yield from live_server_on(request.param, tmp_path_factory)


def live_server_on(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A real server on one of the databases, until the iterator goes on."""
    data_dir = tmp_path_factory.mktemp("live")
    if backend == "sqlite":
        with live_server_in(data_dir) as server:
            yield server
    else:
        name = _create_postgresql("template0")
        with live_server_in(data_dir, CLOUDFILM_DATABASE__URL=_postgresql_url(name)) as server:
            yield server
        _drop_postgresql(name)


@contextmanager
def schema_on_postgresql() -> Iterator[str]:
    """The URL of a new PostgreSQL database with the whole schema and no rows, until the block ends."""
    name = _create_postgresql("template0")
    try:
        _create_schema(_postgresql_url(name))
        yield _postgresql_url(name)
    finally:
        _drop_postgresql(name)


@contextmanager
def empty_database(like: str, file: Path) -> Iterator[str]:
    """The URL of a database without a schema, of the same kind as that of another URL."""
    if make_url(like).get_backend_name() == "sqlite":
        yield f"sqlite:///{file}"
        return
    name = _create_postgresql("template0")
    try:
        yield _postgresql_url(name)
    finally:
        _drop_postgresql(name)


def _create_schema(url: str) -> None:
    database = Database(url)
    Base.metadata.create_all(database.engine)
    database.close()


def _create_postgresql(template: str) -> str:
    name = f"cloudfilm_test_{uuid.uuid4().hex}"
    _on_postgresql(f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


EMPTY = """
DO $$ DECLARE filled text := ''; name text; has_rows boolean; BEGIN
  FOR name IN SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE 'SELECT EXISTS (SELECT 1 FROM ' || name || ')' INTO has_rows;
    IF has_rows THEN filled := filled || ', ' || name; END IF;
  END LOOP;
  IF filled <> '' THEN EXECUTE 'TRUNCATE ' || substr(filled, 3) || ' RESTART IDENTITY CASCADE'; END IF;
END $$
"""
LEFT_OPEN = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def _empty_postgresql(url: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"))
    with engine.begin() as connection:
        connection.execute(text(LEFT_OPEN))  # what the test before did not close
        connection.execute(text(EMPTY))
    engine.dispose()


def _drop_postgresql(name: str) -> None:
    _on_postgresql(f"DROP DATABASE {name} WITH (FORCE)")


def _on_postgresql(statement: str) -> None:
    engine = create_engine(make_url(POSTGRESQL).set(drivername="postgresql+psycopg2"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


def _postgresql_url(name: str) -> str:
    return make_url(POSTGRESQL).set(database=name).render_as_string(hide_password=False)
