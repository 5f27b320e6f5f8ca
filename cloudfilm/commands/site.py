"""`cloudfilm site`: what the site decides while running, as documents with history."""

import json
from typing import IO, Any

import click

from access.caller import operator
from access.site_documents import (
    NotADocument,
    current_document,
    document_history,
    document_kind,
    export_documents,
    import_documents,
    put_document,
    roll_back_document,
)


@click.group()
def site() -> None:
    """What the site decides while running: rules and policies, with their history."""


@site.command("list")
@click.pass_obj
def list_(context: Any) -> None:
    """List the documents that there are."""
    for kind in context.rooms.access.documents:
        click.echo(f"{kind.name:<20} {kind.about}")


@site.command()
@click.argument("name")
@click.option("--version", "number", type=int, help="An older version; default: the one in force.")
@click.pass_obj
def show(context: Any, name: str, number: int | None) -> None:
    """Print a document, as it can be edited and set again."""
    room = context.rooms.access
    kind = document_kind(room, name)
    if number is None:
        with room.database.snapshot() as session:
            click.echo(current_document(session, kind))
        return
    for version in document_history(room, operator(), kind):
        if version.number == number:
            click.echo(version.document)
            return
    raise click.ClickException(f"{name} has no version {number}.")


@site.command("set")
@click.argument("name")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--comment", default="", help="Why, for the history.")
@click.pass_obj
def set_(context: Any, name: str, file: IO[str], comment: str) -> None:
    """Put the document of a JSON file (- reads standard input) in force at the next request."""
    room = context.rooms.access
    number = put_document(room, operator(), document_kind(room, name), file.read(), comment)
    click.echo(f"Version {number} of {name} is in force.")


@site.command()
@click.argument("name")
@click.pass_obj
def history(context: Any, name: str) -> None:
    """List every version of a document, the newest first."""
    room = context.rooms.access
    for version in document_history(room, operator(), document_kind(room, name)):
        click.echo(f"{version.number:>4} {version.at:%Y-%m-%d %H:%M} {version.by:<16} {version.comment}")


@site.command()
@click.argument("name")
@click.argument("number", type=int)
@click.pass_obj
def rollback(context: Any, name: str, number: int) -> None:
    """Put an older version in force again, as a new version."""
    room = context.rooms.access
    present = roll_back_document(room, operator(), document_kind(room, name), number)
    click.echo(f"Version {present} of {name}, as version {number} was, is in force.")


@site.command()
@click.argument("file", type=click.File("w", encoding="utf-8"), default="-")
@click.pass_obj
def export(context: Any, file: IO[str]) -> None:
    """Write every document in force into one JSON file."""
    documents = export_documents(context.rooms.access, operator())
    file.write(json.dumps(documents, ensure_ascii=False, indent=2) + "\n")


@site.command("import")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--comment", default="", help="Why, for the history.")
@click.pass_obj
def import_(context: Any, file: IO[str], comment: str) -> None:
    """Put the documents of an exported file in force: all of them, or none when one is wrong."""
    try:
        documents = json.loads(file.read())
    except ValueError:
        documents = None
    if not isinstance(documents, dict):
        raise NotADocument("The file is not what `cloudfilm site export` writes.")
    changed = import_documents(context.rooms.access, operator(), documents, comment)
    click.echo(f"Changed: {', '.join(changed) or 'nothing'}.")
