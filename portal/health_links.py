"""SMART Health Links: examinations handed on by the open standard, to receivers that know nothing of us.

A link carries the address of a manifest and a key. With the passcode a receiver gets a file encrypted for
that key: a FHIR bundle of patient, studies and reports, with an Endpoint whose header is a token of this very
share, for the images and for nothing else. It is a grant like any other: it ends, is taken back and is logged
the same way. (The standard also has a file type for tokens, `application/smart-api-access`; readers in use
refuse a manifest that holds one, so the token goes in the bundle.)

The standard has the address of a manifest carry its secret; the key, which no server sees, does not.
SMART Health Links 1.0.0 (STU 1); RFC 7516 (JWE: dir, A256GCM); SMART App Launch 2.2.
"""

import base64
import json
from datetime import datetime
from hashlib import sha256
from typing import Any

from flask import Blueprint, Response, jsonify, request
from joserfc import jwe
from joserfc.jwk import OctKey
from werkzeug.wrappers import Response as AnyResponse

from access.bearer import client_address
from access.grant_model import ShareGrant
from access.grants import (
    HEALTH_LINK,
    PASSCODE,
    Terms,
    begin_visit,
    details_of,
    keep_details,
    living_grant,
    visit_of,
)
from access.phone_codes import try_passcode
from access.rates import Limit, within_limits
from access.share_links import site_url
from access.tokens import Access
from archive.exams import Exam, list_exams
from archive.room import Archive
from archive.shares import refresh, share_studies
from kernel.clock import new_secret
from kernel.crypto import DamagedBlob
from kernel.errors import Unauthenticated
from kernel.http import room
from portal.catalogue import say
from portal.film import Place
from portal.report_page import reports_of
from portal.report_results import observations_of
from records.repository import read
from records.room import Records

blp = Blueprint("health_links", __name__)

BUNDLE = "application/fhir+json"
FILE_LIFE_S = 300
MANIFESTS_AN_HOUR = Limit(120, 3600)
OPEN_TO_ALL = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-store"}


def make_health_link(place: Place, studies: tuple[str, ...], passcode: str, days: int) -> str:
    """Share studies as a SMART Health Link: `shlink:/...`. Raises as `share_studies` does."""
    access = room(Access)
    terms = Terms(binding=PASSCODE, passcode=passcode, days=days, recipient="SMART Health Link")
    made = share_studies(room(Archive), access, place.caller, studies, terms, HEALTH_LINK)
    key = new_secret(32)
    keep_details(access, made.id, key)
    payload = {
        "url": f"{site_url()}/shl/{made.secret}",
        "key": key,
        "exp": int(made.expires_at.timestamp()),
        "flag": "P",
        "label": say("film.share-title")[:80],
        "v": 1,
    }
    text = json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
    return "shlink:/" + base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@blp.route("/shl/<secret>", methods=["OPTIONS"])
def preflight(secret: str) -> AnyResponse:
    """Receivers are pages of other sites (CORS)."""
    headers = {"Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Headers": "Content-Type"}
    return Response("", 204, {**OPEN_TO_ALL, **headers})


@blp.post("/shl/<secret>")
def manifest(secret: str) -> AnyResponse:
    """The manifest: which files there are, for who knows the passcode and says who it is."""
    access, archive = room(Access), room(Archive)
    body = request.get_json(silent=True)
    body = body if isinstance(body, dict) else {}
    with access.database.transaction() as session:
        now = access.clock.now()
        calm = within_limits(
            session, now, f"manifest {sha256(secret.encode()).hexdigest()}", MANIFESTS_AN_HOUR
        )
        grant = living_grant(session, access, secret)
    if grant is None or grant.kind != HEALTH_LINK:
        return _answer({}, 404)
    if not calm:
        return _answer({}, 429)
    recipient = str(body.get("recipient") or "").strip()[:64]
    if not recipient:
        return _answer({"error": "recipient"}, 400)
    right, remaining = try_passcode(access, grant.id, str(body.get("passcode") or ""), client_address())
    if not right:
        return _answer({"remainingAttempts": remaining}, 401)
    with access.database.transaction() as session:
        refresh(archive, session, session.merge(grant))
        visit_secret = begin_visit(
            access, session, grant.id, "recipient", "", client_address(), visitor=recipient
        )
    most = body.get("embeddedLengthMax")
    most = most if isinstance(most, int) else 0
    key = details_of(access, grant)
    encrypted = _encrypted(key, _bundle(grant.id, visit_secret))
    entry = {"contentType": BUNDLE}
    if len(encrypted) <= most:
        entry["embedded"] = encrypted
    else:
        entry["location"] = f"{site_url()}/shl/files/{_ticket(access, visit_secret, now)}"
    return _answer({"status": "finalized", "files": [entry]})


def _answer(body: dict[str, Any], status: int = 200) -> Response:
    answer = jsonify(body)
    answer.status_code = status
    answer.headers.update(OPEN_TO_ALL)
    if status == 429:
        answer.headers["Retry-After"] = "600"
    return answer


def _ticket(access: Access, visit_secret: str, now: datetime) -> str:
    """What opens one file for a few minutes: the visit, sealed, with when it was asked for."""
    text = f"{int(now.timestamp()) + FILE_LIFE_S} {visit_secret}"
    return base64.urlsafe_b64encode(access.keys.seal_bytes(text.encode(), "health link")).decode()


@blp.get("/shl/files/<ticket>")
def file(ticket: str) -> AnyResponse:
    """One encrypted file. A ticket lives five minutes, and no longer than its share."""
    access = room(Access)
    try:
        sealed = base64.urlsafe_b64decode(ticket.encode())
        until, visit_secret = access.keys.open_bytes(sealed, "health link").decode().split(" ")
        visit = visit_of(access, visit_secret, client_address())
    except (ValueError, DamagedBlob, Unauthenticated):
        return _answer({}, 404)
    if int(until) < access.clock.now().timestamp():
        return _answer({}, 404)
    with access.database.snapshot() as session:
        key = details_of(access, session.get_one(ShareGrant, visit.grant_id))
    encrypted = _encrypted(key, _bundle(visit.grant_id, visit_secret))
    return Response(encrypted, headers=OPEN_TO_ALL, mimetype="application/jose")


def _encrypted(key: str, content: dict[str, Any]) -> str:
    protected = {"alg": "dir", "enc": "A256GCM", "cty": BUNDLE, "zip": "DEF"}
    secret = OctKey.import_key({"kty": "oct", "k": key})
    text = json.dumps(content, ensure_ascii=False).encode()
    return str(jwe.encrypt_compact(protected, text, secret, algorithms=["dir", "A256GCM", "DEF"]))


def _bundle(grant_id: str, visit_secret: str) -> dict[str, Any]:
    visit = visit_of(room(Access), visit_secret, client_address())
    exams = list_exams(room(Archive), visit.caller)
    records = room(Records)
    entries = [_patient(exams[0]), _endpoint(grant_id, visit_secret)] if exams else []
    for exam in exams:
        entries.append(json.loads(read(records, visit.caller, "ImagingStudy", exam.logical_id).body))
    if visit.with_report:
        reports = [json.loads(json.dumps(each.document)) for each in reports_of(records, visit.caller)]
        entries += [*reports, *observations_of(records, visit.caller, reports)]
    base = f"{site_url()}/share/{grant_id}/fhir"
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": room(Access).clock.now().isoformat(timespec="seconds"),
        "entry": [
            {"fullUrl": f"{base}/{each['resourceType']}/{each['id']}", "resource": each} for each in entries
        ],
    }


def _endpoint(grant_id: str, visit_secret: str) -> dict[str, Any]:
    """Where the images are, and what opens them: for this share, as long as it lasts."""
    system = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
    return {
        "resourceType": "Endpoint",
        "id": grant_id,
        "status": "active",
        "connectionType": {"system": system, "code": "dicom-wado-rs"},
        "payloadType": [{"text": "DICOM"}],
        "address": f"{site_url()}/share/{grant_id}/dicomweb",
        "header": [f"Authorization: Bearer {visit_secret}"],
    }


def _patient(exam: Exam) -> dict[str, Any]:
    """As much of the patient as a receiver needs to file the bundle."""
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "id": exam.patient,
        "name": [{"text": exam.patient_name}],
    }
    gender = {"M": "male", "F": "female", "O": "other"}.get(exam.patient_sex)
    if gender:
        patient["gender"] = gender
    if exam.birth_date:
        patient["birthDate"] = exam.birth_date.isoformat()
    return patient
