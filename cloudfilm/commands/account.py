"""`cloudfilm account`: people who sign in."""

from typing import Any, BinaryIO

import click

from access.accounts import (
    account_of,
    change_account,
    create_account,
    list_accounts,
    reset_password,
    set_certificate,
)
from access.caller import operator
from access.federation import link_account
from access.roles import ROLES
from access.second_factor import remove_second_factors, set_phone

ROLE = click.Choice(sorted(ROLES))


@click.group()
def account() -> None:
    """Add, list and change accounts. A password is asked for, never written on the command line."""


@account.command()
@click.argument("login")
@click.option("--role", type=ROLE, required=True)
@click.option("--name", default="", help="As pages and the audit trail show it.")
@click.option("--institution", default="", help="Code of the institution; default: this server's own.")
@click.option("--department", default="")
@click.password_option()
@click.pass_obj
def add(
    context: Any, login: str, role: str, name: str, institution: str, department: str, password: str
) -> None:
    """Add an account. Its holder is asked to choose another password at the first sign-in."""
    access = context.rooms.access
    with access.database.transaction() as session:
        create_account(
            access,
            session,
            operator(),
            login,
            password,
            role,
            name=name,
            institution=institution or access.settings.institution,
            department=department,
            must_change=True,
        )
    click.echo(f"{login} may sign in.")


@account.command("list")
@click.pass_obj
def list_(context: Any) -> None:
    """List accounts."""
    for each in list_accounts(context.rooms.access, operator()):
        state = "disabled" if each.disabled else ""
        click.echo(f"{each.login:<24} {each.role:<24} {each.institution:<12} {each.department:<12} {state}")


@account.command()
@click.argument("login")
@click.option("--role", type=ROLE)
@click.option("--name")
@click.option("--institution")
@click.option("--department")
@click.option("--fhir-user", help="Who it is in clinical documents, as Practitioner/x.")
@click.option("--patients", help="Of a patient or proxy: ids of Patient documents, by commas.")
@click.option("--disable/--enable", "disabled", default=None)
@click.pass_obj
def change(context: Any, /, login: str, **values: Any) -> None:
    """Change an account; its sessions end."""
    given = {name: value for name, value in values.items() if value is not None}
    change_account(context.rooms.access, operator(), login, **given)


@account.command()
@click.argument("login")
@click.password_option()
@click.pass_obj
def password(context: Any, login: str, password: str) -> None:
    """Give an account a new password, which its holder is then asked to change."""
    reset_password(context.rooms.access, operator(), login, password)


@account.command()
@click.argument("login")
@click.argument("number")
@click.pass_obj
def phone(context: Any, login: str, number: str) -> None:
    """Where codes by text message go, as +8613800138000; an empty text takes it away."""
    access = context.rooms.access
    set_phone(access, operator(), account_of(access, login).id, number)


@account.command()
@click.argument("login")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def certificate(context: Any, login: str, file: BinaryIO) -> None:
    """Let an account sign in with the certificate in FILE (PEM); an empty file takes it away."""
    set_certificate(context.rooms.access, operator(), login, file.read())


@account.command()
@click.argument("login")
@click.argument("issuer")
@click.argument("subject")
@click.pass_obj
def link(context: Any, login: str, issuer: str, subject: str) -> None:
    """Let an account sign in at its hospital, as SUBJECT of the provider ISSUER; empty texts end it."""
    link_account(context.rooms.access, operator(), login, issuer, subject)


@account.command("forget-factors")
@click.argument("login")
@click.pass_obj
def forget_factors(context: Any, login: str) -> None:
    """Take an account's second factors away, when its holder lost them."""
    access = context.rooms.access
    remove_second_factors(access, operator(), account_of(access, login).id)
