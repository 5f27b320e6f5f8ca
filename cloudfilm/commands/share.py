"""`cloudfilm share` and `cloudfilm message`: codes for reports, shares, gateways and what was sent."""

import sys
from pathlib import Path
from typing import Any

import click

from access.caller import operator
from access.grants import PATIENT, Terms, list_grants, revoke_grant
from access.share_policy import BINDINGS
from archive.shares import share_accession_number, share_studies
from messaging.gateways import put_gateways
from messaging.send import list_messages
from portal.qr_code import Label, label_pdf, qr_file

FORMS = ("svg", "png", "pdf")


@click.group()
def share() -> None:
    """Codes for paper reports, and shares of studies."""


@share.command()
@click.argument("accession_number")
@click.option("--institution", default="", help="Whose number it is; default: this host's own.")
@click.option("--days", type=int, help="How long it opens; default: as the policy says.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the code here: .svg, .png, or .pdf for a label.")  # fmt: skip
@click.pass_obj
def qr(context: Any, accession_number: str, institution: str, days: int | None, output: Path | None) -> None:
    """Make the code of a paper report, before or after its images come. Prints the link."""
    rooms = context.rooms
    kind = output.suffix[1:].lower() if output else ""
    if output is not None and kind not in FORMS:
        raise click.BadParameter(f"name a file that ends in {', '.join('.' + form for form in FORMS)}")
    made = share_accession_number(
        rooms.archive, rooms.access, operator(), accession_number, institution, Terms(days=days)
    )
    link = _link(context, made.secret)
    if output is not None:
        texts = rooms.messaging.texts(context.settings.language)
        until = texts["label.until"].format(day=made.expires_at.date().isoformat())
        label = Label(
            texts["label.title"], (texts["label.scan"], texts["label.phone"], until), accession_number
        )
        output.write_bytes(label_pdf(link, label) if kind == "pdf" else qr_file(link, kind))
    click.echo(f"{made.id}\n{link}")


@share.command()
@click.argument("study_instance_uids", nargs=-1, required=True)
@click.option("--to", "binding", type=click.Choice(BINDINGS), default=PATIENT,
              show_default=True, help="Who may open it.")  # fmt: skip
@click.option("--phone", default="", help="The phone, with --to phone.")
@click.option("--account", default="", help="The login name or phone, with --to account.")
@click.option("--passcode", default="", help="The passcode, with --to passcode.")
@click.option("--days", type=int, help="How long it opens; default: as the policy says.")
@click.option("--uses", type=int, help="How often it opens; default: as the policy says.")
@click.option("--download", is_flag=True, help="DICOM objects may be taken away.")
@click.option("--reason", default="", help="Why, for the audit trail.")
@click.pass_obj
def study(
    context: Any, study_instance_uids: tuple[str, ...], binding: str, phone: str, account: str, passcode: str,
    days: int | None, uses: int | None, download: bool, reason: str,
) -> None:  # fmt: skip
    """Share studies of one patient. Prints the id of the share, and the link, this once."""
    proofs = {"phone": phone, "account": account, "passcode": passcode}
    if not proofs.get(binding, "given"):
        raise click.UsageError(f"With --to {binding} say also --{binding}.")
    rooms = context.rooms
    terms = Terms(
        binding=binding, phone=phone, account=account, passcode=passcode, days=days, most_uses=uses,
        download=download, reason=reason,
    )  # fmt: skip
    made = share_studies(rooms.archive, rooms.access, operator(), study_instance_uids, terms)
    click.echo(f"{made.id}\n{_link(context, made.secret)}")


def _link(context: Any, secret: str) -> str:
    """The link of a share. Says so when it leads nobody but this machine here."""
    web = context.settings.web
    if not web.public_url:
        click.echo(
            "web.public_url is not set: this link opens on this machine only. Set it as "
            "https://film.example.org and make the link anew.",
            err=True,
        )
    return f"{web.site}/share#{secret}"


@share.command("list")
@click.option("--study", default="", help="Of this study only.")
@click.pass_obj
def list_(context: Any, study: str) -> None:
    """The newest shares: id, state, binding, uses, end, who made it."""
    for seen in list_grants(context.rooms.access, operator(), study=study):
        grant, state = seen.grant, "active" if seen.is_alive else "over"
        until = grant.expires_at.strftime("%Y-%m-%d")
        click.echo(
            f"{grant.id}  {state:<6}  {grant.kind:<5}  {grant.binding:<8}  {grant.uses:>3}  {until}  "
            f"{grant.made_by_name}  {grant.accession_number}"
        )


@share.command()
@click.argument("share_id")
@click.pass_obj
def revoke(context: Any, share_id: str) -> None:
    """End a share: at the next request it opens nothing, images included."""
    revoke_grant(context.rooms.access, operator(), share_id)


@click.group()
def message() -> None:
    """Messages to people outside: gateways, and what was sent."""


@message.command()
@click.argument("document", type=click.File("r", encoding="utf-8"))
@click.option("--comment", default="", help="Why, for the history.")
@click.pass_obj
def gateways(context: Any, document: Any, comment: str) -> None:
    """Put a gateways document in force; its secrets are sealed first. `-` reads standard input."""
    number = put_gateways(context.rooms.messaging, operator(), document.read(), comment)
    click.echo(f"gateways version {number}")


@message.command("list")
@click.option("--most", default=50, show_default=True)
@click.pass_obj
def list_messages_(context: Any, most: int) -> None:
    """The newest messages: when, to whom (masked), what, and how far they got. Exits 1 when one failed."""
    messaging = context.rooms.messaging
    with messaging.database.snapshot() as session:
        rows = list_messages(messaging, session, most)
    for row in rows:
        at = row.created_at.strftime("%Y-%m-%d %H:%M:%S")
        told = f"{row.channel:<7}  {row.masked:<16}  {row.template:<14}  {row.state:<9}"
        click.echo(f"{at}  {told}  {row.gateway}  {row.error}")
    sys.exit(1 if any(row.state == "failed" for row in rows) else 0)
