"""`cloudfilm terminology`: code systems, value sets and maps that a site loads."""

from pathlib import Path
from typing import Any

import click
from sqlalchemy import select

from access.caller import operator
from terminology.layouts import LAYOUTS
from terminology.load import load_csv, load_documents, remove
from terminology.model import Definition

FILE = click.Path(exists=True, path_type=Path)


@click.group()
def terminology() -> None:
    """What codes mean: code systems, value sets, maps."""


@terminology.command("load")
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--layout", type=click.Choice(sorted(LAYOUTS)), help="Of a CSV file; see docs/terminology.md.")
@click.option("--url", default="", help="The code system's URL, when the layout has none.")
@click.option("--version", "version_", default="", help="What to call this version.")
@click.pass_obj
def load_(context: Any, files: tuple[Path, ...], layout: str | None, url: str, version_: str) -> None:
    """Load FHIR packages (.tgz), FHIR JSON files or folders, or code lists as CSV.

    Versions stand side by side; the same version again takes the place of the one before, all at once.
    """
    room, caller = context.rooms.terminology, operator()
    for file in files:
        if layout or file.suffix.lower() in (".csv", ".tsv", ".zip"):
            chosen = LAYOUTS[layout or "local"]
            loaded = [load_csv(room, caller, file, chosen, url, version_, _progress)]
        else:
            loaded = load_documents(room, caller, file, _progress)
        click.echo(f"\r{file.name}: {len(loaded)} definitions", err=True)
        for each in loaded:
            click.echo(f"{each.kind}\t{each.url}\t{each.version}\t{each.concepts}")


def _progress(what: str, count: int) -> None:
    click.echo(f"\r{what[-60:]:60} {count:>8}", err=True, nl=False)


@terminology.command("list")
@click.pass_obj
def list_(context: Any) -> None:
    """List what was loaded: kind, URL, version, concepts, file, when."""
    with context.rooms.database.snapshot() as session:
        for row in session.scalars(
            select(Definition).order_by(Definition.kind, Definition.url, Definition.version)
        ):
            state = "" if row.ready else "\tunfinished"
            click.echo(
                f"{row.kind}\t{row.url}\t{row.version}\t{row.concepts}\t{row.source}"
                f"\t{row.loaded_at:%Y-%m-%d %H:%M}{state}"
            )


@terminology.command("remove")
@click.argument("url")
@click.option("--version", "version_", default="", help="This version only.")
@click.pass_obj
def remove_(context: Any, url: str, version_: str) -> None:
    """Remove what was loaded under a URL."""
    count = remove(context.rooms.terminology, operator(), url, version_)
    if not count:
        raise click.ClickException("Nothing was loaded under that URL and version.")
    click.echo(f"{count} removed", err=True)
