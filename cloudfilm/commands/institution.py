"""`cloudfilm institution`: the members of a consortium."""

from typing import Any

import click

from access.caller import operator
from access.institutions import institutions, set_institution


@click.group()
def institution() -> None:
    """What institutions are called, and who gave their Patient IDs."""


@institution.command("list")
@click.pass_obj
def list_(context: Any) -> None:
    """List the institutions of which something is said."""
    for each in institutions(context.rooms.access, operator()):
        click.echo(f"{each.code:<32} {each.patient_id_issuer or each.code:<32} {each.name}")


@institution.command("set")
@click.argument("code")
@click.option("--name", help="What people call it.")
@click.option("--patient-id-issuer", help="The assigning authority of Patient IDs that name none.")
@click.pass_obj
def set_(context: Any, code: str, name: str | None, patient_id_issuer: str | None) -> None:
    """Say what an institution is called, and of whom a Patient ID without an issuer is."""
    set_institution(context.rooms.access, operator(), code, name, patient_id_issuer)
