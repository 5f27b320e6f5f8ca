"""Removing objects (beyond PS3.18, as other servers have it) and bringing them back.

DELETE /studies/{study}[/series/{series}[/instances/{instance}]]?reason=113001&comment=...
POST   /studies/{study}[/...]/reject/113001^DCM
GET    /removals          POST /removals/{id}/restore
"""

from dataclasses import asdict

from flask import Blueprint, Response, jsonify, request

from access.bearer import current_caller
from access.caller import Door
from archive.removal import REASONS, Removed, removals, remove, restore
from archive.room import Archive
from dicomweb.service import INSTANCE, ROOT, SERIES, STUDY
from kernel.http import room

blp = Blueprint("removals", __name__)


@blp.delete(STUDY)
@blp.delete(SERIES)
@blp.delete(INSTANCE)
def delete(study: str, series: str = "", instance: str = "") -> Response:
    """Take a study, a series or an instance out, for a reason."""
    return _removed(study, series, instance, request.args.get("reason", ""))


@blp.post(STUDY + "/reject/<reason>")
@blp.post(SERIES + "/reject/<reason>")
@blp.post(INSTANCE + "/reject/<reason>")
def reject(study: str, reason: str, series: str = "", instance: str = "") -> Response:
    """The same, as dcm4chee's clients ask for it."""
    return _removed(study, series, instance, reason)


def _removed(study: str, series: str, instance: str, reason: str) -> Response:
    caller = current_caller(Door.DICOMWEB)
    comment = request.args.get("comment", "")
    done = remove(room(Archive), caller, reason, study, series, instance, comment)
    return Response(status=204, headers={"Location": f"{ROOT}/removals/{done.id}"})


@blp.get("/removals")
def list_removals() -> Response:
    """What was removed, the newest first."""
    found = removals(room(Archive), current_caller(Door.DICOMWEB))
    return jsonify({"removals": [_as_json(removal) for removal in found]})


@blp.post("/removals/<removal>/restore")
def bring_back(removal: str) -> Response:
    """Bring back what a removal took out."""
    return jsonify(_as_json(restore(room(Archive), current_caller(Door.DICOMWEB), removal)))


def _as_json(removal: Removed) -> dict[str, object]:
    known = {name: value for name, value in asdict(removal).items() if value != ""}
    return known | {
        "reason_meaning": REASONS[removal.reason],
        "removed_at": removal.removed_at.isoformat(),
        "purge_at": removal.purge_at.isoformat(),
    }
