"""DocumentReference as a view of reports: a report on paper, found by who looks for documents.

The DiagnosticReport is the home; for each that has a presented form, a DocumentReference is drawn under the
id `report-` and the report's, with the report's version. R4 DocumentReference; IHE MHD (ITI-67); $docref.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from kernel.changes import Change
from kernel.database import table_of
from kernel.jobs import job
from records.documents import document_text, parse_document
from records.model import Resource
from records.repository import ROW, Projected, forget_projected, index_all_projected
from records.room import Drawn, Records

PREFIX, PAGE, LONGEST_ID = "report-", 200, 57  # the two together are an id of 64 characters at most
SOURCE, DRAWN = "DiagnosticReport", "DocumentReference"
STATES = {  # DiagnosticReport.status as DocumentReference.docStatus
    "registered": "preliminary", "partial": "preliminary", "preliminary": "preliminary", "final": "final",
    "amended": "amended", "corrected": "amended", "appended": "amended",
    "entered-in-error": "entered-in-error",
}  # fmt: skip
WITHDRAWN = frozenset({"cancelled", "entered-in-error"})
AUTHORS = frozenset({"Practitioner", "PractitionerRole", "Organization"})

_TABLE = table_of(Resource)


class ReportDocumentProjection:
    """Draws DocumentReference documents of reports."""

    def draw(self, session: Session, logical_ids: Sequence[str]) -> Mapping[str, Drawn]:
        """The documents of some reports, by logical id."""
        ids = [each.removeprefix(PREFIX) for each in logical_ids if each.startswith(PREFIX)]
        return {
            str(each.document["id"]): Drawn(each.version, each.updated_at, document_text(each.document))
            for each in report_documents(session, ids)
        }


def follow_report_documents(records: Records, session: Session, change: Change) -> None:
    """Keep the search index of a report's document: subscribed to documents that are written."""
    type_, _, logical_id = change.subject.partition("/")
    if type_ != SOURCE:
        return
    drawn = report_documents(session, [logical_id])
    if drawn:
        index_all_projected(records, session, drawn)
    else:
        forget_projected(session, DRAWN, PREFIX + logical_id)


@job(queue="records", retries=1, every=timedelta(hours=6))
def index_report_documents(records: Records) -> None:
    """Make the search index of reports that were there before their view was."""
    view, last = aliased(Resource), 0
    known = (
        select(view.id).where(view.type == DRAWN, view.logical_id == PREFIX + Resource.logical_id).exists()
    )
    while True:
        with records.database.transaction() as session:
            found = session.execute(
                select(Resource.id, Resource.logical_id)
                .where(Resource.type == SOURCE, Resource.id > last, ~Resource.deleted, ~known)
                .order_by(Resource.id)
                .limit(PAGE)
            ).all()
            drawn = report_documents(session, [row.logical_id for row in found])
            index_all_projected(records, session, drawn, announced=False)
        if len(found) < PAGE:
            return
        last = found[-1].id


def report_documents(session: Session, ids: Sequence[str]) -> list[Projected]:
    """The documents of some reports as they are now; numbers in them stay as they were written."""
    statement = select(*ROW, _TABLE.c.institution, _TABLE.c.department).where(
        _TABLE.c.type == SOURCE, _TABLE.c.logical_id.in_(ids), ~_TABLE.c.deleted
    )
    found = []
    for row in session.execute(statement):
        report = parse_document(row.body)
        if len(row.logical_id) <= LONGEST_ID and report.get("presentedForm"):
            document = _document(report)
            found.append(Projected(document, row.institution, row.department, row.version, row.updated_at))
    return found


def _document(report: dict[str, Any]) -> dict[str, Any]:
    status = str(report.get("status"))
    effective = report.get("effectiveDateTime")
    moment = {"start": effective, "end": effective} if effective else None
    named = [*report.get("performer", ()), *report.get("resultsInterpreter", ())]
    authors = [each for each in named if str(each.get("reference", "")).split("/")[0] in AUTHORS]
    context = {
        "encounter": [report["encounter"]] if "encounter" in report else None,
        "period": report.get("effectivePeriod") or moment,
        "related": [
            {"reference": f"{SOURCE}/{report['id']}"},
            *report.get("basedOn", ()),
            *report.get("imagingStudy", ()),
        ],
    }
    meta = report["meta"]
    document = {
        "resourceType": DRAWN,
        "id": f"{PREFIX}{report['id']}",
        "meta": {
            name: meta[name] for name in ("versionId", "lastUpdated", "security", "tag") if name in meta
        },
        "identifier": report.get("identifier"),
        "status": "entered-in-error" if status in WITHDRAWN else "current",
        "docStatus": STATES.get(status),
        "type": report.get("code"),
        "category": report.get("category"),
        "subject": report.get("subject"),
        "date": report.get("issued") or meta["lastUpdated"],
        "author": authors,
        "description": report.get("conclusion"),
        "content": [{"attachment": form} for form in report["presentedForm"]],
        "context": {key: value for key, value in context.items() if value},
    }
    return {key: value for key, value in document.items() if value}
