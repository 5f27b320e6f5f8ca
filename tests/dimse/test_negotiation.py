"""Who may associate, and what is agreed on: rejections, limits, extended negotiation, identity, TLS."""

import socket
import ssl
from collections.abc import Iterator
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
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from tests.builders import ROOT, ct_slice
from tests.certificates import Authority
from tests.dimse.peers import dcmtk, said, storescp
from tests.live import LiveServer, free_ports, live_server_in

FIND = StudyRootQueryRetrieveInformationModelFind


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signs the certificates of both sides."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[LiveServer]:
    """A server with one process, TLS, two studies, and nodes with limits."""
    (tls_port,) = free_ports(1)
    ours = authority.issue("server")
    folder = tmp_path_factory.mktemp("live")
    settings = {
        "CLOUDFILM_DIMSE__TLS_PORT": str(tls_port),
        "CLOUDFILM_DIMSE__TLS_CERTIFICATE": str(ours.certificate),
        "CLOUDFILM_DIMSE__TLS_KEY": str(ours.key),
        "CLOUDFILM_DIMSE__TLS_CA": str(authority.certificate),
        "CLOUDFILM_DIMSE__MAX_ASSOCIATIONS": "4",
        "CLOUDFILM_DIMSE__PRIVATE_SOP_CLASSES": "1.3.46.670589.2.3.1.1",
    }
    with live_server_in(folder, **settings) as running:
        running.command("node", "add", "NARROW", "--from", "127.0.0.0/8", "--max-associations", "1")
        running.command("node", "add", "ELSEWHERE", "--from", "10.0.0.0/8")
        pinned = authority.issue("pinned")
        running.command(
            "node", "add", "PINNED", "--from", "127.0.0.0/8", "--certificate", pinned.sha256, "--may", "all"
        )
        for number, data in enumerate(
            (
                ct_slice(1, 1, 1, StudyDate="20260228", StudyTime="233000"),
                ct_slice(2, 1, 1, StudyDate="20260301", StudyTime="010000", PatientName="Li^Na=李^娜",
                         AccessionNumber=""),
            )
        ):  # fmt: skip
            (folder / f"{number}.dcm").write_bytes(data)
        done = dcmtk(
            "storescu", "-v", "-aec", "CLOUDFILM", "127.0.0.1", running.dicom_port,
            folder / "0.dcm", folder / "1.dcm",
        )  # fmt: skip
        assert done.returncode == 0, said(done)
        yield running


def associate(
    server: LiveServer, calling: str, *negotiation: Any, model: str = Verification, port: int = 0, **more: Any
) -> Any:
    """An association of pynetdicom's, established or not."""
    entity = AE(calling)
    entity.add_requested_context(model)
    return entity.associate(
        "127.0.0.1", port or server.dicom_port, ae_title="CLOUDFILM", ext_neg=list(negotiation), **more
    )


def rejection(association: Any) -> tuple[int, int, int]:
    """Result, source and reason of an A-ASSOCIATE-RJ."""
    assert association.is_rejected
    primitive = association.acceptor.primitive
    return primitive.result, primitive.result_source, primitive.diagnostic


def test_a_node_that_calls_from_elsewhere_is_rejected(server: LiveServer) -> None:
    assert rejection(associate(server, "ELSEWHERE")) == (1, 1, 3)


def test_a_node_has_no_more_associations_than_its_limit_over_all_processes(server: LiveServer) -> None:
    first = associate(server, "NARROW")
    refused = [rejection(associate(server, "NARROW")) for _ in range(4)]  # whatever process takes them
    first.release()

    assert refused == [(2, 3, 2)] * 4
    again = associate(server, "NARROW")
    assert again.is_established
    again.release()


def test_the_server_has_no_more_associations_than_its_limit(server: LiveServer) -> None:
    held = [associate(server, "MANY") for _ in range(2 * 4 + 4)]  # two processes of four
    refused = [each for each in held if each.is_rejected]
    for each in held:
        if each.is_established:
            each.release()

    assert refused
    assert {rejection(each) for each in refused} == {(2, 3, 2)}


def test_asynchronous_operations_are_answered_with_one_at_a_time(server: LiveServer) -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 8
    window.maximum_number_operations_performed = 8
    association = associate(server, "ASYNC", window)
    (answered,) = association.acceptor.asynchronous_operations
    association.release()

    assert answered == (1, 1) if isinstance(answered, tuple) else answered == 1


def test_a_user_is_accepted_and_stands_in_the_audit_trail(server: LiveServer) -> None:
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 1
    identity.primary_field = b"dr.wang"
    identity.positive_response_requested = True
    association = associate(server, "STATION", identity)

    assert association.is_established
    assert association.acceptor.user_identity is not None
    association.release()
    assert "STATION (dr.wang)" in server.command("audit", "search", "--who", "STATION").stdout


def test_a_private_storage_class_of_the_settings_is_accepted_and_another_is_not(server: LiveServer) -> None:
    entity = AE("VENDOR")
    entity.add_requested_context("1.3.46.670589.2.3.1.1")
    entity.add_requested_context("1.3.46.670589.9.9.9.9")
    association = entity.associate("127.0.0.1", server.dicom_port, ae_title="CLOUDFILM")
    accepted = [str(context.abstract_syntax) for context in association.accepted_contexts]
    refused = [context.result for context in association.rejected_contexts]
    association.release()

    assert accepted == ["1.3.46.670589.2.3.1.1"]
    assert refused == [3]


def test_an_unknown_transfer_syntax_is_refused_alone(server: LiveServer) -> None:
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


def negotiated(server: LiveServer, proposed: bytes) -> tuple[Any, bytes]:
    """An association for queries, and what it agreed on."""
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = FIND
    item.service_class_application_information = proposed
    association = associate(server, "ASKER", item, model=FIND)
    agreed = association.acceptor.sop_class_extended
    return association, agreed.get(FIND, b"")


def test_what_a_query_may_ask_for_is_agreed_on_byte_by_byte(server: LiveServer) -> None:
    association, agreed = negotiated(server, b"\x01\x01\x01\x01\x01\x01\x01")
    association.release()
    assert agreed == b"\x01\x01\x01\x01\x00\x01\x01"

    association, agreed = negotiated(server, b"\x01\x00\x01")
    association.release()
    assert agreed == b"\x01\x00\x01"


def test_dates_and_times_are_matched_together_where_that_was_agreed_on(server: LiveServer) -> None:
    """From 23:00 on one day until 00:30 on the next: apart, no time of day would be in both."""
    keys = {"StudyDate": "20260228-20260301", "StudyTime": "230000-003000"}
    combined, _ = negotiated(server, b"\x01\x01")
    found = find(combined, **keys)
    combined.release()

    assert [answer.StudyInstanceUID for answer in found] == [f"{ROOT}.1"]


def test_names_are_matched_by_sound_where_that_was_agreed_on(server: LiveServer) -> None:
    fuzzy, _ = negotiated(server, b"\x01\x00\x01")
    assert len(find(fuzzy, PatientName="li na")) == 1
    fuzzy.release()

    literal, _ = negotiated(server, b"\x01")
    assert find(literal, PatientName="li na") == []
    literal.release()


def test_a_time_zone_moves_what_is_asked_and_what_is_answered(server: LiveServer) -> None:
    """23:30 in China is 15:30 in UTC, and 01:00 on the next day still the day before."""
    association, _ = negotiated(server, b"\x01\x01\x00\x01")
    keys: dict[str, Any] = {"TimezoneOffsetFromUTC": "+0000", "StudyDate": "20260228", "StudyTime": ""}
    found = find(association, **keys)
    association.release()

    moments = sorted((answer.StudyDate, answer.StudyTime[:4]) for answer in found)
    assert moments == [("20260228", "1530"), ("20260228", "1700")]
    assert {answer.TimezoneOffsetFromUTC for answer in found} == {"+0000"}


def test_what_has_no_value_is_found_by_an_empty_one(server: LiveServer) -> None:
    association, _ = negotiated(server, b"\x01\x00\x00\x00\x00\x01")
    found = find(association, AccessionNumber='""')
    association.release()

    assert [answer.StudyInstanceUID for answer in found] == [f"{ROOT}.2"]


@pytest.mark.parametrize("term", ["GB18030", "ISO_IR 192", ["", "ISO 2022 IR 58"]])
def test_answers_come_in_the_character_set_of_the_asker(server: LiveServer, term: Any) -> None:
    association, _ = negotiated(server, b"\x01")
    keys: dict[str, Any] = {"SpecificCharacterSet": term, "PatientName": "Li^Na*"}
    (answer,) = find(association, **keys)
    association.release()

    assert answer.SpecificCharacterSet == term
    assert answer.PatientName == "Li^Na=李^娜"


def test_a_set_that_cannot_hold_the_answer_gives_way_to_utf_8(server: LiveServer) -> None:
    association, _ = negotiated(server, b"\x01")
    (answer,) = find(association, SpecificCharacterSet="ISO_IR 100", PatientName="Li^Na*")
    association.release()

    assert (answer.SpecificCharacterSet, answer.PatientName) == ("ISO_IR 192", "Li^Na=李^娜")


def test_a_level_that_the_model_has_not_is_refused(server: LiveServer) -> None:
    association, _ = negotiated(server, b"\x01")
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.PatientID = "PATIENT", ""
    ((status, _),) = list(association.send_c_find(identifier, FIND))
    association.release()

    assert status.Status == 0xA900


# -- TLS ----------------------------------------------------------------------------------------------------


def tls_port(server: LiveServer) -> int:
    return int(server.environment["CLOUDFILM_DIMSE__TLS_PORT"])


def tls_echo(server: LiveServer, authority: Authority, name: str, calling: str = "TESTER") -> Any:
    """Run dcmtk's echoscu over TLS with a certificate."""
    own = authority.issue(name)
    return dcmtk(
        "echoscu", "-v", "-aet", calling, "-aec", "CLOUDFILM", "+tls", own.key, own.certificate,
        "+cf", authority.certificate, "127.0.0.1", tls_port(server),
    )  # fmt: skip


def test_dcmtk_associates_under_tls_with_a_certificate_of_the_authority(
    server: LiveServer, authority: Authority
) -> None:
    done = tls_echo(server, authority, "client")

    assert done.returncode == 0, said(done)


def test_without_a_certificate_there_is_no_association(server: LiveServer, authority: Authority) -> None:
    done = dcmtk(
        "echoscu", "-v", "-aec", "CLOUDFILM", "+tla", "-ic", "127.0.0.1", tls_port(server)
    )  # fmt: skip
    assert done.returncode != 0

    stranger = Authority(authority.folder / "stranger")
    assert tls_echo(server, stranger, "client").returncode != 0


def test_a_pinned_node_needs_its_own_certificate(server: LiveServer, authority: Authority) -> None:
    assert tls_echo(server, authority, "pinned", calling="PINNED").returncode == 0
    done = tls_echo(server, authority, "client", calling="PINNED")
    assert "Calling AE Title Not Recognized" in said(done)
    assert rejection(associate(server, "PINNED")) == (1, 1, 3)  # nor does it come in without TLS


def test_old_tls_and_weak_ciphers_are_refused(server: LiveServer, authority: Authority) -> None:
    own = authority.issue("client")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.check_hostname = False
    context.load_cert_chain(own.certificate, own.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA256:@SECLEVEL=0")  # no ephemeral keys
    with (
        socket.create_connection(("127.0.0.1", tls_port(server)), timeout=30) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain).recv(1)


def test_studies_are_sent_to_a_node_under_tls(
    server: LiveServer, authority: Authority, tmp_path: Path
) -> None:
    theirs = authority.issue("storage")
    options = ("+tls", str(theirs.key), str(theirs.certificate), "+cf", str(authority.certificate))
    with storescp(tmp_path / "in", "SECURE", *options) as target:
        where = ("--host", "127.0.0.1", "--port", str(target.port), "--tls")
        server.command("node", "add", "SECURE", *where, "--certificate", theirs.sha256)
        assert "1 sent" in server.command("node", "send", "SECURE", f"{ROOT}.1").stdout
        server.command("node", "add", "SECURE", *where, "--certificate", "0" * 64)
        refused = server.command("node", "send", "SECURE", f"{ROOT}.1", check=False)
    assert refused.returncode == 1
    assert "another certificate" in refused.stderr


def test_the_preferred_syntax_of_a_node_is_chosen(server: LiveServer) -> None:
    server.command("node", "add", "OLD", "--from", "127.0.0.0/8", "--prefers", "ImplicitVRLittleEndian")
    entity = AE("OLD")
    entity.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    association = entity.associate("127.0.0.1", server.dicom_port, ae_title="CLOUDFILM")
    chosen = association.accepted_contexts[0].transfer_syntax
    association.release()

    assert chosen == [ImplicitVRLittleEndian]
