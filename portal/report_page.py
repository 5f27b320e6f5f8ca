"""A DiagnosticReport as a page: its sections, who wrote it, the forms that it came in.

A report's text comes as one piece; headings that reports in China and elsewhere use (检查所见, 诊断意见,
FINDINGS, IMPRESSION) part it. FHIR R4 DiagnosticReport.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from access.audit import note_once
from access.caller import Caller
from portal.report_results import ResultShown, results_of
from records.documents import parse_document
from records.orders import STUDY_UID, accession_number_of
from records.repository import Stored, read
from records.room import Records
from records.search import parse_search, search

HEADINGS = {  # as it stands in a text: the section's key
    "检查所见": "findings", "影像所见": "findings", "影像学表现": "findings", "所见": "findings",
    "诊断意见": "impression", "影像诊断": "impression", "诊断结论": "impression", "检查结论": "impression",
    "印象": "impression", "结论": "impression", "诊断": "impression",
    "检查方法": "technique", "检查技术": "technique", "临床诊断": "indication", "病史": "indication",
    "临床资料": "indication", "建议": "advice",
    "findings": "findings", "impression": "impression", "conclusion": "impression",
    "technique": "technique", "indication": "indication", "clinical history": "indication",
    "recommendation": "advice", "comparison": "comparison", "对比": "comparison",
}  # fmt: skip
HEADING = re.compile(
    r"^\s*[【\[]?\s*("
    + "|".join(sorted(map(re.escape, HEADINGS), key=len, reverse=True))
    + r")\s*[】\]]?\s*[:：]?\s*",
    re.IGNORECASE,
)
MOST_REPORTS = 200
PDF = "application/pdf"
PICTURES = ("image/jpeg", "image/png")


@dataclass(frozen=True, slots=True)
class ReportShown:
    """A report, ready to be drawn."""

    id: str
    title: str
    status: str
    day: str  # when it was issued, or what it is of
    sections: tuple[tuple[str, str], ...]  # section key (empty: no heading) and text
    authors: tuple[str, ...]
    studies: frozenset[str]  # Study Instance UIDs it names
    exams: frozenset[str]  # logical ids of ImagingStudy
    accession_number: str
    has_pdf: bool
    pictures: int
    document: dict[str, Any]
    results: tuple[ResultShown, ...] = ()

    @property
    def impression(self) -> str:
        """The conclusion, for a summary."""
        return next((text for key, text in self.sections if key == "impression"), "")

    def is_of(self, study_instance_uid: str, logical_id: str, accession_number: str) -> bool:
        """Whether it is the report of an examination."""
        named = self.studies or self.exams
        if named:
            return study_instance_uid in self.studies or logical_id in self.exams
        return bool(accession_number) and accession_number == self.accession_number


def reports_of(records: Records, caller: Caller) -> tuple[ReportShown, ...]:
    """Every report that the caller may read, the newest first; none for who may read no reports."""
    found = search(
        records, caller,
        parse_search("DiagnosticReport", [("_count", str(MOST_REPORTS)), ("_sort", "-_lastUpdated")]),
    )  # fmt: skip
    return tuple(shown(stored) for stored in found.matches)


def report_of(records: Records, caller: Caller, report_id: str) -> ReportShown:
    """One report, noted in the log of the patient whose it is.

    Raises ResourceNotFound, ResourceGone or Forbidden.
    """
    (report,) = with_results(records, caller, (shown(read(records, caller, "DiagnosticReport", report_id)),))
    note_shown(records, caller, report)
    return report


def with_results(records: Records, caller: Caller, reports: Iterable[ReportShown]) -> tuple[ReportShown, ...]:
    """The same reports with what they found in numbers and codes."""
    known = tuple(reports)
    found = results_of(records, caller, [each.document for each in known])
    return tuple(replace(each, results=found.get(each.id, ())) for each in known)


def note_shown(records: Records, caller: Caller, report: ReportShown) -> None:
    """Write down, once in a while, that somebody saw a report, where its patient finds it."""
    subject = str(report.document.get("subject", {}).get("reference", ""))
    note_once(
        records.database, records.recently, records.clock, caller, "show DiagnosticReport",
        f"DiagnosticReport/{report.id}", subject.removeprefix("Patient/"),
    )  # fmt: skip


def shown(stored: Stored) -> ReportShown:
    """A stored report as it is drawn."""
    document = parse_document(stored.body.encode())
    code = document.get("code", {})
    names = [code.get("text"), *(each.get("display") for each in code.get("coding", []))]
    people = [*document.get("resultsInterpreter", []), *document.get("performer", [])]
    identifiers = document.get("identifier", [])
    return ReportShown(
        stored.logical_id,
        str(next((name for name in names if name), "")),
        str(document.get("status", "")),
        str(document.get("issued") or document.get("effectiveDateTime") or "")[:10],
        tuple(_sections(document)),
        tuple(dict.fromkeys(str(each["display"]) for each in people if each.get("display"))),
        frozenset(
            str(each.get("value", "")).removeprefix("urn:oid:")
            for each in identifiers
            if each.get("system") == STUDY_UID
        ),
        frozenset(
            str(each.get("reference", "")).rpartition("/")[2] for each in document.get("imagingStudy", [])
        ),
        accession_number_of(document),
        any(form.get("contentType", "").startswith(PDF) for form in document.get("presentedForm", [])),
        len([form for form in document.get("presentedForm", []) if form.get("contentType") in PICTURES]),
        document,
    )


def _sections(document: dict[str, Any]) -> Iterable[tuple[str, str]]:
    text = next(
        (
            content.decode("utf-8", "replace")
            for form in document.get("presentedForm", [])
            if form.get("contentType", "").startswith("text/plain") and (content := form_bytes(form))
        ),
        "",
    )
    conclusion = str(document.get("conclusion") or "").strip()
    sections = split_sections(text)
    yield from sections
    said = re.sub(r"\s+", "", text)
    if conclusion and re.sub(r"\s+", "", conclusion) not in said:
        yield "impression", conclusion


def split_sections(text: str) -> list[tuple[str, str]]:
    """A report's text parted at its headings: (section key, text); what comes before the first has none."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    for line in text.splitlines():
        match = HEADING.match(line)
        rest = line[match.end() :] if match else line
        is_heading = match is not None and (
            not rest.strip() or match[0].rstrip().endswith((":", "：", "】", "]"))
        )
        if match is not None and is_heading:
            sections.append((HEADINGS[match[1].lower()], [rest] if rest.strip() else []))
        else:
            sections[-1][1].append(line)
    return [(key, body) for key, lines in sections if (body := "\n".join(lines).strip())]


def form_bytes(form: dict[str, Any]) -> bytes:
    """The content of an Attachment; empty when it has none or it cannot be read."""
    try:
        return base64.b64decode(form.get("data") or "", validate=True)
    except (binascii.Error, ValueError, TypeError):
        return b""


def images_named(report: ReportShown) -> tuple[tuple[str, str], ...]:
    """The images that a report points to (FHIR R4 DiagnosticReport.media): SOP Instance UID, and what it
    says of it. Those that only a Media of its own names are read by the viewer."""
    contained = {f"#{each.get('id')}": each for each in report.document.get("contained", [])}
    found = []
    for each in report.document.get("media", []):
        link = each.get("link", {})
        media = contained.get(link.get("reference", ""), {})
        named = [link.get("identifier", {}), *media.get("identifier", [])]
        uid = next((str(one["value"]).removeprefix("urn:oid:") for one in named if one.get("value")), "")
        if uid:
            found.append((uid, str(each.get("comment") or link.get("display") or "")))
    return tuple(dict.fromkeys(found))


def pdf_of(report: ReportShown) -> bytes:
    """The PDF that a report came with; empty when there is none."""
    forms = report.document.get("presentedForm", [])
    return next((form_bytes(form) for form in forms if form.get("contentType", "").startswith(PDF)), b"")


def picture_of(report: ReportShown, number: int) -> tuple[bytes, str]:
    """A picture that a report came with (from 0), and its media type; empty when there is none."""
    forms = [form for form in report.document.get("presentedForm", []) if form.get("contentType") in PICTURES]
    if not 0 <= number < len(forms):
        return b"", ""
    return form_bytes(forms[number]), str(forms[number]["contentType"])
