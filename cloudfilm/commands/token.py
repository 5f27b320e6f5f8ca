"""`cloudfilm token`: an access token for scripts."""

import re
from typing import Any

import click

from access.audit import note
from access.caller import operator
from access.scopes import parse_scopes
from access.tokens import ACCESS, issue

UNITS = {"m": 60, "h": 3600, "d": 86400}


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if match is None or int(match[1]) == 0:
        raise click.BadParameter("write it as 30m, 12h or 7d")
    return int(match[1]) * UNITS[match[2]]


@click.command()
@click.option(
    "--scope",
    default="user/*.rs",
    show_default=True,
    help="SMART scopes, separated by spaces: what may be done with which type, as user/ImagingStudy.rs.",
)
@click.option("--expires", default="1h", show_default=True, callback=_seconds, help="Its life: 30m, 12h, 7d.")
@click.option(
    "--label", default="", help="What it is for, as the list of tokens and the audit trail show it."
)
@click.pass_obj
def token(context: Any, scope: str, expires: int, label: str) -> None:
    """Print a new access token. It acts for the operator, within its scopes."""
    access = context.rooms.access
    parse_scopes(scope)
    with access.database.transaction() as session:
        secret = issue(
            access, session, ACCESS, life_s=expires, role="operator", scope=scope, label=label or "token"
        )
        note(session, access.clock, operator(), "create Token", detail=scope)
    click.echo(secret)
