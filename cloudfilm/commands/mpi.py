"""`cloudfilm mpi`: who is who, why, and how well that is told."""

import json
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import click
from sqlalchemy import select

from access.caller import operator
from mpi.bulk import identify_all
from mpi.demographics import Authority
from mpi.evaluation import as_lines, evaluate, iterate_labelled, read_labelled, train_on
from mpi.features import features_of
from mpi.links import decide_review, link, unlink, unmerge
from mpi.model import Link, PatientRecord
from mpi.resolve import State
from mpi.review import open_reviews
from mpi.sealing import demographics_of
from mpi.weights import default_weights, dump_weights, load_weights

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def mpi() -> None:
    """The master patient index."""


@mpi.command("load")
@click.argument("file", type=FILE)
@click.option("--batch", default=1000, show_default=True, help="Records in one transaction.")
@click.pass_obj
def load_(context: Any, file: Path, batch: int) -> None:
    """Load patient records from CSV (columns: see docs/mpi.md), each matched. Running it again changes
    nothing."""
    rooms, caller = context.rooms, operator()
    records = (replace(each.said, authority=Authority.REGISTRATION) for each in iterate_labelled(file))
    states: Counter[State] = Counter()
    while part := list(islice(records, batch)):
        with rooms.database.transaction() as session:
            states += identify_all(rooms.mpi, session, caller, part)
        if len(part) == batch:
            click.echo(f"{sum(states.values())} records", err=True)
    click.echo("  ".join(sorted(f"{state.value} {count}" for state, count in states.items())))


@mpi.command("train")
@click.argument("file", type=FILE)
@click.option("--version", "version_", required=True, help="What to call the weights.")
def train_(file: Path, version_: str) -> None:
    """Learn weights from CSV records without labels; prints them as JSON."""
    features = [features_of(record.said) for record in read_labelled(file)]
    click.echo(dump_weights(train_on(features, default_weights(), version_)), nl=False)


@mpi.command("evaluate")
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--weights", type=FILE, help="A JSON file of weights; without it, the shipped ones.")
@click.option("--train", "trains", is_flag=True, help="Train on each file first, without its labels.")
@click.option("--link", type=float, help="Log2 odds from which a pair is linked; 0 is probability 0.5.")
@click.option("--no-household-rules", is_flag=True, help="Ask the weights alone.")
def evaluate_(
    files: tuple[Path, ...], weights: Path | None, trains: bool, link: float | None, no_household_rules: bool
) -> None:
    """Precision, recall and F1 on labelled CSV records."""
    start = load_weights(weights.read_text()) if weights else default_weights()
    start = replace(start, link=start.link if link is None else link)
    for file in files:
        result = evaluate(read_labelled(file), None if trains else start, start, not no_household_rules)
        click.echo(file.name)
        for line in as_lines(result):
            click.echo(f"  {line}")


@mpi.command()
@click.argument("patient_id")
@click.argument("other_patient_id", default="")
@click.pass_obj
def explain(context: Any, patient_id: str, other_patient_id: str) -> None:
    """Why a record is where it is: its links; or how it compares with another, field by field."""
    rooms = context.rooms
    with rooms.database.snapshot() as session:
        row = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == patient_id))
        other = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == other_patient_id))
        if row is None or (other_patient_id and other is None):
            raise click.ClickException("There is no such patient record.")
        if other is not None:
            scored = rooms.mpi.scorer.score(
                features_of(demographics_of(rooms.mpi, row)), features_of(demographics_of(rooms.mpi, other))
            )
            for field, (how, bits) in scored.by_field(rooms.mpi.scorer.weights).items():
                click.echo(f"{field}: {how} {bits:+.2f}")
            click.echo(f"prior {rooms.mpi.scorer.weights.prior:+.2f}")
            click.echo(f"log2 odds {scored.weight:+.2f}, probability {scored.probability:.4f} {scored.rule}")
            return
        for each in session.scalars(select(Link).where(Link.patient_record_id == row.id).order_by(Link.id)):
            click.echo(f"{each.at:%Y-%m-%d %H:%M} person {each.person_id} {each.reason} by {each.actor}")
            for field, (how, bits) in json.loads(each.scores).items():
                click.echo(f"  {field}: {how} {bits:+.2f}")


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
