"""The database: one model for SQLite (WAL) and PostgreSQL, one way to write, one way to read.

`transaction()` is for writing, `snapshot()` for reading; a reader never blocks a writer. On SQLite a
transaction takes the write lock at its start (BEGIN IMMEDIATE), for a read that turns into a write fails at
once there, and writers of all processes line up at a lock on a file, because SQLite's own busy handler polls
with growing sleeps and starves some of many. On PostgreSQL (read committed) whoever reads in order to
write locks the row (`with_for_update`) or relies on a unique constraint; each statement sees a state of its
own, so that a reader there has no transaction, and is spared the messages that begin and end one.
"""

import fcntl
import os
import select
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import (
    DateTime,
    Dialect,
    Engine,
    Executable,
    MetaData,
    Table,
    TypeDecorator,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPICursor, ExceptionContext
from sqlalchemy.exc import (
    ArgumentError,
    DontWrapMixin,
    InterfaceError,
    InvalidatePoolError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import PoolProxiedConnection

from kernel.crypto import KeyRing
from kernel.errors import CloudfilmError, InvalidSetting, Kind
from kernel.prepared import Prepared
from kernel.sealed_text import Sealing, seal_with
from kernel.together import Together
from kernel.traces import statement_span, trace_statements

T = TypeVar("T")

SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # NORMAL may lose the last commits at power loss: we acknowledge after commit
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=30000",
    "PRAGMA cache_size=-65536",
    "PRAGMA mmap_size=268435456",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA wal_autocheckpoint=4000",
)


UNDEFINED = ("42P01", "42703")  # a table, a column: PostgreSQL's codes
UNDEFINED_ON_SQLITE = ("no such table", "no such column")
MOST_PREPARED = 4096  # reads of one row that a process keeps in the form that the driver takes
MOST_NAMED = 256  # and that each of its connections to PostgreSQL keeps prepared there
MOST_READERS = 8  # connections for them: each is held for less than a millisecond
# A network that was cut says nothing: without these a request would wait for a quarter of an hour here, and
# the locks of a machine that is gone would be held for two hours there.
SILENT_PEER = {
    "connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}  # fmt: skip
SILENT_CLIENT = (
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
    " SET tcp_user_timeout = 20000"
)


class DatabaseUnavailable(CloudfilmError, DontWrapMixin):
    """The database does not answer. What was asked was not done; ask again later."""

    kind = Kind.UNAVAILABLE


def said_by_database(failure: DatabaseUnavailable) -> str:
    """The refusal with what the driver says, for who runs the server: a password, a name, a port."""
    cause = failure.__cause__
    said = str(getattr(cause, "orig", None) or cause or "").strip().splitlines()
    return f"{failure} It says: {said[0]} Check database.url." if said else str(failure)


class Overtaken(DatabaseUnavailable):
    """The database undid a transaction for the sake of another one: a deadlock, or a serialization failure.
    The same once more will do."""


class UnstorableText(CloudfilmError):
    """A text holds what no database here holds or looks for: a NUL, or half of a surrogate pair."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("A text holds a NUL or half of a character; leave it out.")


class NoSchema(CloudfilmError, DontWrapMixin):
    """The database lacks a table or a column of this release: nobody migrated it yet."""

    kind = Kind.UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("The database has not the tables of this release; make them by: cloudfilm migrate")


class NamesUnderWay(CloudfilmError, DontWrapMixin):
    """Names stand partly veiled and partly in clear, so that no search would find them all."""

    kind = Kind.UNAVAILABLE

    def __init__(self, is_veiled: bool) -> None:
        command = "veil" if is_veiled else "unveil"
        super().__init__(
            f"Names in the database are half way to another form; run: cloudfilm names {command}"
        )


class OutcomeUnknown(DatabaseUnavailable):
    """The database was lost while it committed: what was asked may be done, or not. Nothing that it may
    name by now may be taken back."""


OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND coalesce(backend_type, 'client backend') = 'client backend'"
)
FAREWELLS, FAREWELL_S = 20, 0.1

OVERTAKEN = frozenset({"40P01", "40001"})  # deadlock_detected, serialization_failure (PostgreSQL, appendix A)


class Base(DeclarativeBase):
    """The base of every table of every room; constraints are named so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def table_of(model: type[Base]) -> Table:
    """The table of a model, for statements that are built once and run often: they skip the ORM."""
    return cast(Table, model.__table__)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC. A naive one is refused on the way in: it would mean something else
    elsewhere."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database, in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise TypeError("a moment without a time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database; SQLite forgets the zone, which is always UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """Sessions on one database. Made once for a process in `cloudfilm.rooms`.

    keys: what documents in its rows are sealed with; without it they are neither read nor written. seals:
    whether what is written from now on is sealed.
    """

    def __init__(
        self, url: str, pool_size: int = 16, keys: KeyRing | None = None, seals: bool = True
    ) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError:
            raise InvalidSetting(
                "database.url", url, "use sqlite:///file or postgresql://user@host/name"
            ) from None
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if not self.is_sqlite and self.url.get_backend_name() != "postgresql":
            raise InvalidSetting("database.url", url, "use sqlite:///file or postgresql://user@host/name")
        if self.is_sqlite:
            if not self.url.database:
                raise InvalidSetting(
                    "database.url", url, "name a file: sqlite:////srv/cloudfilm/cloudfilm.db"
                )
            Path(self.url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.engine = create_engine(self.url, pool_size=pool_size, max_overflow=64)
            self._readers = self.engine
            self._writer_queue: _WriterQueue | None = _WriterQueue(Path(self.url.database + ".lock"))
            event.listen(self.engine, "connect", _set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = create_engine(
                self.url.set(drivername="postgresql+psycopg2"),
                pool_size=pool_size,
                max_overflow=64,
                use_insertmanyvalues=True,
                connect_args=SILENT_PEER,
            )
            # One row each, so no transaction: a read is one message to the server and one back.
            self._readers = create_engine(
                self.engine.url,
                pool_size=min(pool_size, MOST_READERS),
                max_overflow=0,
                pool_use_lifo=True,
                pool_reset_on_return=None,
                isolation_level="AUTOCOMMIT",
                connect_args=SILENT_PEER,
            )
            event.listen(self.engine, "begin", _begin_postgresql)
            for engine in (self.engine, self._readers):
                event.listen(engine, "connect", _set_up_postgresql)
                event.listen(engine, "checkout", _require_quiet)
            self._writer_queue = None
        event.listen(self.engine, "handle_error", _refuse_failed)
        self.seals = seals
        self._veils_names: bool | None = None  # not looked at yet
        if keys is not None:
            for engine in (self.engine, self._readers):
                seal_with(engine.dialect, Sealing(keys, seals, self.veils_names))
        self.name = str(self.url)
        self._here = threading.local()  # the transaction that this thread is in
        self._prepared: dict[Executable, Prepared] = {}
        driver = self.engine.dialect.loaded_dbapi
        self._driver_failures = (driver.OperationalError, driver.InterfaceError)
        self._driver_error, self._unprepared = driver.Error, driver.ProgrammingError
        self._stale = (*self._driver_failures, driver.NotSupportedError)
        trace_statements(self.engine)
        self._write_engine: Engine = self.engine.execution_options(cloudfilm_write=True)
        self._read_engine: Engine = self.engine.execution_options(cloudfilm_read=True)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that writes: committed when the block ends, rolled back when it raises.

        Keep it short, and never wait for a network or an object store inside it. One that is begun within
        another of the same thread is part of it: undone by itself when it raises, durable with the other.
        Raises DatabaseUnavailable when the database does not answer, OutcomeUnknown when it ceased to at the
        end.
        """
        outer: Session | None = getattr(self._here, "session", None)
        if outer is not None:
            with _savepoint(outer):
                yield outer
            return
        with self._writer_queue or nullcontext(), self._session(self._write_engine) as session:
            self._here.session = session
            try:
                yield session
            finally:
                self._here.session = None

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A session that only reads. On SQLite it sees one state throughout, on PostgreSQL each statement
        its own; a cursor on the server needs a transaction there."""
        with self._session(self._read_engine) as session:
            yield session

    def row(self, statement: Executable, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The first row of one reading statement, without the cost of a session; PostgreSQL plans it once.

        statement: built once and kept by who asks, for what is prepared of it is kept by it; parameters:
        single values, or lists where the statement has a list. Raises DatabaseUnavailable when the database
        does not answer.
        """
        prepared = self._prepared_of(statement)
        found = self._read(prepared, parameters, is_one=True)
        return prepared.read(found[0]) if found else None

    def rows(
        self, statement: Executable, parameters: Mapping[str, Any], session: Session | None = None
    ) -> list[tuple[Any, ...]]:
        """All rows of one reading statement, as `row`; PostgreSQL plans it for these parameters.

        session: whose transaction is to see them; without it, they are read as they are for everyone.
        """
        prepared = self._prepared_of(statement)
        if session is None:
            found = self._read(prepared, parameters, is_one=False)
        else:
            text, values = prepared.asked(parameters)
            bound = values if isinstance(values, dict) else tuple(values)
            found = session.connection().exec_driver_sql(text, bound).all()
        return [prepared.read(each) for each in found]

    def _prepared_of(self, statement: Executable) -> Prepared:
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = Prepared.of(statement, self.engine.dialect)
            if len(self._prepared) >= MOST_PREPARED:
                self._prepared.clear()
            self._prepared[statement] = prepared
        return prepared

    def _read(
        self, prepared: Prepared, parameters: Mapping[str, Any], is_one: bool
    ) -> Sequence[Sequence[Any]]:
        engine = self._readers if is_one else self.engine
        try:
            with statement_span(self.engine.dialect.name, prepared.text):
                try:
                    return self._read_once(engine, prepared, parameters, is_one)
                except self._stale:
                    if self.is_sqlite:
                        raise
                    engine.dispose()  # the server restarted, or a table is no more what it planned for
                    return self._read_once(engine, prepared, parameters, is_one)
        except (OperationalError, PoolTimeout, ValueError, self._driver_error) as failure:
            _refuse(failure)
            if isinstance(failure, (OperationalError, PoolTimeout, *self._driver_failures)):
                raise DatabaseUnavailable("The database does not answer; try again.") from failure
            raise

    def _read_once(
        self, engine: Engine, prepared: Prepared, parameters: Mapping[str, Any], is_one: bool
    ) -> Sequence[Sequence[Any]]:
        text, values = prepared.asked(parameters)
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            if is_one and prepared.body:
                text = self._prepared_by(connection, cursor, prepared)
            elif not (is_one or self.is_sqlite):
                cast(Any, connection.dbapi_connection).autocommit = True  # until a session has it
            cursor.execute(text, values)
            found = cast(Sequence[Sequence[Any]], cursor.fetchmany(1) if is_one else cursor.fetchall())
            cursor.close()
        except self._stale:
            connection.invalidate()
            raise
        finally:
            connection.close()  # back to the pool
        return found

    def _prepared_by(self, connection: PoolProxiedConnection, cursor: DBAPICursor, prepared: Prepared) -> str:
        """What to send for a statement: as it is the first time, by its name on the server from then on."""
        names: dict[str, str] = connection.info.setdefault("prepared", {})
        sent = names.get(prepared.text)
        if sent is None:
            if len(names) < MOST_NAMED:
                names[prepared.text] = ""
            return prepared.text
        if not sent:
            name = f"row_{list(names).index(prepared.text)}"
            try:
                cursor.execute(f"PREPARE {name} AS {prepared.body}")
                sent = f"EXECUTE {name} {prepared.call}"
            except self._unprepared:  # a parameter whose type does not show
                sent = prepared.text
            names[prepared.text] = sent
        return sent

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        session = Session(engine, expire_on_commit=False)
        is_ending = False
        try:
            yield session
            if session.in_transaction():  # else it was not used
                session.flush()
                is_ending = True
                session.commit()
        except (OperationalError, InterfaceError) as failure:
            session.rollback()
            if getattr(failure.orig, "pgcode", None) in OVERTAKEN:
                raise Overtaken("Something else was stored at the same time; try again.") from failure
            if is_ending:
                raise OutcomeUnknown("The database went away while it stored; ask again.") from failure
            raise DatabaseUnavailable("The database does not answer; try again.") from failure
        except BaseException:
            session.rollback()
            raise
        finally:
            session.close()

    def veils_names(self) -> bool:
        """Whether names in columns that are searched are veiled (see `kernel.name_veil`): read once, for it
        changes only while nothing else runs. Raises NamesUnderWay while it does."""
        if self._veils_names is None:
            try:
                with self._readers.connect() as connection:  # a statement of another one is being made ready
                    row = connection.execute(text("SELECT is_veiled, is_under_way FROM name_veil")).first()
            except OperationalError as failure:
                raise DatabaseUnavailable("The database does not answer; try again.") from failure
            if row is not None and row.is_under_way:
                raise NamesUnderWay(bool(row.is_veiled))
            self._veils_names = row is not None and bool(row.is_veiled)
        return self._veils_names

    def veil_names(self, is_veiled: bool) -> None:
        """Write and compare names so from now on: for who brings them into this form."""
        self._veils_names = is_veiled

    def is_shared(self) -> bool:
        """Whether anything beside this object is connected to the database now."""
        self.close()
        if self.is_sqlite:
            with closing(sqlite3.connect(str(self.url.database), timeout=0)) as alone:
                try:
                    alone.execute("PRAGMA locking_mode=EXCLUSIVE")
                    alone.execute("BEGIN EXCLUSIVE")
                except sqlite3.OperationalError:
                    return True
            return False
        with self.snapshot() as session:
            for _ in range(FAREWELLS):  # what we closed just now may not have left yet
                if not session.scalar(text(OTHERS)):
                    return False
                time.sleep(FAREWELL_S)
        return True

    def give_back_room(self, tables: Sequence[str]) -> None:
        """Let go of what these tables held before: the rows as they were are in their files until then.
        Nobody else may be connected."""
        connection = self.engine.raw_connection()
        try:
            if self.is_sqlite:
                statements = ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"]
            else:
                connection.dbapi_connection.autocommit = True  # type: ignore[union-attr]
                statements = [f"VACUUM FULL {name}" for name in tables]
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
        finally:
            connection.invalidate()

    def is_alive(self) -> bool:
        """Whether a query is answered now."""
        try:
            with self.snapshot() as session:
                return session.execute(text("SELECT 1")).scalar() == 1
        except (DatabaseUnavailable, OSError):
            return False

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()
        self._readers.dispose()
        if self._writer_queue is not None:
            self._writer_queue.close()


class _WriterQueue:
    """One writer at a time among all processes on this machine: a lock on a file, waited for without
    polling."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread_lock = threading.Lock()
        self._descriptor = -1
        self._process = 0

    def __enter__(self) -> None:
        self._thread_lock.acquire()
        try:
            if self._process != os.getpid():  # a forked child must not share its parent's lock
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._process = os.getpid()
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._thread_lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        finally:
            self._thread_lock.release()

    def close(self) -> None:
        """Let the file go; the next writer opens it again."""
        with self._thread_lock:
            if self._process == os.getpid():
                os.close(self._descriptor)
                self._process = 0


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = (
        None  # we say BEGIN ourselves; the driver's own rules split a snapshot in two
    )
    for pragma in SQLITE_PRAGMAS:
        connection.execute(pragma)


def _set_up_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(SILENT_CLIENT)
    connection.commit()


def _refuse_failed(failed: ExceptionContext) -> None:
    _refuse(failed.original_exception)


def _refuse(said: BaseException) -> None:
    """Raise what a failure of the driver means, where there is more to say than that it failed."""
    if isinstance(said, ValueError):  # what the driver says of a value
        raise UnstorableText from said
    if getattr(said, "pgcode", None) in UNDEFINED or str(said).startswith(UNDEFINED_ON_SQLITE):
        raise NoSchema from said


def _require_quiet(connection: Any, _record: object, _proxy: object) -> None:
    """A server that restarted, or a peer found dead, is heard on its connections, where nothing was asked:
    then the pool makes new ones. To ask each time whether it lives would cost a message and its answer."""
    if not connection.closed:
        heard = select.poll()
        heard.register(connection.fileno(), select.POLLIN)
        if not heard.poll(0):
            return
    raise InvalidatePoolError


def _begin_sqlite(connection: Any) -> None:
    writes = connection.get_execution_options().get("cloudfilm_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: Any) -> None:
    options = connection.get_execution_options()
    if "isolation_level" not in options:  # else it is as its user wants it: VACUUM has no transaction either
        connection.connection.dbapi_connection.autocommit = options.get("cloudfilm_read", False)


class GroupCommit:
    """Many small writes of concurrent threads in one transaction: the cost of the commit is shared (see
    `kernel.together`). A write that raises is undone by itself (a savepoint)."""

    def __init__(self, database: Database, most: int = 64) -> None:
        self._database = database
        self._together: Together[Callable[[Session], Any], Any] = Together(self._write_all, most)

    def run(self, write: Callable[[Session], T]) -> T:
        """Run `write(session)` in a shared transaction; returns its result when it is durable, or raises."""
        done: T = self._together.run(write)
        return done

    def run_all(self, writes: Sequence[Callable[[Session], T]]) -> list[T | Exception]:
        """Run writes of one thread in a shared transaction. Returns of each its result, or what it raised."""
        return self._together.run_all(writes)

    def _write_all(self, writes: Sequence[Callable[[Session], Any]]) -> list[Any]:
        outcomes: list[Any] = []
        with self._database.transaction() as session:
            for write in writes:
                try:
                    outcomes.append(write(session) if len(writes) == 1 else _within_savepoint(session, write))
                except Exception as failure:
                    if len(writes) == 1:
                        session.rollback()
                    outcomes.append(failure)
        return outcomes


def _within_savepoint(session: Session, write: Callable[[Session], T]) -> T:
    with _savepoint(session):
        return write(session)


@contextmanager
def _savepoint(session: Session) -> Iterator[None]:
    """What is undone by itself when it raises. Said to the database directly: a nested session transaction
    costs more than most writes."""
    connection = session.connection()
    connection.exec_driver_sql("SAVEPOINT one_write")
    try:
        yield
        session.flush()
    except BaseException:
        session.expunge_all()  # what it had loaded may be what it had changed
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one_write")
        raise
    connection.exec_driver_sql("RELEASE SAVEPOINT one_write")
