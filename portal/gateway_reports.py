"""Where SMS providers tell what became of a message: Aliyun's SmsReport and Tencent Cloud's status callback.

They carry no credential of ours; a report changes nothing but the state of a message whose number, given by
the provider and told to nobody, it names.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, abort, jsonify, request
from werkzeug.wrappers import Response as AnyResponse

from kernel.http import room
from messaging import aliyun, tencent
from messaging.delivery import keep_reports
from messaging.gateways import gateways_of
from messaging.reports import Report
from messaging.room import Messaging

blp = Blueprint("gateway_reports", __name__)

MOST_BODY = 1 << 20
READERS: Mapping[str, tuple[Callable[[Any], list[Report]], dict[str, Any]]] = {
    "aliyun": (aliyun.reports, aliyun.ACKNOWLEDGED),
    "tencent": (tencent.reports, tencent.ACKNOWLEDGED),
}


@blp.post("/gateways/<kind>/reports")
def reports(kind: str) -> AnyResponse:
    """Delivery reports of one kind of provider."""
    if kind not in READERS or (request.content_length or 0) > MOST_BODY:
        abort(404)
    read, acknowledged = READERS[kind]
    body = request.get_json(silent=True, force=True)
    messaging = room(Messaging)
    with messaging.database.snapshot() as session:
        names = [each.name for each in gateways_of(messaging, session).sms if each.kind == kind]
    keep_reports(messaging, names, read(body if isinstance(body, list) else [body]))
    return jsonify(acknowledged)
