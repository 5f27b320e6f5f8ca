"""`cloudfilm mpi`: who is who, why, and how well that is told."""

import json
import os
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from access.caller import operator
from cloudfilm.rooms import Rooms
from mpi.bulk import identify_all, prepared_batches
from mpi.crew import Crew, Prepared
from mpi.csv_records import read_labelled, read_records
from mpi.demographics import Authority
from mpi.evaluation import as_lines, evaluate, train_on
from mpi.features import features_of
from mpi.links import decide_review, link, unlink, unmerge
from mpi.model import Link, PatientRecord
from mpi.resolve import State
from mpi.review import open_reviews
from mpi.sealing import demographics_of
from mpi.weights import default_weights, dump_weights, read_weights

TRIES = 3  # of a batch of which another process brought a number meanwhile
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def mpi() -> None:
    """The master patient index."""


@mpi.command("load")
@click.argument("file", type=FILE)
@click.option("--batch", default=2000, show_default=True, help="Records in one transaction.")
@click.option(
    "--processes", type=int, help="That prepare and compare records; without it, one for each core."
)
@click.pass_obj
def load_(context: Any, file: Path, batch: int, processes: int | None) -> None:
    """Load patient records from CSV (columns: see docs/mpi.md), each matched. Running it again changes
    nothing."""
    rooms: Rooms = context.rooms
    records = (replace(each.said, authority=Authority.REGISTRATION) for each in read_records(file))
    states: Counter[State] = Counter()
    start = time.monotonic()
    cores = (os.cpu_count() or 1) if processes is None else processes
    with Crew(rooms.keys, rooms.mpi.scorer, cores) as crew:
        for part in prepared_batches(crew, records, batch):
            states += _identify(rooms, crew, part)
            done = states.total()
            if len(part) == batch:
                click.echo(f"{done} records, {done / (time.monotonic() - start):.0f} a second", err=True)
    click.echo("  ".join(sorted(f"{state.value} {count}" for state, count in states.items())))


def _identify(rooms: Rooms, crew: Crew, part: list[Prepared]) -> Counter[State]:
    for _ in range(TRIES):
        with suppress(IntegrityError), rooms.database.transaction() as session:
            return Counter(each.state for each in identify_all(rooms.mpi, session, operator(), crew, part))
    raise click.ClickException("Somebody else brings the same numbers at the same time. Load the file again.")


@mpi.command("train")
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--version", "version_", required=True, help="What to call the weights.")
def train_(files: tuple[Path, ...], version_: str) -> None:
    """Learn weights from CSV records without labels; prints them as JSON. Each file is a register."""
    registers = [[features_of(record.said) for record in read_records(file)] for file in files]
    click.echo(dump_weights(train_on(registers, default_weights(), version_)), nl=False)


@mpi.command("evaluate")
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--weights", type=FILE, help="A JSON file of weights; without it, the shipped ones.")
@click.option("--link", type=float, help="Log2 odds from which a pair is linked; 0 is probability 0.5.")
@click.option("--no-household-rules", is_flag=True, help="Ask the weights alone.")
def evaluate_(
    files: tuple[Path, ...], weights: Path | None, link: float | None, no_household_rules: bool
) -> None:
    """Precision, recall and F1 on labelled CSV records, by weights learnt from the file itself and by
    weights as they are. Labels are counted with, never learnt from."""
    known = read_weights(weights) if weights else default_weights()
    if link is not None:
        known = replace(known, link=link, review=min(known.review, link))
    for file in files:
        records = read_labelled(file)
        learnt = train_on([[features_of(record.said) for record in records]], known, "learnt from the file")
        click.echo(f"{file.name}: {len(records)} records")
        for used in (learnt, known):
            click.echo(f"  weights {used.version}")
            for line in as_lines(evaluate(records, used, not no_household_rules)):
                click.echo(f"    {line}")


@mpi.command()
@click.argument("patient_id")
@click.argument("other_patient_id", default="")
@click.pass_obj
def explain(context: Any, patient_id: str, other_patient_id: str) -> None:
    """Why a record is where it is: its links; or how it compares with another, field by field."""
    rooms = context.rooms
    with rooms.database.snapshot() as session:
        row = _record(session, patient_id)
        other = _record(session, other_patient_id) if other_patient_id else None
        if other is not None:
            scored = rooms.mpi.scorer.score(
                features_of(demographics_of(rooms.mpi, row)), features_of(demographics_of(rooms.mpi, other))
            )
            for field, (how, bits) in scored.by_field(rooms.mpi.scorer.weights).items():
                click.echo(f"{field}: {how} {bits:+.2f}")
            click.echo(f"prior {rooms.mpi.scorer.weights.populations[scored.population].prior:+.2f}")
            click.echo(f"log2 odds {scored.weight:+.2f}, probability {scored.probability:.4f} {scored.rule}")
            return
        for each in session.scalars(select(Link).where(Link.patient_record_id == row.id).order_by(Link.id)):
            click.echo(f"{each.at:%Y-%m-%d %H:%M} person {each.person_id} {each.reason} by {each.actor}")
            for field, (how, bits) in json.loads(each.scores).items():
                click.echo(f"  {field}: {how} {bits:+.2f}")


def _record(session: Session, patient_id: str) -> PatientRecord:
    row = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == patient_id))
    if row is None:
        raise click.ClickException(f"There is no Patient {patient_id}.")
    return row


@mpi.command()
@click.option("--limit", default=20, show_default=True, help="The most pairs.")
@click.pass_obj
def review(context: Any, limit: int) -> None:
    """List pairs that somebody has to decide."""
    reviews, total = open_reviews(context.rooms.mpi, operator(), limit)
    for each in reviews:
        click.echo(f"{each.id}  {each.kind}  {each.weight:+.1f}  {'  '.join(each.patient_ids)}  {each.rule}")
    click.echo(f"{total} open", err=True)


@mpi.command()
@click.argument("item", type=int)
@click.option("--same/--apart", required=True, help="Whether both are one person.")
@click.pass_obj
def decide(context: Any, item: int, same: bool) -> None:
    """Decide a pair of the review queue."""
    with context.rooms.database.transaction() as session:
        decide_review(context.rooms.mpi, session, operator(), item, same_person=same)


@mpi.command("link")
@click.argument("patient_id")
@click.argument("other_patient_id")
@click.pass_obj
def link_(context: Any, patient_id: str, other_patient_id: str) -> None:
    """Say that two records are one person."""
    with context.rooms.database.transaction() as session:
        link(context.rooms.mpi, session, operator(), patient_id, other_patient_id)


@mpi.command("unlink")
@click.argument("patient_id")
@click.pass_obj
def unlink_(context: Any, patient_id: str) -> None:
    """Take a record out of its person."""
    with context.rooms.database.transaction() as session:
        unlink(context.rooms.mpi, session, operator(), patient_id)


@mpi.command("unmerge")
@click.argument("merge", type=int)
@click.pass_obj
def unmerge_(context: Any, merge: int) -> None:
    """Take a merge back."""
    with context.rooms.database.transaction() as session:
        unmerge(context.rooms.mpi, session, operator(), merge)
