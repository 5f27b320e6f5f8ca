"""ImagingStudy/$share: a link for studies, or for an accession number whose images are still to come.

Parameters: `accession-number` (with `institution`) or `study` (Study Instance UIDs), and of the terms
`binding`, `phone`, `account`, `passcode`, `days`, `uses`, `download`, `reason`. Returns `id`, `url`,
`expires`, and `code`, the QR code as an SVG attachment. The link is in this answer alone. An operation of our
own.
"""

import base64
import io

import segno
from flask import Response

from access.bearer import current_caller
from access.caller import Door
from access.grants import PATIENT, Terms
from access.share_links import share_url
from access.tokens import Access
from archive.room import Archive
from archive.shares import share_accession_number, share_studies
from fhir_server.negotiate import document_answer, require_json
from fhir_server.operations.given import given
from kernel.http import room


def share_images() -> Response:
    """Make a share and hand its link out."""
    require_json()
    caller, asked = current_caller(Door.FHIR), given()
    archive, access = room(Archive), room(Access)
    terms = Terms(
        binding=asked.text("binding") or PATIENT,
        phone=asked.text("phone"),
        passcode=asked.text("passcode"),
        account=asked.text("account"),
        days=asked.integer("days"),
        most_uses=asked.integer("uses"),
        download=asked.boolean("download"),
        reason=asked.text("reason"),
    )
    number = asked.text("accession-number")
    if number:
        made = share_accession_number(archive, access, caller, number, asked.text("institution"), terms)
    else:
        made = share_studies(archive, access, caller, asked.texts("study"), terms)
    url, file = share_url(made.secret), io.BytesIO()
    segno.make(url, error="m", micro=False).save(file, kind="svg", scale=8, border=4)
    code = {"contentType": "image/svg+xml", "data": base64.b64encode(file.getvalue()).decode()}
    answer = document_answer(
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "id", "valueId": made.id},
                {"name": "url", "valueUrl": url},
                {"name": "expires", "valueInstant": made.expires_at.isoformat(timespec="milliseconds")},
                {"name": "code", "valueAttachment": code},
            ],
        }
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer
