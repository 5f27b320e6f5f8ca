"""C-STORE from dcmtk in every transfer syntax that it has; what a full disk and a missing right answer."""

from dataclasses import replace
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian
from sqlalchemy import select

from access.caller import operator
from access.model import Node
from archive.header import data_set_offset, inflate
from archive.model import Instance
from archive.retrieve import Selection, data_set_bytes, find_selected
from cloudfilm.rooms import Rooms
from tests.builders import ROOT, ct_slice
from tests.dimse.door import listening
from tests.dimse.peers import dcmtk, said
from tests.live import free_ports


def storescu(port: int, *arguments: object, calling: str = "CT1") -> str:
    """What storescu said."""
    return said(dcmtk("storescu", "-v", "-aet", calling, "-aec", "CLOUDFILM", "127.0.0.1", port, *arguments))


SYNTAXES: tuple[tuple[str, tuple[str, ...], str], ...] = (  # program and options that make it, and storescu's
    ("dcmconv", ("+te",), "-xe"),
    ("dcmconv", ("+tb",), "-xb"),
    ("dcmconv", ("+ti",), "-xi"),
    ("dcmconv", ("+td",), "-xd"),
    ("dcmcjpeg", ("+e1",), "-xs"),
    ("dcmcjpeg", ("+ee", "+un"), "-xx"),
    ("dcmcjpls", ("+el",), "-xt"),
    ("dcmcjpls", ("+en",), "-xu"),
    ("dcmcrle", (), "-xr"),
)


def test_every_transfer_syntax_is_kept_bit_for_bit(rooms: Rooms, tmp_path: Path) -> None:
    sent: dict[str, tuple[str, Path]] = {}
    with listening(rooms, free_ports(1)[0]) as port:
        for number, (program, options, propose) in enumerate(SYNTAXES, 1):
            plain, made = tmp_path / f"{number}.plain", tmp_path / f"{number}.dcm"
            plain.write_bytes(ct_slice(1, 1, number))
            dcmtk(program, *options, plain, made, check=True)
            output = storescu(port, propose, made)
            assert "0x0000" in output or "Success" in output, output
            file = dcmread(made, stop_before_pixels=True)
            sent[str(file.SOPInstanceUID)] = (str(file.file_meta.TransferSyntaxUID), made)
    with rooms.database.snapshot() as session:
        kept = dict(session.execute(select(Instance.sop_instance_uid, Instance.transfer_syntax_uid)).all())
    assert kept == {uid: syntax for uid, (syntax, _) in sent.items()}
    archive = rooms.archive
    for stored in find_selected(archive, operator(), Selection(studies=(f"{ROOT}.1",))):
        data_set = b"".join(map(bytes, data_set_bytes(archive, stored)))
        syntax, path = sent[stored.sop_instance_uid]
        if syntax == DeflatedExplicitVRLittleEndian:  # storescu deflates it anew
            assert inflate(data_set) == inflate(path.read_bytes()[data_set_offset(path.read_bytes()) :])
        else:
            assert path.read_bytes().endswith(data_set)


def test_a_full_disk_is_out_of_resources_and_leaves_nothing(rooms: Rooms, tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(ct_slice())
    store = rooms.archive.blobs.store
    full = replace(rooms.archive.blobs, store=type(store)(store.root, False, 1 << 62))  # type: ignore[attr-defined, call-arg]
    archive = replace(rooms.archive, blobs=full)
    with listening(replace(rooms, dimse=replace(rooms.dimse, archive=archive)), free_ports(1)[0]) as port:
        output = storescu(port, tmp_path / "1.dcm")

    assert "OutOfResources" in output.replace(" ", "")
    with rooms.database.snapshot() as session:
        assert session.scalar(select(Instance.id)) is None


def test_a_node_without_the_right_is_not_authorized(rooms: Rooms, tmp_path: Path) -> None:
    with rooms.database.transaction() as session:
        session.add(
            Node(ae_title="READER", host="127.0.0.1", permissions="find", created_at=rooms.clock.now())
        )
    (tmp_path / "1.dcm").write_bytes(ct_slice())
    with listening(rooms, free_ports(1)[0]) as port:
        output = storescu(port, tmp_path / "1.dcm", calling="READER")

    assert "0x124" in output


def test_a_node_without_an_institution_is_of_our_own(rooms: Rooms, tmp_path: Path) -> None:
    """What it stores belongs to the server's institution, and it sees what that has."""
    with rooms.database.transaction() as session:
        session.add(
            Node(ae_title="CT9", host="127.0.0.1", permissions="store,find", created_at=rooms.clock.now())
        )
    (tmp_path / "1.dcm").write_bytes(ct_slice())
    with listening(rooms, free_ports(1)[0]) as port:
        output = storescu(port, tmp_path / "1.dcm", calling="CT9")
        found = said(
            dcmtk(
                "findscu", "-v", "-S", "-aet", "CT9", "-aec", "CLOUDFILM", "127.0.0.1", port,
                "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID",
            )
        )  # fmt: skip

    assert "Success" in output
    assert f"{ROOT}.1" in found


def test_nobody_shuts_the_door_from_outside(rooms: Rooms) -> None:
    """dcmtk's termscu asks a server to end by a private SOP class; it is not one of ours."""
    with listening(rooms, free_ports(1)[0]) as port:
        dcmtk("termscu", "-v", "-aec", "CLOUDFILM", "127.0.0.1", port)
        done = dcmtk("echoscu", "-aec", "CLOUDFILM", "127.0.0.1", port)
    assert done.returncode == 0
