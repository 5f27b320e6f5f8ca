"""`cloudfilm audit`: look through the audit trail, prove that it is whole, hand it over."""

import json
import sys
from datetime import UTC, datetime
from typing import Any

import click

from access.caller import operator
from access.trail import TrailQuery, csv_lines, export_trail, search_trail, verify_trail
from records.audit_event import audit_event


@click.group()
def audit() -> None:
    """Look through the audit trail, and prove that it is whole."""


@audit.command()
@click.pass_obj
def verify(context: Any) -> None:
    """Check every entry, the chain and the daily seals. Exits 1 when something was changed."""
    access = context.rooms.access
    with access.database.snapshot() as session:
        checked = verify_trail(access, session)
    if checked.fault:
        click.echo(f"Not sound, at entry {checked.entries}: {checked.fault}.", err=True)
        sys.exit(1)
    click.echo(f"{checked.entries} entries are sound.")


SHARED = (
    click.option("--who", default="", help="Id or name of who did it."),
    click.option("--action", default="", help="How the action begins: read, delete, sign in."),
    click.option("--subject", default="", help="What it was done to: a Study Instance UID, Patient/x."),
    click.option("--patient", default="", help="Id of the Patient document."),
    click.option("--outcome", default="", type=click.Choice(["", "done", "refused", "failed"])),
    click.option("--after", type=click.DateTime()),
    click.option("--before", type=click.DateTime()),
)


def _query(**given: Any) -> TrailQuery:
    after, before = (_utc(given.pop(name)) for name in ("after", "before"))
    return TrailQuery(principal=given.pop("who"), after=after, before=before, **given)


def _utc(at: datetime | None) -> datetime | None:
    return at.astimezone(UTC) if at else None


def _with_shared(command: Any) -> Any:
    for option in reversed(SHARED):
        command = option(command)
    return command


@audit.command()
@_with_shared
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@click.pass_obj
def search(context: Any, /, limit: int, **given: Any) -> None:
    """List entries, the newest first."""
    for row in search_trail(context.rooms.access, operator(), _query(**given), limit):
        who = row.principal_name or row.principal_id
        click.echo(
            f"{row.seq:>7} {row.at:%Y-%m-%d %H:%M:%S} {row.outcome:<7} {who:<20} {row.door:<9} "
            f"{row.address:<15} {row.action} {row.subject} {row.detail}"
        )


@audit.command()
@_with_shared
@click.option("--form", default="csv", show_default=True, type=click.Choice(["csv", "fhir"]))
@click.pass_obj
def export(context: Any, /, form: str, **given: Any) -> None:
    """Print entries, the oldest first: as CSV, or as FHIR AuditEvent resources, one a line."""
    entries = export_trail(context.rooms.access, operator(), _query(**given))
    if form == "csv":
        for line in csv_lines(entries):
            click.echo(line, nl=False)
    else:
        for entry in entries:
            click.echo(json.dumps(audit_event(entry), ensure_ascii=False))
