"""`cloudfilm pull`: bring in the history of an old PACS, and compare what it has with what is here."""

import sys
import time
from datetime import datetime
from typing import Any

import click
from sqlalchemy import select

from access.caller import operator
from dimse.schedule import parse_window
from edge.model import Pull
from edge.pull import PullReport, begin_pull, report_pull, set_pull_state, work

DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.group()
def pull() -> None:
    """Bring in the history of an old PACS, resumably, and compare count by count."""


def _hours(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    try:
        parse_window(text)
    except ValueError:
        raise click.BadParameter("write them as 22:00-06:00") from None
    return text


@pull.command()
@click.argument("ae_title")
@click.option("--from", "first", type=DAY, required=True, help="The first study date.")
@click.option("--to", "last", type=DAY, required=True, help="The last study date.")
@click.option("--days", default=1, show_default=True, type=click.IntRange(1, 366), help="That a slice has.")
@click.option("--by", "method", type=click.Choice(["move", "get"]), default="move", show_default=True)
@click.option("--hours", default="", callback=_hours, help="When it may run, as 22:00-06:00.")
@click.option("--modality", default="", help="Only studies with this modality.")
@click.pass_obj
def begin(
    context: Any, ae_title: str, first: datetime, last: datetime, days: int, method: str, hours: str,
    modality: str,
) -> None:  # fmt: skip
    """Begin to pull from the node AE_TITLE, the newest days first; the worker does it.

    By C-MOVE the old PACS must know our AE title and address. How fast: cloudfilm node add --max-bytes-per-s.
    """
    number = begin_pull(
        context.rooms.dimse, operator(), ae_title, first.date(), last.date(), slice_days=days,
        method=method, hours=hours, modality=modality,
    )  # fmt: skip
    click.echo(f"Pull {number} has begun; see: cloudfilm pull report {number}")


@pull.command("list")
@click.pass_obj
def list_(context: Any) -> None:
    """List the pulls."""
    with context.rooms.database.snapshot() as session:
        for row in session.scalars(select(Pull).order_by(Pull.id)):
            shown = (
                row.id,
                row.node,
                f"by C-{row.method.upper()}",
                row.hours or "always",
                row.state,
                row.error,
            )
            click.echo("  ".join(map(str, shown)).rstrip())


@pull.command()
@click.argument("number", type=int)
@click.pass_obj
def run(context: Any, number: int) -> None:
    """Do pull NUMBER here and now until it is done, instead of the worker. Ctrl-C stops it; nothing is
    lost."""
    while (wait_s := work(context.rooms.dimse, number, time.monotonic() + 60)) is not None:
        time.sleep(wait_s)
    _show(report_pull(context.rooms.dimse, number))


@pull.command()
@click.argument("number", type=int)
@click.pass_obj
def pause(context: Any, number: int) -> None:
    """Pause pull NUMBER after the study that it is at."""
    set_pull_state(context.rooms.dimse, operator(), number, "paused")
    click.echo(f"Pull {number} is paused.")


@pull.command()
@click.argument("number", type=int)
@click.pass_obj
def resume(context: Any, number: int) -> None:
    """Let pull NUMBER go on, and try again what was incomplete."""
    set_pull_state(context.rooms.dimse, operator(), number, "running")
    click.echo(f"Pull {number} goes on.")


@pull.command()
@click.argument("number", type=int)
@click.option("--all", "every_study", is_flag=True, help="List whole studies too.")
@click.pass_obj
def report(context: Any, number: int, every_study: bool) -> None:
    """Compare what the node has with what is here: by slice, study and series. Exits 1 when something is
    missing."""
    found = report_pull(context.rooms.dimse, number, every_study)
    _show(found)
    sys.exit(0 if found.is_whole else 1)


def _show(found: PullReport) -> None:
    """Slices with something in them, then studies with their series."""
    click.echo(f"Pull {found.number} from {found.node}: {found.state}. {found.error}".rstrip())
    for each in found.slices:
        days = f"{each.first}" if each.first == each.last else f"{each.first} to {each.last}"
        if not each.is_asked:
            click.echo(f"{days}  not asked yet")
        elif each.studies:
            click.echo(f"{days}  studies {each.whole}/{each.studies}  instances {each.ours}/{each.theirs}")
    for study in found.studies:
        counts = f"{study.ours}/{study.theirs}"
        click.echo(f"{study.study_instance_uid}  {study.state}  {counts}  {study.error}".rstrip())
        for uid, there, here in study.series:
            click.echo(f"    {uid}  {here}/{there}")
    asked = sum(each.is_asked for each in found.slices)
    whole, studies = sum(each.whole for each in found.slices), sum(each.studies for each in found.slices)
    ours, theirs = sum(each.ours for each in found.slices), sum(each.theirs for each in found.slices)
    click.echo(f"slices {asked}/{len(found.slices)}  studies {whole}/{studies}  instances {ours}/{theirs}")
