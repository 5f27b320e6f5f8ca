"""Who may associate, and what is agreed on: rejections, limits, extended negotiation, identity, TLS."""

import re
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1
from pynetdicom import AE
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    ModalityPerformedProcedureStep,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)
from sqlalchemy import select

from access.caller import operator
from access.model import AuditEntry
from archive.ingest import ingest
from archive.retrieve import Selection
from cloudfilm.rooms import Rooms, build_rooms
from dimse.associate import AssociateRequest, ProposedContext, UserInformation, encode_request
from dimse.peers import PeerUnavailable, known_peer, send_selection
from dimse.upper_layer import PduType
from kernel.settings import DimseSettings
from tests.builders import ROOT, ct_slice
from tests.certificates import Authority
from tests.dimse.door import Door, door_in, listening
from tests.dimse.peers import dcmtk, said, storescp
from tests.live import free_ports

FIND = StudyRootQueryRetrieveInformationModelFind


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signs the certificates of both sides."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, sqlite_template: Path
) -> Iterator[Door]:
    """A door with TLS, two studies, and nodes with limits."""
    ours, folder = authority.issue("server"), tmp_path_factory.mktemp("door")
    shutil.copyfile(sqlite_template, folder / "cloudfilm.db")
    settings = DimseSettings(
        tls_port=free_ports(1)[0], tls_certificate=str(ours.certificate), tls_key=str(ours.key),
        tls_ca=str(authority.certificate), max_associations=4, private_sop_classes=("1.3.46.670589.2.3.1.1",),
    )  # fmt: skip
    with door_in(folder, f"sqlite:///{folder}/cloudfilm.db", settings) as door:
        door.add_node("NARROW", max_associations=1)
        door.add_node("ELSEWHERE", addresses="10.0.0.0/8")
        door.add_node("PINNED", certificate=authority.issue("pinned").sha256)
        door.add_node("OLD", transfer_syntaxes=ImplicitVRLittleEndian)
        for data in (
            ct_slice(1, 1, 1, StudyDate="20260228", StudyTime="233000"),
            ct_slice(2, 1, 1, StudyDate="20260301", StudyTime="010000", PatientName="Li^Na=李^娜",
                     AccessionNumber=""),
        ):  # fmt: skip
            ingest(door.rooms.archive, operator(), BytesIO(data))
        yield door


def associate(
    server: Door, calling: str, *negotiation: Any, model: str = Verification, port: int = 0, **more: Any
) -> Any:
    """An association of pynetdicom's, established or not."""
    entity = AE(calling)
    entity.add_requested_context(model)
    return entity.associate(
        "127.0.0.1", port or server.dicom_port, ae_title="CLOUDFILM", ext_neg=list(negotiation), **more
    )


def answer_to(held: ExitStack, server: Door, calling: str) -> bytes:
    """The PDU that answers a request of this AE title, whose connection is held open until the stack ends."""
    request = encode_request(
        AssociateRequest(
            "CLOUDFILM",
            calling,
            (ProposedContext(1, Verification, (ImplicitVRLittleEndian,)),),
            UserInformation(),
        )
    )
    peer = held.enter_context(socket.create_connection(("127.0.0.1", server.dicom_port), timeout=30))
    peer.sendall(request)
    return peer.recv(65536)


def rejection(server: Door, calling: str) -> tuple[int, int, int]:
    """Result, source and reason of the A-ASSOCIATE-RJ that answers this AE title."""
    with ExitStack() as held:
        pdu = answer_to(held, server, calling)
    assert pdu[0] == PduType.ASSOCIATE_RJ
    return pdu[7], pdu[8], pdu[9]


def test_a_node_that_calls_from_elsewhere_is_rejected(server: Door) -> None:
    assert rejection(server, "ELSEWHERE") == (1, 1, 3)


def test_a_node_has_no_more_associations_than_its_limit_over_all_processes(server: Door) -> None:
    with ExitStack() as held:
        assert answer_to(held, server, "NARROW")[0] == PduType.ASSOCIATE_AC
        assert {rejection(server, "NARROW") for _ in range(4)} == {(2, 3, 2)}  # whoever of two takes them

    deadline = (
        time.monotonic() + 60
    )  # the place is free once the door has noticed that the connection is gone
    while not (again := associate(server, "NARROW")).is_established:
        assert time.monotonic() < deadline
    again.release()


def test_the_server_has_no_more_associations_than_its_limit(server: Door) -> None:
    with ExitStack() as held:
        answers = [answer_to(held, server, "MANY") for _ in range(2 * 4 + 4)]  # two listeners of four
    refused = [pdu for pdu in answers if pdu[0] == PduType.ASSOCIATE_RJ]

    assert refused
    assert {tuple(pdu[7:10]) for pdu in refused} == {(2, 3, 2)}


def test_asynchronous_operations_are_answered_with_one_at_a_time(server: Door) -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 8
    window.maximum_number_operations_performed = 8
    association = associate(server, "ASYNC", window)
    answered = association.acceptor.asynchronous_operations
    association.release()

    assert answered == (1, 1)


def test_a_user_is_accepted_and_stands_in_the_audit_trail(server: Door) -> None:
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 1
    identity.primary_field = b"dr.wang"
    identity.positive_response_requested = True
    association = associate(server, "STATION", identity)

    assert association.is_established
    assert association.acceptor.user_identity is not None
    association.release()
    with server.rooms.database.snapshot() as session:
        names = session.scalars(select(AuditEntry.principal_name).where(AuditEntry.principal_id == "STATION"))
        assert "STATION (dr.wang)" in set(names)


def test_every_association_stands_in_the_audit_trail_with_every_operation(server: Door) -> None:
    for _ in range(2):  # the second as well, however soon it comes
        entity = AE("AUDITED")
        entity.add_requested_context(Verification)
        entity.add_requested_context(FIND)
        association = entity.associate("127.0.0.1", server.dicom_port, ae_title="CLOUDFILM")
        for _ in range(3):
            association.send_c_echo()
        without_level = Dataset()
        without_level.PatientID = "1"
        list(association.send_c_find(without_level, FIND))
        association.release()

    def ended() -> list[str]:
        with server.rooms.database.snapshot() as session:
            return list(
                session.scalars(
                    select(AuditEntry.detail).where(
                        AuditEntry.principal_id == "AUDITED", AuditEntry.action == "end association"
                    )
                )
            )

    deadline = time.monotonic() + 60
    while len(ended()) < 2:  # it is written once the peer has gone
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for entry in ended():
        assert re.fullmatch(r"C-ECHO 3, C-FIND 1 \(A900\); \d+ bytes in, \d+ out; released", entry)


def test_a_private_storage_class_of_the_settings_is_accepted_and_another_is_not(server: Door) -> None:
    entity = AE("VENDOR")
    entity.add_requested_context("1.3.46.670589.2.3.1.1")
    entity.add_requested_context("1.3.46.670589.9.9.9.9")
    association = entity.associate("127.0.0.1", server.dicom_port, ae_title="CLOUDFILM")
    accepted = [str(context.abstract_syntax) for context in association.accepted_contexts]
    refused = [context.result for context in association.rejected_contexts]
    association.release()

    assert accepted == ["1.3.46.670589.2.3.1.1"]
    assert refused == [3]


def test_a_data_set_without_elements_is_answered_though_it_was_announced_and_does_not_come(
    server: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pynetdicom sends nothing at all for an empty data set, and says that there is one."""
    monkeypatch.setattr("dimse.association.EMPTY_AFTER_S", 0.2)
    association = associate(server, "MODALITY", model=ModalityPerformedProcedureStep)
    status, _ = association.send_n_create(Dataset(), ModalityPerformedProcedureStep, "1.2.3.4")
    again, _ = association.send_n_set(Dataset(), ModalityPerformedProcedureStep, "1.2.3.4")
    association.release()

    assert (status.Status, again.Status) == (0x0120, 0x0112)


def test_an_unknown_transfer_syntax_is_refused_alone(server: Door) -> None:
    entity = AE("VENDOR")
    entity.add_requested_context(CTImageStorage, "1.2.3.4.5")
    entity.add_requested_context(CTImageStorage, ["1.2.3.4.5", JPEGLosslessSV1])
    association = entity.associate("127.0.0.1", server.dicom_port, ae_title="CLOUDFILM")
    association.release()

    assert [context.result for context in association.rejected_contexts] == [4]
    assert association.accepted_contexts[0].transfer_syntax == [JPEGLosslessSV1]


def find(association: Any, **keys: Any) -> list[Dataset]:
    """The matches of a study query."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = ""
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return [answer for status, answer in association.send_c_find(identifier, FIND) if status.Status != 0]


def negotiated(server: Door, proposed: bytes) -> tuple[Any, bytes]:
    """An association for queries, and what it agreed on."""
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = FIND
    item.service_class_application_information = proposed
    association = associate(server, "ASKER", item, model=FIND)
    agreed = association.acceptor.sop_class_extended
    return association, agreed.get(FIND, b"")


def test_what_a_query_may_ask_for_is_agreed_on_byte_by_byte(server: Door) -> None:
    association, agreed = negotiated(server, b"\x01\x01\x01\x01\x01\x01\x01")
    association.release()
    assert agreed == b"\x01\x01\x01\x01\x00\x01\x01"

    association, agreed = negotiated(server, b"\x01\x00\x01")
    association.release()
    assert agreed == b"\x01\x00\x01"


def test_dates_and_times_are_matched_together_where_that_was_agreed_on(server: Door) -> None:
    """From 23:00 on one day until 00:30 on the next: apart, no time of day would be in both."""
    keys = {"StudyDate": "20260228-20260301", "StudyTime": "230000-003000"}
    combined, _ = negotiated(server, b"\x01\x01")
    found = find(combined, **keys)
    combined.release()

    assert [answer.StudyInstanceUID for answer in found] == [f"{ROOT}.1"]


def test_names_are_matched_by_sound_where_that_was_agreed_on(server: Door) -> None:
    fuzzy, _ = negotiated(server, b"\x01\x00\x01")
    assert len(find(fuzzy, PatientName="li na")) == 1
    fuzzy.release()

    literal, _ = negotiated(server, b"\x01")
    assert find(literal, PatientName="li na") == []
    literal.release()


def test_a_time_zone_moves_what_is_asked_and_what_is_answered(server: Door) -> None:
    """23:30 in China is 15:30 in UTC, and 01:00 on the next day still the day before."""
    association, _ = negotiated(server, b"\x01\x01\x00\x01")
    keys: dict[str, Any] = {"TimezoneOffsetFromUTC": "+0000", "StudyDate": "20260228", "StudyTime": ""}
    found = find(association, **keys)
    association.release()

    moments = sorted((answer.StudyDate, answer.StudyTime[:4]) for answer in found)
    assert moments == [("20260228", "1530"), ("20260228", "1700")]
    assert {answer.TimezoneOffsetFromUTC for answer in found} == {"+0000"}


def test_what_has_no_value_is_found_by_an_empty_one(server: Door) -> None:
    association, _ = negotiated(server, b"\x01\x00\x00\x00\x00\x01")
    found = find(association, AccessionNumber='""')
    association.release()

    assert [answer.StudyInstanceUID for answer in found] == [f"{ROOT}.2"]


@pytest.mark.parametrize("term", ["GB18030", "ISO_IR 192", ["", "ISO 2022 IR 58"]])
def test_answers_come_in_the_character_set_of_the_asker(server: Door, term: Any) -> None:
    association, _ = negotiated(server, b"\x01")
    keys: dict[str, Any] = {"SpecificCharacterSet": term, "PatientName": "Li^Na*"}
    (answer,) = find(association, **keys)
    association.release()

    assert answer.SpecificCharacterSet == term
    assert str(answer.PatientName).replace("\x1b$)A", "") == "Li^Na=李^娜"  # pydicom leaves this escape


@pytest.mark.parametrize("term", ["GB18030", "ISO_IR 192", ["", "ISO 2022 IR 58"]])
def test_names_are_asked_for_in_the_character_set_of_the_asker(server: Door, term: Any) -> None:
    association, _ = negotiated(server, b"\x01")
    keys: dict[str, Any] = {"SpecificCharacterSet": term, "PatientName": "李*"}
    found = find(association, **keys)
    association.release()

    assert [answer.StudyInstanceUID for answer in found] == [f"{ROOT}.2"]


def test_a_set_that_cannot_hold_the_answer_gives_way_to_utf_8(server: Door) -> None:
    association, _ = negotiated(server, b"\x01")
    (answer,) = find(association, SpecificCharacterSet="ISO_IR 100", PatientName="Li^Na*")
    association.release()

    assert (answer.SpecificCharacterSet, answer.PatientName) == ("ISO_IR 192", "Li^Na=李^娜")


def test_a_level_that_the_model_has_not_is_refused(server: Door) -> None:
    association, _ = negotiated(server, b"\x01")
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.PatientID = "PATIENT", ""
    ((status, _),) = list(association.send_c_find(identifier, FIND))
    association.release()

    assert status.Status == 0xA900


# -- TLS ----------------------------------------------------------------------------------------------------


def tls_port(server: Door) -> int:
    """Where it listens under TLS."""
    return server.rooms.settings.dimse.tls_port


@contextmanager
def revoking(server: Door, authority: Authority) -> Iterator[Rooms]:
    """The same host, with the authority's list, on which nobody stands yet, and a TLS port of its own."""
    settings = server.rooms.settings
    rooms = build_rooms(
        replace(
            settings,
            access=replace(settings.access, revocation_lists=(str(authority.revocation_list()),)),
            dimse=replace(settings.dimse, tls_port=free_ports(1)[0]),
        )
    )
    try:
        yield rooms
    finally:
        rooms.close()


def client_tls(authority: Authority, name: str) -> ssl.SSLContext:
    own = authority.issue(name)
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.check_hostname = False
    context.load_cert_chain(own.certificate, own.key)
    return context


def tls_echo(server: Door, authority: Authority, name: str, calling: str = "TESTER", port: int = 0) -> Any:
    """Run dcmtk's echoscu over TLS with a certificate."""
    own = authority.issue(name)
    return dcmtk(
        "echoscu", "-v", "-aet", calling, "-aec", "CLOUDFILM", "+tls", own.key, own.certificate,
        "+cf", authority.certificate, "127.0.0.1", port or tls_port(server),
    )  # fmt: skip


def test_dcmtk_associates_under_tls_with_a_certificate_of_the_authority(
    server: Door, authority: Authority
) -> None:
    done = tls_echo(server, authority, "client")

    assert done.returncode == 0, said(done)


def test_without_a_certificate_there_is_no_association(server: Door, authority: Authority) -> None:
    done = dcmtk(
        "echoscu", "-v", "-aec", "CLOUDFILM", "+tla", "-ic", "127.0.0.1", tls_port(server)
    )  # fmt: skip
    assert done.returncode != 0

    stranger = Authority(authority.folder / "stranger")
    assert tls_echo(server, stranger, "client").returncode != 0


def test_a_pinned_node_needs_its_own_certificate(server: Door, authority: Authority) -> None:
    assert tls_echo(server, authority, "pinned", calling="PINNED").returncode == 0
    done = tls_echo(server, authority, "client", calling="PINNED")
    assert "Calling AE Title Not Recognized" in said(done)
    assert rejection(server, "PINNED") == (1, 1, 3)  # nor does it come in without TLS


def test_a_node_whose_certificate_was_revoked_is_refused_and_so_is_its_next_message(
    server: Door, authority: Authority
) -> None:
    authority.issue("thief")
    with revoking(server, authority) as rooms, listening(rooms, free_ports(1)[0]):
        assert tls_echo(server, authority, "thief", port=rooms.settings.dimse.tls_port).returncode == 0
        entity = AE("TESTER")
        entity.add_requested_context(FIND)
        association = entity.associate(
            "127.0.0.1", rooms.settings.dimse.tls_port, ae_title="CLOUDFILM",
            tls_args=(client_tls(authority, "thief"), "127.0.0.1"),
        )  # fmt: skip
        asked = Dataset()
        asked.QueryRetrieveLevel = "STUDY"
        assert [status.Status for status, _ in association.send_c_find(asked, FIND)][-1] == 0

        authority.revocation_list(authority.issue("thief"))

        assert [status.Status for status, _ in association.send_c_find(asked, FIND)] != [0]
        association.release()
        done = tls_echo(server, authority, "thief", port=rooms.settings.dimse.tls_port)
        assert "No Reason" in said(done)
        assert tls_echo(server, authority, "client", port=rooms.settings.dimse.tls_port).returncode == 0
        with rooms.database.snapshot() as session:
            newest = select(AuditEntry.detail).where(AuditEntry.outcome == "refused")
            assert "certificate: its issuer revoked it" in session.scalars(newest).all()[-1]


def test_a_node_that_shows_a_revoked_certificate_is_sent_nothing(
    server: Door, authority: Authority, tmp_path: Path
) -> None:
    theirs = authority.issue("lost")
    options = ("+tls", str(theirs.key), str(theirs.certificate), "+cf", str(authority.certificate))
    with storescp(tmp_path / "in", "LOST", *options) as target, revoking(server, authority) as rooms:
        server.add_node("LOST", target.port, tls=True)
        ours = Selection(studies=(f"{ROOT}.1",))
        assert send_selection(rooms.dimse, operator(), known_peer(rooms.dimse, "LOST"), ours).completed == 1
        authority.revocation_list(theirs)
        with pytest.raises(PeerUnavailable, match="its issuer revoked it"):
            send_selection(rooms.dimse, operator(), known_peer(rooms.dimse, "LOST"), ours)


def test_old_tls_and_weak_ciphers_are_refused(server: Door, authority: Authority) -> None:
    context = client_tls(authority, "client")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA256:@SECLEVEL=0")  # no ephemeral keys
    with (
        socket.create_connection(("127.0.0.1", tls_port(server)), timeout=30) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain).recv(1)


def test_studies_are_sent_to_a_node_under_tls(server: Door, authority: Authority, tmp_path: Path) -> None:
    theirs = authority.issue("storage")
    options = ("+tls", str(theirs.key), str(theirs.certificate), "+cf", str(authority.certificate))
    with storescp(tmp_path / "in", "SECURE", *options) as target:
        server.add_node("SECURE", target.port, tls=True, certificate=theirs.sha256)
        dimse, ours = server.rooms.dimse, Selection(studies=(f"{ROOT}.1",))
        counts = send_selection(dimse, operator(), known_peer(dimse, "SECURE"), ours)
        assert (counts.completed, counts.failed) == (1, 0)
        assert len(target.received()) == 1
        server.add_node("SECURE", target.port, tls=True, certificate="0" * 64)
        with pytest.raises(PeerUnavailable, match="another certificate"):
            send_selection(dimse, operator(), known_peer(dimse, "SECURE"), ours)


def test_the_preferred_syntax_of_a_node_is_chosen(server: Door) -> None:
    entity = AE("OLD")
    entity.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    association = entity.associate("127.0.0.1", server.dicom_port, ae_title="CLOUDFILM")
    chosen = association.accepted_contexts[0].transfer_syntax
    association.release()

    assert chosen == [ImplicitVRLittleEndian]
