"""`cloudfilm forward`: studies on their way to other nodes. The rules are the site document `forwarding`."""

from typing import Any

import click
from sqlalchemy import select

from access.audit import note
from access.caller import operator
from dimse.forwarding import count_forwarding, request_forwarding, retry_forwarding
from dimse.model import Forwarding
from dimse.peers import known_peer


@click.group()
def forward() -> None:
    """Studies on their way to other nodes, by the rules in the site document `forwarding`."""


@forward.command("list")
@click.option("--state", default="", help="waiting, sent or failed.")
@click.option("--node", default="", help="Only to this node.")
@click.option("--limit", default=50, show_default=True, help="The most rows.")
@click.pass_obj
def list_(context: Any, state: str, node: str, limit: int) -> None:
    """List them, the newest first, and how many there are for each node."""
    statement = select(Forwarding).order_by(Forwarding.id.desc()).limit(limit)
    if state:
        statement = statement.where(Forwarding.state == state)
    if node:
        statement = statement.where(Forwarding.node == node)
    with context.rooms.database.snapshot() as session:
        for row in session.scalars(statement):
            left = len([uid for uid in row.failed.split(",") if uid])
            counts = f"{row.sent} sent" + (f", {left} failed" if left else "")
            shown = (row.id, row.study_instance_uid, row.node, row.rule or "by hand", row.state, counts)
            click.echo("  ".join((*map(str, shown), row.error)).rstrip())
    for name, states in sorted(count_forwarding(context.rooms.dimse).items()):
        click.echo(f"{name}: " + ", ".join(f"{count} {word}" for word, count in sorted(states.items())))


@forward.command()
@click.argument("ae_title")
@click.argument("study_instance_uids", nargs=-1, required=True)
@click.pass_obj
def add(context: Any, ae_title: str, study_instance_uids: tuple[str, ...]) -> None:
    """Queue studies for the node AE_TITLE, as a rule would."""
    dimse = context.rooms.dimse
    known_peer(dimse, ae_title)
    with dimse.access.database.transaction() as session:
        for uid in study_instance_uids:
            request_forwarding(dimse, session, uid, ae_title, "")
            note(session, dimse.clock, operator(), "forward ImagingStudy", uid, detail=f"to {ae_title}")
    click.echo(f"{len(study_instance_uids)} on the way to {ae_title}.")


@forward.command()
@click.argument("numbers", type=int, nargs=-1, required=True)
@click.option("--from-begin", is_flag=True, help="Send all of it again, not what is missing.")
@click.pass_obj
def retry(context: Any, numbers: tuple[int, ...], from_begin: bool) -> None:
    """Let studies go again now, by their number in the list."""
    for number in numbers:
        retry_forwarding(context.rooms.dimse, number, from_begin)
    click.echo(f"{len(numbers)} go again.")
