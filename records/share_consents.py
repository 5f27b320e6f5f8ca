"""Consent as a view of shares: what a patient, or staff for a patient, lets others see, and until when.

A share (`access.grants`) is the home, and is made and ended there; the Consent is drawn when it is read,
under the id `share-` and the share's. Consents that are written over REST are documents of their own, and
what the access decision goes by. R4 Consent.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from access.grant_model import ShareGrant, ShareItem
from kernel.changes import Change
from kernel.database import table_of
from kernel.jobs import job
from records.documents import instant
from records.model import Resource
from records.orders import STUDY_UID
from records.repository import Projected, index_all_projected
from records.room import Drawn, Records

PREFIX, PAGE = "share-", 500
SHARE = "urn:cloudfilm:share"
CODES = "http://terminology.hl7.org/CodeSystem/"
PRIVACY = {"coding": [{"system": f"{CODES}consentscope", "code": "patient-privacy"}]}
DISCLOSURE = {"coding": [{"system": f"{CODES}v3-ActCode", "code": "IDSCL"}]}
OPT_IN = {"coding": [{"system": f"{CODES}v3-ActCode", "code": "OPTIN"}]}
RECIPIENT = {"coding": [{"system": f"{CODES}v3-ParticipationType", "code": "IRCP"}]}
TYPES = {"study": "ImagingStudy", "report": "DiagnosticReport", "result": "Observation"}


class ShareConsentProjection:
    """Draws Consent documents of shares."""

    def draw(self, session: Session, logical_ids: Sequence[str]) -> Mapping[str, Drawn]:
        """The documents of some shares, by logical id."""
        ids = [each.removeprefix(PREFIX) for each in logical_ids if each.startswith(PREFIX)]
        return {
            str(each.document["id"]): Drawn(
                each.version, each.updated_at, orjson.dumps(each.document).decode()
            )
            for each in _consents(session, ids)
        }


def follow_shares(records: Records, session: Session, change: Change) -> None:
    """Keep the search index of a share that was made, ended, or names more: subscribed to the change feed."""
    index_all_projected(records, session, _consents(session, [change.subject]))


@job(queue="records", retries=1, every=timedelta(hours=6))
def index_shares(records: Records) -> None:
    """Make the search index of shares that were there before their view was."""
    resources = table_of(Resource)
    known = exists().where(
        resources.c.type == "Consent", resources.c.logical_id == PREFIX + ShareGrant.id
    )  # fmt: skip
    while True:
        with records.database.transaction() as session:
            ids = session.scalars(select(ShareGrant.id).where(~known).limit(PAGE)).all()
            index_all_projected(records, session, _consents(session, ids), announced=False)
        if len(ids) < PAGE:
            return


def _consents(session: Session, ids: Sequence[str]) -> list[Projected]:
    items: dict[str, list[ShareItem]] = {}
    for item in session.scalars(
        select(ShareItem).where(ShareItem.grant_id.in_(ids)).order_by(ShareItem.kind, ShareItem.identifier)
    ):
        items.setdefault(item.grant_id, []).append(item)
    grants = session.scalars(select(ShareGrant).where(ShareGrant.id.in_(ids)).order_by(ShareGrant.id))
    return [_projected(grant, items.get(grant.id, [])) for grant in grants]


def _projected(grant: ShareGrant, items: Sequence[ShareItem]) -> Projected:
    version = 1 + len(items) + (grant.revoked_at is not None)  # what it names is only added to
    changed = grant.revoked_at or grant.created_at
    document = _consent(grant, items)
    document["meta"] = {"versionId": str(version), "lastUpdated": instant(changed)}
    return Projected(document, grant.institution, "", version, changed)


def _consent(grant: ShareGrant, items: Sequence[ShareItem]) -> dict[str, Any]:
    ends = min(grant.expires_at, grant.revoked_at) if grant.revoked_at else grant.expires_at
    provision: dict[str, Any] = {
        "type": "permit",
        "period": {"start": instant(grant.not_before or grant.created_at), "end": instant(ends)},
        "actor": [{"role": RECIPIENT, "reference": {"display": grant.recipient or grant.binding}}],
        "action": [
            {"coding": [{"system": f"{CODES}consentaction", "code": code}]}
            for code in ("access", *(("collect",) if grant.may_download else ()))
        ],
        "data": [{"meaning": "instance", "reference": _named(item)} for item in items],
    }
    consent = {
        "resourceType": "Consent",
        "id": f"{PREFIX}{grant.id}",
        "identifier": [{"system": SHARE, "value": grant.id}],
        "status": "inactive" if grant.revoked_at else "active",
        "scope": PRIVACY,
        "category": [DISCLOSURE],
        "patient": {"reference": f"Patient/{grant.patient}"} if grant.patient else None,
        "dateTime": instant(grant.created_at),
        "performer": [{"display": grant.made_by_name or grant.made_by}],
        "policyRule": OPT_IN,
        "provision": {key: value for key, value in provision.items() if value},
    }
    return {key: value for key, value in consent.items() if value}


def _named(item: ShareItem) -> dict[str, Any]:
    type_ = TYPES[item.kind]
    if item.kind == "study":
        identifier = {"system": STUDY_UID, "value": f"urn:oid:{item.identifier}"}
        return {"type": type_, "identifier": identifier}
    return {"reference": f"{type_}/{item.identifier}"}
