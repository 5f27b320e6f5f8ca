"""Archives of any size, filled in bulk: what is asked of them is measured by `benchmarks.growth`.

A study, its patient and its order come in by the front door once; what is filled in after it differs where
rows must differ: two studies a patient, one worklist item a study, ten years of days, one after the other.
Searched rows (of the archive, of the FHIR index, of the master patient index, of the worklist) are those that
the front door makes. What is left out is what no question looks at: bytes of images, the audit trail,
narrative words.
"""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Integer, String, Table, cast, func, insert, literal, select, text
from sqlalchemy.sql.expression import ColumnElement

from access.caller import operator
from archive.attributes import Document, code, document
from archive.imaging_study import draw
from archive.indexed_values import IndexedValue
from archive.ingest import ingest
from archive.model import Instance, Series, Study
from archive.workitem_model import Workitem
from archive.workitems import add_workitem
from benchmarks.studies import part10, tiny_studies
from cloudfilm.rooms import Rooms
from kernel.database import table_of
from kernel.sealed_text import Sealing
from kernel.sealed_values import SealedBytes
from mpi.blocking import block_keys
from mpi.candidates import hash_of as block_hash
from mpi.demographics import Authority, Demographics
from mpi.domains import systems
from mpi.features import features_of
from mpi.model import BlockKey, PatientRecord, Person
from mpi.patient_document import patient_document
from mpi.sealing import seal
from records.documents import document_text, with_meta
from records.hashing import hash_of
from records.indexing import COLUMNS, index_rows
from records.model import DOCUMENT, INDEX_TABLES, IndexCompartment, Resource, ResourceVersion

FREE = 100_000  # ids below are of what came in by the front door
DRAWN = 100_000_000  # above are the ids of drawn documents
AT_ONCE = 20_000
OPEN = 400  # studies that are not done yet: the worklist of a day, however large the archive
FIRST_DAY = date(2016, 1, 1)
DAYS = 3650
FAMILIES, GIVEN = 977, 911
MARKS = {"patient": "MARK-PATIENT", "accession": "MARK-ACCESSION", "study": "2.25.99120534.1000000"}


def patient_id(patient: int) -> str:
    """The Patient ID of a patient's number."""
    return f"G{patient}"


def family(patient: int) -> str:
    """The family name: there are far fewer than patients."""
    return f"Fam{patient % FAMILIES:03d}x"


def born(patient: int) -> date:
    """The day of birth."""
    return date(1930, 1, 1) + timedelta(days=patient * 7919 % 32000)


def day_of(study: int, size: int) -> date:
    """The day of a study in an archive of so many."""
    return FIRST_DAY + timedelta(days=study // studies_a_day(size))


def studies_a_day(size: int) -> int:
    """How many come in on a day."""
    return size // DAYS + 1


def fill(rooms: Rooms, size: int, today: date) -> None:
    """Fill an empty database with so many studies, and bring its statistics up to date."""
    ingest(rooms.archive, operator(), io.BytesIO(part10(next(tiny_studies(1)))))
    workitem = _template_workitem(rooms, today)
    tables = [table_of(model) for model in (Study, Series, Instance, IndexedValue, Workitem)]
    tables += [table_of(model) for model in (Person, PatientRecord, BlockKey, Resource, ResourceVersion)]
    with rooms.database.transaction() as session:
        indexes = [index for table in (*tables, *INDEX_TABLES) for index in table.indexes]
        for index in indexes:
            index.drop(session.connection(), checkfirst=True)
    patients = size // 2 + 1
    for start in range(0, patients, AT_ONCE):
        _fill_patients(rooms, range(start, min(patients, start + AT_ONCE)))
    for start in range(1, size + 1, AT_ONCE):
        numbers = range(start, min(size + 1, start + AT_ONCE))
        for model in (Study, Series, Instance, IndexedValue):
            _multiply(rooms, table_of(model), numbers, size)
        _fill_imaging_studies(rooms, numbers, size)
        _fill_workitems(rooms, numbers, size, workitem)
    with rooms.database.transaction() as session:
        for index in indexes:
            index.create(session.connection())
        for table in tables:
            if "id" in table.c:
                last = f"pg_get_serial_sequence('{table.name}', 'id'), max(id)"
                session.execute(text(f"SELECT setval({last}) FROM {table.name}"))
    with rooms.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _multiply(rooms: Rooms, table: Table, numbers: range, size: int) -> None:
    """Copies of the one row that came in by the front door, made by the database."""
    source = select(func.generate_series(numbers[0], numbers[-1]).label("n")).subquery("numbers")
    n = source.c.n
    patient = cast(n.op("/")(2), Integer)
    from_day: ColumnElement[date] = cast(literal(FIRST_DAY), table_of(Study).c.study_date.type)
    name = literal("fam").concat(func.lpad(cast(patient % FAMILIES, String), 3, "0"))
    said: dict[str, Any] = {
        "id": n + FREE,
        "study_id": n + FREE,
        "series_id": n + FREE,
        "study_instance_uid": literal("2.25.7.").concat(n),
        "series_instance_uid": literal("2.25.7.").concat(n).concat(".1"),
        "sop_instance_uid": literal("2.25.7.").concat(n).concat(".1.1"),
        "logical_id": literal("grown-").concat(n),
        "patient_record_id": patient + FREE,
        "patient_logical_id": literal("patient-").concat(patient),
        "patient_id": literal("G").concat(patient),
        "name_alphabetic": name.concat("x^given").concat(patient % GIVEN),
        "accession_number": literal("GA").concat(n),
        "blob_key": literal("grown/").concat(n),
        "study_date": from_day + cast(n.op("/")(studies_a_day(size)), Integer),
    }
    if table is table_of(Study):
        del said["study_id"]  # an attribute there (0020,0010), not a key
    names = [each.name for each in table.columns]
    template = table.alias("template")
    if table is table_of(IndexedValue):
        names.remove("id")
        said |= {
            "series_id": template.c.series_id + n + FREE - 1,
            "instance_id": template.c.instance_id + n + FREE - 1,
        }
    chosen = [said.get(name, template.c[name]) for name in names]
    first = template.c.study_id == 1 if table is table_of(IndexedValue) else template.c.id == 1
    statement = select(*chosen).select_from(template).join(source, literal(True)).where(first)
    with rooms.database.transaction() as session:
        session.execute(insert(table).from_select(names, statement))


def _fill_patients(rooms: Rooms, patients: range) -> None:
    now = rooms.clock.now()
    people, records, keys, stored, versions = [], [], [], [], []
    index = _IndexRows(rooms)
    with rooms.database.snapshot() as session:
        domains = systems(session)
    for at in patients:
        number, logical_id = at + FREE, f"patient-{at}"
        said = Demographics(
            "MAIN", patient_id(at), "MAIN", f"{family(at)}^Given{at % GIVEN}", born(at), "MF"[at % 2],
            authority=Authority.IMAGE,
        )  # fmt: skip
        complete = with_meta(patient_document(said, domains), logical_id, 1, now)
        body = DOCUMENT.seal(document_text(complete), rooms.keys)
        people.append((number, f"person-{at}", now))
        sealed = seal(rooms.mpi.keys, said)
        records.append(
            (
                number,
                said.issuer,
                said.identifier,
                "MAIN",
                logical_id,
                number,
                int(said.authority),
                sealed,
                now,
                now,
            )
        )
        keys += [
            (block_hash(rooms.mpi.keys, key), number) for key in dict.fromkeys(block_keys(features_of(said)))
        ]
        stored.append((number, "Patient", logical_id, hash_of(f"Patient/{logical_id}"), "MAIN", now, body))
        versions.append((number, 1, "Patient", "POST", now, body))
        index.add(number, complete)
    _copy(rooms, table_of(Person), ("id", "logical_id", "created_at"), people)
    _copy(
        rooms, table_of(PatientRecord),
        ("id", "issuer", "identifier", "institution", "patient_id", "person_id", "authority", "sealed",
         "created_at", "changed_at"),
        records,
    )  # fmt: skip
    _copy(rooms, table_of(BlockKey), ("hash", "patient_record_id"), keys)
    _copy_resources(rooms, stored)
    _copy(
        rooms, table_of(ResourceVersion),
        ("resource_id", "version", "type", "method", "updated_at", "body"), versions,
    )  # fmt: skip
    index.copy(rooms)


def _fill_imaging_studies(rooms: Rooms, numbers: range, size: int) -> None:
    """The search index of ImagingStudy, whose documents are drawn from the archive's own tables."""
    now = rooms.clock.now()
    with rooms.database.snapshot() as session:
        study = session.get_one(Study, 1)
        drawn = draw(session, [study])[0]
        patient, accession = study.patient_logical_id, study.accession_number
    template = json.dumps(drawn)
    index, stored = _IndexRows(rooms), []
    for n in numbers:
        number, logical_id = n + DRAWN, f"grown-{n}"
        made = (
            template.replace(MARKS["study"], f"2.25.7.{n}")
            .replace(patient, f"patient-{n // 2}")
            .replace(accession, f"GA{n}")
            .replace(str(drawn["started"]), f"{day_of(n, size)}T08:30:00+08:00")
        )
        stored.append(
            (number, "ImagingStudy", logical_id, hash_of(f"ImagingStudy/{logical_id}"), "MAIN", now, "")
        )
        index.add(number, orjson.loads(made) | {"id": logical_id})
    _copy_resources(rooms, stored)
    index.copy(rooms)


def _copy_resources(rooms: Rooms, rows: Sequence[tuple[Any, ...]]) -> None:
    _copy(
        rooms, table_of(Resource),
        ("id", "type", "logical_id", "self_hash", "institution", "updated_at", "body", "version", "deleted",
         "department"),
        [(*row, 1, False, "") for row in rows],
    )  # fmt: skip


class _IndexRows:
    """Index rows of many documents."""

    def __init__(self, rooms: Rooms) -> None:
        self._sealing = Sealing(rooms.keys, True)
        self._rows: dict[str, list[tuple[Any, ...]]] = {table.name: [] for table in INDEX_TABLES}
        self._members: list[tuple[str, int]] = []

    def add(self, resource_id: int, made: Document) -> None:
        """Those of one document."""
        found = index_rows(made)
        for name, rows in found.rows.items():
            self._rows[name] += [(*map(self._sealing.hidden, row), resource_id) for row in rows]
        self._members += [(patient, resource_id) for patient in found.patients]

    def copy(self, rooms: Rooms) -> None:
        """Into their tables."""
        for table in INDEX_TABLES:
            if table is not IndexCompartment:
                _copy(rooms, table, (*COLUMNS[table.name], "resource_id"), self._rows[table.name])
        _copy(rooms, IndexCompartment, ("patient", "resource_id"), self._members)


def _template_workitem(rooms: Rooms, today: date) -> dict[str, Any]:
    attributes = document(
        PatientName="MARK^Name", PatientID=MARKS["patient"], PatientBirthDate="19800101", PatientSex="F",
        SpecificCharacterSet="ISO_IR 192", StudyInstanceUID=MARKS["study"], ProcedureStepLabel="Chest CT",
        WorklistLabel="Modality", ScheduledProcedureStepPriority="MEDIUM", InputReadinessState="READY",
        ScheduledProcedureStepStartDateTime=f"{today:%Y%m%d}083000+0800",
        ScheduledWorkitemCodeSequence=[code("CT01", "L", "Chest CT")],
        ReferencedRequestSequence=[
            document(StudyInstanceUID=MARKS["study"], AccessionNumber=MARKS["accession"],
                     RequestedProcedureID="RP1", RequestedProcedureDescription="Chest CT")
        ],
        ScheduledProcedureStepSequence=[
            document(Modality="CT", ScheduledStationAETitle=["CT_ROOM1"], ScheduledProcedureStepID="SPS1",
                     ScheduledProcedureStepStartDate=f"{today:%Y%m%d}",
                     ScheduledProcedureStepStartTime="083000",
                     ScheduledProcedureStepDescription="Chest CT")
        ],
    )  # fmt: skip
    with rooms.database.transaction() as session:
        row = add_workitem(rooms.archive, session, operator(), attributes, "2.25.8.0", on_worklist=True)
        made = {column.name: getattr(row, column.name) for column in table_of(Workitem).columns}
        session.delete(row)
    return made


def _fill_workitems(rooms: Rooms, numbers: range, size: int, template: dict[str, Any]) -> None:
    """One for each study: the last are still to be done, today; the others were, on their days."""
    rows = []
    today: date = template["scheduled_date"]
    for n in numbers:
        is_open, study = n > size - OPEN, f"2.25.7.{n}"
        day = today if is_open else day_of(n, size)
        attributes: bytes = template["attributes"]
        for mark, value in (
            (MARKS["patient"], patient_id(n // 2)), (MARKS["accession"], f"GA{n}"), (MARKS["study"], study),
            (f"{today:%Y%m%d}", f"{day:%Y%m%d}"),
        ):  # fmt: skip
            attributes = attributes.replace(mark.encode(), value.encode())
        said = {
            "id": n + FREE, "sop_instance_uid": f"2.25.8.{n}",
            "attributes": SealedBytes("workitem.attributes").seal(attributes, rooms.keys),
            "state": "SCHEDULED" if is_open else "COMPLETED", "patient_id": patient_id(n // 2),
            "patient_logical_id": f"patient-{n // 2}", "accession_number": f"GA{n}", "scheduled_date": day,
            "study_instance_uid": study, "ended_at": None if is_open else template["created_at"],
        }  # fmt: skip
        rows.append(tuple((template | said).values()))
    _copy(rooms, table_of(Workitem), tuple(template), rows)


def _copy(rooms: Rooms, table: Table, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Rows by COPY, PostgreSQL's way for many."""
    lines = io.StringIO("\n".join(_lines(rows)) + "\n")
    if lines.getvalue() == "\n":
        return
    connection = rooms.database.engine.raw_connection()
    try:
        named = ", ".join(f'"{column}"' for column in columns)
        connection.cursor().copy_expert(f"COPY {table.name} ({named}) FROM STDIN", lines)
        connection.commit()
    finally:
        connection.close()


def _lines(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    return ("\t".join(map(_field, row)) for row in rows)


def _field(value: Any) -> str:
    """A value as COPY's text format has it."""
    match value:
        case None:
            return "\\N"
        case bool():
            return "t" if value else "f"
        case bytes():
            return "\\\\x" + value.hex()
        case datetime() | date():
            return value.isoformat()
        case str():
            return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
        case _:
            return str(value)
