"""`cloudfilm reconcile`: studies beside orders and registrations."""

from typing import Any

import click

from access.caller import operator
from archive.reconcile import State, comparisons, decide, undo_decision

STATE = click.Choice([state.value for state in State])


@click.group()
def reconcile() -> None:
    """Studies whose header was compared with an order or a registration."""


@reconcile.command("list")
@click.option("--state", type=STATE, default=State.CONFLICT.value, show_default=True)
@click.option("--limit", default=20, show_default=True, help="The most comparisons.")
@click.pass_obj
def list_(context: Any, state: str, limit: int) -> None:
    """List comparisons: which fields differ, and how. Shows no names."""
    found, total = comparisons(context.rooms.archive, operator(), State(state), limit)
    for each in found:
        levels = " ".join(f"{field.field}={field.level}" for field in each.fields if field.level != "same")
        click.echo(f"{each.id}  {each.study_instance_uid}  {each.source}  {levels}  {each.decided_by}")
    click.echo(f"{total} {state}", err=True)


@reconcile.command("decide")
@click.argument("number", type=int)
@click.option("--same/--other", required=True, help="Whether the study is of the order's patient.")
@click.pass_obj
def decide_(context: Any, number: int, same: bool) -> None:
    """Say whose a held study is."""
    decide(context.rooms.archive, operator(), number, same_patient=same)


@reconcile.command()
@click.argument("number", type=int)
@click.pass_obj
def undo(context: Any, number: int) -> None:
    """Take a decision back: the study goes home, and is held again."""
    undo_decision(context.rooms.archive, operator(), number)
