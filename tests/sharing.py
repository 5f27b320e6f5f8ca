"""What tests of sharing have in common: a study with a patient's phone, a report, and the messages sent."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import select

from access.caller import Caller, operator
from archive.ingest import ingest
from archive.model import Study
from cloudfilm.rooms import Rooms
from messaging.model import OutboundMessage
from mpi.demographics import Authority, Demographics
from mpi.resolve import identify
from records.orders import Number
from records.reports import Report, file_report
from tests.builders import ROOT, ct_slice
from tests.settling import settle

PHONE, OTHER_PHONE, FAMILY_PHONE = "13812345678", "13987654321", "13700001234"
REPORT_TEXT = "检查所见：\n双肺纹理清晰，右上肺见小结节，约4mm。\n诊断意见：\n右上肺小结节，建议随访。"


def register(rooms: Rooms, patient_id: str, name: str, phone: str, **said: Any) -> str:
    """A patient as the hospital registers it; returns the logical id."""
    with rooms.database.transaction() as session:
        demographics = Demographics(
            said.pop("issuer", "MAIN"), patient_id, "MAIN", name=name, phone=phone,
            authority=Authority.REGISTRATION, **said,
        )  # fmt: skip
        found = identify(rooms.mpi, session, operator("MAIN"), demographics)
        return found.patient_id


def store(rooms: Rooms, number: int, slices: int = 2, caller: Caller | None = None, **attributes: Any) -> str:
    """A study; returns its UID."""
    for at in range(1, slices + 1):
        data = ct_slice(study=number, instance=at, **attributes)
        ingest(rooms.archive, caller or operator("MAIN"), io.BytesIO(data))
    settle(rooms)
    return f"{ROOT}.{number}"


def report(
    rooms: Rooms, patient: str, accession_number: str, text: str = REPORT_TEXT,
    said: dict[str, Any] | None = None, **more: Any,
) -> str:  # fmt: skip
    """A final report, its document with what is `said` besides; returns its logical id."""
    with rooms.database.transaction() as session:
        filed = file_report(
            rooms.records, session, operator("MAIN"),
            Report(patient, "MAIN", Number(f"R-{accession_number}"), accession_number=accession_number,
                   text=text, document={"code": {"text": "胸部 CT 报告"}, **(said or {})}, **more),
        )  # fmt: skip
    settle(rooms)
    return filed


def two_patients(rooms: Rooms) -> tuple[str, str, str, str]:
    """Patients A and B with a study and a report each: their study UIDs and logical ids."""
    register(rooms, "P1", "张伟", PHONE)
    register(rooms, "P2", "李娜", OTHER_PHONE)
    a = store(rooms, 1)
    b = store(rooms, 2, PatientID="P2", PatientName="Li^Na=李^娜", AccessionNumber="B-2")
    with rooms.database.snapshot() as session:
        owners = dict(session.execute(select(Study.study_instance_uid, Study.patient_logical_id)).all())
    report(rooms, owners[a], "A0001")
    report(rooms, owners[b], "B-2", "检查所见：\nGEHEIM-B")
    return a, b, owners[a], owners[b]


def sent(rooms: Rooms) -> Iterator[tuple[str, dict[str, str]]]:
    """Phone and values of every text message, the newest first."""
    with rooms.database.snapshot() as session:
        rows = session.scalars(select(OutboundMessage).order_by(OutboundMessage.created_at.desc())).all()
    for row in rows:
        phone = rooms.keys.open_bytes(row.recipient, f"message {row.id}").decode()
        yield phone, json.loads(rooms.keys.open_bytes(row.values, f"values {row.id}"))


def last_code(rooms: Rooms) -> str:
    """The code that was sent last."""
    return next(values["code"] for _, values in sent(rooms) if "code" in values)


def secret_of(url: str) -> str:
    """The secret in a share's link."""
    found = re.fullmatch(r"https?://[^/]+/share#([A-Za-z0-9_-]{43})", url)
    assert found, url
    return found[1]
