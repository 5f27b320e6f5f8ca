"""`cloudfilm backup`: make, check, restore and rehearse backups."""

from pathlib import Path
from typing import Any

import click

from access.caller import operator
from cloudfilm import backup as backups


@click.group()
def backup() -> None:
    """Backups by restic: encrypted, incremental, proven by drills. See docs/operations.md."""


@backup.command()
@click.pass_obj
def create(context: Any) -> None:
    """Make a backup now. The server may run."""
    click.echo(backups.create_backup(context.rooms, operator()))


@backup.command()
@click.option("--percent", default=5, show_default=True, help="How much of the data is read.")
@click.pass_obj
def verify(context: Any, percent: int) -> None:
    """Check the repository and read a share of its data."""
    click.echo(backups.verify_backup(context.rooms, operator(), percent))


@backup.command()
@click.option("--sample", default=500, show_default=True, help="The most objects that are read back.")
@click.pass_obj
def drill(context: Any, sample: int) -> None:
    """Restore the newest backup beside what runs, compare counts and digests, and remove it again."""
    click.echo(backups.drill(context.rooms, operator(), sample))


@backup.command()
@click.argument("into", type=click.Path(path_type=Path, file_okay=False))
@click.option("--database", default="", help="URL of an empty database; without one, a file in the folder.")
@click.option("--snapshot", default="latest", show_default=True, help="Which backup, as restic names it.")
@click.pass_obj
def restore(context: Any, into: Path, database: str, snapshot: str) -> None:
    """Restore a backup into the new folder INTO, which can then be the data directory."""
    manifest = backups.restore(context.settings, into.resolve(), database, snapshot)
    click.echo(f"Restored {manifest.instances} instances of {manifest.made_at}. Start with:")
    start = f"CLOUDFILM_DATA_DIR={into}" + (f" CLOUDFILM_DATABASE__URL={database}" if database else "")
    start += (
        f" CLOUDFILM_BLOBS__COLD_URL=file://{into.resolve() / 'cold'}" if (into / "cold").exists() else ""
    )
    click.echo(f"  {start} cloudfilm serve")


@backup.command("list")
@click.pass_obj
def list_(context: Any) -> None:
    """List the newest backups, checks and drills."""
    for run in backups.runs(context.rooms, operator()):
        state = "good" if run.good else "BAD "
        click.echo(f"{run.began_at:%Y-%m-%d %H:%M}  {run.kind:<7} {state} {run.seconds:>6} s  {run.detail}")
