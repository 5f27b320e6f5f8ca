"""`cloudfilm hl7`: look at messages, process them again, send one."""

import re
import socket
import sys
from pathlib import Path
from typing import Any

import click
from sqlalchemy import select

from access.caller import operator
from access.nodes import find_node
from hl7_listener import share_codes
from hl7_listener.er7 import split_batch
from hl7_listener.mllp import END, frame
from hl7_listener.model import Hl7Message, Hl7Outbound, Hl7Subscription
from hl7_listener.outbound import TOPICS, send_again
from hl7_listener.receiving import SEALED, receive, replay, set_aside
from hl7_listener.room import hl7_of


@click.group()
def hl7() -> None:
    """HL7 v2 messages: what came, what failed, what waits to be sent."""


@hl7.command("list")
@click.option("--state", default="", help="received, done, kept, failed or set-aside.")
@click.option("--limit", default=50, show_default=True, help="The most rows.")
@click.pass_obj
def list_(context: Any, state: str, limit: int) -> None:
    """List messages, the newest first; `--state failed` lists the dead letters with their reasons."""
    statement = select(Hl7Message).order_by(Hl7Message.id.desc()).limit(limit)
    if state:
        statement = statement.where(Hl7Message.state == state)
    with context.rooms.database.snapshot() as session:
        for row in session.scalars(statement):
            shown = (row.id, f"{row.received_at:%Y-%m-%d %H:%M:%S}", row.sender, row.control_id)
            click.echo("  ".join((*map(str, shown), row.message_type, row.state, row.error or row.repairs)))


@hl7.command()
@click.argument("message_id", type=int)
@click.pass_obj
def show(context: Any, message_id: int) -> None:
    """Show a message as it came, and what was made of it."""
    with context.rooms.database.snapshot() as session:
        row = session.get(Hl7Message, message_id)
        if row is None:
            raise click.ClickException(f"There is no message {message_id}.")
        raw = context.rooms.keys.open_bytes(row.sealed, SEALED)
        click.echo(raw.decode(row.charset or "utf-8", errors="replace").replace("\r", "\n"))
        click.echo(f"{row.state} {row.error} {row.documents}".strip(), err=True)


@hl7.command("replay")
@click.argument("message_ids", type=int, nargs=-1)
@click.option("--failed", is_flag=True, help="All dead letters, the oldest first.")
@click.pass_obj
def replay_(context: Any, message_ids: tuple[int, ...], failed: bool) -> None:
    """Process messages again. Exits 1 when one of them fails again."""
    door = hl7_of(context.rooms.by_kind())
    if failed:
        with context.rooms.database.snapshot() as session:
            dead = select(Hl7Message.id).where(Hl7Message.state == "failed").order_by(Hl7Message.id)
            message_ids = tuple(session.scalars(dead))
    states = [(message_id, replay(door, operator(), message_id)) for message_id in message_ids]
    for message_id, state in states:
        click.echo(f"{message_id}  {state}")
    sys.exit(int(any(state == "failed" for _, state in states)))


@hl7.command("set-aside")
@click.argument("message_id", type=int)
@click.pass_obj
def set_aside_(context: Any, message_id: int) -> None:
    """Take a dead letter off the list; it stays kept."""
    set_aside(hl7_of(context.rooms.by_kind()), operator(), message_id)


@hl7.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", default="", help="HOST:PORT of an MLLP listener; without it, this archive takes it.")
@click.pass_obj
def send(context: Any, file: Path, to: str) -> None:
    """Send the messages of a file one after another, and show the answers. Exits 1 when one is negative."""
    messages = messages_of(file.read_bytes())
    if not messages:
        raise click.ClickException(f"There is nothing in {file}.")
    if to:
        answers = _send(to, messages)
    else:
        door = hl7_of(context.rooms.by_kind())
        answers = [each for raw in messages for each in receive(door, operator(), raw).messages]
    for answer in answers:
        click.echo(answer.decode("utf-8", errors="replace").replace("\r", "\n"))
    sys.exit(int(not all(b"\rMSA|AA" in answer or b"\rMSA|CA" in answer for answer in answers)))


def messages_of(raw: bytes) -> list[bytes]:
    """The messages of a file: one or several, framed or not; a batch is one."""
    if split_batch(raw) is not None:
        return [raw]
    parts = re.split(rb"[\x0b\x1c]|(?<=[\r\n])(?=MSH)", raw)
    return [part for part in parts if part.strip()]


def _send(to: str, messages: list[bytes]) -> list[bytes]:
    host, _, port = to.rpartition(":")
    if not host or not port.isdecimal():
        raise click.BadParameter("write it as HOST:PORT", param_hint="--to")
    try:
        with socket.create_connection((host, int(port)), timeout=30) as client:
            return [_answer(client, raw) for raw in messages]
    except (OSError, OverflowError) as fault:
        raise click.ClickException(f"{to} does not take messages: {fault}") from None


def _answer(client: socket.socket, raw: bytes) -> bytes:
    client.sendall(frame(raw))
    received = b""
    while END not in received:
        piece = client.recv(65536)
        if not piece:
            raise ConnectionError("it closed the connection without an answer")
        received += piece
    return received.strip(b"\x0b\x1c\r")


@hl7.command()
@click.option("--state", default="", help="waiting, sent or refused.")
@click.option("--node", default="", help="To this node only.")
@click.option("--limit", default=50, show_default=True, help="The most rows.")
@click.pass_obj
def outbound(context: Any, state: str, node: str, limit: int) -> None:
    """List what waits to be sent, was sent, or was refused, the newest first."""
    statement = select(Hl7Outbound).order_by(Hl7Outbound.id.desc()).limit(limit)
    for column, value in ((Hl7Outbound.state, state), (Hl7Outbound.node, node)):
        statement = statement.where(column == value) if value else statement
    with context.rooms.database.snapshot() as session:
        for row in session.scalars(statement):
            click.echo(f"{row.id}  {row.node}  {row.message_type}  {row.state}  {row.tries}  {row.error}")


@hl7.command()
@click.argument("message_ids", type=int, nargs=-1)
@click.option("--refused", is_flag=True, help="All that were refused.")
@click.pass_obj
def resend(context: Any, message_ids: tuple[int, ...], refused: bool) -> None:
    """Have messages that a node refused sent once more, in their order. Exits 1 when there are none."""
    if not message_ids and not refused:
        raise click.UsageError("Name messages (`cloudfilm hl7 outbound` lists them), or say --refused.")
    count = send_again(context.rooms.access, operator(), None if refused else message_ids)
    click.echo(f"{count} {'message' if count == 1 else 'messages'} will be sent again.")
    sys.exit(int(not count))


@hl7.command()
@click.argument("node")
@click.argument("topic", type=click.Choice((*TOPICS, share_codes.TOPIC)))
@click.option("--off", is_flag=True, help="No longer.")
@click.pass_obj
def subscribe(context: Any, node: str, topic: str, off: bool) -> None:
    """Tell a node of reports, of orders (as ORM or OMI), of who is who (PIX notification), or codes."""
    if not off and find_node(context.rooms.access, node) is None:
        raise click.ClickException(f"There is no node {node}; `cloudfilm node add` makes it known.")
    with context.rooms.database.transaction() as session:
        row = session.merge(Hl7Subscription(node=node, topic=topic))
        if off:
            session.delete(row)


@hl7.command()
@click.pass_obj
def subscriptions(context: Any) -> None:
    """List which node is told of what."""
    with context.rooms.database.snapshot() as session:
        for row in session.scalars(
            select(Hl7Subscription).order_by(Hl7Subscription.node, Hl7Subscription.topic)
        ):
            click.echo(f"{row.node}  {row.topic}")
