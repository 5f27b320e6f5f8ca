"""`cloudfilm keys`: the key ring, and turning it."""

from typing import Any

import click

from access.audit import note
from access.caller import operator
from archive.rewrap import rewrap_seals
from kernel.jobs import enqueue
from kernel.resealing import reseal_table, sealed_tables


@click.group()
def keys() -> None:
    """The ring of keys that seals everything. Back it up apart from the data."""


@keys.command()
@click.pass_obj
def show(context: Any) -> None:
    """List the ids of the keys; the current one is marked. Makes the ring when there is none."""
    ring = context.rooms.keys
    for key_id in ring.key_ids:
        click.echo(f"{key_id}{'  current' if key_id == ring.current else ''}")


@keys.command()
@click.pass_obj
def rotate(context: Any) -> None:
    """Make a new key. What older keys sealed still opens; jobs renew the wraps and seal rows anew.

    On several machines, bring the ring to each of them, then run `cloudfilm keys rewrap`.
    """
    rooms = context.rooms
    key_id = rooms.keys.rotate()
    with rooms.database.transaction() as session:
        enqueue(session, rooms.clock, rewrap_seals, key="rewrap")
        note(session, rooms.clock, operator(), "rotate Key", key_id)
    click.echo(f"The current key is {key_id}. Back the ring up now: {rooms.settings.data_dir / 'keys'}")


@keys.command()
@click.pass_obj
def rewrap(context: Any) -> None:
    """Have a job wrap under the current key what an older one still wraps.

    `rotate` does it at once; again where a worker had not yet been brought the new ring.
    """
    rooms = context.rooms
    with rooms.database.transaction() as session:
        enqueue(session, rooms.clock, rewrap_seals, key="rewrap")
    click.echo(f"Queued: what older keys wrap comes under {rooms.keys.current}.")


@keys.command()
@click.pass_obj
def reseal(context: Any) -> None:
    """Seal what names and texts of rows are still in clear, or under an older key, while the server runs.

    The worker does so by itself; this goes on from where it is, and says when the last one is done.
    Documents are sealed by `cloudfilm records seal`.
    """
    rooms = context.rooms
    if not rooms.database.seals:
        raise click.UsageError("database.seals is off: older code runs beside, and could not read them.")
    done = sum(reseal_table(rooms.database, rooms.keys, table) for table in sealed_tables())
    click.echo(f"All is sealed; {done} rows were looked at.")
