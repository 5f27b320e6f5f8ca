"""`cloudfilm access`: apps, broken glass, and why somebody may not do something."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from access.caller import Action, Door, operator
from access.explain import decision_about
from access.oauth.clients import disable_client, list_clients, register_client
from access.row_care import MODELS, accept_row, changed_rows
from access.rules import parse_actions
from access.site import review_glass, unreviewed_glass
from access.tokens import REGISTRATION, issue
from archive.explain import hiding_steps


@click.group()
def access() -> None:
    """Apps, broken glass, and why a request is refused."""


@access.command()
@click.argument("login")
@click.argument("action")
@click.option("--from", "address", default="", help="The network address it comes from.")
@click.option("--at", type=click.DateTime(), help="When; default: now.")
@click.option("--scope", help="The scopes of the app's token; default: a browser session.")
@click.option("--patient", default="", help="The patient in the token's context.")
@click.option("--study", default="", help="A Study Instance UID; says which step hides it.")
@click.option(
    "--door",
    type=click.Choice([door.value for door in Door]),
    help="Where it comes in; default: web, or dimse for a node.",
)
@click.pass_obj
def explain(
    context: Any,
    login: str,
    action: str,
    address: str,
    at: datetime | None,
    scope: str | None,
    patient: str,
    study: str,
    door: str | None,
) -> None:
    """Say whether LOGIN may do ACTION (ImagingStudy.r), and what decides it. Exits 1 when it may not.

    LOGIN is a sign-in name, or the AE title of a node.
    """
    room = context.rooms.access
    try:
        wanted: Action = parse_actions(action)[0]
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from None
    decision = decision_about(
        room, login, Door(door) if door else None, address=address, at=at, scope=scope, patient=patient
    )
    hiding = hiding_steps(context.rooms.archive, decision, wanted, study) if study else ()
    for step in decision.steps:
        verdict = "REFUSES" if not step.lets(wanted) else "HIDES" if step in hiding else "allows"
        rows = "" if step.limit is None else f" Rows: {len(step.limit) or 'none'}."
        click.echo(f"{verdict:<8} {step.name:<20} {step.reason}{rows}")
    refused = decision.refusals(wanted) or hiding
    click.echo(f"{login} may {'not ' if refused else ''}do {wanted}{' with this study' if study else ''}.")
    sys.exit(1 if refused else 0)


@access.command()
@click.pass_obj
def changed(context: Any) -> None:
    """List accounts, apps and nodes that were changed outside of cloudfilm. Exits 1 when there are some."""
    found = changed_rows(context.rooms.access)
    for row in found:
        click.echo(row.row_name)
    sys.exit(1 if found else 0)


@access.command()
@click.argument("kind", type=click.Choice(tuple(MODELS)))
@click.argument("name", default="")
@click.option("--all", "is_all", is_flag=True, help="Every one of this kind that `access changed` lists.")
@click.pass_obj
def accept(context: Any, kind: str, name: str, is_all: bool) -> None:
    """Let the account, client or node NAME (login, id, AE title) count as it is now.

    It was changed outside of cloudfilm: look at it before, with `account list` for one.
    """
    if bool(name) == is_all:
        raise click.UsageError("Name one, or say --all.")
    room = context.rooms.access
    listed = (row.row_name.partition("/") for row in changed_rows(room)) if is_all else ()
    for each in [name] if name else [found for of, _, found in listed if of == kind]:
        accept_row(room, operator(), kind, each)
        click.echo(f"{kind}/{each} counts as it is.")


@access.group()
def client() -> None:
    """Apps and services."""


@client.command("add")
@click.argument("name")
@click.option("--redirect", "redirects", multiple=True, help="Redirect URI; may be given several times.")
@click.option("--launch-url", default="", help="Where the app is opened from the portal.")
@click.option("--scope", default="", help="The most it may be granted.")
@click.option(
    "--method",
    default="none",
    type=click.Choice(["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]),
)
@click.option("--jwks", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its key set.")
@click.option("--jwks-uri", default="", help="Where its key set is.")
@click.option("--service", is_flag=True, help="A backend service: client_credentials, no user.")
@click.pass_obj
def add_client(
    context: Any,
    name: str,
    redirects: tuple[str, ...],
    launch_url: str,
    scope: str,
    method: str,
    jwks: Path | None,
    jwks_uri: str,
    service: bool,
) -> None:
    """Register an app or service; prints what it has to be told."""
    metadata: dict[str, Any] = {
        "client_name": name,
        "redirect_uris": list(redirects),
        "launch_url": launch_url,
        "scope": scope,
        "token_endpoint_auth_method": method,
        "grant_types": ["client_credentials"] if service else ["authorization_code", "refresh_token"],
        "jwks_uri": jwks_uri,
    }
    if jwks:
        metadata["jwks"] = json.loads(jwks.read_text("utf-8"))
    registered = register_client(context.rooms.access, operator(), metadata)
    shown = {
        key: value for key, value in registered.items() if key in ("client_id", "client_secret", "scope")
    }
    click.echo(json.dumps(shown, indent=2))


@client.command("list")
@click.pass_obj
def list_of_clients(context: Any) -> None:
    """List apps and services."""
    for each in list_clients(context.rooms.access, operator()):
        click.echo(f"{each.client_id}  {each.auth_method:<20} {each.name}")


@client.command("remove")
@click.argument("client_id")
@click.pass_obj
def remove_client(context: Any, client_id: str) -> None:
    """End an app and every token that it has."""
    if not disable_client(context.rooms.access, operator(), client_id):
        raise click.ClickException("There is no such client.")


@client.command("registration-token")
@click.pass_obj
def registration_token(context: Any) -> None:
    """Print a token with which apps may register themselves for a day (RFC 7591)."""
    room = context.rooms.access
    with room.database.transaction() as session:
        click.echo(issue(room, session, REGISTRATION, life_s=86400.0, label="registration"))


@access.group()
def glass() -> None:
    """Broken glass that waits for a review."""


@glass.command("list")
@click.pass_obj
def list_of_glass(context: Any) -> None:
    """List what nobody has reviewed."""
    for each in unreviewed_glass(context.rooms.access, operator()):
        click.echo(
            f"{each.id:>4} {each.at:%Y-%m-%d %H:%M} {each.account_id} Patient/{each.patient}: {each.reason}"
        )


@glass.command()
@click.argument("number", type=int)
@click.argument("verdict")
@click.pass_obj
def review(context: Any, number: int, verdict: str) -> None:
    """Say whether it was right."""
    review_glass(context.rooms.access, operator(), number, verdict)
