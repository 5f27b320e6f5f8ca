"""Rows: a study, a series and an instance as their tables have them, drawn from what one object says.

Nothing is asked of the database here, so all of it can be done before a transaction. What depends on what is
there already (ids, counts, whose study it is) is added within (`archive.placing`).
"""

from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import String

from access.caller import Caller
from archive.blobs.sealed import Sealed
from archive.documents import dump_marked
from archive.folding import fold, name_columns
from archive.header import Header
from archive.keys import INDEX_VERSION, INSTANCE_TAGS, RETRIEVE_URL, SERIES_TAGS, STUDY_TAGS
from archive.model import Instance, Series, Study
from archive.query import normal_time
from kernel.clock import new_id
from kernel.database import table_of
from mpi.demographics import Demographics

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """A row but for what only the database knows, and the answer that will carry its counts."""

    row: Row
    answer: Row


def study_draft(caller: Caller, header: Header, institution: str) -> Draft:
    """A new study, of what its first object says."""
    uid = header.study_instance_uid
    answer = {tag: value for tag, value in header.attributes.items() if tag in STUDY_TAGS}
    answer["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    answer["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    answer[RETRIEVE_URL] = {"vr": "UR", "Value": [f"\x01/studies/{uid}"]}
    for tag, vr in STUDY_TYPE_2.items():
        answer.setdefault(tag, {"vr": vr})
    row = {
        "study_instance_uid": uid,
        "logical_id": new_id(),
        "institution": institution,
        "department": caller.principal.department,
        "patient_id": header.text("00100020"),
        "issuer_of_patient_id": header.text("00100021"),
        **name_columns(header.text("00100010"), header.text("00080090")),
        "patient_birth_date": header.date("00100030"),
        "patient_sex": header.text("00100040"),
        "study_date": header.date("00080020"),
        "study_time": _time(header.text("00080030")),
        "accession_number": header.text("00080050"),
        "study_id": header.text("00200010"),
        "study_description": fold(header.text("00081030")),
        "revision": 1,
        "rested_revision": -1,
        "indexed_version": INDEX_VERSION,
        "tier": "",
    }
    return Draft(_cut(Study, row), answer)


def series_draft(header: Header) -> Draft:
    """A new series, of what its first object says."""
    answer = {tag: value for tag, value in header.attributes.items() if tag in SERIES_TAGS}
    answer["0020000D"] = {"vr": "UI", "Value": [header.study_instance_uid]}
    answer["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    url = f"\x01/studies/{header.study_instance_uid}/series/{header.series_instance_uid}"
    answer[RETRIEVE_URL] = {"vr": "UR", "Value": [url]}
    answer.setdefault("00080060", {"vr": "CS"})
    answer.setdefault("00200011", {"vr": "IS"})
    row = {
        "series_instance_uid": header.series_instance_uid,
        "modality": header.text("00080060"),
        "series_number": header.number("00200011"),
        "series_description": fold(header.text("0008103E")),
        "body_part_examined": header.text("00180015"),
        "series_date": header.date("00080021"),
        "station_name": header.text("00081010"),
        "manufacturer": header.text("00080070"),
        "performed_procedure_step_start_date": header.date("00400244"),
        "performed_procedure_step_start_time": _time(header.text("00400245")),
        "revision": 1,
        "bundle_revision": -1,
    }
    return Draft(_cut(Series, row), answer)


def instance_row(caller: Caller, header: Header, sealed: Sealed, document: bytes) -> Row:
    """An instance, without study and series."""
    answer = {tag: value for tag, value in header.attributes.items() if tag in INSTANCE_TAGS}
    answer["0020000D"] = {"vr": "UI", "Value": [header.study_instance_uid]}
    answer["0020000E"] = {"vr": "UI", "Value": [header.series_instance_uid]}
    answer["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    answer["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    answer["00083002"] = {"vr": "UI", "Value": [header.transfer_syntax_uid]}
    url = f"\x01/studies/{header.study_instance_uid}/series/{header.series_instance_uid}"
    answer[RETRIEVE_URL] = {"vr": "UR", "Value": [f"{url}/instances/{header.sop_instance_uid}"]}
    bulk = {path: [value.offset, value.length, value.vr] for path, value in header.bulk.items()}
    return _cut(
        Instance,
        {
            "sop_instance_uid": header.sop_instance_uid,
            "sop_class_uid": header.sop_class_uid,
            "transfer_syntax_uid": header.transfer_syntax_uid,
            "instance_number": header.number("00200013"),
            "number_of_frames": header.frames.count,
            "content_date": header.date("00080023"),
            "rows": header.number("00280010") or 0,
            "columns": header.number("00280011") or 0,
            "size_bytes": sealed.size_bytes,
            "sha256": sealed.sha256,
            "blob_key": sealed.key,
            "seal": sealed.seal.pack(),
            "frames": header.frames.packed,
            "bulk": orjson.dumps(bulk).decode(),
            "attributes": dump_marked(dict(sorted(answer.items()))),
            "document": document,
            "repairs": "\n".join((*header.repairs, *header.warnings)),
            "source": caller.principal.id,
            "door": caller.door.value,
        },
    )


def demographics_of(header: Header, institution: str, issuer: str) -> Demographics:
    """What the header says of the patient, for the master patient index. `issuer` gave an ID that names
    none."""
    return Demographics(
        issuer=header.text("00100021") or issuer,
        identifier=header.text("00100020"),
        institution=institution,
        name=header.text("00100010"),
        birth_date=header.date("00100030"),
        sex=header.text("00100040"),
    )


STUDY_TYPE_2 = {  # required in the answer, with no value if need be (PS3.18 10.6.3.3.1)
    "00080020": "DA", "00080030": "TM", "00080050": "SH", "00080090": "PN", "00100010": "PN",
    "00100020": "LO", "00100030": "DA", "00100040": "CS", "00200010": "SH",
}  # fmt: skip


def _time(text: str) -> str:
    try:
        return normal_time(text)
    except ValueError:
        return ""


def _cut(table: type[Study | Series | Instance], row: Row) -> Row:
    """Searched texts cut to their columns: what is longer than the standard allows is found by its
    beginning."""
    for name, most in _LENGTHS[table]:
        if len(row.get(name, "")) > most:
            row[name] = row[name][:most]
    return row


_LENGTHS = {
    table: tuple(
        (column.name, column.type.length)
        for column in table_of(table).columns
        if isinstance(column.type, String) and column.type.length
    )
    for table in (Study, Series, Instance)
}
