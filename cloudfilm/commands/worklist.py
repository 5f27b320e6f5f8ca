"""`cloudfilm worklist`: what modalities are asked to do, placed by hand."""

import secrets
from datetime import date, datetime
from typing import Any

import click

from access.caller import operator
from archive.attributes import item, text
from archive.modality_worklist import worklist_item
from archive.workitem_orders import draw_workitem
from archive.workitem_search import search_workitems
from archive.workitems import NoSuchWorkitem, request_cancellation, zone_of
from cloudfilm.rooms import Rooms
from mpi.demographics import Authority, Demographics
from mpi.resolve import identify
from records.orders import Number, Order, OrderAction, place_order


@click.group()
def worklist() -> None:
    """Add, list and remove entries of the modality worklist."""


@worklist.command()
@click.argument("patient_id")
@click.argument("patient_name")
@click.option("--modality", required=True, help="As CT, MR, US, DX.")
@click.option("--birth-date", type=click.DateTime(["%Y-%m-%d"]), help="As 1970-01-31.")
@click.option("--sex", type=click.Choice(["M", "F", "O"]))
@click.option(
    "--at", type=click.DateTime(["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]), help="Local time; default: now."
)
@click.option(
    "--station", "stations", multiple=True, help="AE title that does it; may be given several times."
)
@click.option("--procedure", default="", help="What is to be done, in words.")
@click.option("--accession-number", default="", help="Default: a number is made.")
@click.option("--institution", default="", help="Code of the institution; default: the settings' own.")
@click.pass_obj
def add(context: Any, /, **said: Any) -> None:
    """Place an order for PATIENT_NAME (as Zhang^Wei=张^伟), number PATIENT_ID, on the worklist.

    It is an order like any other: a ServiceRequest, with its workitem.
    """
    placed = add_entry(context.rooms, **said)
    click.echo(f"{placed} is on the worklist.")


def add_entry(
    rooms: Rooms,
    *,
    patient_id: str,
    patient_name: str,
    modality: str,
    birth_date: datetime | None = None,
    sex: str | None = None,
    at: datetime | None = None,
    stations: tuple[str, ...] = (),
    procedure: str = "",
    accession_number: str = "",
    institution: str = "",
) -> str:
    """Place an order and draw its workitem at once; returns its accession number."""
    caller, owner = operator(institution), institution or rooms.archive.institution
    with rooms.database.transaction() as session:
        said = Demographics(
            owner, patient_id, owner, patient_name, birth_date.date() if birth_date else None, sex or "",
            authority=Authority.ORDER,
        )  # fmt: skip
        patient = identify(rooms.mpi, session, caller, said)
        zone = zone_of(session)
        order = Order(
            OrderAction.PLACE,
            patient.patient_id,
            owner,
            placer=Number("" if accession_number else f"CF{secrets.token_hex(6)}"),
            accession_number=accession_number,
            modality=modality,
            scheduled_at=(at.replace(tzinfo=zone) if at else rooms.clock.now()),
            scheduled_ae_titles=stations,
            document={"code": {"text": procedure}} if procedure else {},
        )
        placed = place_order(rooms.records, session, caller, order)
        draw_workitem(rooms.archive, session, placed.service_request_id)
    return placed.order.accession_number


@worklist.command("list")
@click.option(
    "--all", "everything", is_flag=True, help="Also what is done, cancelled, or no modality's work."
)
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Of this day only.")
@click.pass_obj
def list_(context: Any, everything: bool, day: datetime | None) -> None:
    """List what is scheduled, with the UID, state, time, modality, stations, number and patient of each."""
    archive = context.rooms.archive
    with archive.database.snapshot() as session:
        zone = zone_of(session)
    for found in search_workitems(archive, operator(), {}, worklist_only=not everything):
        drawn = worklist_item(found, zone)
        step = item(drawn, "ScheduledProcedureStepSequence")
        at = text(step, "ScheduledProcedureStepStartDate"), text(step, "ScheduledProcedureStepStartTime")
        if day and at[0] != f"{day:%Y%m%d}":
            continue
        stations = ",".join(step["00400001"].get("Value") or ["-"])
        shown = (
            text(found, "SOPInstanceUID"), text(found, "ProcedureStepState"), _moment(*at),
            text(step, "Modality") or "-", stations, text(drawn, "AccessionNumber") or "-",
            text(drawn, "PatientID") or "-", text(drawn, "PatientName") or "-",
        )  # fmt: skip
        click.echo("  ".join(shown))


def _moment(day: str, time: str) -> str:
    return f"{date.fromisoformat(day)} {time[:2]}:{time[2:4]}" if day else "-"


@worklist.command()
@click.argument("uid")
@click.pass_obj
def remove(context: Any, uid: str) -> None:
    """Cancel the workitem UID; whoever performs it already is asked to stop."""
    try:
        remark = request_cancellation(context.rooms.archive, operator(), uid, "", {})
    except NoSuchWorkitem:
        raise click.ClickException(f"There is no workitem {uid}.") from None
    click.echo(remark.value if remark else f"{uid} is cancelled, or its performer was asked.")
