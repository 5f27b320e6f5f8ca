"""`cloudfilm storage`: where objects are, whether they are sound, and moving them."""

import sys
from typing import Any

import click

from access.caller import operator
from archive.blobs.tiers import COLD
from archive.kept import NAMING
from archive.scrub import damaged_objects, scrub, scrub_rounds
from archive.space import room_left
from archive.storage_policy import PLACES, TIERS, apply_storage_policy, recall


@click.group()
def storage() -> None:
    """Look after the stored objects: copies, scrubbing, tiers."""


@storage.command()
@click.pass_obj
def status(context: Any) -> None:
    """Show each store, and how far the scrubbing is."""
    archive = context.rooms.archive
    left = {name: f"  {free // 2**30} GiB free" for name, free in room_left(archive).items()}
    click.echo(f"main    {archive.blobs.settings.url}{left.get('main', '')}")
    if archive.blobs.settings.cold_url:
        click.echo(f"cold    {archive.blobs.settings.cold_url}{left.get(COLD, '')}")
    for text in archive.blobs.settings.copies:
        click.echo(f"copy    {text}{left.get(text.partition('=')[0], '')}")
    for each in scrub_rounds(archive, operator()):
        before = f"; the round before ended {each.finished_at:%Y-%m-%d %H:%M}" if each.finished_at else ""
        click.echo(f"scrub   {each.naming}: {each.checked} proven, {each.mended} mended{before}")


@storage.command()
@click.pass_obj
def damaged(context: Any) -> None:
    """List the objects that no store has whole. Exits 1 when there are some."""
    found = damaged_objects(context.rooms.archive, operator())
    for each in found:
        click.echo(f"{each.found_at:%Y-%m-%d %H:%M}  {each.sop_instance_uid}  {each.blob_key}")
    sys.exit(1 if found else 0)


@storage.command("scrub")
@click.pass_obj
def scrub_(context: Any) -> None:
    """Prove every object now, and mend from copies what is not sound. Exits 1 when something is damaged."""
    archive = context.rooms.archive
    for table in NAMING:
        scrub(archive, table, sys.maxsize)
    found = damaged_objects(archive, operator())
    click.echo(f"{len(found)} objects are damaged and have no whole copy.")
    sys.exit(1 if found else 0)


@storage.command("apply-policy")
@click.pass_obj
def apply_policy(context: Any) -> None:
    """Queue the moves that the storage policy asks for; the worker makes them."""
    apply_storage_policy(context.rooms.archive)


@storage.command()
@click.argument("study_instance_uid")
@click.argument("tier", type=click.Choice(TIERS))
@click.option("--compress", is_flag=True, help="Pack it there, without loss; reading unpacks.")
@click.pass_obj
def move(context: Any, study_instance_uid: str, tier: str, compress: bool) -> None:
    """Queue a move of one study to TIER; without --compress it comes as it arrived."""
    recall(context.rooms.archive, operator(), study_instance_uid, PLACES[tier, compress])
    click.echo("Queued.")
