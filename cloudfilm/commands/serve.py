"""`cloudfilm serve` and `cloudfilm migrate`: start everything, or one role, or bring the schema up to
date."""

import io
import sys

import click

import access.accounts
from access.caller import operator
from access.certificate import speaks_tls
from archive.ingest import ingest
from archive.keys import Level
from archive.query import Query
from archive.search import search
from cloudfilm.commands.worklist import add_entry
from cloudfilm.migrate import downgrade, revisions
from cloudfilm.migrate import migrate as migrate_schema
from cloudfilm.roles import ROLES, Supervisor, require_free_ports
from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.sample import PATIENT_ID, PATIENT_NAME, sample_study
from kernel.crypto import KeyRing
from kernel.settings import Settings


@click.command()
@click.argument("roles", type=click.Choice(sorted(ROLES)), nargs=-1)
@click.option("--sample/--no-sample", default=True, help="Load the sample study into an empty archive.")
@click.pass_obj
def serve(context: object, roles: tuple[str, ...], sample: bool) -> None:
    """Start the server: all roles on this machine, or the named ROLES.

    With all roles the database is brought up to date first; on many machines `cloudfilm migrate` does
    that once. Ctrl-C stops everything cleanly.
    """
    settings: Settings = context.settings  # type: ignore[attr-defined]
    require_free_ports(settings, roles or tuple(ROLES))
    if roles:
        Supervisor(settings, roles).run(lambda: click.echo(f"cloudfilm runs: {', '.join(roles)}"))
        return
    migrate_schema(settings.database.url)
    rooms = build_rooms(settings)
    try:
        study_uid = _load_sample(rooms) if sample else ""
        codes = access.accounts.first_run_codes(rooms.access)
    finally:
        rooms.close()
    Supervisor(settings).run(lambda: click.echo(welcome(settings, study_uid, codes)))


def _load_sample(rooms: Rooms) -> str:
    """Store the sample study, and a worklist entry for a second look, into an empty archive.

    Returns its UID, or nothing when the archive is in use.
    """
    caller = operator()
    if search(rooms.archive, caller, Query(Level.STUDY, limit=1)).rows:
        return ""
    add_entry(
        rooms, patient_id=PATIENT_ID, patient_name=PATIENT_NAME, modality="CT", procedure="胸部 CT 复查",
    )  # fmt: skip
    receipts = [ingest(rooms.archive, caller, io.BytesIO(part10)) for part10 in sample_study()]
    return receipts[0].study_instance_uid


def welcome(settings: Settings, study_uid: str, codes: dict[str, str]) -> str:
    """What a person needs to know once it runs."""
    scheme = "https" if speaks_tls(settings.web) else "http"
    web = settings.web.public_url or f"{scheme}://{_shown(settings.web.host)}:{settings.web.port}"
    is_ours = scheme == "https" and not settings.web.tls_certificate and not settings.web.public_url
    trusting = f" --cacert {settings.data_dir / 'tls' / 'certificate.pem'}" if is_ours else ""
    dimse, aet = settings.dimse, settings.dimse.ae_title
    lines = ["", f"cloudfilm runs at {web}   (Ctrl-C stops it; data in {settings.data_dir})", ""]
    if "operator" in codes:
        lines.append("  Sign in for the first time, and choose a name and password:")
    elif codes:
        lines.append("  Hand each administrator their own address; each chooses a name and password there:")
    lines += [
        f"    {web}/sign-in#{code}"
        if role == "operator"
        else f"    {role:<24} {web}/sign-in?as={role}#{code}"
        for role, code in codes.items()
    ]
    lines += [""] if codes else []
    lines += [
        "  Store, from a modality or by hand:",
        f"    storescu -aec {aet} {_shown(dimse.host)} {dimse.port} IMAGE.dcm",
        "  Find, with a token:",
        f"    TOKEN=$({_command()} token --scope 'user/*.rs')",
        f'    curl{trusting} -H "Authorization: Bearer $TOKEN" {web}/dicomweb/studies',
        f'    curl{trusting} -H "Authorization: Bearer $TOKEN" {web}/fhir/ImagingStudy',
        "  See:",
        f"    {web}/ohif/" + (f"viewer?StudyInstanceUIDs={study_uid}" if study_uid else ""),
        "",
    ]
    return "\n".join(lines)


def _command() -> str:
    """How this program was called, so that the examples can be copied as they stand."""
    return sys.argv[0] if sys.argv[0].endswith("cloudfilm") else "cloudfilm"


def _shown(host: str) -> str:
    return "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host  # noqa: S104


@click.command()
@click.option(
    "--back-to", default="", metavar="REVISION", help="Go back, before older code is started again."
)
@click.pass_obj
def migrate(context: object, back_to: str) -> None:
    """Bring the database schema up to date. Safe to run again, and while older code serves."""
    settings: Settings = context.settings  # type: ignore[attr-defined]
    if back_to and back_to not in revisions():
        raise click.UsageError(f"{back_to} is not a revision; there are {', '.join(reversed(revisions()))}.")
    url = settings.database.url
    if back_to:
        keys = KeyRing.load(settings.data_dir / "keys" / "ring.json", settings.suite)
        before, after = downgrade(url, back_to, keys)
    else:
        before, after = migrate_schema(url)
    click.echo(
        f"The schema is at {after}." if before == after else f"The schema went from {before} to {after}."
    )
