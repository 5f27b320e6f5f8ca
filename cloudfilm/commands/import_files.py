"""`cloudfilm import`: store files and folders from the shell, with progress; a second run goes on where
the first one stopped, for what is already there is found to be the same and kept once."""

from collections.abc import Iterator
from pathlib import Path

import click

from access.caller import operator
from archive.ingest import ingest
from archive.placing import Outcome
from kernel.errors import CloudfilmError


@click.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--institution", default="", help="Code of the institution that owns the images.")
@click.pass_context
def import_(context: click.Context, paths: tuple[Path, ...], institution: str) -> None:
    """Store DICOM files, and all those in folders. Exits 1 when some were refused."""
    archive, caller = context.obj.rooms.archive, operator(institution)
    counts = dict.fromkeys(Outcome, 0)
    refused: list[tuple[Path, str]] = []
    files = list(_files(paths))
    with click.progressbar(files, label="Importing", show_pos=True) as bar:
        for path in bar:
            try:
                with path.open("rb") as part10:
                    counts[ingest(archive, caller, part10).outcome] += 1
            except CloudfilmError as refusal:
                refused.append((path, str(refusal)))
            except OSError as failure:
                refused.append((path, failure.strerror or "cannot be read"))
    for path, reason in refused:
        click.echo(f"refused {path}: {reason}", err=True)
    click.echo(
        f"{counts[Outcome.STORED]} stored, {counts[Outcome.DUPLICATE]} already there, "
        f"{counts[Outcome.HELD]} held for review, {len(refused)} refused."
    )
    context.exit(1 if refused else 0)


def _files(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file() and file.name != "DICOMDIR")
        else:
            yield path
