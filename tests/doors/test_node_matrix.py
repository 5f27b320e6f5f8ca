"""Every DIMSE service and every HL7 v2 message, for nodes of two institutions with every right and with none:
nobody learns anything of a patient, and does nothing, beyond what its row says.
"""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StorageCommitmentPushModelInstance,
)
from sqlalchemy import select

from access.caller import Action, Door, operator
from access.model import Node
from access.nodes import NODE_PERMISSIONS, UnknownNode, identify_node
from access.rules import RULES
from access.site_documents import put_document
from archive.ingest import ingest
from archive.model import Study
from cloudfilm.rooms import Rooms
from dimse.server import Server, services
from dimse.ups import PUSH as UPS_PUSH
from hl7_listener.messages import HANDLERS
from hl7_listener.receiving import receive
from hl7_listener.room import hl7_of
from kernel.errors import CloudfilmError
from kernel.settings import AccessSettings, DimseSettings
from tests.archive.test_workitems import scheduled
from tests.builders import ct_slice
from tests.builders_hl7 import message
from tests.conftest import Host
from tests.dimse.peers import steady
from tests.dimse.test_workflow import step
from tests.doors.service_actions import DIMSE_ACTIONS, MESSAGE_ACTION, OPEN
from tests.settling import settle

MARKS = ("Geheim", "BETA-77", "ACC-BETA")  # what only the other institution's objects say
RIGHTS = ("none", *NODE_PERMISSIONS)
FOUND = 0xFF00, 0xFF01
SUCCESS = 0x0000


@dataclass
class World:
    """A server with one patient in institution A and one in B, and a node of A and of B for every right."""

    rooms: Rooms
    port: int
    studies: dict[str, str]

    def node(self, right: str, institution: str = "A") -> str:
        """The AE title of a node with this right alone."""
        return f"{institution}-{right}".upper()[:16]


@pytest.fixture(scope="module")
def world(host: Host) -> Iterator[World]:
    with host("nodes", access=AccessSettings(loopback_ae=False), dimse=DimseSettings(port=0)) as rooms:
        patients: dict[str, dict[str, Any]] = {
            "A": {"PatientID": "ALPHA-11", "PatientName": "Offen^Anna"},
            "B": {"PatientID": "BETA-77", "PatientName": "Geheim^Berta", "AccessionNumber": "ACC-BETA"},
        }
        for number, (institution, attributes) in enumerate(patients.items(), 1):
            ingest(rooms.archive, operator(institution), io.BytesIO(ct_slice(study=number, **attributes)))
        settle(rooms)
        with rooms.database.transaction() as session:
            rows = session.execute(select(Study.institution, Study.study_instance_uid)).all()
            for institution in ("A", "B"):
                for right in RIGHTS:
                    session.add(
                        Node(
                            ae_title=f"{institution}-{right}".upper()[:16], addresses="127.0.0.0/8",
                            institution=institution, permissions="" if right == "none" else right,
                            created_at=rooms.clock.now(),
                        )
                    )  # fmt: skip
        server, stop = Server(rooms.dimse), threading.Event()
        server.listen()
        thread = threading.Thread(target=server.serve, args=(stop,), daemon=True)
        thread.start()
        yield World(rooms, server.ports[0], {str(row[0]): str(row[1]) for row in rows})
        stop.set()
        thread.join()
        server.stop()


def identifier(world: World, institution: str, service: str) -> Dataset:
    """What asks for one institution's study, in the way of the service."""
    keys = Dataset()
    if service == "Modality Worklist":
        keys.PatientName, keys.PatientID = "", ""
        keys.ScheduledProcedureStepSequence = [Dataset()]
        return keys
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = world.studies[institution]
    if service == "Query":
        keys.PatientName, keys.PatientID, keys.AccessionNumber = "", "", ""
    return keys


def ask(world: World, node: str, service: Any, operation: str, institution: str) -> tuple[list[int], str]:
    """One operation as a node: the statuses that came, and everything that was said or sent."""
    said: list[str] = []

    def take(event: evt.Event) -> int:
        said.append(str(event.dataset))
        return SUCCESS

    ae = AE(ae_title=node)
    sop_class = str(CTImageStorage) if service.name == "Storage" else service.sop_classes[0]
    ae.add_requested_context(sop_class)
    roles: list[Any] = []
    if operation == "C_GET":
        ae.add_requested_context(CTImageStorage)
        roles = [build_role(CTImageStorage, scp_role=True)]
    association = ae.associate(
        "127.0.0.1", world.port, ae_title="CLOUDFILM", ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, take)]
    )
    if not association.is_established:
        return [], ""
    keys = identifier(world, institution, service.name)
    answers: Iterator[tuple[Dataset, Dataset | None]]
    try:
        if operation == "C_ECHO":
            answers = iter([(association.send_c_echo(), None)])
        elif operation == "C_STORE":
            answers = iter([(association.send_c_store(new_object()), None)])
        elif operation == "C_FIND":
            answers = association.send_c_find(keys, sop_class)
        elif operation == "C_GET":
            answers = association.send_c_get(keys, sop_class)
        else:
            answers = association.send_c_move(keys, node, sop_class)
        told = list(answers)
    finally:
        association.release()
    said += [f"{status}\n{data or ''}" for status, data in told]
    return [int(status.Status) for status, _ in told if "Status" in status], "\n".join(said)


NUMBER = iter(range(100, 100000))


def new_object() -> Dataset:
    return dcmread(io.BytesIO(ct_slice(study=next(NUMBER), PatientID="ALPHA-11", PatientName="Offen^Anna")))


def may(right: str, action: str) -> bool:
    resource, _, verb = action.rpartition(".")
    return right != "none" and NODE_PERMISSIONS[right].allow(Action(resource, verb))


DECLARED = [
    (service, operation.name) for service in services(DimseSettings()) for operation in service.handlers
]
OPERATIONS = [each for each in DECLARED if each[1].startswith("C_")]
NORMALIZED = [each for each in DECLARED if each[1].startswith("N_")]
REFUSED = 0x0124  # Refused: not authorized (PS3.7 C.5.22)
FILM_SESSION = "1.2.840.10008.5.1.1.1"
NAMED_AS = {"Print Management": FILM_SESSION}  # the SOP class that a request names, if not its context's
ACTION_TYPES = {  # what of its actions takes the right that the table names
    "Unified Procedure Step - Push": 2,  # request cancel
    "Unified Procedure Step - Watch": 2,
    "Unified Procedure Step - Pull": 1,  # change state
    "Storage Commitment Push Model": 1,
    "Print Management": 1,
}
PEOPLE = {"A": ("ALPHA-11", "Offen^Anna"), "B": ("BETA-77", "Geheim^Berta")}


def thing(service: str, institution: str) -> str:
    """The UID of what an N-service asks about: each institution has a step and a workitem of its own."""
    if service.startswith("Storage Commitment"):
        return str(StorageCommitmentPushModelInstance)
    if service.startswith("Print Management"):
        return "2.25.778"  # the association's own film session, which N-CREATE begins
    kind = "1" if service.startswith("Modality Performed") else "2"
    return f"2.25.77{kind}{'AB'.index(institution)}"


def said_of(world: World, service: str, operation: str, institution: str) -> Dataset:
    """What goes with an N-service about one institution's patient."""
    said = Dataset()
    if operation == "N_CREATE" and service.startswith("Modality Performed"):
        said = step(world.studies[institution])
        said.PatientID, said.PatientName = PEOPLE[institution]
    elif operation == "N_CREATE" and service.startswith("Unified"):
        said = read_dataset(scheduled(PatientName=PEOPLE[institution][1], PatientID=PEOPLE[institution][0]))
    elif operation == "N_CREATE":
        said.PresentationLUTShape, said.NumberOfCopies = "IDENTITY", 1
    elif operation == "N_SET":
        said.PerformedProcedureStepDescription = "x"
    elif operation == "N_ACTION" and service.startswith("Storage Commitment"):
        said.TransactionUID = f"2.25.{next(NUMBER)}"
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "2.25.1"
        said.ReferencedSOPSequence = [item]
    elif operation == "N_ACTION" and service.startswith("Unified"):
        said.ProcedureStepState, said.TransactionUID = "IN PROGRESS", f"2.25.{next(NUMBER)}"
    return said


def read_dataset(document: dict[str, Any]) -> Dataset:
    return Dataset.from_json(document)


@contextmanager
def peer(world: World, node: str) -> Iterator[Association]:
    """An association of a node for every normalized service."""
    ae = AE(ae_title=node)
    for context in dict.fromkeys(service.sop_classes[0] for service, _ in NORMALIZED):
        ae.add_requested_context(context)
    told: list[Any] = [(evt.EVT_N_EVENT_REPORT, lambda _event: (SUCCESS, None))]
    association = steady(ae.associate("127.0.0.1", world.port, ae_title="CLOUDFILM", evt_handlers=told))
    try:
        yield association
    finally:
        association.release()


def act(
    world: World, node: Association, service: Any, operation: str, institution: str, uid: str = ""
) -> tuple[list[int], str]:
    """One N-service of a node: the statuses that came, and everything that was said."""
    context = service.sop_classes[0]
    named = UPS_PUSH if service.name.startswith("Unified") else NAMED_AS.get(service.name, context)
    said = said_of(world, service.name, operation, institution)
    at, answers = uid or thing(service.name, institution), []
    meta: dict[str, Any] = {"meta_uid": context if context != named else None}
    if operation == "N_CREATE":
        new = at if uid or service.name == "Print Management" else f"2.25.{next(NUMBER)}"
        answers.append(node.send_n_create(said, named, new, **meta))
    elif operation == "N_GET":
        answers.append(node.send_n_get([], named, at, **meta))
    elif operation == "N_SET":
        answers.append(node.send_n_set(said, named, at, **meta))
    elif operation == "N_DELETE":
        answers.append((node.send_n_delete(named, at, **meta), None))
    else:
        answers.append(node.send_n_action(said or None, ACTION_TYPES[service.name], named, at, **meta))
    statuses = [int(status.Status) for status, _ in answers if "Status" in status]
    return statuses, "\n".join(f"{status}\n{data or ''}" for status, data in answers)


@pytest.fixture(scope="module")
def things(world: World) -> World:
    """The world with a performed step and a workitem of each institution."""
    by_name = {service.name: service for service, _ in NORMALIZED}
    for institution in ("A", "B"):
        with peer(world, world.node("all", institution)) as node:
            for name in ("Modality Performed Procedure Step", "Unified Procedure Step - Push"):
                uid = thing(name, institution)
                statuses, said = act(world, node, by_name[name], "N_CREATE", institution, uid)
                assert statuses == [SUCCESS], said
    return world


def test_every_service_declares_what_it_needs() -> None:
    assert {(service.name, operation) for service, operation in DECLARED} == set(DIMSE_ACTIONS)


@pytest.mark.parametrize("right", RIGHTS)
def test_a_node_does_what_its_right_says_and_nothing_else(world: World, right: str) -> None:
    for service, operation in OPERATIONS:
        action = DIMSE_ACTIONS[(service.name, operation)]
        statuses, said = ask(world, world.node(right), service, operation, "A")
        refused = not statuses or statuses[-1] not in (SUCCESS, *FOUND)
        if action is not OPEN and not may(right, action):
            assert refused, f"{service.name} {operation}: {statuses}"
            assert "Offen" not in said
        if action is OPEN or (operation == "C_STORE" and may(right, action)):
            assert not refused, f"{service.name} {operation}: {statuses}"
        if service.name == "Query" and may(right, action):
            assert "Offen" in said


@pytest.mark.parametrize("right", RIGHTS)
def test_no_node_learns_of_the_other_institutions_patient(world: World, right: str) -> None:
    for service, operation in OPERATIONS:
        _, said = ask(world, world.node(right), service, operation, "B")
        assert not any(mark in said for mark in MARKS), f"{service.name} {operation}"


def test_what_is_not_there_and_what_is_not_ones_own_look_alike(world: World) -> None:
    for service, operation in OPERATIONS:
        if operation in ("C_ECHO", "C_STORE"):
            continue
        theirs = ask(world, world.node("all"), service, operation, "B")
        nowhere = replace(world, studies={"B": world.studies["B"] + ".9"})
        absent = ask(nowhere, world.node("all"), service, operation, "B")
        assert theirs[0] == absent[0], service.name
        assert theirs[1] == absent[1].replace(world.studies["B"] + ".9", world.studies["B"]), service.name


@pytest.mark.parametrize("right", RIGHTS)
def test_a_node_is_refused_the_normalized_services_that_its_right_does_not_name(
    things: World, right: str
) -> None:
    with peer(things, things.node(right)) as node:
        for service, operation in NORMALIZED:
            action = DIMSE_ACTIONS[(service.name, operation)]
            statuses, said = act(things, node, service, operation, "A")
            what = f"{service.name} {operation}: {said}"
            assert statuses, what
            if action is not OPEN and not may(right, action):
                assert set(statuses) == {REFUSED}, what
                assert "Offen" not in said
            else:
                assert REFUSED not in statuses, what


@pytest.mark.parametrize("right", RIGHTS)
def test_no_normalized_service_tells_of_the_other_institutions_patient(things: World, right: str) -> None:
    with peer(things, things.node(right)) as node:
        for service, operation in NORMALIZED:
            _, said = act(things, node, service, operation, "B")
            assert not any(mark in said for mark in MARKS), f"{service.name} {operation}"


def test_a_step_or_workitem_of_another_institution_looks_like_none(things: World) -> None:
    with peer(things, things.node("all")) as node:
        for service, operation in NORMALIZED:
            if operation == "N_CREATE" or not service.name.startswith(("Modality Performed", "Unified")):
                continue
            theirs = act(things, node, service, operation, "B")
            absent = act(things, node, service, operation, "B", "2.25.779")
            what = f"{service.name} {operation}"
            assert theirs[0] == absent[0], what
            assert theirs[1].replace(thing(service.name, "B"), "2.25.779") == absent[1], what


def test_an_unknown_node_is_asked_for_no_normalized_service(things: World) -> None:
    with peer(things, "STRANGER") as node:
        assert not node.is_established


@pytest.mark.parametrize("title", ["STRANGER", "a-find"])
def test_an_unknown_node_gets_no_association(world: World, title: str) -> None:
    for service, operation in OPERATIONS:
        assert ask(world, title, service, operation, "A") == ([], "")


def test_a_known_title_from_another_network_is_nobody(world: World) -> None:
    with pytest.raises(UnknownNode):
        identify_node(world.rooms.access, world.node("all"), "192.0.2.1")


def test_the_sites_rules_hold_for_nodes_too(world: World) -> None:
    query = next(each for each in OPERATIONS if each[0].name == "Query")
    rule = {"id": "no-find", "reason": "Not now.", "when": {"doors": ["dimse"]}, "deny": ["ImagingStudy.s"]}
    put_document(world.rooms.access, operator(), RULES, json.dumps({"rules": [rule]}))
    try:
        statuses, said = ask(world, world.node("find"), *query, "A")
        assert statuses[-1] not in (SUCCESS, *FOUND)
        assert "Offen" not in said
    finally:
        put_document(world.rooms.access, operator(), RULES, '{"rules": []}')
    assert "Offen" in ask(world, world.node("find"), *query, "A")[1]


MESSAGES = sorted({(row.code, event) for row in HANDLERS for event in (row.events or ("Z99",)) if event})


@pytest.mark.parametrize("right", RIGHTS)
def test_every_message_takes_the_right_to_send_messages(world: World, right: str) -> None:
    hl7 = hl7_of(world.rooms.by_kind())
    caller, _ = identify_node(world.rooms.access, world.node(right), "127.0.0.1", door=Door.HL7)
    for code, event in MESSAGES:
        raw = message(f"{code}^{event}", "PID|1||GAMMA-33^^^B||Neu^Nina||19800101|F")
        try:
            answers = b"".join(receive(hl7, caller, raw).messages)
        except CloudfilmError:
            answers = b"MSA|AR"
        accepted = b"MSA|AA" in answers
        if not may(right, MESSAGE_ACTION):
            assert not accepted, f"{code}^{event}"
        assert not any(mark.encode() in answers for mark in MARKS), f"{code}^{event}"


def test_no_query_message_tells_of_the_other_institutions_patient(world: World) -> None:
    hl7 = hl7_of(world.rooms.by_kind())
    caller, _ = identify_node(world.rooms.access, world.node("message"), "127.0.0.1", door=Door.HL7)
    for event, criteria in (("Q22", "@PID.5.1^Geheim"), ("Q22", "@PID.3.1^BETA-77"), ("Q23", "BETA-77^^^B")):
        raw = message(f"QBP^{event}", f"QPD|Q^Q^HL7|T1|{criteria}\rRCP|I")
        answers = b"".join(receive(hl7, caller, raw).messages).replace(criteria.encode(), b"")
        assert b"Berta" not in answers
        assert b"PID|" not in answers
