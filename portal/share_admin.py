"""Settings of sharing, for administrators: policies by institution, gateways, and what was sent."""

import json
from dataclasses import fields
from typing import Any
from urllib.parse import quote

from flask import Blueprint, request
from sqlalchemy import select

from access.caller import Action, Caller
from access.document_kind import current_document
from access.grants import sharing_of
from access.model import Institution
from access.share_policy import BINDINGS, SHARING, CodeLimits, SharePolicy
from access.site_documents import put_document
from access.tokens import Access
from kernel.errors import CloudfilmError, Kind
from kernel.http import room
from messaging.gateways import GATEWAYS, put_gateways
from messaging.room import Messaging
from messaging.send import list_messages
from portal.catalogue import say
from portal.console import Field, Form, Page, Row, page
from portal.film import local_time
from portal.refusals import told

blp = Blueprint("share_admin", __name__, template_folder="templates")

DEFAULT = "*"  # the policy that holds where an institution has none of its own
SHOWN = tuple(field for field in fields(SharePolicy) if field.name != "bindings")
LIMITS = tuple(field.name for field in fields(CodeLimits))  # of the whole site
YES_NO = ("true", "false")


@blp.route("/admin/sharing", methods=["GET", "POST"])
@page
def sharing(caller: Caller) -> Page:
    """The share policy of an institution, and the site's limits of codes by SMS."""
    caller.require(Action("Policy", "r"))
    access = room(Access)
    institution = request.values.get("institution", DEFAULT).strip() or DEFAULT
    message = ""
    if request.method == "POST":
        message = _put(access, caller, institution)
    with access.database.snapshot() as session:
        site = sharing_of(session)
        codes = session.scalars(select(Institution.code).order_by(Institution.code)).all()
    policy = site.default if institution == DEFAULT else site.of(institution)
    inputs = [_input(each.name, getattr(policy, each.name)) for each in SHOWN]
    inputs += [_input(f"bind_{each}", each in policy.bindings) for each in BINDINGS]
    if institution == DEFAULT:
        inputs += [_input(each, getattr(site.limits, each)) for each in LIMITS]
    known = tuple(dict.fromkeys((DEFAULT, *codes, *dict(site.institutions), institution)))
    choose = Form((Field("institution", "select", institution, known),), "console.open", "get")
    form = Form((Field("institution", "hidden", institution), *inputs), "console.save")
    own = dict(site.institutions)
    rows = [
        Row(
            (code, say("console.own" if code in own else "console.site-default"),
             *(_shown(getattr(site.of(code), name)) for name in ("link_days", "most_days", "paper_days",
                                                                  "download", "watermark"))),
            link=f"/admin/sharing?institution={quote(code)}",
        )
        for code in (DEFAULT, *dict.fromkeys((*codes, *own)))
    ]  # fmt: skip
    headings = ("institution", "state", "link_days", "most_days", "paper_days", "download", "watermark")
    return Page("sharing", headings, rows, (choose, form), message, hint=say("console.sharing-hint"))


def _input(name: str, value: Any) -> Field:
    if isinstance(value, bool):
        return Field(name, "select", str(value).lower(), YES_NO, "console.")
    return Field(name, value=str(value), required=isinstance(value, int))


def _shown(value: Any) -> str:
    return say("console.yes" if value else "console.no") if isinstance(value, bool) else str(value)


def _put(access: Access, caller: Caller, institution: str) -> str:
    values: dict[str, Any] = {}
    for each in SHOWN:
        values[each.name] = _sent(each.name, getattr(SharePolicy(), each.name))
    values["bindings"] = [each for each in BINDINGS if request.form.get(f"bind_{each}") == "true"]
    with access.database.snapshot() as session:
        document = json.loads(current_document(session, SHARING))
    if institution == DEFAULT:
        document["default"] = document.get("default", {}) | values
        limits = {each: _sent(each, getattr(CodeLimits(), each)) for each in LIMITS}
        document["limits"] = document.get("limits", {}) | limits
    else:
        own = document.setdefault("institutions", {})
        own[institution] = own.get(institution, {}) | values
    return _done(lambda: put_document(access, caller, SHARING, json.dumps(document, indent=2), institution))


def _sent(name: str, present: Any) -> Any:
    """A value of the form, of the type that its field has."""
    text = request.form.get(name, "").strip()
    if isinstance(present, bool):
        return text == "true"
    return int(text) if isinstance(present, int) and text.isdecimal() else text


def _done(act: Any) -> str:
    try:
        act()
    except CloudfilmError as refusal:
        if refusal.kind in (Kind.FORBIDDEN, Kind.UNAUTHENTICATED, Kind.FAULT):
            raise
        return say("console.wrong", reason=told(refusal))
    return say("console.done")


@blp.route("/admin/gateways", methods=["GET", "POST"])
@page
def gateways(caller: Caller) -> Page:
    """SMS, e-mail, WeChat and app gateways; secrets are sealed as they are saved and not shown again."""
    caller.require(Action("Setting", "r"))
    messaging, message = room(Messaging), ""
    if request.method == "POST":
        text = request.form.get("document", "")
        message = _done(lambda: put_gateways(messaging, caller, text, request.form.get("comment", "")))
    with messaging.database.snapshot() as session:
        present = request.form.get("document") or current_document(session, GATEWAYS)
        sent = list_messages(messaging, session)
    form = Form((Field("document", "area", present), Field("comment", required=False)), "console.save")
    rows = [
        Row(
            (local_time(each.created_at), each.channel, each.masked, each.template,
             say(f"console.message-{each.state}"), each.gateway, told(each.error))
        )
        for each in sent
    ]  # fmt: skip
    headings = ("at", "channel", "recipient", "template", "state", "gateway", "detail")
    return Page("gateways", headings, rows, (form,), message, hint=say("console.gateways-hint"))
