"""`cloudfilm names`: names of people in the columns that are searched, veiled or in clear."""

from functools import partial
from typing import Any

import click

import archive.names
import records.names
from access.audit import note
from access.caller import operator
from archive.names import rewrite_study_names
from cloudfilm.rooms import Rooms
from kernel.name_veil import Rewrite, begin_names, rewrite_names
from records.names import rewrite_document_names

PAGES = 20  # after which it is said how far it came


@click.group()
def names() -> None:
    """Names of people where they are searched: in clear, or veiled so that only the key ring's holder reads
    them."""


@names.command()
@click.pass_obj
def veil(context: Any) -> None:
    """Veil the names of patients and staff by which studies and FHIR documents are found.

    Stop every role on every machine first. When this is interrupted, run it again: it goes on. From then on
    names are found whole, by their beginning and by the beginning of a word (docs/security.md).
    """
    rooms = context.rooms
    if not rooms.database.seals:
        raise click.UsageError("database.seals is off: the names would still stand in what is not sealed.")
    _bring(rooms, is_veiled=True)


@names.command()
@click.pass_obj
def unveil(context: Any) -> None:
    """Put the names in clear again, from what is sealed. Stop every role on every machine first."""
    _bring(context.rooms, is_veiled=False)


@names.command()
@click.pass_obj
def show(context: Any) -> None:
    """Say which form names have."""
    is_veiled = context.rooms.database.veils_names()
    click.echo("Names are veiled." if is_veiled else "Names are in clear.")


def _bring(rooms: Rooms, is_veiled: bool) -> None:
    form = "veiled" if is_veiled else "in clear"
    if not begin_names(rooms.database, is_veiled):
        click.echo(f"Names are {form} already.")
        return
    for page, (rows_of, last) in enumerate(rewrite_names(rooms.database, _rewrites(rooms)), 1):
        if page % PAGES == 0:
            click.echo(f"{rows_of}: up to row {last}")
    rooms.database.give_back_room((*archive.names.TABLES, *records.names.TABLES))
    with rooms.database.transaction() as session:
        note(session, rooms.clock, operator(), "veil Names" if is_veiled else "unveil Names", "")
    click.echo(f"All names are {form}.")


def _rewrites(rooms: Rooms) -> dict[str, Rewrite]:
    return {
        "studies": partial(rewrite_study_names, rooms.archive),
        "documents": partial(rewrite_document_names, rooms.records),
    }
