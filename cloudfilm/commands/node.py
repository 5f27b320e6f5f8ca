"""`cloudfilm node`: the DIMSE and MLLP peers that this server knows."""

import sys
from contextlib import closing
from itertools import islice
from typing import Any

import click
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID

from access.caller import operator
from access.node_register import NodeRow, list_nodes, put_node, remove_node
from access.nodes import NODE_PERMISSIONS
from archive.retrieve import Selection
from dimse import peers
from dimse.store import STORAGE_SYNTAXES

RIGHTS = ", ".join(NODE_PERMISSIONS)


@click.group()
def node() -> None:
    """Known nodes, which alone may associate: add and remove them, talk to them."""


SYNTAXES = {UID(uid).keyword: uid for uid in STORAGE_SYNTAXES}


def _syntaxes(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> str:
    known = SYNTAXES | {uid: uid for uid in STORAGE_SYNTAXES}
    for value in values:
        if value not in known:
            raise click.BadParameter(
                f"{value} is none; write a UID or a name as {', '.join([*SYNTAXES][:6])}"
            )
    return ",".join(known[value] for value in values)


@node.command()
@click.argument("ae_title")
@click.option("--host", default="", help="Where it is reached; needed to send to it.")
@click.option("--port", default=104, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--from", "addresses", default="", help="Networks it calls from, as 10.1.0.0/16; default: its host."
)
@click.option("--may", default="store,find,retrieve", show_default=True, help=f"Of {RIGHTS}.")
@click.option("--institution", default="", help="Code of the institution that owns what it sends.")
@click.option("--department", default="")
@click.option("--certificate", default="", help="SHA-256 of its TLS certificate, in hexadecimal.")
@click.option("--tls", is_flag=True, help="Send to it over TLS.")
@click.option(
    "--also",
    "alternates",
    multiple=True,
    help="Further host:port where it may be reached, tried in this order.",
)
@click.option(
    "--prefers",
    "transfer_syntaxes",
    multiple=True,
    callback=_syntaxes,
    help="A transfer syntax that it is to be sent, by name or UID; several in order. Default: as stored.",
)
@click.option(
    "--max-associations", default=0, type=click.IntRange(0), help="That it may have with us at once."
)
@click.option("--max-sending", default=0, type=click.IntRange(0), help="That we open to it at once.")
@click.option(
    "--max-bytes-per-s",
    default=0,
    type=click.IntRange(0),
    help="The most that is exchanged with it.",
)
@click.pass_obj
def add(
    context: Any,
    /,
    ae_title: str,
    may: str,
    addresses: str,
    alternates: tuple[str, ...],
    certificate: str,
    **values: Any,
) -> None:
    """Add the node AE_TITLE, or change it when it is known."""
    row = NodeRow(
        ae_title.strip(), addresses=addresses, permissions=may.replace(" ", ""),
        alternates=",".join(alternates), certificate=certificate.replace(":", "").lower(), **values,
    )  # fmt: skip
    put_node(context.rooms.access, operator(), row)
    click.echo(f"{ae_title} is known.")


@node.command("list")
@click.pass_obj
def list_(context: Any) -> None:
    """List the known nodes."""
    for row in list_nodes(context.rooms.access, operator()):
        where = f"{row.host}:{row.port}" if row.host else "-"
        click.echo(f"{row.ae_title:<16}  {where:<24}  {row.institution or '-':<12}  {row.permissions}")
    if context.settings.access.loopback_ae:
        click.echo("(and any AE title from this machine itself)")


@node.command()
@click.argument("ae_title")
@click.pass_obj
def remove(context: Any, ae_title: str) -> None:
    """Forget the node AE_TITLE; its next association is rejected."""
    remove_node(context.rooms.access, operator(), ae_title)
    click.echo(f"{ae_title} is forgotten.")


LEVELS = click.Choice(["PATIENT", "STUDY", "SERIES", "IMAGE"], case_sensitive=False)
SHOWN = {  # what a query returns when no key is named
    "PATIENT": ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    "STUDY": ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "ModalitiesInStudy",
              "NumberOfStudyRelatedInstances"),
    "SERIES": ("SeriesInstanceUID", "Modality", "SeriesNumber", "NumberOfSeriesRelatedInstances"),
    "IMAGE": ("SOPInstanceUID", "SOPClassUID", "InstanceNumber"),
}  # fmt: skip


@node.command()
@click.argument("ae_title")
@click.pass_obj
def echo(context: Any, ae_title: str) -> None:
    """Ask the node AE_TITLE whether it is there (C-ECHO). Exits 1 when it is not."""
    dimse = context.rooms.dimse
    took_s = peers.echo(dimse, peers.known_peer(dimse, ae_title))
    click.echo(f"{ae_title} answers, in {took_s * 1000:.0f} ms.")


@node.command()
@click.argument("ae_title")
@click.argument("keys", nargs=-1)
@click.option("--level", type=LEVELS, default="STUDY", show_default=True)
@click.option("--limit", default=200, show_default=True, help="The most answers.")
@click.pass_obj
def find(context: Any, ae_title: str, keys: tuple[str, ...], level: str, limit: int) -> None:
    """Ask the node AE_TITLE what it has (C-FIND). KEYS are as PatientName='Zhang*' or StudyDate=20260101-."""
    dimse = context.rooms.dimse
    identifier = _identifier(level.upper(), keys)
    for keyword in SHOWN[level.upper()]:
        if keyword not in identifier:
            setattr(identifier, keyword, None)
    columns = dict.fromkeys((*SHOWN[level.upper()], *(key.partition("=")[0] for key in keys)))
    found = peers.find(dimse, peers.known_peer(dimse, ae_title), identifier)
    with closing(found):
        for answer in islice(found, limit):
            values = (answer.get(keyword) for keyword in columns)
            click.echo("  ".join(str(value) if value else "-" for value in values))


def _identifier(level: str, keys: tuple[str, ...]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    identifier.SpecificCharacterSet = "ISO_IR 192"
    for key in keys:
        keyword, _, value = key.partition("=")
        if tag_for_keyword(keyword) is None:
            raise click.BadParameter(f"{keyword} is no attribute; write keywords, as PatientID=P1")
        setattr(identifier, keyword, value)
    return identifier


def _studies(uids: tuple[str, ...]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = list(uids) if len(uids) > 1 else uids[0]
    return identifier


@node.command()
@click.argument("ae_title")
@click.argument("study_instance_uids", nargs=-1, required=True)
@click.option("--to", default="", help="AE title that it sends to; default: ours.")
@click.pass_obj
def move(context: Any, ae_title: str, study_instance_uids: tuple[str, ...], to: str) -> None:
    """Have the node AE_TITLE send studies (C-MOVE), to us unless --to names another."""
    dimse = context.rooms.dimse
    peer = peers.known_peer(dimse, ae_title)
    retrieved = peers.move(dimse, peer, _studies(study_instance_uids), to or dimse.settings.ae_title)
    _tell(retrieved)


@node.command()
@click.argument("ae_title")
@click.argument("study_instance_uids", nargs=-1, required=True)
@click.pass_obj
def get(context: Any, ae_title: str, study_instance_uids: tuple[str, ...]) -> None:
    """Bring studies in from the node AE_TITLE over one association (C-GET)."""
    dimse = context.rooms.dimse
    peer = peers.known_peer(dimse, ae_title)
    _tell(peers.get(dimse, peer, _studies(study_instance_uids), peers.acting_for(peer, "get")))


def _tell(retrieved: peers.Retrieved) -> None:
    click.echo(f"{retrieved.completed} came, {retrieved.warnings} with a warning, {retrieved.failed} failed.")
    sys.exit(1 if retrieved.failed else 0)


@node.command()
@click.argument("ae_title")
@click.argument("study_instance_uids", nargs=-1, required=True)
@click.pass_obj
def send(context: Any, ae_title: str, study_instance_uids: tuple[str, ...]) -> None:
    """Send studies of ours to the node AE_TITLE now (C-STORE). Exits 1 when something failed."""
    dimse = context.rooms.dimse
    counts = peers.send_selection(
        dimse, operator(), peers.known_peer(dimse, ae_title), Selection(studies=study_instance_uids)
    )
    for uid in counts.failed_uids or ():
        click.echo(f"failed: {uid}", err=True)
    sent = counts.completed + counts.warnings
    if not sent and not counts.failed:
        click.echo("None of these studies is here; see: cloudfilm study list.", err=True)
        sys.exit(1)
    click.echo(f"{sent} sent, {counts.failed} failed.")
    sys.exit(1 if counts.failed else 0)
