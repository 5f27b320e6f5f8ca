"""`cloudfilm selftest`: check a running service from outside, by its address alone."""

import sys

import click

from conformance.dicomweb.report import check_dicomweb
from conformance.fhir.report import check_fhir


@click.group()
def selftest() -> None:
    """Check a running service against its standard, this one or another's."""


@selftest.command()
@click.option("--url", required=True, help="Base URL of the service, as http://127.0.0.1:8080/dicomweb.")
@click.option("--token", default="", help="Access token that may store and read; see: cloudfilm token.")
@click.option("--json", "as_json", is_flag=True, help="Answer for programs.")
def dicomweb(url: str, token: str, as_json: bool) -> None:
    """Check a DICOMweb service row by row of PS3.18. It stores one small study. Exits 1 when a row fails."""
    report = check_dicomweb(url, token)
    click.echo(report.as_json() if as_json else report.as_text())
    sys.exit(0 if report.passed else 1)


@selftest.command()
@click.option("--url", required=True, help="Base URL of the server, as http://127.0.0.1:8080/fhir.")
@click.option("--token", default="", help="Access token that may do everything; see: cloudfilm token.")
@click.option("--json", "as_json", is_flag=True, help="Answer for programs.")
def fhir(url: str, token: str, as_json: bool) -> None:
    """Check a FHIR R4 server row by row. It writes a few resources of its own. Exits 1 when a row fails."""
    report = check_fhir(url, token)
    click.echo(report.as_json() if as_json else report.as_text())
    sys.exit(0 if report.passed else 1)
