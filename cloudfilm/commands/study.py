"""`cloudfilm study`: list, show, check and remove studies from the shell, and bring them back."""

import sys
from typing import Any, TextIO

import click

from access.caller import operator
from archive.completeness import check_completeness, parse_digests
from archive.documents import parse_marked
from archive.keys import KEY_BY_TAG, TAG_BY_KEYWORD, Level
from archive.query import Match, Query
from archive.removal import REASONS, Removed, removals, remove, restore
from archive.search import search


@click.group()
def study() -> None:
    """Look at the studies in the archive, and take out what has to go."""


@study.command("list")
@click.option("--name", default="", help="Patient's name; * and ? are wildcards.")
@click.option("--patient-id", default="", help="Patient ID.")
@click.option("--date", default="", help="Study date: 20240131 or 20240101-20240131.")
@click.option("--modality", default="", help="A modality in the study, such as CT.")
@click.option("--limit", default=50, show_default=True, help="The most rows.")
@click.pass_obj
def list_(context: Any, name: str, patient_id: str, date: str, modality: str, limit: int) -> None:
    """List studies, the newest first."""
    asked = {"PatientName": name, "PatientID": patient_id, "StudyDate": date, "ModalitiesInStudy": modality}
    matches = tuple(
        Match(KEY_BY_TAG[TAG_BY_KEYWORD[keyword]], (value,)) for keyword, value in asked.items() if value
    )
    found = search(context.rooms.archive, operator(), Query(Level.STUDY, matches, limit=limit))
    for row in found.rows:
        click.echo(_line(parse_marked(row)))
    if found.has_more:
        click.echo("... and more; narrow the search or raise --limit.", err=True)


def _line(row: dict[str, Any]) -> str:
    shown = ("StudyDate", "ModalitiesInStudy", "NumberOfStudyRelatedInstances", "PatientID", "PatientName")
    return "  ".join((_value(row, "StudyInstanceUID"), *(_value(row, keyword) for keyword in shown)))


def _value(row: dict[str, Any], keyword: str) -> str:
    values = row.get(TAG_BY_KEYWORD[keyword], {}).get("Value", ["-"])
    return "/".join(
        "=".join(part for part in value.values() if part) if isinstance(value, dict) else str(value)
        for value in values
    )


@study.command()
@click.argument("study_instance_uid")
@click.pass_obj
def show(context: Any, study_instance_uid: str) -> None:
    """Show a study and its series."""
    archive, caller = context.rooms.archive, operator()
    key = KEY_BY_TAG[TAG_BY_KEYWORD["StudyInstanceUID"]]
    found = search(archive, caller, Query(Level.STUDY, (Match(key, (study_instance_uid,)),), limit=1))
    if not found.rows:
        raise click.ClickException(f"There is no study {study_instance_uid}.")
    row = parse_marked(found.rows[0])
    for tag, attribute in row.items():
        keyword = KEY_BY_TAG[tag].keyword if tag in KEY_BY_TAG else tag
        if "Value" in attribute and keyword in TAG_BY_KEYWORD:
            click.echo(f"{keyword}: {_value(row, keyword)}")
    for series in search(archive, caller, Query(Level.SERIES, (), study_instance_uid)).rows:
        values = parse_marked(series)
        shown = ("SeriesNumber", "Modality", "NumberOfSeriesRelatedInstances", "SeriesDescription")
        click.echo(
            "  series " + "  ".join(_value(values, keyword) for keyword in ("SeriesInstanceUID", *shown))
        )


@study.command()
@click.argument("study_instance_uid")
@click.option(
    "--digests",
    type=click.File(encoding="utf-8-sig", errors="replace"),
    help="What its sender has, as `sha256sum` or `md5sum` lists it; `-` reads it from a pipe.",
)
@click.option(
    "--csv",
    "as_csv",
    type=click.File("w", encoding="utf-8"),
    help="Save each object's UID, size, SHA-256 and MD5 here.",
)
@click.pass_obj
def check(context: Any, study_instance_uid: str, digests: TextIO | None, as_csv: TextIO | None) -> None:
    """Look for missing instances and damaged files. Exits 1 when there are some.

    Digests are of whole files as they came: by upload, import and STOW-RS the sender's own, by C-STORE not,
    for its sender sends no file but a data set.
    """
    sent = parse_digests(digests or ())
    report = check_completeness(context.rooms.archive, operator(), study_instance_uid, sent)
    click.echo(report.as_text())
    if as_csv is not None:
        as_csv.write(report.as_csv())
    sys.exit(0 if report.is_complete else 1)


@study.command()
@click.argument("study_instance_uid")
@click.option("--series", default="", help="Only this series: its Series Instance UID.")
@click.option("--instance", default="", help="Only this instance: its SOP Instance UID.")
@click.option("--reason", type=click.Choice(sorted(REASONS)), required=True, help="Code of CID 7011: why.")
@click.option("--comment", default="", help="What else there is to say, for those who look at it later.")
@click.pass_obj
def delete(
    context: Any, study_instance_uid: str, series: str, instance: str, reason: str, comment: str
) -> None:
    """Take a study, a series or an instance out of every view, until it is restored or purged."""
    done = remove(context.rooms.archive, operator(), reason, study_instance_uid, series, instance, comment)
    click.echo(_removal_line(done))


@study.command("removals")
@click.option("--limit", default=50, show_default=True, help="The most rows.")
@click.pass_obj
def list_removals(context: Any, limit: int) -> None:
    """List what was removed, the newest first."""
    for each in removals(context.rooms.archive, operator(), limit):
        click.echo(_removal_line(each))


@study.command("restore")
@click.argument("removal_id")
@click.pass_obj
def restore_(context: Any, removal_id: str) -> None:
    """Bring back what a removal took out, as `removals` names it."""
    click.echo(_removal_line(restore(context.rooms.archive, operator(), removal_id)))


def _removal_line(removal: Removed) -> str:
    what = removal.sop_instance_uid or removal.series_instance_uid or removal.study_instance_uid
    end = removal.end or f"purged after {removal.purge_at:%Y-%m-%d}"
    return "  ".join(
        (removal.id, f"{removal.removed_at:%Y-%m-%d %H:%M}", what, f"{removal.instances} instances",
         f"{removal.reason} {REASONS[removal.reason]}", end)
    )  # fmt: skip
