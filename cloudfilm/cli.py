"""The command line: `cloudfilm`.

Settings are read first; a wrong one stops with the field, its value and the remedy. Commands act as the
operator, who may do everything and is audited like everyone.
"""

import os
import sys

import click

from cloudfilm import __version__
from cloudfilm.commands import (
    access,
    account,
    audit,
    backup,
    doctor,
    forward,
    hl7,
    import_files,
    institution,
    keys,
    mpi,
    names,
    node,
    pull,
    reconcile,
    records,
    selftest,
    serve,
    share,
    site,
    storage,
    study,
    terminology,
    token,
    worklist,
)
from cloudfilm.load_settings import load_settings
from cloudfilm.rooms import Rooms, build_rooms
from kernel.database import DatabaseUnavailable, said_by_database
from kernel.errors import CloudfilmError
from kernel.logs import set_up_logs
from kernel.settings import Settings

COMMANDS: tuple[click.Command, ...] = (
    serve.serve,
    serve.migrate,
    import_files.import_,
    study.study,
    worklist.worklist,
    token.token,
    node.node,
    forward.forward,
    pull.pull,
    account.account,
    institution.institution,
    access.access,
    site.site,
    share.share,
    share.message,
    audit.audit,
    backup.backup,
    keys.keys,
    names.names,
    storage.storage,
    hl7.hl7,
    mpi.mpi,
    reconcile.reconcile,
    terminology.terminology,
    records.records,
    selftest.selftest,
    doctor.doctor,
)


class Context:
    """What a command gets: the settings, and the rooms once it asks for them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._rooms: Rooms | None = None

    @property
    def rooms(self) -> Rooms:
        """The rooms, built at the first use."""
        if self._rooms is None:
            self._rooms = build_rooms(self.settings)
        return self._rooms


HELP = ["-h", "--help"]


@click.group(context_settings={"help_option_names": HELP, "max_content_width": 100})
@click.version_option(__version__)
@click.pass_context
def cli(context: click.Context) -> None:
    """cloudfilm, the imaging hub: DICOM, DICOMweb, FHIR and HL7 v2 doors to one archive."""
    settings = load_settings(os.environ)
    set_up_logs(settings.log.level, settings.log.format == "json")
    context.obj = Context(settings)


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """The console script: a refusal is one line on standard error and exit status 1.

    What the host does not let this user do is one too: commands are often tried as another user first.
    """
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.UsageError as refusal:
        refusal.show()
        sys.exit(refusal.exit_code)
    except DatabaseUnavailable as refusal:
        click.echo(f"cloudfilm: {said_by_database(refusal)}", err=True)
        sys.exit(1)
    except (CloudfilmError, click.ClickException) as refusal:
        click.echo(f"cloudfilm: {refusal}", err=True)
        sys.exit(1)
    except PermissionError as refusal:
        remedy = "run this as the user that the server runs as (sudo -u cloudfilm ...), or let this one"
        click.echo(f"cloudfilm: {refusal.filename} may not be read or written by you: {remedy}.", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
