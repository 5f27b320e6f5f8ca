"""What came in by any door is sealed where it is kept: neither the tables nor the database's log show it."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import inspect, select, text

from access.accounts import create_account, sign_in
from access.caller import Caller, Door
from access.family import add_person, list_persons, remove_person
from access.federation import link_account
from access.grant_model import ShareVisit
from access.grants import BEARER, LINK, Named, Terms, begin_visit, list_grants, make_grant
from access.phones import masked
from access.site import break_glass
from access.tokens import ACCESS, SESSION, caller_of, issue
from access.trail import TrailQuery, search_trail
from archive.attributes import document
from archive.ingest import ingest
from archive.keys import Level
from archive.performed_steps import create_performed_step, read_performed_step
from archive.query import Query
from archive.search import search
from archive.workitem_events import FILTERED_WORKLIST, subscribe
from archive.workitem_search import search_workitems
from archive.workitems import create_workitem, read_workitem
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from hl7_listener.receiving import receive
from hl7_listener.room import hl7_of
from messaging.send import list_messages, queue_message
from records.audit_events import index_audit
from records.bulk_model import BulkJob
from records.share_consents import index_shares
from records.subscription_model import SubscriptionState
from tests.archive.test_workitems import scheduled
from tests.builders import ct_slice
from tests.builders_hl7 import adt_a04, omi_o23, oru_r01
from tests.fhir_server.test_fhir import JSON, bearer
from tests.settling import settle

PASSWORD = "Right-Horse-9-Battery"
IDENTITY = "urn:oid:2.16.156.10011.1.3"  # the identity numbers of China


class Secrets:
    """Texts that stand nowhere else, so that whatever shows them came from this test."""

    def __init__(self) -> None:
        digits = f"{uuid4().int:039d}"
        self.number = f"51010419850612{digits[:3]}X"
        self.phone = f"139{digits[3:11]}"
        self.mail = f"m{digits[11:19]}@example.org"
        self.street = f"学府路{digits[19:26]}号"
        rare = "".join(chr(0x3400 + int(digits[at : at + 4]) % 6000) for at in range(0, 32, 4))
        self.latin = "q" + "".join("abcdefghij"[int(digit)] for digit in digits[11:26])
        self.pairs = [rare[at : at + 2] for at in range(len(rare) - 1)]
        self.finding = f"左肺上叶见{rare}，{self.latin}，结节{digits[26:33]}毫米"
        self.staff = f"诸葛{digits[33:36]}{digits[:4]}"
        self.recipient = f"上官{digits[36:]}{digits[4:8]}"
        self.subject = f"https://sso.example.org e{digits[8:16]}"

    def all(self) -> list[str]:
        """Each of them, and the words of the finding: of Chinese its pairs."""
        people = [self.staff, self.recipient, self.subject, masked(self.phone)]
        words = [self.finding, self.latin, self.latin[:8], *self.pairs]
        return [self.number, self.phone, self.mail, self.street, *words, *people]


def by_fhir(rooms: Rooms, caller: Caller, said: Secrets) -> None:
    """A patient with its report, as an app writes them; the patient is changed once."""
    client, headers = create_app(rooms).test_client(), bearer(rooms) | JSON
    patient = {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": IDENTITY, "value": said.number}],
        "name": [{"family": "张", "given": ["伟"], "text": "张伟"}],
        "telecom": [{"system": "phone", "value": said.phone}, {"system": "email", "value": said.mail}],
        "address": [{"text": f"成都市{said.street}", "line": [said.street], "city": "成都市"}],
    }
    for gender in ("male", "other"):
        body = json.dumps(patient | {"gender": gender})
        assert client.put("/fhir/Patient/p1", data=body, headers=headers).status_code in (200, 201)
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"text": "CT"},
        "subject": {"reference": "Patient/p1"},
        "conclusion": said.finding,
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{said.finding}</div>',
        },
    }
    assert client.post("/fhir/DiagnosticReport", data=json.dumps(report), headers=headers).status_code == 201
    for query in (f"identifier={IDENTITY}|{said.number}", f"phone={said.phone}"):
        found = json.loads(client.get(f"/fhir/Patient?{query}", headers=headers).data)
        assert [each["resource"]["id"] for each in found["entry"]] == ["p1"], query
    settle(rooms)
    for word in (*said.pairs, said.latin, said.latin[:8]):
        for code in ("_content", "_text"):
            found = json.loads(client.get(f"/fhir/DiagnosticReport?{code}={word}", headers=headers).data)
            assert len(found["entry"]) == 1, (code, word)


def by_hl7(rooms: Rooms, caller: Caller, said: Secrets) -> None:
    """A registration, an order and a report."""
    pid = (
        f"PID|1||1001^^^HIS^MR~{said.number}^^^PRC^NI||张^伟^^^^^^I||19850612|M|||{said.street}^^成都市"
        f"||{said.phone}^^^{said.mail}|||||||{said.number}"
    )
    hl7 = hl7_of(rooms.by_kind())
    for message in (adt_a04(pid), omi_o23(pid=pid), oru_r01(text=said.finding, pid=pid)):
        answers = receive(hl7, caller, message)
        assert answers.is_positive, answers


def item(**attributes: str) -> Dataset:
    """An item of a sequence."""
    return Dataset.from_json(document(**attributes))


def by_dicom(rooms: Rooms, caller: Caller, said: Secrets) -> None:
    """A study whose images say all of it."""
    other = item(PatientID=said.number, TypeOfPatientID="TEXT")
    image = ct_slice(
        OtherPatientIDsSequence=[other],
        OtherPatientIDs=said.number,
        PatientTelephoneNumbers=said.phone,
        PatientAddress=f"成都市{said.street}",
        PatientComments=f"{said.mail} {said.finding}",
        ImageComments=said.finding,
        ProcedureCodeSequence=[item(CodeValue="1", CodingSchemeVersion=said.street)],
        RequestAttributesSequence=[item(ScheduledProcedureStepDescription=said.finding)],
        ReferencedRequestSequence=[item(RequestedProcedureDescription=said.finding)],
    )
    ingest(rooms.archive, caller, io.BytesIO(image))
    for level, told in (
        (Level.STUDY, said.street),
        (Level.SERIES, said.finding),
        (Level.INSTANCE, said.finding),
    ):
        assert told.encode() in search(rooms.archive, caller, Query(level)).rows[0]


def by_worklist(rooms: Rooms, caller: Caller, said: Secrets) -> None:
    """Work of a patient whom nothing else tells of, what a modality did, and who wants to hear of it."""
    patient = {"PatientName": said.recipient, "PatientComments": said.finding, "PatientAddress": said.street}
    subscribe(rooms.archive, caller, "WATCH", FILTERED_WORKLIST, keys=document(PatientName=said.recipient))
    uid = create_workitem(rooms.archive, caller, scheduled(**patient)).sop_instance_uid
    found = list(search_workitems(rooms.archive, caller, document(PatientName=said.recipient)))
    assert len(found) == 1
    assert said.finding in str(read_workitem(rooms.archive, caller, uid))
    step = create_performed_step(
        rooms.archive, caller,
        document(
            PerformedProcedureStepID="1", PerformedStationAETitle="CT1", Modality="CT",
            PerformedProcedureStepStartDate="20260301", PerformedProcedureStepStartTime="0830",
            PerformedProcedureStepStatus="IN PROGRESS",
            ScheduledStepAttributesSequence=[document(StudyInstanceUID="1.2.3")], **patient,
        ),
    )  # fmt: skip
    assert said.recipient in str(read_performed_step(rooms.archive, caller, step))


def by_people(rooms: Rooms, caller: Caller, said: Secrets) -> None:
    """An account that shares images, breaks the glass, and is noted with its name and reasons."""
    access = rooms.access
    with access.database.transaction() as session:
        create_account(access, session, caller, "zg", PASSWORD, "physician", name=said.staff)
    issuer, _, subject = said.subject.partition(" ")
    link_account(access, caller, "zg", issuer, subject)
    secret = sign_in(access, "zg", PASSWORD, "10.1.2.3").secret
    holder = caller_of(access, secret, (SESSION,), Door.WEB, "10.1.2.3").principal
    assert holder.name == said.staff
    named = replace(caller, principal=replace(caller.principal, name=said.staff))
    with access.database.transaction() as session:
        terms = Terms(binding=BEARER, recipient=said.recipient, reason=said.finding)
        make_grant(access, session, named, LINK, Named("", "p1", studies=(("1.2.3", "p1"),)), terms)
    (shown,) = list_grants(access, caller)
    told = (shown.grant.recipient, shown.grant.reason, shown.grant.made_by_name)
    assert told == (said.recipient, said.finding, said.staff)
    add_person(access, named, "p1", said.phone, said.recipient, "spouse")
    staff = replace(holder, institution="H")
    break_glass(access, replace(named, principal=staff), "p1", said.finding, timedelta(hours=1))
    index_audit(rooms.records)
    index_shares(rooms.records)
    assert [each.detail for each in search_trail(access, caller, TrailQuery(principal=said.staff))] != []
    client, headers = create_app(rooms).test_client(), bearer(rooms)
    found = json.loads(client.get(f"/fhir/AuditEvent?agent-name={said.staff}", headers=headers).data)
    assert {each["resource"]["agent"][0]["name"] for each in found["entry"]} == {said.staff}


def by_requests(rooms: Rooms, caller: Caller, said: Secrets) -> None:
    """What an app of somebody wants to be told of, and to have exported."""
    client = create_app(rooms).test_client()
    with rooms.database.transaction() as session:
        account_id = create_account(
            rooms.access, session, caller, "zg", PASSWORD, "operator", name=said.staff
        )
        token = issue(
            rooms.access, session, ACCESS, life_s=600, account_id=account_id, scope="user/*.cruds system/*.rs"
        )
    headers = {"Authorization": f"Bearer {token}"} | JSON
    wanted = {
        "resourceType": "Subscription", "status": "requested", "reason": "x",
        "criteria": f"Observation?value-string={said.latin}",
        "channel": {"type": "websocket", "payload": JSON["Content-Type"]},
    }  # fmt: skip
    made = client.post("/fhir/Subscription", data=json.dumps(wanted), headers=headers)
    assert made.status_code == 201, made.data
    found = client.get("/fhir/Subscription", query_string={"criteria": wanted["criteria"]}, headers=headers)
    assert len(json.loads(found.data)["entry"]) == 1
    query = urlencode({"_type": "Patient", "_typeFilter": f"Patient?phone={said.phone}"})
    begun = client.get(f"/fhir/$export?{query}", headers=headers | {"Prefer": "respond-async"})
    assert begun.status_code == 202, begun.data
    with rooms.database.snapshot() as session:
        state, asked = (
            session.scalars(select(SubscriptionState)).one(),
            session.scalars(select(BulkJob)).one(),
        )
    assert said.latin in state.criteria
    assert said.phone in asked.asked
    assert said.staff in state.owner


def by_visitors(rooms: Rooms, caller: Caller, said: Secrets) -> None:
    """Who opens a share by a telephone, whom a message told of it."""
    access = rooms.access
    with access.database.transaction() as session:
        named = Named("", "p1", studies=(("1.2.3", "p1"),))
        made = make_grant(access, session, caller, LINK, named, Terms(binding=BEARER))
        begin_visit(access, session, made.id, "family", said.phone, "10.1.2.3")
        queue_message(rooms.messaging, session, "sms", said.phone, "code", {"code": "123456"})
    person = add_person(access, caller, "p1", said.phone, said.recipient, "spouse")
    assert [each.phone for each in list_persons(access, caller, frozenset({"p1"}))] == [masked(said.phone)]
    remove_person(access, caller, person)
    with access.database.snapshot() as session:
        visit = session.scalars(select(ShareVisit)).one()
        assert (visit.visitor, visit.revoked_at is not None) == (masked(said.phone), True)
        assert [each.masked for each in list_messages(rooms.messaging, session)] == [masked(said.phone)]


DOORS: tuple[Callable[[Rooms, Caller, Secrets], None], ...] = (
    by_fhir,
    by_hl7,
    by_dicom,
    by_worklist,
    by_people,
    by_requests,
    by_visitors,
)


def log_position(rooms: Rooms) -> str:
    """Where the database's log is now."""
    if rooms.database.is_sqlite:
        return ""
    with rooms.database.snapshot() as session:
        return str(session.scalar(text("SELECT pg_current_wal_insert_lsn()::text")))


def kept(rooms: Rooms, since: str) -> Iterator[tuple[str, bytes]]:
    """All that the database keeps, by table or file: rows as they are, and the files and the log."""
    with rooms.database.snapshot() as session:
        for name in inspect(session.connection()).get_table_names():
            for row in session.execute(text(f'SELECT * FROM "{name}"')):
                for value in row:
                    yield name, bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
    if rooms.database.is_sqlite:
        path = Path(str(rooms.database.url.database))
        for file in path.parent.glob(f"{path.name}*"):
            yield file.name, file.read_bytes()
        return
    with rooms.database.snapshot() as session:
        now = session.scalar(text("SELECT pg_walfile_name(pg_current_wal_insert_lsn())"))
        first = session.scalar(text("SELECT pg_walfile_name(CAST(:since AS pg_lsn))"), {"since": since})
        there = session.scalars(text("SELECT name FROM pg_ls_waldir()")).all()
        for name in (each for each in there if str(first) <= each <= str(now)):
            log = session.scalar(text("SELECT pg_read_binary_file('pg_wal/' || :name)"), {"name": name})
            yield f"log {name}", bytes(log)


def shown(rooms: Rooms, since: str, texts: list[str]) -> set[tuple[str, str]]:
    """Which of the texts stands where, however JSON writes it."""
    forms = [(each, form) for each in texts for form in {each.encode(), json.dumps(each)[1:-1].encode()}]
    return {(where, each) for where, value in kept(rooms, since) for each, form in forms if form in value}


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_nothing_that_came_in_stands_in_the_database_in_clear(
    rooms: Rooms, operator: Caller, door: Callable[[Rooms, Caller, Secrets], None]
) -> None:
    said, since = Secrets(), log_position(rooms)

    door(rooms, operator, said)
    settle(rooms)

    assert shown(rooms, since, said.all()) == set()
