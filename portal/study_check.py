"""Whether a study is whole, for staff: a page, and each object with its digests as a file for its sender.

Each reads every object of the study, as a retrieval does.
"""

from flask import Blueprint, Response
from werkzeug.wrappers import Response as AnyResponse

from access.caller import Caller
from archive.completeness import CompletenessReport, SeriesReport, check_completeness
from archive.room import Archive
from kernel.http import room
from portal.catalogue import say
from portal.console import Page, Row, page

blp = Blueprint("study_check", __name__, template_folder="templates")

MOST_NUMBERS = 50  # that are named of one series


@blp.get("/staff/studies/<study>/completeness")
@page
def completeness(caller: Caller, study: str) -> Page:
    """What is missing of a study, and what is damaged."""
    report = check_completeness(room(Archive), caller, study)
    return Page(
        "completeness",
        ("series", "instances", "missing_numbers"),
        [Row((each.series_instance_uid, str(each.instances), _missing(each))) for each in report.series],
        message=say("console.complete" if report.is_complete else "console.incomplete"),
        hint=_counts(report),
        downloads=(("console.objects-as-csv", f"/staff/studies/{study}/completeness.csv"),),
    )


def _missing(series: SeriesReport) -> str:
    more = " …" if len(series.missing_numbers) > MOST_NUMBERS else ""
    return ", ".join(map(str, series.missing_numbers[:MOST_NUMBERS])) + more


def _counts(report: CompletenessReport) -> str:
    return say(
        "console.completeness-counts", study=report.study_instance_uid, objects=len(report.objects),
        damaged=len(report.damaged), not_arrived=len(report.not_arrived), held=report.held,
    )  # fmt: skip


@blp.get("/staff/studies/<study>/completeness.csv")
@page
def completeness_file(caller: Caller, study: str) -> AnyResponse:
    """Each object with its UID, size, SHA-256 and MD5."""
    report = check_completeness(room(Archive), caller, study)
    answer = Response(report.as_csv(), content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = f"attachment; filename={report.study_instance_uid}.csv"
    answer.headers["Cache-Control"] = "no-store"
    return answer
