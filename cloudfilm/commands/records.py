"""`cloudfilm records`: clinical documents and their search index, from the shell."""

from typing import Any

import click
from sqlalchemy import select

from kernel.database import table_of
from records.custom_parameters import reindex
from records.model import Resource
from records.sealing import begin_pass, hide_words, seal_page
from records.words import reindex_words

PAGE = 200


@click.group()
def records() -> None:
    """Look after the clinical documents."""


@records.command("reindex")
@click.option("--after", default=0, show_default=True, help="Go on after this row, as it was printed.")
@click.pass_obj
def reindex_(context: Any, after: int) -> None:
    """Make the search index of every stored document again, while the server runs.

    For after an upgrade that says so. When it is stopped, it goes on with --after.
    """
    room = context.rooms.records
    table, done = table_of(Resource), 0
    while True:
        last = reindex(room, after, PAGE)
        if not last:
            break
        with room.database.transaction() as session:
            rows = session.execute(
                select(table.c.id, table.c.body).where(table.c.id > after, table.c.id <= last)
            ).all()
            reindex_words(session, [(row.id, row.body) for row in rows])
        after, done = last, done + len(rows)
        click.echo(f"{done} documents, up to row {after}")
    click.echo("The search index is complete.")


@records.command()
@click.pass_obj
def seal(context: Any) -> None:
    """Seal what documents are still in clear, or under an older key, while the server runs.

    The worker does so by itself; this goes through all of them again and says when the last one is done. When
    it is stopped, the worker goes on.
    """
    room, done = context.rooms.records, 0
    if not room.database.seals:
        raise click.UsageError("database.seals is off: older code runs beside, and could not read them.")
    begin_pass(room)
    while count := seal_page(room):
        done += count
        if done % (100 * PAGE) == 0:
            click.echo(f"{done} documents")
    last = 0
    while last := hide_words(room, last):
        pass
    click.echo(f"All {done} documents are sealed.")
