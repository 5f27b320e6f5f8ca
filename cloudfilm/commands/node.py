"""`cloudfilm node`: the DIMSE and MLLP peers that this server knows."""

from typing import Any

import click
from sqlalchemy import delete, select

from access.audit import note
from access.caller import operator
from access.model import Node
from access.nodes import NODE_PERMISSIONS

RIGHTS = ", ".join(NODE_PERMISSIONS)


@click.group()
def node() -> None:
    """Add, list and remove known nodes. Nobody else may associate."""


def _ae_title(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= 16 or not text.isascii() or not text.isprintable() or "\\" in text:
        raise click.BadParameter("an AE title has 1 to 16 printable ASCII characters")
    return text


def _rights(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or any(word not in NODE_PERMISSIONS for word in words):
        raise click.BadParameter(f"choose from {RIGHTS}, separated by commas")
    return ",".join(words)


@node.command()
@click.argument("ae_title", callback=_ae_title)
@click.option("--host", default="", help="Where it is reached; needed to send to it.")
@click.option("--port", default=104, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--from", "addresses", default="", help="Networks it calls from, as 10.1.0.0/16; default: its host."
)
@click.option(
    "--may", default="store,find,retrieve", show_default=True, callback=_rights, help=f"Of {RIGHTS}."
)
@click.option("--institution", default="", help="Code of the institution that owns what it sends.")
@click.option("--department", default="")
@click.option("--certificate", default="", help="SHA-256 of its TLS certificate, in hexadecimal.")
@click.option("--tls", is_flag=True, help="Send to it over TLS.")
@click.pass_obj
def add(context: Any, /, ae_title: str, may: str, addresses: str, **values: Any) -> None:
    """Add the node AE_TITLE, or change it when it is known."""
    access = context.rooms.access
    with access.database.transaction() as session:
        row = session.scalar(select(Node).where(Node.ae_title == ae_title))
        if row is None:
            row = Node(ae_title=ae_title, created_at=access.clock.now())
            session.add(row)
        row.permissions, row.addresses = may, addresses
        for name, value in values.items():
            setattr(row, name, value)
        session.flush()
        note(session, access.clock, operator(), "change Node", ae_title)
    click.echo(f"{ae_title} is known.")


@node.command("list")
@click.pass_obj
def list_(context: Any) -> None:
    """List the known nodes."""
    with context.rooms.database.snapshot() as session:
        rows = session.scalars(select(Node).order_by(Node.ae_title)).all()
    for row in rows:
        where = f"{row.host}:{row.port}" if row.host else "-"
        click.echo(f"{row.ae_title:<16}  {where:<24}  {row.institution or '-':<12}  {row.permissions}")
    if context.settings.access.loopback_ae:
        click.echo("(and any AE title from this machine itself)")


@node.command()
@click.argument("ae_title")
@click.pass_obj
def remove(context: Any, ae_title: str) -> None:
    """Forget the node AE_TITLE; its next association is rejected."""
    access = context.rooms.access
    with access.database.transaction() as session:
        removed = session.execute(delete(Node).where(Node.ae_title == ae_title)).rowcount
        if removed:
            note(session, access.clock, operator(), "delete Node", ae_title)
    if not removed:
        raise click.ClickException(f"There is no node {ae_title}.")
    click.echo(f"{ae_title} is forgotten.")
